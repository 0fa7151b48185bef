"""How long the simulated NPU has been executing tasks: what a program's time is without it is the software's."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cermet.kmd.job import NpuCore
from cermet.sim.memory import AddressSpace
from cermet.sim.outcome import TaskOutcome


class Busy:
    """Time in which at least one core executes; the part of several at once counts once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_running = 0
        self._since_ns = 0
        self._total_ns = 0

    def begin(self) -> None:
        with self._lock:
            if not self._num_running:
                self._since_ns = time.monotonic_ns()
            self._num_running += 1

    def end(self) -> None:
        with self._lock:
            self._num_running -= 1
            if not self._num_running:
                self._total_ns += time.monotonic_ns() - self._since_ns

    def ns(self) -> int:
        with self._lock:
            return self._total_ns + (time.monotonic_ns() - self._since_ns if self._num_running else 0)


class TimedCore:
    """A core whose execution is counted."""

    def __init__(self, core: NpuCore, busy: Busy) -> None:
        self.index = core.index
        self.begin_job, self.write, self.reset = core.begin_job, core.write, core.reset
        self._core, self._busy = core, busy

    def run(self, space: AddressSpace, cancelled: Callable[[], bool]) -> TaskOutcome:
        self._busy.begin()
        try:
            return self._core.run(space, cancelled)
        finally:
            self._busy.end()
