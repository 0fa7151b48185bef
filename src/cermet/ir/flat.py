"""Moves as loops over elements: any box, and what boxes cannot say (RESHAPE, TRANSPOSE), in one form.

Element source_start + sum(i * loop.source) goes to target_start + sum(i * loop.target), for every i below each loop's
count. Elements are counted in the order of the model (NHWC).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np


@dataclass(frozen=True)
class Loop:
    """Steps in elements. The source's may be 0 (repeated) or negative (reversed), the target's are above 0."""

    count: int
    source: int
    target: int


@dataclass(frozen=True)
class FlatBox:
    """source, target: tensor numbers. Loops from the outermost to the innermost, none of count 1."""

    source: int
    target: int
    source_start: int
    target_start: int
    loops: tuple[Loop, ...]


def strides(shape: Sequence[int]) -> list[int]:
    """Elements from one index to the next, along each axis."""
    return [prod(shape[i + 1:]) for i in range(len(shape))]


def coalesced(loops: Sequence[Loop]) -> tuple[Loop, ...]:
    """The same elements in fewer loops: two that follow on from each other on both sides become one."""
    made: list[Loop] = []
    for loop in loops:
        if loop.count == 1:
            continue
        outer = made[-1] if made else None
        if outer and (outer.source, outer.target) == (loop.count * loop.source, loop.count * loop.target):
            made[-1] = Loop(outer.count * loop.count, loop.source, loop.target)
        else:
            made.append(loop)
    return tuple(made)


def broadcast_loops(shape: Sequence[int], wanted: Sequence[int]) -> tuple[Loop, ...]:
    """A tensor in a shape that it broadcasts to."""
    shape = (*([1] * (len(wanted) - len(shape))), *shape)
    return coalesced([Loop(m, s if n == m else 0, t) for n, m, s, t in zip(
        shape, wanted, strides(shape), strides(wanted), strict=True)])


def move_elements(box: FlatBox, source: np.ndarray, target: np.ndarray) -> None:
    """Writes the box's elements of one array into another; both contiguous."""
    counts = [loop.count for loop in box.loops]

    def view(array: np.ndarray, start: int, steps: Sequence[int]) -> np.ndarray:
        return np.lib.stride_tricks.as_strided(array.reshape(-1)[start:], counts, [s * array.itemsize for s in steps])
    view(target, box.target_start, [loop.target for loop in box.loops])[...] = view(
        source, box.source_start, [loop.source for loop in box.loops])
