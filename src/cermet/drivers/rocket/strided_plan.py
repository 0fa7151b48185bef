"""Which tasks make a tensor out of flat boxes: copies of atoms where they do, picking convolutions elsewhere."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cermet.drivers.rocket.layout import ATOM_BYTES, MapShape, round_up
from cermet.drivers.rocket.strided import Spot, Step, Strided, pieces
from cermet.drivers.rocket.strided_copy import AtomCopy, atom_copies
from cermet.drivers.rocket.strided_pick import Pick, patterns, picks
from cermet.ir.flat import FlatBox
from cermet.ir.moves import MoveError

GATHERED = -1               # in place of a tensor: the map into which sources were copied side by side


@dataclass(frozen=True)
class StridedPlan:
    """gathered: shape of the map that the first tasks fill, None when there is none."""

    tasks: tuple[AtomCopy | Pick, ...]
    gathered: MapShape | None = None


def plan_strided(boxes: Sequence[FlatBox], shape_of: Callable[[int], MapShape]) -> StridedPlan:
    """Of the boxes of one target. Raises MoveError."""
    moves = [piece for box in boxes for piece in pieces(box, shape_of(box.source), shape_of(box.target))]
    try:
        return StridedPlan(tuple(_tasks(moves)))
    except MoveError:
        if len({move.source for move in moves}) == 1:
            raise
    copies, moves = _gathered(moves)
    return StridedPlan((*copies, *_tasks(moves)), moves[0].source_shape)


def _tasks(moves: Sequence[Strided]) -> list[AtomCopy | Pick]:
    """Copies where they do; picks of everything where the rest alone begins or ends where no group does."""
    try:
        return _copies_and_picks(moves)
    except MoveError:
        return [pick for pattern in patterns(moves) for pick in picks(pattern)]


def _copies_and_picks(moves: Sequence[Strided]) -> list[AtomCopy | Pick]:
    made: list[AtomCopy | Pick] = []
    others = []
    for move in moves:
        copies = _copies(move)
        if copies is None:
            others.append(move)
        else:
            made += copies
    for pattern in patterns(others):
        made += picks(pattern)
    return made


def _copies(move: Strided) -> list[AtomCopy] | None:
    try:
        return atom_copies(move)
    except MoveError:
        return None


def _gathered(moves: Sequence[Strided]) -> tuple[list[AtomCopy], list[Strided]]:
    """Copies of all sources into one map, each from a surface of its own on, and the moves out of that map."""
    sources = {move.source: move.source_shape for move in moves}
    if len({shape.pixels for shape in sources.values()}) > 1:
        raise MoveError("operands whose channels lie side by side have different numbers of pixels")
    starts, start = {}, 0
    for tensor, shape in sources.items():
        starts[tensor] = start
        start += round_up(shape.channels, ATOM_BYTES)
    whole = MapShape(moves[0].source_shape.pixels, 1, start)
    copies = [copy for tensor, shape in sources.items() for copy in atom_copies(Strided(
        tensor, GATHERED, shape, whole, Spot(0, 0), Spot(0, starts[tensor]),
        (Step(shape.pixels, Spot(1, 0), Spot(1, 0)),
         Step(round_up(shape.channels, ATOM_BYTES), Spot(0, 1), Spot(0, 1)))))]
    return copies, [replace(move, source=GATHERED, source_shape=whole, source_start=Spot(
        move.source_start.pixel, move.source_start.channel + starts[move.source])) for move in moves]
