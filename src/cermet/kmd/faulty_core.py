"""A core between the driver and the NPU at which tasks go wrong on purpose."""
from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from cermet.kmd.faults import Faults
from cermet.kmd.job import NpuCore
from cermet.sim.memory import AddressSpace, IommuFault
from cermet.sim.outcome import TaskOutcome

UNMAPPED = 0xFFFF_F000


class FaultyCore:
    """Does what its core does, but for the faults of tasks."""

    def __init__(self, core: NpuCore, faults: Faults) -> None:
        self.core = core
        self.faults = faults
        self.index = core.index
        self._was_interrupted = False

    def begin_job(self, timeout_ms: int) -> None:
        self.faults.fail("start-fails")
        self.core.begin_job(timeout_ms)

    def write(self, offset: int, value: int) -> None:
        self.core.write(offset, value)

    def reset(self) -> None:
        self.core.reset()

    def run(self, space: AddressSpace, cancelled: Callable[[], bool]) -> TaskOutcome:
        strike = self.faults.strike
        if not self._was_interrupted and strike("spurious-interrupt"):
            self._was_interrupted = True
            return TaskOutcome()
        self._was_interrupted = False
        if strike("killed-in-task"):
            os._exit(137)
        if hung := strike("hung-core"):
            self.faults.hung_cores.add(hung.value)
        if flipped := strike("bit-flip"):
            flip_bit(space, flipped.value)
        if self.index in self.faults.hung_cores:
            return TaskOutcome(hang="fault on purpose: hung-core")
        if strike("iommu-fault"):
            return TaskOutcome(fault=IommuFault(UNMAPPED, False))
        outcome = self.core.run(space, cancelled)
        if slow := strike("slow-core"):
            outcome.cycles *= slow.value
        if strike("lost-interrupt"):
            outcome.interrupts, outcome.hang = 0, "fault on purpose: lost-interrupt"
        return outcome


def flip_bit(space: AddressSpace, address: int) -> None:
    """In the byte at this address, where one is mapped."""
    with contextlib.suppress(IommuFault):
        byte = space.read(address, 1)
        byte ^= 0x10
