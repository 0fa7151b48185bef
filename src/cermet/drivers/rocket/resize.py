"""RESIZE_BILINEAR: every phase of the output is a small convolution of the input (resize_plan.py).

    border      a map a little larger where positions leave the plane; its border repeats the edge (rows, then columns)
    phases      one convolution with the phases as output channels; its integer weights sum up to `unit`, so OUT_CVT's
                division is exact, half away from q = 0. Equal to TFLite for uint8 (but for ties), and for
                int8 where 1/1024 holds the positions; elsewhere TFLite's own positions drift away, up to 10 steps in
                a plane of 72 pixels (measured), and this is the one that is right
    spread      a copy per phase: its pixels go to every q-th row and column (lines of one pixel, copy.py)

A plane of one pixel is spread by one task that adds the pixel, as an operand per channel, to nothing.
"""
from __future__ import annotations

import numpy as np

from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.copy import MAX_SURFACES, Patch, convolve, copy_patch
from cermet.drivers.rocket.dpu import ALGO_ADD, Elementwise, OutputConverter, Stage, Stages
from cermet.drivers.rocket.flying import Cube, FlyingTask, View, copy_stages, flying_program, whole_cube
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, round_up
from cermet.drivers.rocket.pooling import ORIGIN
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.resize_plan import Axis, Plan, phases_geometry, plan_resize
from cermet.drivers.rocket.rules import IMAGE_RULES, Query, Rule
from cermet.drivers.rocket.tiling import fits
from cermet.drivers.rocket.views import MapShape
from cermet.ir.moves import MoveError, Run, move_problem, resized_sides
from cermet.ir.numerics_move import position_drift
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType


def is_single_pixel(subgraph: Subgraph, operation: Operation) -> bool:
    return subgraph.tensor(operation.inputs[0]).shape[1:3] == (1, 1)


# ---- lowering ------------------------------------------------------------------------------------------------------

