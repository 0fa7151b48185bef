"""AVERAGE_POOL_2D and MEAN over height and width as depthwise convolutions with one weight everywhere.

The PPU would do it natively, but mainline never sees its interrupt (execution model §8). The vendor's compiler takes
the same way for global averages.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.base import CompileError
from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.context import Context, layer_name
from cermet.drivers.rocket.conv import convolution_programs
from cermet.drivers.rocket.convolution_task import Convolution
from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap
from cermet.drivers.rocket.pooling_arithmetic import Gain, MeanGain, division_gain, mean_gain
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.requantise import Clamp
from cermet.drivers.rocket.weights import Weights, pack_bias, pack_depthwise
from cermet.ir.operation import Operation, Pair, Window
from cermet.ir.tensor import DType, Tensor

MAX_KERNEL = 31     # WEIGHT_WIDTH and WEIGHT_HEIGHT: 5 bits
# Where q = 0 lies in the signed domain, and the largest |average of q|.
ORIGIN = {DType.INT8: 0, DType.UINT8: -128}
LARGEST_AVERAGE = {DType.INT8: 128, DType.UINT8: 255}


@dataclass(frozen=True)
class Run:
    """Consecutive output positions along one axis whose windows have the same number of taps inside the plane.

    first, count      output positions
    start, size       input positions that their windows touch
    pad               taps before `start` of the first window
    taps              inside the plane, the same for every window of the run
    """

    first: int
    count: int
    start: int
    size: int
    pad: int
    taps: int


@dataclass(frozen=True)
class Region:
    """A rectangle of outputs that share their divisor: one task, or a few when the rows do not fit the CBUF."""

    rows: Run
    columns: Run
    kernel: Pair
    stride: Pair

    @property
    def count(self) -> int:
        return self.rows.taps * self.columns.taps

    def geometry(self, channels: int) -> Geometry:
        return Geometry(self.rows.size, self.columns.size, channels, self.rows.count, self.columns.count, channels,
                        self.kernel, self.stride, Pair(1, 1), self.rows.pad, self.columns.pad, is_depthwise=True)


def runs(size: int, kernel: int, stride: int, pad: int, output_size: int) -> Iterator[Run]:
    """Runs of one axis, in order. pad: positions in front of the plane that the first window covers."""
    def inside(output: int) -> tuple[int, int]:
        first = output * stride - pad
        return max(first, 0), min(first + kernel, size)

    first = 0
    while first < output_size:
        start, end = inside(first)
        last = first
        while last + 1 < output_size and inside(last + 1)[1] - inside(last + 1)[0] == end - start:
            last += 1
        yield Run(first, last - first + 1, start, inside(last)[1] - start, max(pad - first * stride, 0), end - start)
        first = last + 1


def regions(window: Window, height: int, width: int) -> list[Region]:
    """The plane's outputs in rectangles of equal divisor. VALID: one; SAME: up to nine when windows overlap little."""
    out = window.output_size(height, width)
    top, _, left, _ = window.pads(height, width)
    # With a single output the stride does nothing, and it may be larger than the register holds.
    stride = Pair(window.stride.y if out.y > 1 else 1, window.stride.x if out.x > 1 else 1)
    return [Region(rows, columns, window.kernel, stride)
            for rows in runs(height, window.kernel.y, stride.y, top, out.y)
            for columns in runs(width, window.kernel.x, stride.x, left, out.x)]


