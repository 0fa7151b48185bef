"""Programs as steps: their words sorted into what the core does with them, once for each program and not at every run.

A program's steps follow from its bytes alone. Executing them has the same effects as executing its words one by one.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cermet.sim import pc
from cermet.sim.lut import ACCESS_CFG, ACCESS_DATA
from cermet.sim.registers import BlockState

Word = tuple[int, int, int]         # target, offset, value
MAX_KEPT_BYTES = 1 << 21            # of programs; their steps take some ten times as much


@dataclass(frozen=True)
class Writes:
    """Writes to plain registers between two other steps, by target: the order among them means nothing."""

    values: dict[int, dict[int, int]]


@dataclass(frozen=True)
class TableEntries:
    """Writes to LUT_ACCESS_DATA that follow each other."""

    values: np.ndarray


Step = Word | Writes | TableEntries


@dataclass(frozen=True)
class Program:
    """num_words: as fetched."""

    num_words: int
    steps: tuple[Step, ...]


class Programs:
    """The programs that a core has run, by their bytes. In the plain form nothing is remembered or put together."""

    def __init__(self, blocks: Mapping[int | None, BlockState]) -> None:
        """blocks: by target."""
        self._blocks = blocks
        self._known: dict[bytes, Program] = {}
        self._kept_bytes = 0

    def find(self, raw: bytes, plain: bool) -> Program:
        if plain:
            words = pc.decode(np.frombuffer(raw, "<u8"))
            return Program(len(words), tuple(words))
        program = self._known.get(raw)
        if program is None:
            program = self._keep(raw, self._sort(pc.decode(np.frombuffer(raw, "<u8"))))
        return program

    def _keep(self, raw: bytes, program: Program) -> Program:
        if self._kept_bytes + len(raw) > MAX_KEPT_BYTES:
            self._known.clear()
            self._kept_bytes = 0
        if len(raw) <= MAX_KEPT_BYTES:
            self._known[raw] = program
            self._kept_bytes += len(raw)
        return program

    def _sort(self, words: list[Word]) -> Program:
        steps: list[Step] = []
        plain: dict[int, dict[int, int]] = {}
        entries: list[int] = []

        def end_run() -> None:
            if plain:
                steps.append(Writes(dict(plain)))
            if entries:
                steps.append(TableEntries(np.array(entries, np.int64)))
            plain.clear()
            entries.clear()

        for target, offset, value in words:
            block = self._blocks.get(target)
            if block is not None and block.name == "DPU" and offset == ACCESS_DATA:
                if plain:
                    end_run()
                entries.append(value)
            elif block is not None and is_plain(block, offset):
                if entries:
                    end_run()
                plain.setdefault(target, {})[offset] = value
            elif not pc.is_nop(target, offset, value):
                end_run()
                steps.append((target, offset, value))
        end_run()
        return Program(len(words), tuple(steps))


def is_plain(block: BlockState, offset: int) -> bool:
    """Whether a write does nothing but set a register of the group that the pointer is at."""
    return (offset in block.known and offset not in (block.s_pointer, block.operation_enable)
            and not (block.name == "DPU" and offset in (ACCESS_CFG, ACCESS_DATA)))
