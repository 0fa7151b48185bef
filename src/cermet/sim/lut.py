"""The DPU's look-up tables: upload through registers, evaluation (numerics §12)."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.sim.outcome import TaskOutcome
from cermet.sim.registers import Snapshot
from cermet.sim.rounding import shift_even, signed

ENTRIES = 513       # of each of the two tables (numerics document §12, replayed)
ACCESS_CFG, ACCESS_DATA = 0x4100, 0x4104
WRITE_BIT, TABLE_BIT, ADDRESS_MASK = 1 << 17, 1 << 16, 0x3FF


def _unrelated_values() -> np.ndarray:
    """What tables hold that were not loaded by the running job: fixed, so that runs repeat."""
    index = np.arange(2 * ENTRIES, dtype=np.int64)
    return ((index * 40503 + 12345) % 65536 - 32768).reshape(2, ENTRIES)


class LutState:
    """Both tables of one core. One bank: not shadowed. Contents do not survive a submission."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.tables = _unrelated_values()       # [LE, LO][entry], int64 holding int16
        self.loaded = [0, 0]                    # entries written by this job
        self.config = 0

    def begin_job(self) -> None:
        if any(self.loaded):
            self.reset()

    def write(self, offset: int, value: int) -> bool:
        """A write to the access registers; False when offset is another register."""
        if offset == ACCESS_CFG:
            self.config = value
            return True
        if offset != ACCESS_DATA:
            return False
        if self.config & WRITE_BIT:
            table, address = self.config >> 16 & 1, self.config & ADDRESS_MASK
            if address < ENTRIES:
                self.tables[table, address] = signed(value, 16)
                self.loaded[table] += 1
            self.config = self.config & ~ADDRESS_MASK | (address + 1) & ADDRESS_MASK
        return True

    def write_entries(self, values: np.ndarray) -> None:
        """As many writes to LUT_ACCESS_DATA, one after the other."""
        if not self.config & WRITE_BIT:
            return
        for first in range(0, len(values), ADDRESS_MASK + 1):       # no address twice in one turn
            self._write_turn(values[first:first + ADDRESS_MASK + 1])

    def _write_turn(self, values: np.ndarray) -> None:
        table, address = self.config >> 16 & 1, self.config & ADDRESS_MASK
        addresses = address + np.arange(len(values)) & ADDRESS_MASK
        exist = addresses < ENTRIES
        self.tables[table, addresses[exist]] = values[exist].astype(np.int16)
        self.loaded[table] += int(exist.sum())
        self.config = self.config & ~ADDRESS_MASK | (address + len(values)) & ADDRESS_MASK


@dataclass(frozen=True)
class Table:
    """One half: entries over [start, end] in steps of 2**select, straight lines outside."""

    entries: np.ndarray
    start: int
    end: int
    select: int
    below_scale: int
    below_shift: int
    above_scale: int
    above_shift: int

    def __call__(self, index: np.ndarray) -> np.ndarray:
        inside = np.clip(index, self.start, self.end)
        position = np.clip((inside - self.start) >> self.select, 0, ENTRIES - 1)
        fraction = (inside - self.start) & ((1 << self.select) - 1)
        low, high = self.entries[position], self.entries[np.minimum(position + 1, ENTRIES - 1)]
        value = low + shift_even((high - low) * fraction, self.select)
        below = self.entries[0] + shift_even((index - self.start) * self.below_scale, self.below_shift)
        above_edge = self.entries[min(max((self.end - self.start) >> self.select, 0), ENTRIES - 1)]
        above = above_edge + shift_even((index - self.end) * self.above_scale, self.above_shift)
        return np.where(index < self.start, below, np.where(index > self.end, above, value))


MAX_DENSE = 1 << 17


@dataclass(frozen=True)
class Lut:
    """Both halves; the sign of the index selects (integer path)."""

    negative: Table
    positive: Table

    def dense(self) -> tuple[int, np.ndarray] | None:
        """(first index, int32 result of it and the following ones); beyond both ends the result stays as it is there.

        None when it does not: a slope outside the tables, or ranges too long to write out.
        """
        first, last = min(self.negative.start - 1, -1), max(self.positive.end + 1, 0)
        slopes = (self.negative.below_scale, self.positive.above_scale)
        if any(slopes) or last - first >= MAX_DENSE:
            return None
        return first, self(np.arange(first, last + 1, dtype=np.int64)).astype(np.int32)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        return np.where(index < 0, self.negative(index), self.positive(index))


def decode_lut(dpu: Snapshot, state: LutState, outcome: TaskOutcome) -> Lut:
    """Registers and tables as they stand now."""
    if min(state.loaded) < ENTRIES:
        outcome.warn("lut.not_loaded", f"LUT: only {state.loaded[0]} and {state.loaded[1]} of 513 entries were written "
                     "by this job, the rest holds unrelated values")
    if dpu("LUT_CFG.LUT_LO_LE_MUX") != 2:
        outcome.warn("lut.mux", f"LUT_CFG.LUT_LO_LE_MUX: {dpu('LUT_CFG.LUT_LO_LE_MUX')}, only 2 (by sign) is known; "
                     "ASSUMED to act like it")
    return Lut(_table(dpu, "LE", state.tables[0]), _table(dpu, "LO", state.tables[1]))


def _table(dpu: Snapshot, half: str, entries: np.ndarray) -> Table:
    slope, shift = f"LUT_{half}_SLOPE_SCALE.LUT_{half}_SLOPE", f"LUT_{half}_SLOPE_SHIFT.LUT_{half}_SLOPE"
    start = dpu(f"LUT_{half}_START.LUT_{half}_START")
    return Table(
        entries=entries.copy(), start=start, end=max(start, dpu(f"LUT_{half}_END.LUT_{half}_END")),
        select=min(dpu(f"LUT_INFO.LUT_{half}_INDEX_SELECT"), 31),
        below_scale=signed(dpu(f"{slope}_UFLOW_SCALE"), 16), below_shift=dpu(f"{shift}_UFLOW_SHIFT"),
        above_scale=signed(dpu(f"{slope}_OFLOW_SCALE"), 16), above_shift=dpu(f"{shift}_OFLOW_SHIFT"))
