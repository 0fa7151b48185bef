"""The DPU's look-up tables, filled so that every possible input hits one entry (numerics document §12).

A byte has 256 values, each half of the LUT 513 entries: with the index a multiple of the step, the fraction is always 0
and nothing is interpolated. Entries hold y + 129, which is 1..256: no entry is 0, a value that came out wrong in fp16
programs. OUT_CVT takes the 129 away again.

Each task loads the tables it uses: their contents survive neither a job nor the split of a program into jobs. There is
one bank of them, so a task may load only while the DPU is idle, as it is when the kernel starts tasks one by one. With
assume=replayed and assume=off a task of its own does it, as in working int8 programs, and both stay in one job.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.drivers.rocket.regcmd import Regcmd

ENTRIES = 513               # of each of the two tables (numerics document §12, replayed)
ENTRY_OFFSET = 129
LARGEST_INDEX = ENTRIES - 1
MAX_WIDTH = 8190            # wider cubes came out wrong at their end (numerics document §12)
# LUT_CFG of every known program: table by the index's sign, ties of the two tables to LO.
CONFIG = dict(LUT_HYBRID_PRIORITY=1, LUT_OFLOW_PRIORITY=1, LUT_LO_LE_MUX=2)
UNUSED = ("LUT_ACCESS_CFG", "LUT_ACCESS_DATA", "LUT_CFG", "LUT_INFO", "LUT_LE_START", "LUT_LE_END", "LUT_LO_START",
          "LUT_LO_END", "LUT_LE_SLOPE_SCALE", "LUT_LE_SLOPE_SHIFT", "LUT_LO_SLOPE_SCALE", "LUT_LO_SLOPE_SHIFT")


@dataclass(frozen=True)
class Lut:
    """Both tables.

    negative, positive   entries for indices -512..0 and 0..512 times the step
    step_bits            log2 of the step; beyond the ends the last entry holds (slopes are 0)
    """

    negative: tuple[int, ...]
    positive: tuple[int, ...]
    step_bits: int


def make_lut(outputs: np.ndarray, zero_point: int, step_bits: int) -> Lut:
    """Tables for index = (x - zero_point) << step_bits, x in -128..127; outside that range x counts as its end.

    outputs   256 results in the signed domain, -128..127, for ascending x
    """
    x = np.arange(-LARGEST_INDEX, LARGEST_INDEX + 1) + zero_point
    entries = (outputs[np.clip(x, -128, 127) + 128] + ENTRY_OFFSET).tolist()
    return Lut(tuple(entries[:ENTRIES]), tuple(entries[LARGEST_INDEX:]), step_bits)


def emit_tables(regcmd: Regcmd, lut: Lut) -> None:
    """Load both tables."""
    for table, entries in ((0, lut.negative), (1, lut.positive)):
        regcmd.emit("DPU.LUT_ACCESS_CFG", LUT_ACCESS_TYPE=1, LUT_TABLE_ID=table, LUT_ADDR=0)
        regcmd.emit_repeatedly("DPU.LUT_ACCESS_DATA", "LUT_ACCESS_DATA", entries)


def emit_ranges(regcmd: Regcmd, lut: Lut | None) -> None:
    """Where the tables apply; without a LUT zeros, because a stale value of an earlier job would act."""
    for name in UNUSED:
        regcmd.emit(f"DPU.{name}", **(_ranges(lut).get(name, {}) if lut is not None else {}))


def _ranges(lut: Lut) -> dict[str, dict[str, int]]:
    end = LARGEST_INDEX << lut.step_bits
    return {"LUT_CFG": CONFIG, "LUT_INFO": dict(LUT_LO_INDEX_SELECT=lut.step_bits, LUT_LE_INDEX_SELECT=lut.step_bits),
            "LUT_LE_START": dict(LUT_LE_START=-end), "LUT_LO_END": dict(LUT_LO_END=end)}
