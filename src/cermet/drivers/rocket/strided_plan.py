"""Which tasks make a tensor out of flat boxes: copies of atoms where they do, picking convolutions elsewhere.

What repeats pixels can be made once and copied within the target, twice as many pixels each time.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cermet.drivers.rocket.layout import ATOM_BYTES, MapShape, round_up
from cermet.drivers.rocket.strided import Spot, Step, Strided, pieces, strided
from cermet.drivers.rocket.strided_copy import AtomCopy, atom_copies
from cermet.drivers.rocket.strided_pick import Pick, patterns, picks
from cermet.ir.flat import FlatBox, Loop, coalesced
from cermet.ir.moves import MoveError

GATHERED = -1               # in place of a tensor: the map into which sources were copied side by side
STACKED = -2                # and below: maps into which sources were copied one below the other
TASK_BYTES = 100_000        # read in the time of a task's interrupt: 34 us (hw-verified) at 3 GB/s, ASSUMED

ShapeOf = Callable[[int], MapShape]


@dataclass(frozen=True)
class StridedPlan:
    """gathered: the maps of our own that the first tasks fill, with numbers below 0 in place of tensors."""

    tasks: tuple[AtomCopy | Pick, ...]
    gathered: Mapping[int, MapShape] = field(default_factory=dict)


def plan_strided(boxes: Sequence[FlatBox], shape_of: ShapeOf) -> StridedPlan:
    """Of the boxes of one target, the way with fewer tasks. Raises MoveError."""
    stacks = [stack for stack in stacks_of(boxes, shape_of) if len(stack) > 1]
    ways = [lambda: _one_by_one(boxes, shape_of)]
    if stacks:
        ways.append(lambda: _stacked(boxes, stacks, shape_of))
    if any(_repeats(box, shape_of) for box in boxes):
        ways += [lambda: _doubled(boxes, shape_of), lambda: _picked(boxes, shape_of)]
    plans, problem = [], MoveError("nothing is moved")
    for way in ways:
        try:
            plans.append(way())
        except MoveError as error:
            problem = error
    if not plans:
        raise problem
    return min(plans, key=_cost)


def _cost(plan: StridedPlan) -> float:
    """In tasks: what they are beside their interrupts is mostly reading weights."""
    return len(plan.tasks) + sum(task.weights.size for task in plan.tasks if isinstance(task, Pick)) / TASK_BYTES


def _one_by_one(boxes: Sequence[FlatBox], shape_of: ShapeOf) -> StridedPlan:
    moves = [piece for box in boxes for piece in pieces(box, shape_of(box.source), shape_of(box.target))]
    try:
        return StridedPlan(tuple(_tasks(moves)))
    except MoveError:
        if len({move.source for move in moves}) == 1:
            raise
    copies, moves = _gathered(moves)
    return StridedPlan((*copies, *_tasks(moves)), {GATHERED: moves[0].source_shape})


def _stacked(boxes: Sequence[FlatBox], stacks: Sequence[Sequence[FlatBox]], shape_of: ShapeOf) -> StridedPlan:
    """Sources that follow each other in the target with as many channels each are moved together."""
    copies: list[AtomCopy] = []
    rest, maps = list(boxes), {}
    for number, stack in zip(range(STACKED, STACKED - len(stacks), -1), stacks, strict=True):
        shapes = [shape_of(box.source) for box in stack]
        maps[number] = MapShape(sum(shape.pixels for shape in shapes), 1, shapes[0].channels)
        pixel = 0
        for box, shape in zip(stack, shapes, strict=True):
            copies += atom_copies(Strided(box.source, number, shape, maps[number], Spot(0, 0), Spot(pixel, 0), (
                Step(shape.pixels, Spot(1, 0), Spot(1, 0)), Step(shape.channels, Spot(0, 1), Spot(0, 1)))))
            pixel += shape.pixels
            rest.remove(box)
        count = maps[number].pixels * maps[number].channels
        rest.append(FlatBox(number, stack[0].target, 0, stack[0].target_start, (Loop(count, 1, 1),)))
    plan = _one_by_one(rest, lambda tensor: maps.get(tensor) or shape_of(tensor))
    return StridedPlan((*copies, *plan.tasks), {**maps, **plan.gathered})


def _picked(boxes: Sequence[FlatBox], shape_of: ShapeOf) -> StridedPlan:
    """By convolutions alone, which write as many repeats at once as they have groups of 32 output channels."""
    moves = [piece for box in boxes for piece in pieces(box, shape_of(box.source), shape_of(box.target))]
    return StridedPlan(tuple(_all_picks(moves)))


def _doubled(boxes: Sequence[FlatBox], shape_of: ShapeOf) -> StridedPlan:
    """Every box without its repeats, then copies from the target into itself."""
    repeats = [_repeats(box, shape_of) for box in boxes]
    once = [replace(box, loops=tuple(loop for loop in box.loops if loop not in repeated))
            for box, repeated in zip(boxes, repeats, strict=True)]
    plan = _one_by_one(once, shape_of)
    copies = [copy for box, repeated in zip(once, repeats, strict=True) for copy in _copied_on(box, repeated, shape_of)]
    return StridedPlan((*plan.tasks, *copies), plan.gathered)


def _repeats(box: FlatBox, shape_of: ShapeOf) -> list[Loop]:
    """The loops that write the same elements into several pixels, the innermost first."""
    return [loop for loop in box.loops[::-1] if loop.source == 0 and loop.target % shape_of(box.target).channels == 0]


def _copied_on(box: FlatBox, repeats: Sequence[Loop], shape_of: ShapeOf) -> Iterator[AtomCopy]:
    """Copies that repeat what a box has written: what is there, or as much of it as is missing."""
    shape, written = shape_of(box.target), [loop.target for loop in box.loops]
    loops = [Loop(loop.count, step, step) for loop, step in zip(box.loops, written, strict=True)]
    for repeat in repeats:
        step, done = repeat.target, 1
        while done < repeat.count:
            more = sorted([Loop(min(done, repeat.count - done), step, step), *loops], key=lambda loop: -loop.target)
            copied = FlatBox(box.target, box.target, box.target_start, box.target_start + done * step, coalesced(more))
            yield from atom_copies(strided(copied, shape, shape))
            done *= 2
        loops.append(Loop(repeat.count, step, step))


def stacks_of(boxes: Sequence[FlatBox], shape_of: ShapeOf) -> list[list[FlatBox]]:
    """Boxes of whole sources with as many channels, none of them the target's, that follow each other in the target."""
    made: list[list[FlatBox]] = []
    end, channels = -1, 0
    for box in sorted(boxes, key=lambda box: box.target_start):
        shape = shape_of(box.source)
        count = shape.pixels * shape.channels
        if box.source_start or coalesced(box.loops) != coalesced((Loop(count, 1, 1),)) or \
                shape.channels == shape_of(box.target).channels:
            continue
        if made and (end, channels) == (box.target_start, shape.channels):
            made[-1].append(box)
        else:
            made.append([box])
        end, channels = box.target_start + count, shape.channels
    return made


def _tasks(moves: Sequence[Strided]) -> list[AtomCopy | Pick]:
    """Copies where they do; picks of everything where the rest alone begins or ends where no group does."""
    try:
        return _copies_and_picks(moves)
    except MoveError:
        return _all_picks(moves)


def _all_picks(moves: Sequence[Strided]) -> list[AtomCopy | Pick]:
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
    return [*made, *_all_picks(others)]


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
