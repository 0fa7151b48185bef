"""Address ranges, handed out best fit from the bottom: the kernel's drm_mm as accel/rocket uses it."""
from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping


class RangeAllocator:
    """Ranges of any length at aligned starts in [start, end). A range keeps its exact length, not a rounded one."""

    def __init__(self, start: int, end: int, alignment: int) -> None:
        self._alignment = alignment
        self._taken: dict[int, int] = {}                        # start -> length
        self._holes_by_start: dict[int, int] = {start: end - start}
        self._holes_by_end: dict[int, int] = {end: start}
        self._holes: list[tuple[int, int]] = [(end - start, start)]    # of those with room; smallest first, then lowest

    @property
    def taken(self) -> Mapping[int, int]:
        """Start -> length of all ranges handed out."""
        return self._taken

    def _has_room(self, start: int, length: int) -> bool:
        """Whether anything may begin there. Ten thousand buffers leave ten thousand holes where nothing may."""
        return -(-start // self._alignment) * self._alignment < start + length

    def _add_hole(self, start: int, length: int) -> None:
        if length > 0:
            self._holes_by_start[start] = length
            self._holes_by_end[start + length] = start
            if self._has_room(start, length):
                insort(self._holes, (length, start))

    def _remove_hole(self, start: int) -> int:
        length = self._holes_by_start.pop(start)
        del self._holes_by_end[start + length]
        if self._has_room(start, length):
            del self._holes[bisect_left(self._holes, (length, start))]
        return length

    def allocate(self, length: int) -> int | None:
        """Start of a range in the smallest hole that fits, at its lowest aligned address; None when none fits."""
        if length <= 0:
            return None
        for hole_length, hole_start in self._holes[bisect_left(self._holes, (length, 0)):]:
            start = -(-hole_start // self._alignment) * self._alignment
            if start + length <= hole_start + hole_length:
                self._take(hole_start, start, length)
                return start
        return None

    def _take(self, hole_start: int, start: int, length: int) -> None:
        hole_end = hole_start + self._remove_hole(hole_start)
        self._add_hole(hole_start, start - hole_start)
        self._add_hole(start + length, hole_end - start - length)
        self._taken[start] = length

    def free(self, start: int) -> None:
        """Give a range back; it joins the holes on both sides."""
        end = start + self._taken.pop(start)
        if start in self._holes_by_end:
            start = self._holes_by_end[start]
            self._remove_hole(start)
        if end in self._holes_by_start:
            end += self._remove_hole(end)
        self._add_hole(start, end - start)
