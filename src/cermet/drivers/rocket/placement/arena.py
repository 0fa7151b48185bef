"""Places for activations: buffers that are alive at different times share memory."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cermet.drivers.rocket.layout import round_up

ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class Lifetime:
    """A buffer and the tasks, first to last inclusive, between which its contents matter."""

    name: str
    size_bytes: int
    first_task: int
    last_task: int

    def overlaps(self, other: Lifetime) -> bool:
        return self.first_task <= other.last_task and other.first_task <= self.last_task


def lifetimes(sizes: Mapping[str, int], touched: Sequence[Iterable[str]]) -> list[Lifetime]:
    """Lifetimes of the buffers in `sizes` from the names that each task touches; a buffer nobody touches has none."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, names in enumerate(touched):
        for name in names:
            first.setdefault(name, index)
            last[name] = index
    return [Lifetime(name, size, first[name], last[name]) for name, size in sizes.items() if name in first]


def place(buffers: Iterable[Lifetime]) -> tuple[dict[str, int], int]:
    """Offsets in bytes, multiples of 64, and the arena's size.

    Greedy by size: the largest buffer first, each at the lowest gap between the placed ones that live at the same time.
    """
    placed: list[tuple[int, Lifetime]] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size_bytes, b.first_task, b.name)):
        neighbours = sorted((offset, other.size_bytes) for offset, other in placed if buffer.overlaps(other))
        offset = 0
        for start, size in neighbours:
            if start - offset >= buffer.size_bytes:
                break
            offset = max(offset, round_up(start + size, ALIGNMENT_BYTES))
        placed.append((offset, buffer))
    end = max((offset + b.size_bytes for offset, b in placed), default=0)
    return {b.name: offset for offset, b in placed}, round_up(end, ALIGNMENT_BYTES)
