"""A core that does what 16 bytes of a program say, in microseconds: copies, and every way in which a task can end."""
from __future__ import annotations

import struct
import time
from collections.abc import Callable

from cermet.hw.soc import Soc
from cermet.sim.memory import ADDRESS_MASK, AddressSpace, IommuFault
from cermet.sim.outcome import TaskOutcome

DPU_DONE, DMA_ERROR = 0x100, 0x1000
DONE, HANGS, NO_INTERRUPT, TOO_LONG, SLOW = range(5)
ENDS = (DONE,) * 11 + (HANGS, NO_INTERRUPT, TOO_LONG, SLOW, SLOW)
HANGING, SLEEPING = ENDS.index(HANGS), ENDS.index(SLOW)       # the number in a program that means this end
JOB_TIMEOUT_MS = 1
PROGRAM = struct.Struct("<4I")          # end, read address, write address, bytes


class FuzzCore:
    """Same interface as cermet.sim.core.Core."""

    def __init__(self, soc: Soc, index: int) -> None:
        self.index = index
        self._base, self._registers = soc.registers["PC.BASE_ADDRESS"].offset, dict[int, int]()

    def begin_job(self, timeout_ms: int) -> None:
        pass

    def reset(self) -> None:
        self._registers.clear()

    def write(self, offset: int, value: int) -> None:
        self._registers[offset] = value

    def run(self, space: AddressSpace, cancelled: Callable[[], bool]) -> TaskOutcome:
        outcome = TaskOutcome(interrupts=DPU_DONE, cycles=100)
        try:
            end, source, target, num_bytes = PROGRAM.unpack(space.read(self._registers[self._base] & ~15, 16).tobytes())
            for step in range(0, num_bytes % 65, 16):
                data = space.read((source + step) & ADDRESS_MASK, 16).copy()
                space.write((target + step) & ADDRESS_MASK, data)
        except IommuFault as fault:
            return TaskOutcome(interrupts=DMA_ERROR, fault=fault)
        finish(ENDS[end % len(ENDS)], outcome)
        return outcome


def finish(end: int, outcome: TaskOutcome) -> None:
    if end == HANGS:
        outcome.interrupts, outcome.hang = 0, "the program asked for it"
    elif end == NO_INTERRUPT:
        outcome.interrupts = 0x4
    elif end == TOO_LONG:
        outcome.cycles = 1 << 40
    elif end == SLOW:
        time.sleep(0.0005)
