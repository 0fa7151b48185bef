"""AVERAGE_POOL_2D as depthwise convolutions with one weight everywhere; larger windows: adding.py.

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
from cermet.drivers.rocket.adding import Way, add_pixels, copies, rectangle, way_of_adding, weighted_tasks
from cermet.drivers.rocket.context import Context, layer_name
from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.flying import View, copy_stages, whole_cube
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div
from cermet.drivers.rocket.limits import MAX_KERNEL, MAX_STRIDE
from cermet.drivers.rocket.pooling_arithmetic import Gain, division_gain, scaling_gain
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.requantise import Clamp
from cermet.drivers.rocket.views import MapShape
from cermet.ir.operation import Operation, Pair, Window
from cermet.ir.tensor import DType, Tensor

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

    @property
    def fits_a_window(self) -> bool:
        return max(self.kernel.y, self.kernel.x) <= MAX_KERNEL

    def geometry(self, channels: int) -> Geometry:
        return Geometry(self.rows.size, self.columns.size, channels, self.rows.count, self.columns.count, channels,
                        self.kernel, self.stride, Pair(1, 1), self.rows.pad, self.columns.pad, is_depthwise=True)


def runs(size: int, kernel: int, stride: int, pad: int, output_size: int, *, joins: bool = True) -> Iterator[Run]:
    """Runs of one axis, in order. pad: positions in front of the plane that the first window covers.

    joins: False makes each output position a run of its own
    """
    def inside(output: int) -> tuple[int, int]:
        first = output * stride - pad
        return max(first, 0), min(first + kernel, size)

    first = 0
    while first < output_size:
        start, end = inside(first)
        last = first
        while joins and last + 1 < output_size and inside(last + 1)[1] - inside(last + 1)[0] == end - start:
            last += 1
        yield Run(first, last - first + 1, start, inside(last)[1] - start, max(pad - first * stride, 0), end - start)
        first = last + 1


def regions(window: Window, height: int, width: int) -> list[Region]:
    """The plane's outputs in rectangles of equal divisor. VALID: one; SAME: up to nine when windows overlap little.

    Each output is one when the window is larger than 31 by 31; each row or column along which the stride is above 7.
    """
    out = window.output_size(height, width)
    top, _, left, _ = window.pads(height, width)
    # With a single output the stride does nothing, and it may be larger than the register holds.
    stride = Pair(window.stride.y if out.y > 1 else 1, window.stride.x if out.x > 1 else 1)
    is_small = max(window.kernel.y, window.kernel.x) <= MAX_KERNEL
    down, across = (is_small and step <= MAX_STRIDE for step in (stride.y, stride.x))
    return [Region(rows, columns, window.kernel, Pair(stride.y if down else 1, stride.x if across else 1))
            for rows in runs(height, window.kernel.y, stride.y, top, out.y, joins=down)
            for columns in runs(width, window.kernel.x, stride.x, left, out.x, joins=across)]


def global_region(shape: Pair) -> Region:
    """One window over a whole plane."""
    return Region(Run(0, 1, 0, shape.y, 0, shape.y), Run(0, 1, 0, shape.x, 0, shape.x), shape, Pair(1, 1))


def global_pool_shape(window: Window, height: int, width: int) -> Pair | None:
    """Rows and columns, at most 31 each, in which one window over the whole plane may see it: its own if they fit.

    The pixels of a surface lie one behind the other, so any two numbers with the same product describe them. None for
    any other window, and for a plane of more pixels or of a number that is no such product.
    """
    if window.kernel != Pair(height, width) or window.output_size(height, width) != Pair(1, 1):
        return None
    return Pair(height, width) if max(height, width) <= MAX_KERNEL else rectangle(height * width)


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
        gain = average_gain(region, source.channels, output)
        if gain is None:
            raise CompileError(f"lowering of {operation}: no multiplier divides by {region.count}")
        bias, stages = average_stages(region.count, gain, clamp, ORIGIN[output.dtype])
        if not region.fits_a_window:
            tasks += _large_average(context, operation, region, source, target, gain, bias, stages)
            continue
        tasks += _region_tasks(context, operation, region, replace(source, height=shape.y, width=shape.x), target,
                               gain.weight, bias, stages, is_only=len(parts) == 1)
    return tasks


def average_gain(region: Region, channels: int, output: Tensor) -> Gain | None:
    """The exact division by a region's number of taps; of more than 31 by 31 the nearest one if there is none.

    That one is off by 255 * 2**-22 steps and so: it may differ from TFLite so near to a tie, never by more than 1.
    """
    largest = LARGEST_AVERAGE[output.dtype]
    if region.fits_a_window:
        return division_gain(region.count, largest)
    way = way_of_average(region, channels)
    if way is None:
        return None
    weight = way.largest_weight
    return division_gain(region.count, largest, weight) or scaling_gain(1 / region.count, weight)


def way_of_average(region: Region, channels: int) -> Way | None:
    """Of a window larger than 31 by 31; None when it has too many taps."""
    return way_of_adding(region.count, 1, ceil_div(channels, ATOM_BYTES))


def _large_average(context: Context, operation: Operation, region: Region, source: FeatureMap, target: FeatureMap,
                   gain: Gain, bias: int, stages: Stages) -> list[TaskProgram]:
    """The pixels of one window, laid one behind the other unless they are the plane, then added."""
    way = way_of_average(region, source.channels)
    assert way is not None
    rows, columns = region.rows, region.columns
    tasks: list[TaskProgram] = []
    start = source.row(rows.start) + columns.start * ATOM_BYTES
    plane = source
    if (rows.size, columns.size) != (source.height, source.width):
        inside = context.scratch_map(f"window {operation.index} at {rows.first} {columns.first}", source,
                                     MapShape(rows.size, columns.size, source.channels))
        cube = whole_cube(inside)
        tasks = copies(context, operation, cube, View(start, source.surface_atoms, source.width), View.of(inside),
                       copy_stages(), "window")
        plane = inside
    place = replace(target, address=target.row(rows.first) + columns.first * ATOM_BYTES)
    return tasks + add_pixels(context, operation, way, plane, place, gain, bias // gain.weight, stages)


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


def depthwise_tasks(context: Context, operation: Operation, geometry: Geometry, source: FeatureMap, target: FeatureMap,
                    weight: int, bias: int, stages: Stages) -> list[TaskProgram]:
    """Tasks of a depthwise convolution whose taps all have one weight. Pads and bias: in units of the stored bytes."""
    taps = np.full((geometry.kernel.y, geometry.kernel.x), weight)
    return weighted_tasks(context, operation, geometry, source, target, taps, bias, stages)


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
