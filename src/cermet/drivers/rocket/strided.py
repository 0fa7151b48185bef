"""Loops over elements as loops over pixels and channels of two feature maps, and what kinds of loops those are."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd, lcm

from cermet.drivers.rocket.layout import MapShape
from cermet.ir.flat import FlatBox, Loop, coalesced
from cermet.ir.moves import MoveError

MAX_PIECES = 1024
# About 2 ms of interrupts (27-41 us each, hw-verified). Where the CPU is faster is ASSUMED.
MAX_TASKS = 64


@dataclass(frozen=True)
class Spot:
    """A place in a feature map, or the way from one place to another."""

    pixel: int
    channel: int

    def times(self, count: int) -> Spot:
        return Spot(self.pixel * count, self.channel * count)


@dataclass(frozen=True)
class Step:
    """A loop: on either side it goes along pixels or along channels, not both."""

    count: int
    source: Spot
    target: Spot


@dataclass(frozen=True)
class Strided:
    """A FlatBox between two maps. source and target are the tensors of the operation, whatever lies behind them."""

    source: int
    target: int
    source_shape: MapShape
    target_shape: MapShape
    source_start: Spot
    target_start: Spot
    steps: tuple[Step, ...]


def strided(box: FlatBox, source: MapShape, target: MapShape) -> Strided:
    """Raises MoveError when a loop crosses pixels at places that differ from round to round."""
    loops = list(coalesced(box.loops))
    for side, channels in (("source", source.channels), ("target", target.channels)):
        loops = [part for loop in loops for part in _cut(loop, side, channels)]
    steps = [Step(loop.count, _spot(loop.source, source.channels), _spot(loop.target, target.channels))
             for loop in loops if loop.count > 1]
    made = Strided(box.source, box.target, source, target, Spot(*divmod(box.source_start, source.channels)),
                   Spot(*divmod(box.target_start, target.channels)), _joined(steps))
    _check(made)
    return made


def _joined(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Two loops that follow on from each other on both sides, in pixels or in channels, become one."""
    made: list[Step] = []
    for step in steps:
        if made and made[-1].source == step.source.times(step.count) and \
                made[-1].target == step.target.times(step.count):
            made[-1] = Step(made[-1].count * step.count, step.source, step.target)
        else:
            made.append(step)
    return tuple(made)


def _cut(loop: Loop, side: str, channels: int) -> Iterator[Loop]:
    """A loop that runs through the channels of several pixels becomes one over pixels and one over channels."""
    step: int = getattr(loop, side)
    if step % channels == 0 or abs(step) * (loop.count - 1) < channels:
        yield loop
        return
    inner = channels // abs(step) if channels % step == 0 else 0
    if inner == 0 or loop.count % inner:
        raise MoveError(f"{loop.count} elements, {step} apart, do not divide into pixels of {channels} channels")
    yield Loop(loop.count // inner, inner * loop.source, inner * loop.target)
    yield Loop(inner, loop.source, loop.target)


def _spot(step: int, channels: int) -> Spot:
    return Spot(step // channels, 0) if step % channels == 0 else Spot(0, step)


def _check(made: Strided) -> None:
    """Channel loops must stay inside one pixel."""
    for start, steps, shape in (
            (made.source_start, [(s.count, s.source.channel) for s in made.steps], made.source_shape),
            (made.target_start, [(s.count, s.target.channel) for s in made.steps], made.target_shape)):
        reach = [(count - 1) * step for count, step in steps]
        low, high = start.channel + sum(r for r in reach if r < 0), start.channel + sum(r for r in reach if r > 0)
        if low < 0 or high >= shape.channels:
            raise MoveError(f"channels {low}..{high} are not inside a pixel of {shape.channels}")


def pieces(box: FlatBox, source: MapShape, target: MapShape) -> list[Strided]:
    """A box as few loops over pixels and channels. Raises MoveError.

    Consecutive elements whose pixels have no whole ratio are cut into pieces that lie in one pixel on both sides.
    """
    try:
        return [strided(box, source, target)]
    except MoveError:
        loops, period = coalesced(box.loops), lcm(source.channels, target.channels)
        piece = gcd(source.channels, target.channels, box.source_start, box.target_start)
        if len(loops) != 1 or (loops[0].source, loops[0].target) != (1, 1) or loops[0].count % period:
            raise
        if period // piece > MAX_PIECES:
            raise
    return [strided(replace(box, source_start=box.source_start + i, target_start=box.target_start + i,
                            loops=(Loop(loops[0].count // period, period, period), Loop(piece, 1, 1))), source, target)
            for i in range(0, period, piece)]


def check_tasks(count: int) -> None:
    """Before they are made, however many they would be."""
    if count > MAX_TASKS:
        raise MoveError(f"needs {count} tasks, at most {MAX_TASKS} are worth it")


def offsets(steps: Sequence[tuple[int, int]]) -> list[int]:
    """All sums of (count, step) loops, the last one running fastest."""
    made = [0]
    for count, step in steps:
        made = [base + i * step for base in made for i in range(count)]
    return made
