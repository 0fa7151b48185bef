"""How long the simulated NPU has had tasks: the rest of a program's time is the software's."""
from __future__ import annotations

import threading
import time


class Busy:
    """Time in which at least one core has a task, from the first register that is written for it to the last, behind
    its interrupt: registers are the NPU's, and what the simulated one does with them is its own time.

    What several cores do at once counts once.
    """

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
