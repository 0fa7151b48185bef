"""Strided moves of channels: convolutions with a single 1 per output channel.

    lines     loops from pixels to pixels: one task does one or two of them, as rows and columns of its output
    window    source pixels that become channels of one target pixel: the kernel spans them
    groups    source channels (or repeats) that become pixels: each begins a group of 32 output channels, and groups are
              written at any distance (SURFACE_ADD), so that a pixel's channels land in several pixels; where the target
              has more than 32 channels there is a task for each 32 of them

What is left repeats the task. Columns with pixels between them are written as lines of one pixel: the writer counts
through sizes of its own (data layouts §4, the vendor's bilinear resize).
"""
from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import gcd, prod

import numpy as np

from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, MapShape, ceil_div, round_up
from cermet.drivers.rocket.limits import (
    MAX_INPUT_CHANNELS,
    MAX_KERNEL,
    MAX_KERNEL_BYTES,
    MAX_NOTCH,
    MAX_SIDE,
    MAX_STRIDE,
)
from cermet.drivers.rocket.strided import Spot, Step, Strided, check_tasks, offsets
from cermet.ir.moves import MoveError
from cermet.ir.operation import Pair

GROUP = 32                      # output channels that the DPU completes together
PAIR = 2                        # surfaces of a group: what every map has at least whole numbers of
MAX_WEIGHT_BYTES = 1 << 20      # of one move
MAX_WINDOW_ENTRIES = 6 * 256    # of the CBUF, 128 bytes each: what data has beside streamed weights, but for a bank


@dataclass(frozen=True, eq=False)
class Pattern:
    """What one set of tasks makes, of one source.

    table   target channel -> (source pixel, source channel), for the first line and the first group
    """

    source: int
    target: int
    source_shape: MapShape
    target_shape: MapShape
    target_pixel: int
    lines: tuple[Step, ...]
    groups: tuple[Step, ...]
    table: Mapping[int, Spot]


@dataclass(frozen=True, eq=False)
class Pick:
    """One convolution.

    source_pixel, first_surface, channels   what of the source it reads, whole surfaces
    line         pixels from one input row to the next
    target_line  pixels from one output row to the next; or, with is_spread, from one column to the next
    group_pitch  pixels from one group of 32 output channels to the next; None: two surfaces
    weights      [OC, KH, KW, IC]
    """

    source: int
    target: int
    source_pixel: int
    first_surface: int
    line: int
    stride: int
    rows: int
    columns: int
    target_pixel: int
    target_surface: int
    target_line: int
    is_spread: bool
    group_pitch: int | None
    weights: np.ndarray

    @property
    def geometry(self) -> Geometry:
        """Of the part of the source that it reads."""
        outputs, kernel_height, kernel_width, inputs = self.weights.shape
        height, width = self.rows - 1 + kernel_height, (self.columns - 1) * self.stride + kernel_width
        return Geometry(height, width, inputs, self.rows, self.columns, outputs, Pair(kernel_height, kernel_width),
                        Pair(1, self.stride), Pair(1, 1), 0, 0)


def patterns(moves: Sequence[Strided]) -> list[Pattern]:
    """Moves into the same pixels become one. Raises MoveError when the channels of a pixel do not fill surfaces."""
    found: dict[tuple, Pattern] = {}
    for move in moves:
        made = _pattern(move)
        key = (made.source, made.target, made.target_pixel, made.lines, made.groups)
        found[key] = replace(made, table={**found[key].table, **made.table}) if key in found else made
    for pattern in found.values():
        first, count, channels = min(pattern.table), len(pattern.table), pattern.target_shape.channels
        is_tail = first + count == channels
        if max(pattern.table) != first + count - 1 or first % ATOM_BYTES or not (is_tail or count % GROUP == 0):
            raise MoveError("channels begin at no multiple of 16 in input and output")
        if first // ATOM_BYTES + ceil_div(count, GROUP) * PAIR > round_up(ceil_div(channels, ATOM_BYTES), PAIR):
            raise MoveError("the last group of channels would end behind the map")
    return list(found.values())


def _pattern(move: Strided) -> Pattern:
    into_pixels = [s for s in move.steps if s.target.pixel]
    into_channels = [s for s in move.steps if not s.target.pixel]
    lines = tuple(s for s in into_pixels if s.source.pixel)
    groups = tuple(s for s in into_pixels if not s.source.pixel)
    if prod(s.count for s in into_channels) > MAX_INPUT_CHANNELS or any(s.count > MAX_INPUT_CHANNELS for s in groups):
        raise MoveError(f"more than {MAX_INPUT_CHANNELS} channels change their places")
    each = zip(*(offsets([(s.count, step) for s, step in zip(into_channels, steps, strict=True)]) for steps in (
        [s.target.channel for s in into_channels], [s.source.pixel for s in into_channels],
        [s.source.channel for s in into_channels])), strict=True)
    table = {move.target_start.channel + to: Spot(move.source_start.pixel + pixel, move.source_start.channel + channel)
             for to, pixel, channel in each}
    return Pattern(move.source, move.target, move.source_shape, move.target_shape, move.target_start.pixel, lines,
                   groups, table)