def lower_resize_bilinear(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a RESIZE_BILINEAR that keeps the rules."""
    assert operation.inputs[0] is not None
    source, target = context.feature_map(operation.inputs[0]), context.feature_map(operation.output)
    if (source.height, source.width) == (target.height, target.width):
        whole = Patch(Run(0, 0, source.height), Run(0, 0, source.width), Run(0, 0, source.channels))
        return copy_patch(context, operation, whole, source, target, copy_stages(), "copy")
    if is_single_pixel(context.subgraph, operation):
        return _broadcast(context, operation, source, target)
    made = plan_resize(context.subgraph, operation)
    padded, tasks = _with_border(context, operation, made, source)
    maps = [context.scratch_map(f"phases {operation.index} {stage}", source, shape)
            for stage, shape in enumerate(made.maps(source.channels)[:-1])] + [target]
    tasks += _convolution(context, operation, made, padded, maps[0])
    for stage, patches in enumerate(made.copies):
        for number, patch in enumerate(patches):
            tasks += copy_patch(context, operation, patch, maps[stage], maps[stage + 1], copy_stages(),
                                f"phase {stage}.{number}")
    return tasks


def _broadcast(context: Context, operation: Operation, source: FeatureMap, target: FeatureMap) -> list[TaskProgram]:
    """Nothing plus the pixel everywhere: an operand per channel. What the main operand reads does not matter."""
    ew = Elementwise(0, 1, 0, ALGO_ADD, per_element=False)
    stages = Stages(bs=Stage(multiplier=0), ew=ew, out=OutputConverter(0))
    made, total = [], whole_cube(target)
    for surface in range(0, total.num_surfaces, MAX_SURFACES):
        cube = Cube(total.width, total.height, min(MAX_SURFACES, total.num_surfaces - surface))
        view = View(target.row(0, surface), target.surface_atoms, target.width)
        made.append(flying_program(context, operation, FlyingTask(
            cube, stages, view, view, View(source.row(0, surface), 1, 1)), "one pixel everywhere"))
    return made


def _with_border(context: Context, operation: Operation, made: Plan,
                 source: FeatureMap) -> tuple[FeatureMap, list[TaskProgram]]:
    """The source with its edges repeated; the source itself when no position leaves it."""
    rows, columns = made.rows, made.columns
    if (rows.padded, columns.padded) == (rows.size, columns.size):
        return source, []
    padded = context.scratch_map(f"border {operation.index}", source, MapShape(rows.padded, columns.padded,
                                                                             source.channels))
    channels = Run(0, 0, source.channels)
    inside = Run(0, columns.before, columns.size)
    tasks = copy_patch(context, operation, Patch(Run(0, rows.before, rows.size), inside, channels), source, padded,
                       copy_stages(), "inside")
    for edge in _edges(rows, 0):
        tasks += copy_patch(context, operation, Patch(edge, inside, channels), source, padded, copy_stages(),
                            "border rows")
    every = Run(0, 0, rows.padded)
    for edge in _edges(columns, columns.before):
        tasks += copy_patch(context, operation, Patch(every, edge, channels), padded, padded, copy_stages(),
                            "border columns")
    return padded, tasks


def _edges(axis: Axis, start: int) -> list[Run]:
    """From the first and the last position of an axis, which begins at `start`, to the border in front and behind."""
    last = start + axis.size - 1
    if axis.before == axis.after == 1 and axis.size > 1:
        return [Run(start, 0, 2, axis.size - 1, axis.size + 1)]
    front = [Run(start, 0, 1)] if axis.before else []
    return front + [Run(last, axis.before + axis.size + i, 1) for i in range(axis.after)]


def _convolution(context: Context, operation: Operation, made: Plan, padded: FeatureMap,
                 phases: FeatureMap) -> list[TaskProgram]:
    """All phases at once: channel c of phase p is output channel p * C + c, C in whole surfaces."""
    channels, stride = padded.channels, round_up(padded.channels, ATOM_BYTES)
    zero = made.weight_zero_point
    weights = np.full((phases.channels, len(made.rows.taps[0]), len(made.columns.taps[0]), channels), zero, np.int8)
    each = np.arange(channels)
    for number, (y, x) in enumerate(made.phases):
        taps = np.outer(made.rows.taps[y], made.columns.taps[x]) * made.gain.weight + zero
        weights[number * stride + each, :, :, each] = taps
    dtype = context.tensor(operation.output).dtype
    unit = made.rows.unit * made.columns.unit * made.gain.weight
    stages = Stages(bs=Stage(add_from_memory=True, data_use=dpu.USE_ALU),
                    out=OutputConverter(ORIGIN[dtype], made.gain.multiplier, made.gain.shift))
    return convolve(context, operation, padded, phases, made.rows.positions, made.columns.positions, weights,
                    "phases", stages, -ORIGIN[dtype] * unit, zero)


# ---- rules ---------------------------------------------------------------------------------------------------------

def resize_makes_sense(query: Query) -> str | None:
    """The size is a constant that fits the output; input and output are quantised alike."""
    return move_problem(query.subgraph, query.operation)


def factors_are_simple(query: Query) -> str | None:
    """Height and width change by fractions, at most 7 to 64 pixels (or one fills the plane), in at most 64 tasks.

    Weights have 8 bits.
    """
    if is_single_pixel(query.subgraph, query.operation):
        return None
    try:
        plan_resize(query.subgraph, query.operation)
    except MoveError as error:
        return str(error)
    return None


def phases_fit_the_cbuf(query: Query) -> str | None:
    """The rows of one window fit the convolution buffer."""
    if is_single_pixel(query.subgraph, query.operation):
        return None
    geometry = phases_geometry(plan_resize(query.subgraph, query.operation), query.data.shape[3])
    return None if fits(query.soc, geometry) else \
        f"{geometry.kernel.y} rows of {geometry.input_width} pixels do not fit the convolution buffer"


def positions_are_those_of_tflite(query: Query) -> str | None:
    """With int8, TFLite's positions in 1/1024 pixels are so close to the exact ones that results differ by 1 at most.

    Neighbours differ by 255 at most, so a drift of d pixels moves a value by 255 * d. Both sides round once, by half a
    step at most: below one step in all, the results are at most 1 apart.
    """
    options = query.operation.moving
    if query.output.dtype is not DType.INT8 or options is None:
        return None
    drift = sum(position_drift(*side, options) for side in resized_sides(query.subgraph, query.operation))
    if 255 * drift >= 1:
        return (f"TFLite's own positions drift by up to {drift:.4f} pixels at this size, at most {1 / 255:.4f} keep "
                "the results within one step")
    return None


BILINEAR_RULES: tuple[Rule, ...] = (*IMAGE_RULES, resize_makes_sense, factors_are_simple, phases_fit_the_cbuf,
                                     positions_are_those_of_tflite)
