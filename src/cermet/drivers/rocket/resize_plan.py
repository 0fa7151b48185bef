"""How RESIZE_BILINEAR by a whole or broken factor is divided into small convolutions.

With a scale of p / q input pixels per output pixel, output position q * i + r lies at the same place between the input
pixels next to p * i for every i: phase r of the output is a convolution of stride p. One convolution makes the phases
of both axes, q * q of them, and copies bring them to their places: one copy per phase, or, where that takes less than
half the tasks, one per column of a phase for all rows together, and then one per row.

Larger factors could be done in two passes, columns first and then rows. Both would round: 18 % of the bytes would be
one step away from TFLite's (measured), which is not worth the time that the NPU would save (DeepLab's last resize, 33
to 513 pixels: 20 ms estimated at 200 MHz, 14 ms measured on one core of a PC).
"""
from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from cermet.drivers.rocket.copy import Patch, patch_tasks, pick_geometry
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div, round_up
from cermet.drivers.rocket.limits import MAX_KERNEL_BYTES, MAX_STRIDE
from cermet.drivers.rocket.pooling import LARGEST_AVERAGE
from cermet.drivers.rocket.pooling_arithmetic import Gain, division_gain
from cermet.drivers.rocket.regcmd import Address
from cermet.drivers.rocket.strided import MAX_TASKS
from cermet.drivers.rocket.views import MapShape
from cermet.ir.moves import MoveError, Run, resized_sides
from cermet.ir.operation import Moving, Operation, Pair
from cermet.ir.subgraph import Subgraph

BORDER_TASKS = 4
MAX_WEIGHT_BYTES = 1 << 22  # of the phases' convolution
LARGEST_WEIGHT = 127        # above, weights have the zero point -128
LARGEST_UNSIGNED_WEIGHT = 255


@dataclass(frozen=True)
class Axis:
    """One axis.

    size, output   pixels
    stride         p; the number of phases is q
    before, after  the border, in pixels
    taps           taps[r][t]: weight of padded input pixel p * i + t in output position q * i + r; each sums up to unit
    counts         output positions of each phase
    """

    size: int
    output: int
    stride: int
    before: int
    after: int
    unit: int
    taps: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]

    @property
    def phases(self) -> int:
        return len(self.taps)

    @property
    def padded(self) -> int:
        return self.before + self.size + self.after

    @property
    def positions(self) -> Run:
        """Of the windows."""
        return Run(0, 0, max(self.counts), self.stride)


