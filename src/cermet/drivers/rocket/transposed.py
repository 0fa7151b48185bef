"""TRANSPOSE_CONV: natively, or as one ordinary convolution whose output channels are the phases of the output.

    native   one task in the CNA's transposed mode, which lays the input's pixels out at the stride's distance; the
             weights are turned by 180 degrees. Strides 1, 2, 4 and 8; the whole input in the CBUF
    phases   output pixels stride * j + r have the same neighbourhood of input pixels for all j (ir/transposed.py): one
             convolution with the phases as output channels, then a copy per phase to every stride-th row and column

Native is one task and multiplies zeros, phases are several tasks and do not: the cheaper way wins.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.conv import (
    bias_values,
    conv_weights,
    convolution_tasks,
    layer_tasks,
    make_layer,
    written_tensor,
)
from cermet.drivers.rocket.copy import Patch, copy_patch, patch_tasks
from cermet.drivers.rocket.flying import copy_stages
from cermet.drivers.rocket.geometry import MAX_FIRST_ROWS, Geometry, starting
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div, round_up
from cermet.drivers.rocket.limits import MAX_KERNEL_BYTES, MAX_PAD
from cermet.drivers.rocket.regcmd import Address, TaskProgram
from cermet.drivers.rocket.strided import MAX_TASKS
from cermet.drivers.rocket.tile_time import Pace, copies_us, pace_of, plan_us
from cermet.drivers.rocket.tiling import plan
from cermet.drivers.rocket.views import MapShape
from cermet.drivers.rocket.weights import Weights
from cermet.hw.soc import Soc
from cermet.ir.moves import Run
from cermet.ir.operation import Operation, Pair
from cermet.ir.subgraph import Subgraph
from cermet.ir.transposed import Axis, axes_of

SPREADS = (1, 2, 4, 8)      # the only values of the stride fields that act (recipes §12)
MAX_PAD_AT_2 = 11           # 12..15 are wrong at stride 2 (Q-D2)


@dataclass(frozen=True)
class Transposition:
    """What both ways start from; outputs: output channels."""

    rows: Axis
    columns: Axis
    inputs: int
    outputs: int

    @property
    def phases(self) -> list[tuple[int, int]]:
        return [(y, x) for y in range(self.rows.stride) for x in range(self.columns.stride)
                if self.rows.count(y) and self.columns.count(x)]

    @property
    def phase_channels(self) -> int:
        """Channels from one phase to the next: each begins a surface, unless it is the only one."""
        return self.outputs if len(self.phases) == 1 else round_up(self.outputs, ATOM_BYTES)


def transposition_of(subgraph: Subgraph, operation: Operation) -> Transposition:
    """The shapes of an operation whose shapes agree."""
    assert operation.window is not None
    data, output = subgraph.tensor(operation.inputs[0]).shape, subgraph.tensor(operation.output).shape
    rows, columns = axes_of(operation.window, Pair(*data[1:3]), Pair(*output[1:3]))
    return Transposition(rows, columns, data[3], output[3])


# ---- native --------------------------------------------------------------------------------------------------------

def native_geometry(soc: Soc, shapes: Transposition) -> Geometry | None:
    """None where the transposed mode does not reach, or is not needed."""
    axes = (shapes.rows, shapes.columns)
    strides, pads = [axis.stride for axis in axes], [axis.kernel - 1 - axis.before for axis in axes]
    if strides == [1, 1] or not set(strides) <= set(SPREADS):
        return None
    if any(pad > (MAX_PAD_AT_2 if stride == 2 else MAX_PAD) for pad, stride in zip(pads, strides, strict=True)):
        return None
    geometry = Geometry(shapes.rows.size, shapes.columns.size, shapes.inputs, shapes.rows.output_size,
                        shapes.columns.output_size, shapes.outputs, Pair(shapes.rows.kernel, shapes.columns.kernel),
                        Pair(1, 1), Pair(1, 1), pads[0], pads[1], spread=Pair(*strides))
    fits = geometry.first_rows <= MAX_FIRST_ROWS and geometry.kernel_bytes <= MAX_KERNEL_BYTES
    return geometry if fits and plan(soc, geometry) is not None else None


# ---- phases --------------------------------------------------------------------------------------------------------

def window_of(axis: Axis) -> tuple[int, int]:
    """First and last input pixel that the window covers, counted from j: each window meets the picture."""
    low, high = axis.reach
    return min(low, axis.size - axis.count(0)), high


def phases_geometry(shapes: Transposition) -> Geometry:
    """The convolution that makes all phases."""
    (low_y, high_y), (low_x, high_x) = window_of(shapes.rows), window_of(shapes.columns)
    kernel = Pair(high_y - low_y + 1, high_x - low_x + 1)
    return Geometry(shapes.rows.size, shapes.columns.size, shapes.inputs, shapes.rows.count(0), shapes.columns.count(0),
                    len(shapes.phases) * shapes.phase_channels, kernel, Pair(1, 1), Pair(1, 1), -low_y, -low_x)


def phases_problem(soc: Soc, shapes: Transposition) -> str | None:
    """Why the convolution of the phases or the copies are not possible."""
    geometry = phases_geometry(shapes)
    for axis, pad in ((shapes.rows, geometry.pad_top), (shapes.columns, geometry.pad_left)):
        if pad > MAX_PAD:
            return (f"{axis.output_size} output pixels from {axis.size} by a kernel of {axis.kernel} reach {pad} input "
                    f"pixels back, at most {MAX_PAD} are possible")
    if geometry.kernel_bytes > MAX_KERNEL_BYTES:
        return f"one kernel has {geometry.kernel_bytes} bytes, at most {MAX_KERNEL_BYTES} are possible"
    if plan(soc, geometry) is None:
        return (f"{geometry.kernel.y} rows of {geometry.input_width}x{geometry.input_channels} do not fit the "
                "convolution buffer")
    tasks = _num_copies(shapes)
    return None if tasks <= MAX_TASKS else f"its phases need {tasks} copies, at most {MAX_TASKS} are worth it"


def _patch(shapes: Transposition, number: int) -> Patch:
    """From a phase's channels to its pixels."""
    y, x = shapes.phases[number]
    return Patch(Run(0, y, shapes.rows.count(y), 1, shapes.rows.stride),
                 Run(0, x, shapes.columns.count(x), 1, shapes.columns.stride),
                 Run(number * shapes.phase_channels, 0, shapes.outputs))


