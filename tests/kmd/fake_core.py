"""A core that does what tests need, quickly: its programs are lists of operations, four 64-bit words each."""
from __future__ import annotations

import struct
import time
from collections.abc import Callable

import numpy as np

from cermet.hw.soc import Soc
from cermet.sim.memory import AddressSpace, IommuFault
from cermet.sim.outcome import TaskOutcome

END, FILL, COPY, SLEEP, HANG, RAISE, CYCLES, CORE, INTERRUPTS, ADD = range(10)
WORDS_PER_OPERATION = 4
DPU_DONE = 0x100
# A program counts the tasks that its core has run since the last reset, so that a reset can be seen.
COUNT = 10


def program(*operations: tuple[int, ...]) -> bytes:
    """Operations as the bytes of a BO."""
    return b"".join(struct.pack("<4Q", *operation, *[0] * (4 - len(operation))) for operation in operations)


class FakeCore:
    """Same interface as cermet.sim.core.Core."""

    def __init__(self, soc: Soc, index: int) -> None:
        self.soc = soc
        self.index = index
        self.registers: dict[int, int] = {}
        self.num_tasks = 0

    def begin_job(self, timeout_ms: int) -> None:
        pass

    def reset(self) -> None:
        self.registers.clear()
        self.num_tasks = 0

    def write(self, offset: int, value: int) -> None:
        self.registers[offset] = value

    def run(self, space: AddressSpace, cancelled: Callable[[], bool]) -> TaskOutcome:
        named = {name: self.registers[self.soc.registers[name].offset] for name in (
            "PC.BASE_ADDRESS", "PC.REGISTER_AMOUNTS", "PC.TASK_CON", "PC.INTERRUPT_MASK", "PC.OPERATION_ENABLE",
            "CNA.S_POINTER", "CORE.S_POINTER")}
        assert named["PC.TASK_CON"] == 0x7001 and named["PC.INTERRUPT_MASK"] == 0x300
        assert named["CNA.S_POINTER"] == named["CORE.S_POINTER"] == 0xE | self.index << 28
        assert named["PC.OPERATION_ENABLE"] == 1
        self.num_tasks += 1
        outcome = TaskOutcome(interrupts=DPU_DONE, cycles=1000)
        try:
            words = (named["PC.REGISTER_AMOUNTS"] + 1) * 2
            text = bytes(space.read(named["PC.BASE_ADDRESS"], words * 8))
            for start in range(0, len(text) - 31, 32):
                self.operate(struct.unpack_from("<4Q", text, start), space, outcome, cancelled)
        except IommuFault as fault:
            outcome.fault, outcome.interrupts = fault, 0x1000
        if outcome.hang:
            outcome.interrupts = 0
        return outcome

    def operate(self, words: tuple[int, ...], space: AddressSpace, outcome: TaskOutcome,
                cancelled: Callable[[], bool]) -> None:
        kind, a, b, c = words
        if kind == FILL:
            space.write(a, np.full(b, c, np.uint8))
        elif kind == COPY:
            space.write(b, space.read(a, c).copy())
        elif kind == ADD:
            space.write(a, space.read(a, b) + np.uint8(c))
        elif kind == SLEEP:
            deadline = time.monotonic() + a / 1000
            while time.monotonic() < deadline and not cancelled():
                time.sleep(0.001)
        elif kind == HANG:
            outcome.hang = "the program asked for it"
        elif kind == RAISE:
            raise RuntimeError("the program asked for it")
        elif kind == CYCLES:
            outcome.cycles = a
        elif kind == CORE:
            space.write(a, np.array([self.index], np.uint8))
        elif kind == COUNT:
            space.write(a, np.array([self.num_tasks], np.uint8))
        elif kind == INTERRUPTS:
            outcome.interrupts = a