def make_axis(size: int, output_size: int, options: Moving) -> Axis:
    """Raises MoveError unless the positions repeat after few pixels."""
    aligned = options.align_corners and output_size > 1
    scale = Fraction(size - 1, output_size - 1) if aligned else Fraction(size, output_size)
    if scale == 1:
        return unchanged(size)
    if scale <= 0 or scale.denominator > MAX_TASKS or scale.numerator > MAX_STRIDE:
        raise MoveError(f"{size} pixels become {output_size}, which repeats after {scale.numerator} to "
                        f"{scale.denominator} pixels, must be at most {MAX_STRIDE} to {MAX_TASKS}")
    half = Fraction(1, 2) if options.half_pixel else Fraction(0)
    places = [(r + half) * scale - half for r in range(min(scale.denominator, output_size))]
    unit = int(np.lcm.reduce([place.denominator for place in places]))
    before = int(min(places) < 0)
    taps = np.zeros((len(places), max(-(-place // 1) for place in places) + before + 1), int)
    for row, place in zip(taps, places, strict=True):
        low, rest = place // 1, place % 1
        row[low + before] = (1 - rest) * unit
        if rest:
            row[low + before + 1] = rest * unit
    counts = tuple(len(range(r, output_size, scale.denominator)) for r in range(len(places)))
    needed = scale.numerator * (counts[0] - 1) + taps.shape[1]
    return Axis(size, output_size, scale.numerator, before, max(needed - before - size, 0), unit,
                tuple(map(tuple, taps.tolist())), counts)


def unchanged(size: int) -> Axis:
    return Axis(size, size, 1, 0, 0, 1, ((1,),), (size,))


@dataclass(frozen=True)
class Plan:
    """Both axes, the division, the copies behind the convolution.

    copies   in stages: the convolution makes the first map, each stage the next one, the last of which is the result;
             none: the convolution makes the result
    """

    rows: Axis
    columns: Axis
    gain: Gain
    copies: tuple[tuple[Patch, ...], ...]

    @property
    def phases(self) -> list[tuple[int, int]]:
        """All rows of a column's phase are neighbours."""
        return [(y, x) for x in range(self.columns.phases) for y in range(self.rows.phases)]

    @property
    def weight_zero_point(self) -> int:
        return 0 if largest_weight(self.rows, self.columns, self.gain) <= LARGEST_WEIGHT else -128

    def maps(self, channels: int) -> list[MapShape]:
        """Of all phases, between the copies, and of the result."""
        made = _maps(self.rows, self.columns, channels)[:len(self.copies)]
        return [*made, MapShape(self.rows.output, self.columns.output, channels)]


def plan_resize(subgraph: Subgraph, operation: Operation) -> Plan:
    """Raises MoveError for what cannot be done in this way."""
    assert operation.moving is not None
    data = subgraph.tensor(operation.inputs[0])
    rows, columns = (make_axis(*side, operation.moving) for side in resized_sides(subgraph, operation))
    gain = division_gain(rows.unit * columns.unit, LARGEST_AVERAGE[data.dtype])
    if gain is None or largest_weight(rows, columns, gain) > LARGEST_UNSIGNED_WEIGHT:
        raise MoveError(f"weights of {rows.phases}x{columns.phases} phases need more than 8 bits, two passes would "
                        "round twice")
    channels, phases = data.shape[3], rows.phases * columns.phases
    kernel_bytes = len(rows.taps[0]) * len(columns.taps[0]) * round_up(channels, ATOM_BYTES)
    if kernel_bytes > MAX_KERNEL_BYTES or kernel_bytes * phases * round_up(channels, ATOM_BYTES) > MAX_WEIGHT_BYTES:
        raise MoveError(f"{phases} phases of {channels} channels need more than {MAX_WEIGHT_BYTES} bytes of weights")
    copies, tasks = _copies(rows, columns, channels)
    if tasks + BORDER_TASKS > MAX_TASKS:
        raise MoveError(f"needs {tasks + BORDER_TASKS} tasks, at most {MAX_TASKS} are worth it")
    return Plan(rows, columns, gain, copies)


def largest_weight(rows: Axis, columns: Axis, gain: Gain) -> int:
    return max(map(max, rows.taps)) * max(map(max, columns.taps)) * gain.weight


def _maps(rows: Axis, columns: Axis, channels: int) -> list[MapShape]:
    """Of all phases, and with the columns in their places."""
    stride = round_up(channels, ATOM_BYTES)
    return [MapShape(rows.positions.count, columns.positions.count, stride * rows.phases * columns.phases),
            MapShape(rows.positions.count, columns.output, stride * rows.phases)]


def _copies(rows: Axis, columns: Axis, channels: int) -> tuple[tuple[tuple[Patch, ...], ...], int]:
    """(copies of each stage, their tasks): in one stage, or in two where these take less than half the tasks."""
    if rows.phases * columns.phases == 1:
        return (), 0
    stride, (phases, wide) = round_up(channels, ATOM_BYTES), _maps(rows, columns, channels)
    target = MapShape(rows.output, columns.output, channels)
    to_rows = [Run(0, y, count, 1, rows.phases) for y, count in enumerate(rows.counts)]
    to_columns = [Run(0, x, count, 1, columns.phases) for x, count in enumerate(columns.counts)]
    direct = tuple(Patch(row, column, Run((x * rows.phases + y) * stride, 0, channels))
                   for x, column in enumerate(to_columns) for y, row in enumerate(to_rows))
    column_first = tuple(Patch(Run(0, 0, phases.height), column, Run(x * wide.channels, 0, wide.channels))
                         for x, column in enumerate(to_columns))
    row_last = tuple(Patch(row, Run(0, 0, columns.output), Run(y * stride, 0, channels))
                     for y, row in enumerate(to_rows))
    one = _num_tasks(direct, phases, target)
    two = _num_tasks(column_first, phases, wide) + _num_tasks(row_last, wide, target)
    return ((column_first, row_last), two) if 2 * two < one else ((direct,), one)


def _num_tasks(patches: tuple[Patch, ...], source: MapShape, target: MapShape) -> int:
    return sum(len(patch_tasks(patch, _placed(source), _placed(target))) for patch in patches)


def _placed(shape: MapShape) -> FeatureMap:
    return FeatureMap(Address(""), shape.height, shape.width, shape.channels, 0, 1.0,
                      ceil_div(shape.channels, ATOM_BYTES))


def phases_geometry(made: Plan, channels: int) -> Geometry:
    """The convolution that makes all phases."""
    source = _placed(MapShape(made.rows.padded, made.columns.padded, channels))
    kernel = Pair(len(made.rows.taps[0]), len(made.columns.taps[0]))
    return pick_geometry(source, made.rows.positions, made.columns.positions,
                         len(made.phases) * round_up(channels, ATOM_BYTES), kernel)
