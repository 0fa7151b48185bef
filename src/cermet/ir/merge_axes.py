"""Boxes with fewer dimensions: neighbouring ones are counted as one, as images one below the other are."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from cermet.ir.moves import Box, MoveError, Run

MAX_PIECES = 64


@dataclass(frozen=True)
class _Axis:
    """Sizes of both tensors along a dimension, and what moves."""

    source: int
    target: int
    run: Run

    @property
    def is_single(self) -> bool:
        return self.source == self.target == 1


def with_few_axes(box: Box, count: int) -> Iterator[Box]:
    """Boxes that together move the same, each with exactly `count` dimensions before the last one.

    Neighbours are merged where one progression runs through both; where none does, the first dimension is taken apart.
    Raises MoveError when that gives too many boxes, or for a scalar.
    """
    if not box.runs:
        raise MoveError("a scalar is not worth a task")
    axes = [_Axis(*sides) for sides in zip(box.source_shape, box.target_shape, box.runs, strict=True)]
    lead = [axis for axis in axes[:-1] if not axis.is_single]
    for pieces in _pieces(lead, count, MAX_PIECES):
        filled = [_Axis(1, 1, Run(0, 0, 1))] * (count - len(pieces)) + [*pieces, axes[-1]]
        yield replace(box, source_shape=tuple(a.source for a in filled), target_shape=tuple(a.target for a in filled),
                      runs=tuple(a.run for a in filled))


def _pieces(axes: list[_Axis], count: int, room: int) -> Iterator[list[_Axis]]:
    while len(axes) > count:
        for i, (outer, inner) in enumerate(pairwise(axes)):
            merged = _merged(outer, inner)
            if merged is not None:
                axes = [*axes[:i], merged, *axes[i + 2:]]
                break
        else:
            yield from _taken_apart(axes, count, room)
            return
    yield axes


def _taken_apart(axes: list[_Axis], count: int, room: int) -> Iterator[list[_Axis]]:
    first, run = axes[0], axes[0].run
    if run.count > room:
        raise MoveError(f"more than {count} dimensions but the channels differ, which takes more than {MAX_PIECES} "
                        "pieces")
    for i in range(run.count):
        one = Run(run.source + i * run.source_step, run.target + i * run.target_step, 1)
        yield from _pieces([replace(first, run=one), *axes[1:]], count, room // run.count)


def _merged(outer: _Axis, inner: _Axis) -> _Axis | None:
    """Both dimensions as one; None when the positions are no progression."""
    a, b = outer.run, inner.run
    goes_on = (a.source_step, a.target_step) == (1, 1) and \
        (b.count * b.source_step, b.count * b.target_step) == (inner.source, inner.target)
    if goes_on or a.count == 1:
        count, source_step, target_step = a.count * b.count, b.source_step, b.target_step
    elif b.count == 1:
        count, source_step, target_step = a.count, a.source_step * inner.source, a.target_step * inner.target
    else:
        return None
    run = Run(a.source * inner.source + b.source, a.target * inner.target + b.target, count, source_step, target_step)
    return _Axis(outer.source * inner.source, outer.target * inner.target, run)