def global_shape(height: int, width: int) -> Pair | None:
    """Rows and columns, at most 31 each, in which all pixels of a plane can be seen: its own if they fit.

    The pixels of a surface lie one behind the other, so any two numbers with the same product describe them.
    """
    if height <= MAX_KERNEL and width <= MAX_KERNEL:
        return Pair(height, width)
    pixels = height * width
    for rows in range(MAX_KERNEL, 0, -1):
        if pixels % rows == 0 and pixels // rows <= MAX_KERNEL:
            return Pair(rows, pixels // rows)
    return None


def global_region(shape: Pair) -> Region:
    """One window over a whole plane."""
    return Region(Run(0, 1, 0, shape.y, 0, shape.y), Run(0, 1, 0, shape.x, 0, shape.x), shape, Pair(1, 1))


def global_pool_shape(window: Window, height: int, width: int) -> Pair | None:
    """Rows and columns in which one window over the whole plane may see it; None for any other window."""
    is_global = window.kernel == Pair(height, width) and window.output_size(height, width) == Pair(1, 1)
    return global_shape(height, width) if is_global else None


def pool_regions(window: Window, height: int, width: int) -> tuple[list[Region], Pair]:
    """Regions of an average pool and the plane's rows and columns that they count in."""
    shape = global_pool_shape(window, height, width)
    if shape is not None:
        return [global_region(shape)], shape
    return regions(window, height, width), Pair(height, width)


def lower_average_pool(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of an AVERAGE_POOL_2D: one per region. Taps outside the plane add 0, the divisor counts those inside."""
    assert operation.window is not None and operation.inputs[0] is not None
    source, target = context.feature_map(operation.inputs[0]), context.feature_map(operation.output)
    output = context.tensor(operation.output)
    clamp = clamp_of(operation.activation, output)
    parts, shape = pool_regions(operation.window, source.height, source.width)
    tasks = []
    for region in parts:
        gain = average_gain(region, output)
        if gain is None:
            raise CompileError(f"lowering of {operation}: no multiplier divides by {region.count}")
        bias, stages = average_stages(region.count, gain, clamp, ORIGIN[output.dtype])
        tasks += _region_tasks(context, operation, region, replace(source, height=shape.y, width=shape.x), target,
                               gain.weight, bias, stages, is_only=len(parts) == 1)
    return tasks


def average_gain(region: Region, output: Tensor) -> Gain | None:
    """The exact division by a region's number of taps."""
    return division_gain(region.count, LARGEST_AVERAGE[output.dtype])


def average_stages(count: int, gain: Gain, clamp: Clamp, origin: int) -> tuple[int, Stages]:
    """(bias of every channel, stages) of a region with `count` taps.

    TFLite rounds (sum of q) / count half away from zero, q as the model has it. origin is q = 0 in the signed domain: 0
    for int8, -128 for uint8. v = weight * (sum - origin * count) is weight times TFLite's sum; y = v * gain + origin.
    A clamp is exact: BS adds so that its lower end is 0, clamps, and BN puts the difference back.
    """
    unit = count * gain.weight
    out = OutputConverter(origin, gain.multiplier, gain.shift)
    if clamp.is_trivial:
        return -origin * unit, Stages(bs=Stage(add_from_memory=True, data_use=dpu.USE_ALU), out=out)
    bs = Stage(add_from_memory=True, data_use=dpu.USE_ALU, relu=True, relux=(clamp.highest - clamp.lowest) * unit)
    back = (clamp.lowest - origin) * unit
    return -clamp.lowest * unit, Stages(bs=bs, bn=Stage(add=back) if back else Stage(), out=out)


def lower_mean(context: Context, operation: Operation) -> list[TaskProgram]:
    """The task of a MEAN over height and width: one window over the plane, requantised."""
    assert operation.inputs[0] is not None
    source, target = context.feature_map(operation.inputs[0]), context.feature_map(operation.output)
    shape = global_shape(source.height, source.width)
    numbers = mean_numbers(context.tensor(operation.inputs[0]), context.tensor(operation.output), source.num_pixels,
                           context.options.match)
    if shape is None or numbers is None:
        raise CompileError(f"lowering of {operation}: a rule should have refused it")
    bias = -source.zero_point * source.num_pixels * numbers.weight + numbers.extra_bias
    plane = replace(source, height=shape.y, width=shape.x)
    return _region_tasks(context, operation, global_region(shape), plane, target, numbers.weight, bias,
                         mean_stages(numbers, target.zero_point), is_only=True)


def mean_stages(numbers: MeanGain, zero_point: int) -> Stages:
    """One rounding in OUT_CVT, or the first of two in BS."""
    gain = numbers.gain
    bs = Stage(add_from_memory=True, data_use=dpu.USE_ALU)
    if numbers.second_shift is None:
        return Stages(bs=bs, out=OutputConverter(zero_point, gain.multiplier, gain.shift))
    return Stages(bs=replace(bs, multiplier=gain.multiplier, shift=gain.shift),
                  out=OutputConverter(zero_point, 1, numbers.second_shift))


def mean_numbers(source: Tensor, output: Tensor, pixels: int, match: str) -> MeanGain | None:
    """Register values of a MEAN; None when no values keep the result within one step."""
    assert source.quantisation is not None and output.quantisation is not None
    return mean_gain(source.quantisation.scale / output.quantisation.scale, pixels, match)


def mean_factor(source: Tensor, output: Tensor, pixels: int) -> float:
    """What the sum of (q - zero point) is worth in output steps."""
    assert source.quantisation is not None and output.quantisation is not None
    return source.quantisation.scale / (output.quantisation.scale * pixels)


def depthwise_tasks(context: Context, operation: Operation, geometry: Geometry, source: FeatureMap, target: FeatureMap,
                    weight: int, bias: int, stages: Stages) -> list[TaskProgram]:
    """Tasks of a depthwise convolution whose taps all have one weight. Pads and bias: in units of the stored bytes."""
    channels = geometry.output_channels
    shape = (channels, geometry.kernel.y, geometry.kernel.x, 1)
    weights = Weights(np.full(shape, weight, np.int8), np.zeros(1, np.int64), np.ones(1))
    packed = context.constant(f"window weights {operation.index}", pack_depthwise(weights, context.soc))
    operands = context.constant(f"window bias {operation.index}", pack_bias(
        np.full(channels, bias), geometry.aligned_output_channels(context.soc)))
    stages = replace(stages, bs=replace(stages.bs, operands=operands))
    return convolution_programs(context, Convolution(context.soc, geometry, source, target, packed, stages, 0),
                                (operation,))


def _region_tasks(context: Context, operation: Operation, region: Region, source: FeatureMap, target: FeatureMap,
                  weight: int, bias: int, stages: Stages, *, is_only: bool) -> list[TaskProgram]:
    """Tasks of one rectangle: they read a part of the source's columns and write a part of the target's."""
    rows, columns = region.rows, region.columns
    # Taps outside the plane must add nothing to the sum of stored bytes, whatever the zero point is.
    part = replace(source, address=source.row(rows.start) + columns.start * ATOM_BYTES, zero_point=0)
    place = replace(target, address=target.row(rows.first) + columns.first * ATOM_BYTES)
    tasks = depthwise_tasks(context, operation, region.geometry(source.channels), part, place, weight, bias, stages)
    if is_only:
        return tasks
    name = f"{rows.count}x{columns.count} outputs at ({rows.first}, {columns.first})"
    return [replace(task, layer=layer_name(operation, name)) for task in tasks]