def picks(pattern: Pattern, budget: int = MAX_WEIGHT_BYTES) -> list[Pick]:
    """The tasks of a pattern, without those that tiling adds. Raises MoveError.

    Half of the channels often sees half of the pixels: where the window or its weights are too large for all, both
    halves are planned alone.
    """
    problem = MoveError(f"would need more than {MAX_WEIGHT_BYTES} weights")
    try:
        made = _together(pattern)
        if sum(pick.weights.size for pick in made) <= budget:
            return made
    except MoveError as error:
        problem = error
    channels = sorted(pattern.table)
    middle = round_up(len(channels) // 2, GROUP)
    if not 0 < middle < len(channels):
        raise problem
    made = [pick for part in (channels[:middle], channels[middle:]) for pick in picks(
        replace(pattern, table={k: pattern.table[k] for k in part}), budget // 2)]
    check_tasks(len(made))
    return made


def _together(pattern: Pattern) -> list[Pick]:
    """All channels of a pattern in the same tasks, or 32 at a time."""
    options = []
    for arranged in _arrangements(pattern):
        for group in (None, *pattern.groups):
            options.append((_repeats(pattern, arranged, group), arranged, group))
    if not options:
        raise MoveError("pixels that become channels lie too far apart for a window")
    (tasks, *_), arranged, group = min(options, key=lambda option: option[0])
    check_tasks(tasks)
    made: list[Pick] = []
    for chunk in _channel_chunks(pattern, group):
        for source, target in _repeated(pattern, arranged, group):
            made += _tasks(pattern, arranged, group, chunk, source, target)
    return made


# ---- which loops one task does -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Arrangement:
    """rows and columns: lines that one task does; line: pixels between input rows; kernel: height and width."""

    rows: Step | None
    columns: Step | None
    line: int
    kernel: tuple[int, int]

    @property
    def taken(self) -> list[Step]:
        return [step for step in (self.rows, self.columns) if step is not None]


def _arrangements(pattern: Pattern) -> Iterator[Arrangement]:
    deltas = _deltas(pattern)
    lines = [s for s in pattern.lines if s.source.pixel > 0]
    for rows, columns in itertools.product((None, *lines), repeat=2):
        if rows is columns and rows is not None:
            continue
        if columns is not None and (columns.source.pixel > MAX_STRIDE or (rows and columns.target.pixel != 1)):
            continue
        for line in [rows.source.pixel] if rows else _line_pitches(deltas):
            kernel = (max(d // line for d in deltas) + 1, max(d % line for d in deltas) + 1)
            made = Arrangement(rows, columns, line, kernel)
            if _fits(pattern, made):
                yield made


def _deltas(pattern: Pattern) -> list[int]:
    """Pixels of the window, counted from its first."""
    pixels = {spot.pixel for spot in pattern.table.values()}
    return sorted(pixel - min(pixels) for pixel in pixels)


def _line_pitches(deltas: Sequence[int]) -> list[int]:
    """Where no loop says how far apart input rows are: the window's own step, or any that makes it fit."""
    whole = deltas[-1] + 1
    return sorted({reduce(gcd, deltas) or 1, whole, min(whole, max(ceil_div(whole, MAX_KERNEL), 1))})


def _fits(pattern: Pattern, made: Arrangement) -> bool:
    columns = made.columns.count if made.columns else 1
    stride = made.columns.source.pixel if made.columns else 1
    width = (columns - 1) * stride + made.kernel[1]
    rows = (made.rows.count if made.rows else 1) - 1 + made.kernel[0]
    if max(made.kernel) > MAX_KERNEL or width > MAX_SIDE or (rows > 1 and width > made.line):
        return False
    if made.rows and not 0 <= made.rows.target.pixel - columns <= MAX_NOTCH:
        return False
    if made.columns and not 1 <= made.columns.target.pixel <= MAX_NOTCH + 1:
        return False
    entries = made.kernel[0] * width * ceil_div(pattern.source_shape.channels, 8 * ATOM_BYTES)
    return entries <= MAX_WINDOW_ENTRIES and prod(made.kernel) * round_up(
        pattern.source_shape.channels, ATOM_BYTES) <= MAX_KERNEL_BYTES


def _repeats(pattern: Pattern, arranged: Arrangement, group: Step | None) -> tuple[int, int, bool]:
    """(tasks, size of the window, whether the writer needs sizes of its own) of a choice."""
    rest = prod(s.count for s in pattern.lines if s not in arranged.taken)
    rest *= prod(s.count for s in pattern.groups if s is not group)
    rest *= ceil_div(arranged.rows.count, MAX_SIDE - arranged.kernel[0] + 1) if arranged.rows else 1
    chunks = ceil_div(len(pattern.table), GROUP) if group else 1
    return rest * chunks, prod(arranged.kernel), _is_spread(arranged)


def _channel_chunks(pattern: Pattern, group: Step | None) -> list[list[int]]:
    """Target channels that one task writes per pixel."""
    channels = sorted(pattern.table)
    return [channels[i:i + GROUP] for i in range(0, len(channels), GROUP)] if group else [channels]


def _repeated(pattern: Pattern, arranged: Arrangement, group: Step | None) -> Iterator[tuple[Spot, int]]:
    """(where in the source, target pixel) of every round, from the pattern's own start."""
    rest = [s for s in (*pattern.lines, *pattern.groups) if s not in arranged.taken and s is not group]
    for indices in itertools.product(*(range(step.count) for step in rest)):
        yield (Spot(sum(i * s.source.pixel for i, s in zip(indices, rest, strict=True)),
                    sum(i * s.source.channel for i, s in zip(indices, rest, strict=True))),
               sum(i * s.target.pixel for i, s in zip(indices, rest, strict=True)))


# ---- one round -----------------------------------------------------------------------------------------------------

def _tasks(pattern: Pattern, arranged: Arrangement, group: Step | None, chunk: list[int], source: Spot,
           target: int) -> Iterator[Pick]:
    """The task of a round; several when the groups' weights or the rows are too many for one."""
    deltas_from = min(spot.pixel for spot in pattern.table.values())
    for first, count in _group_parts(pattern, arranged, group):
        start = source.channel + first * (group.source.channel if group else 0)
        wanted = [[start + spot.channel + i * (group.source.channel if group else 0) for spot in
                   (pattern.table[k] for k in chunk)] for i in range(count)]
        surface = min(map(min, wanted)) // ATOM_BYTES
        channels = min(round_up(max(map(max, wanted)) + 1, ATOM_BYTES), pattern.source_shape.channels) \
            - surface * ATOM_BYTES
        rows = (count - 1) * GROUP + len(chunk)
        if rows * prod(arranged.kernel) * channels > MAX_WEIGHT_BYTES:
            raise MoveError(f"would need more than {MAX_WEIGHT_BYTES} weights")
        weights = np.zeros((rows, *arranged.kernel, channels), np.int8)
        for i, row in enumerate(wanted):
            for n, (k, channel) in enumerate(zip(chunk, row, strict=True)):
                y, x = divmod(pattern.table[k].pixel - deltas_from, arranged.line)
                weights[i * GROUP + n, y, x, channel - surface * ATOM_BYTES] = 1
        to = pattern.target_pixel + target + first * (group.target.pixel if group else 0)
        yield from _bands(Pick(
            pattern.source, pattern.target, deltas_from + source.pixel, surface, arranged.line,
            arranged.columns.source.pixel if arranged.columns else 1, arranged.rows.count if arranged.rows else 1,
            arranged.columns.count if arranged.columns else 1, to, chunk[0] // ATOM_BYTES,
            _target_line(arranged), _is_spread(arranged), group.target.pixel if group else None, weights), arranged)


def _group_parts(pattern: Pattern, arranged: Arrangement, group: Step | None) -> list[tuple[int, int]]:
    """(first, count) of the groups of each task: all, unless reading fewer channels at a time saves many weights."""
    if group is None:
        return [(0, 1)]
    taps = prod(arranged.kernel) * GROUP * ceil_div(len(pattern.table), GROUP)
    parts = 1
    while parts < group.count:
        count = ceil_div(group.count, parts)
        spread = min(round_up(count * abs(group.source.channel) + ATOM_BYTES, ATOM_BYTES),
                     round_up(pattern.source_shape.channels, ATOM_BYTES))
        if group.count * taps * spread <= MAX_WEIGHT_BYTES:
            break
        parts += 1
    count = ceil_div(group.count, parts)
    return [(first, min(count, group.count - first)) for first in range(0, group.count, count)]


def _is_spread(arranged: Arrangement) -> bool:
    return arranged.rows is None and arranged.columns is not None and arranged.columns.target.pixel > 1


def _target_line(arranged: Arrangement) -> int:
    if arranged.rows is not None:
        return arranged.rows.target.pixel
    return arranged.columns.target.pixel if arranged.columns and _is_spread(arranged) else (
        arranged.columns.count if arranged.columns else 1)


def _bands(pick: Pick, arranged: Arrangement) -> Iterator[Pick]:
    """As many rows at a time as the CNA reads."""
    most = MAX_SIDE - arranged.kernel[0] + 1
    for first in range(0, pick.rows, most):
        yield replace(pick, rows=min(most, pick.rows - first), source_pixel=pick.source_pixel + first * pick.line,
                      target_pixel=pick.target_pixel + first * pick.target_line)