def _num_copies(shapes: Transposition) -> int:
    def shaped(height: int, width: int, channels: int) -> FeatureMap:
        return FeatureMap(Address(""), height, width, channels, 0, 1.0, ceil_div(channels, ATOM_BYTES))
    if len(shapes.phases) == 1:
        return 0
    source = shaped(shapes.rows.count(0), shapes.columns.count(0), len(shapes.phases) * shapes.phase_channels)
    target = shaped(shapes.rows.output_size, shapes.columns.output_size, shapes.outputs)
    return sum(len(patch_tasks(_patch(shapes, n), source, target)) for n in range(len(shapes.phases)))


def phase_weights(weights: Weights, shapes: Transposition) -> Weights:
    """Weights of the phases' convolution: the zero point where no weight of the operation acts."""
    low_y, low_x = window_of(shapes.rows)[0], window_of(shapes.columns)[0]
    kernel = phases_geometry(shapes).kernel
    points = _padded(weights.zero_points, shapes)
    values = np.empty((len(shapes.phases), shapes.phase_channels, kernel.y, kernel.x, shapes.inputs), np.int8)
    values[...] = points[None, :, None, None, None]
    for number, (y, x) in enumerate(shapes.phases):
        for d_y, k_y in shapes.rows.taps(y):
            for d_x, k_x in shapes.columns.taps(x):
                values[number, :shapes.outputs, d_y - low_y, d_x - low_x] = weights.values[:, k_y, k_x]
    count = len(shapes.phases)
    scales = weights.scales if len(weights.scales) == 1 else np.tile(_padded(weights.scales, shapes), count)
    return Weights(values.reshape(-1, *values.shape[2:]), np.tile(points, count), scales)


def _padded(values: np.ndarray, shapes: Transposition) -> np.ndarray:
    return np.pad(values, (0, shapes.phase_channels - len(values)), mode="edge")


# ---- lowering ------------------------------------------------------------------------------------------------------

def chosen_geometry(soc: Soc, shapes: Transposition, options: CompileOptions) -> Geometry:
    """Of the way that is taken, whichever is possible and cheaper; phases where the mode is not to be relied on."""
    native, phases = native_geometry(soc, shapes), phases_geometry(shapes)
    if options.assume == "off" and phases_problem(soc, shapes) is None:
        return phases
    if native is None:
        return phases
    if phases_problem(soc, shapes) is not None:
        return native
    pace = pace_of(soc, options)
    atoms = shapes.rows.output_size * shapes.columns.output_size * ceil_div(shapes.outputs, ATOM_BYTES)
    copies = copies_us(soc, _num_copies(shapes), atoms, pace)
    return native if _us(soc, native, pace) <= _us(soc, starting(phases, options), pace) + copies else phases


def _us(soc: Soc, geometry: Geometry, pace: Pace) -> float:
    made = plan(soc, geometry, pace=pace)
    assert made is not None
    return plan_us(soc, geometry, made, pace)


def lower_transpose_conv(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a TRANSPOSE_CONV."""
    source = context.feature_map(operation.inputs[0])       # type: ignore[arg-type]
    weights = conv_weights(context.tensor(operation.inputs[1]))
    shapes = transposition_of(context.subgraph, operation)
    geometry = chosen_geometry(context.soc, shapes, context.options)
    if geometry.is_transposed:
        turned = replace(weights, values=np.ascontiguousarray(weights.values[:, ::-1, ::-1]))
        return convolution_tasks(context, operation, geometry, source, turned)
    if len(shapes.phases) == 1:
        return convolution_tasks(context, operation, geometry, source, phase_weights(weights, shapes))
    return _lower_phases(context, operation, shapes, source, weights)


def _lower_phases(context: Context, operation: Operation, shapes: Transposition, source: FeatureMap,
                  weights: Weights) -> list[TaskProgram]:
    geometry = phases_geometry(shapes)
    bias = bias_values(context.subgraph, operation)
    if bias is not None:
        bias = np.tile(_padded(bias, shapes), len(shapes.phases))
    layer = make_layer(context.tensor(operation.inputs[0]), phase_weights(weights, shapes), bias,
                       context.tensor(operation.output), operation.kind)
    phases = context.scratch_map(f"phases {operation.index}", source, MapShape(
        geometry.output_height, geometry.output_width, geometry.output_channels))
    tasks = layer_tasks(context, operation, geometry, source, phases, layer)
    target = context.feature_map(written_tensor(context, operation))
    for number in range(len(shapes.phases)):
        tasks += copy_patch(context, operation, _patch(shapes, number), phases, target, copy_stages(),
                            f"phase {number}")
    return tasks
