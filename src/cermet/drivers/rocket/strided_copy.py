"""Strided moves of whole atoms: DPU copies. One task does three loops (columns, rows, surfaces), the rest repeat it."""
from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from cermet.drivers.rocket.layout import ATOM_BYTES, MAX_CUBE, MAX_SURFACES, Cube, MapShape, ceil_div
from cermet.drivers.rocket.limits import MAX_NOTCH
from cermet.drivers.rocket.strided import Spot, Strided, check_tasks
from cermet.ir.moves import MoveError

SINGLE_ATOM = (1, 1, 1)     # a loop over one atom


@dataclass(frozen=True)
class AtomCopy:
    """One task: a cube; on both sides its first atom, and the atoms between rows and between surfaces."""

    source: int
    target: int
    cube: Cube
    starts: tuple[int, int]
    line_pitches: tuple[int, int]
    surface_pitches: tuple[int, int]


AtomLoop = tuple[int, int, int]     # count, atoms from one to the next in source and target


def atom_copies(move: Strided) -> list[AtomCopy]:
    """The fewest tasks. Raises MoveError when channels do not move in whole atoms."""
    loops = _atom_loops(move)
    starts = (_atom(move.source_start, move.source_shape), _atom(move.target_start, move.target_shape))
    columns, rows, surfaces, rest = min(_arrangements(loops), key=lambda a: _num_tasks(*a))
    check_tasks(_num_tasks(columns, rows, surfaces, rest))
    made = []
    for row, surface in itertools.product(range(0, rows[0], MAX_CUBE), range(0, surfaces[0], MAX_SURFACES)):
        cube = Cube(columns[0], min(MAX_CUBE, rows[0] - row), min(MAX_SURFACES, surfaces[0] - surface))
        for indices in itertools.product(*(range(loop[0]) for loop in rest)):
            at = tuple(starts[side - 1] + row * rows[side] + surface * surfaces[side]
                       + sum(i * loop[side] for i, loop in zip(indices, rest, strict=True)) for side in (1, 2))
            made.append(AtomCopy(move.source, move.target, cube, at, rows[1:], surfaces[1:]))   # type: ignore[arg-type]
    return made


def _atom(spot: Spot, shape: MapShape) -> int:
    return spot.channel // ATOM_BYTES * shape.surface_atoms + spot.pixel


def _atom_loops(move: Strided) -> list[AtomLoop]:
    """Loops over atoms, the one over the surfaces of consecutive channels among them."""
    inner = [s for s in move.steps if (s.source.channel, s.target.channel) == (1, 1)]
    others = [s for s in move.steps if s not in inner]
    count = inner[0].count if inner else 1
    steps = [abs(c) for s in others for c in (s.source.channel, s.target.channel)]
    is_whole = count % ATOM_BYTES == 0 or (
        move.target_start.channel + count == move.target_shape.channels and not any(s.target.channel for s in others))
    if not is_whole or any(c % ATOM_BYTES for c in (move.source_start.channel, move.target_start.channel, *steps)):
        raise MoveError("channels do not begin and end at multiples of 16")
    made = [(s.count, _atom(s.source, move.source_shape), _atom(s.target, move.target_shape)) for s in others]
    made.append((ceil_div(count, ATOM_BYTES), move.source_shape.surface_atoms, move.target_shape.surface_atoms))
    return [loop for loop in made if loop[0] > 1]


def _arrangements(loops: Sequence[AtomLoop]) -> Iterator[tuple[AtomLoop, AtomLoop, AtomLoop, list[AtomLoop]]]:
    """(columns, rows, surfaces, the rest): every choice that registers can hold."""
    choices = (None, *loops)
    for chosen in itertools.product(choices, repeat=3):
        taken = [loop for loop in chosen if loop is not None]
        if any(taken.count(loop) > loops.count(loop) for loop in taken):
            continue
        columns, rows, surfaces = (loop or SINGLE_ATOM for loop in chosen)
        rows = rows if chosen[1] else (1, columns[0], columns[0])
        if _fits(columns, rows, surfaces):
            rest = list(loops)
            for loop in taken:
                rest.remove(loop)
            yield columns, rows, surfaces, rest


def _fits(columns: AtomLoop, rows: AtomLoop, surfaces: AtomLoop) -> bool:
    """Columns are next to each other, rows and surfaces apart: the notches between them cannot be negative."""
    if columns[1:] != (1, 1) or columns[0] > MAX_CUBE:
        return False
    if rows[0] > 1 and any(not 0 <= pitch - columns[0] <= MAX_NOTCH for pitch in rows[1:]):
        return False
    extent = (min(rows[0], MAX_CUBE) - 1) * rows[1] + columns[0]
    return surfaces[0] == 1 or (surfaces[1] >= extent and surfaces[2] >= 1)


def _num_tasks(columns: AtomLoop, rows: AtomLoop, surfaces: AtomLoop, rest: Sequence[AtomLoop]) -> int:
    return ceil_div(rows[0], MAX_CUBE) * ceil_div(surfaces[0], MAX_SURFACES) * prod(loop[0] for loop in rest)
