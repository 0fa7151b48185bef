"""Times register programs without running them: no memory, no data, whoever made the programs."""
from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from cermet.hw.cycles import Conditions, LaunchTime, launch_time
from cermet.hw.soc import Soc
from cermet.sim import pc
from cermet.sim.lut import ACCESS_DATA
from cermet.sim.registers import BIT_OF_BLOCK, RegisterFile
from cermet.sim.work import work_of

# Tables are long, and what is in them costs no time: target and offset of LUT_ACCESS_DATA.
PLACE_MASK, LUT_DATA = np.uint64(0xFFFF_0000_0000_FFFF), np.uint64(0x1001 << 48 | ACCESS_DATA)
BOTH_AUTOMATIC = 0xE                # S_POINTER as the kernel writes it for CNA and CORE


class Timer:
    """Register values outlive a task, as in the NPU: programs are to be timed in the order in which they run."""

    def __init__(self, soc: Soc, conditions: Conditions | None = None) -> None:
        self.soc, self.conditions = soc, conditions
        self.files = RegisterFile(soc.registers)

    def program(self, words: Sequence[int] | np.ndarray) -> list[LaunchTime]:
        """Each start of blocks in a program. Raises Hang for what the simulator does not know."""
        for name in ("CNA", "CORE"):
            block = self.files.blocks[name]
            block.write(block.s_pointer, BOTH_AUTOMATIC)
        found: list[LaunchTime] = []
        before = 0
        array = np.asarray(words, np.uint64)
        places = np.flatnonzero((array & PLACE_MASK) != LUT_DATA)
        for number, (target, offset, value) in zip(places.tolist(), pc.decode(array[places]), strict=True):
            written = self.files.by_target.get(target)
            if written is not None:
                written.write(offset, value)
            elif (target, offset) == (pc.OP_ENABLE_TARGET, pc.PC_OPERATION_ENABLE):
                found.append(self._launch(value, number + 1 - before))
                before = number + 1
        return found

    def _launch(self, mask: int, num_words: int) -> LaunchTime:
        snapshots = {}
        for name, bit in BIT_OF_BLOCK.items():
            if mask & bit:
                block = self.files.blocks[name]
                _, group = block.launch()
                snapshots[name] = block.snapshot(group)
        return launch_time(self.soc, work_of(self.soc, snapshots), num_words, self.conditions)


def time_programs(soc: Soc, programs: Iterable[Sequence[int] | np.ndarray],
                  conditions: Conditions | None = None) -> list[LaunchTime]:
    """Starts of all programs, in the order in which they run."""
    timer = Timer(soc, conditions)
    return [launch for words in programs for launch in timer.program(words)]
