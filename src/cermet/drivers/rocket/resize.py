"""RESIZE_BILINEAR by whole factors: every phase of the output is a small convolution of the input.

With a factor k, output position k * i + r lies at the same place between the input pixels next to i for every i. So:

    border      a map one pixel larger where positions leave the plane; its border repeats the edge (rows, then columns)
    phases      one convolution with the phases as output channels; its integer weights sum up to `unit`, so OUT_CVT's
                division is exact, half away from q = 0. Equal to TFLite for uint8 (but for ties), and for int8
                where 1/1024 holds the positions; elsewhere TFLite's own positions drift away, up to 10 steps in a
                plane of 72 pixels (measured), and this is the one that is right
    spread      a copy per phase: its pixels go to every k-th row and column (lines of one pixel, copy.py)

A plane of one pixel is spread by one task that adds the pixel, as an operand per channel, to nothing.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.copy import MAX_SURFACES, Patch, convolve, copy_patch, patch_tasks, pick_geometry
from cermet.drivers.rocket.dpu import ALGO_ADD, Elementwise, OutputConverter, Stage, Stages
from cermet.drivers.rocket.flying import Cube, FlyingTask, View, copy_stages, flying_program, whole_cube
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div, round_up
from cermet.drivers.rocket.moving import MAX_KERNEL_BYTES
from cermet.drivers.rocket.pooling import LARGEST_AVERAGE, ORIGIN
from cermet.drivers.rocket.pooling_arithmetic import Gain, division_gain
from cermet.drivers.rocket.regcmd import Address, TaskProgram
from cermet.drivers.rocket.rules import IMAGE_RULES, Query, Rule
from cermet.drivers.rocket.strided import MAX_TASKS
from cermet.drivers.rocket.tiling import plan
from cermet.drivers.rocket.views import MapShape
from cermet.ir.moves import MoveError, Run, move_problem, resized_sides
from cermet.ir.numerics_move import position_drift
from cermet.ir.operation import Moving, Operation, Pair
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType

MAX_WEIGHT_BYTES = 1 << 22  # of the phases' convolution
LARGEST_WEIGHT = 127


@dataclass(frozen=True)
class Axis:
    """One axis: input size, factor, the border in front and behind, weights of each phase and what they sum up to.

    taps      taps[r][t]: weight of padded input pixel i + t in output position factor * i + r
    counts    output positions of each phase
    """

    size: int
    factor: int
    before: int
    after: int
    unit: int
    taps: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]

    @property
    def padded(self) -> int:
        return self.before + self.size + self.after


def make_axis(size: int, output_size: int, options: Moving) -> Axis:
    """Raises MoveError unless the positions repeat with a whole factor."""
    aligned = options.align_corners and output_size > 1
    scale = Fraction(size - 1, output_size - 1) if aligned else Fraction(size, output_size)
    if scale == 1:
        return Axis(size, 1, 0, 0, 1, ((1,),), (size,))
    if scale <= 0 or scale.numerator != 1:
        raise MoveError(f"{size} pixels become {output_size}, which is no whole multiple")
    factor = scale.denominator
    half = Fraction(1, 2) if options.half_pixel else Fraction(0)
    places = [(r + half) * scale - half for r in range(factor)]
    unit = int(np.lcm.reduce([place.denominator for place in places]))
    before = int(min(places) < 0)
    taps = []
    for place in places:
        weights = [0] * (2 + before)
        low = place.numerator // place.denominator
        weights[low + before] += int((1 - (place - low)) * unit)
        if place != low:
            weights[low + 1 + before] += int((place - low) * unit)
        taps.append(tuple(weights))
    counts = tuple(len(range(r, output_size, factor)) for r in range(factor))
    return Axis(size, factor, before, 1, unit, tuple(taps), counts)


@dataclass(frozen=True)
class Plan:
    """Both axes, the division and the number of tasks without those of a convolution's tiling."""

    rows: Axis
    columns: Axis
    gain: Gain
    num_tasks: int

    @property
    def phases(self) -> list[tuple[int, int]]:
        return [(y, x) for y in range(self.rows.factor) for x in range(self.columns.factor)]


def is_single_pixel(subgraph: Subgraph, operation: Operation) -> bool:
    return subgraph.tensor(operation.inputs[0]).shape[1:3] == (1, 1)


def plan_resize(subgraph: Subgraph, operation: Operation) -> Plan:
    """Raises MoveError for what this way cannot do."""
    assert operation.moving is not None
    data, output = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
    rows, columns = (make_axis(*side, operation.moving) for side in resized_sides(subgraph, operation))
    gain = division_gain(rows.unit * columns.unit, LARGEST_AVERAGE[data.dtype])
    largest = max(map(max, rows.taps)) * max(map(max, columns.taps))
    if gain is None or gain.weight * largest > LARGEST_WEIGHT:
        raise MoveError(f"weights of a factor of {rows.factor}x{columns.factor} need more than 8 bits")
    channels, phases = data.shape[3], rows.factor * columns.factor
    kernel_bytes = len(rows.taps[0]) * len(columns.taps[0]) * round_up(channels, ATOM_BYTES)
    if kernel_bytes >= MAX_KERNEL_BYTES or kernel_bytes * phases * round_up(channels, ATOM_BYTES) > MAX_WEIGHT_BYTES:
        raise MoveError(f"{phases} phases of {channels} channels need more than {MAX_WEIGHT_BYTES} bytes of weights")
    made = Plan(rows, columns, gain, 0)
    target = _shaped(output.shape[1], output.shape[2], channels)
    source = _shaped(rows.size, columns.size, phases * round_up(channels, ATOM_BYTES))
    spread = sum(len(patch_tasks(_phase_patch(made, n, channels), source, target)) for n in range(phases))
    tasks = spread + 4
    if tasks > MAX_TASKS:
        raise MoveError(f"needs {tasks} tasks, at most {MAX_TASKS} are worth it")
    return replace(made, num_tasks=tasks)


def phases_geometry(made: Plan, channels: int) -> Geometry:
    """The convolution that makes all phases."""
    source = _shaped(made.rows.padded, made.columns.padded, channels)
    kernel = Pair(len(made.rows.taps[0]), len(made.columns.taps[0]))
    return pick_geometry(source, Run(0, 0, made.rows.size), Run(0, 0, made.columns.size),
                         len(made.phases) * round_up(channels, ATOM_BYTES), kernel)


def _shaped(height: int, width: int, channels: int) -> FeatureMap:
    return FeatureMap(Address(""), height, width, channels, 0, 1.0, ceil_div(channels, ATOM_BYTES))


def _phase_patch(made: Plan, number: int, channels: int) -> Patch:
    """From a phase's channels to its pixels."""
    y, x = made.phases[number]
    return Patch(Run(0, y, made.rows.counts[y], 1, made.rows.factor),
                 Run(0, x, made.columns.counts[x], 1, made.columns.factor),
                 Run(number * round_up(channels, ATOM_BYTES), 0, channels))


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
    channels = round_up(source.channels, ATOM_BYTES)
    phases = context.scratch_map(f"phases {operation.index}", source, MapShape(
        source.height, source.width, channels * len(made.phases)))
    tasks += _convolution(context, operation, made, padded, phases)
    for number in range(len(made.phases)):
        tasks += copy_patch(context, operation, _phase_patch(made, number, source.channels), phases, target,
                            copy_stages(), f"phase {number}")
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
    if axis.before and axis.after and axis.size > 1:
        return [Run(start, 0, 2, axis.size - 1, axis.size + 1)]
    front = [Run(start, 0, 1)] if axis.before else []
    return front + ([Run(last, axis.before + axis.size, 1)] if axis.after else [])


def _convolution(context: Context, operation: Operation, made: Plan, padded: FeatureMap,
                 phases: FeatureMap) -> list[TaskProgram]:
    """All phases at once: channel c of phase p is output channel p * C + c, C in whole surfaces."""
    channels, stride = padded.channels, round_up(padded.channels, ATOM_BYTES)
    weights = np.zeros((phases.channels, len(made.rows.taps[0]), len(made.columns.taps[0]), channels), np.int8)
    each = np.arange(channels)
    for number, (y, x) in enumerate(made.phases):
        taps = np.outer(made.rows.taps[y], made.columns.taps[x]) * made.gain.weight
        weights[number * stride + each, :, :, each] = taps
    dtype = context.tensor(operation.output).dtype
    unit = made.rows.unit * made.columns.unit * made.gain.weight
    stages = Stages(bs=Stage(add_from_memory=True, data_use=dpu.USE_ALU),
                    out=OutputConverter(ORIGIN[dtype], made.gain.multiplier, made.gain.shift))
    whole = (Run(0, 0, phases.height), Run(0, 0, phases.width))
    return convolve(context, operation, padded, phases, *whole, weights, "phases", stages, -ORIGIN[dtype] * unit)


# ---- rules ---------------------------------------------------------------------------------------------------------

def resize_makes_sense(query: Query) -> str | None:
    """The size is a constant that fits the output; input and output are quantised alike."""
    return move_problem(query.subgraph, query.operation)


def factors_are_whole(query: Query) -> str | None:
    """Height and width grow by whole factors (or one pixel fills the plane) in at most 64 tasks, with 8-bit weights."""
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
    return None if plan(query.soc, geometry) else \
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


BILINEAR_RULES: tuple[Rule, ...] = (*IMAGE_RULES, resize_makes_sense, factors_are_whole, phases_fit_the_cbuf,
                                     positions_are_those_of_tflite)
