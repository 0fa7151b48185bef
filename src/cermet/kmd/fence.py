"""Fences: when a job is done, and what became of it."""
from __future__ import annotations

import threading
import time


class Fence:
    """Signals once. error is 0 or an errno that, as on the kernel, nobody is told."""

    def __init__(self, context: object) -> None:
        self.context = context      # the queue whose order makes waiting among its own jobs unnecessary
        self.error = 0
        self._event = threading.Event()

    @property
    def is_signalled(self) -> bool:
        return self._event.is_set()

    def signal(self, error: int = 0) -> None:
        self.error = error
        self._event.set()

    def wait_until(self, deadline_ns: int) -> bool:
        """Whether it signalled by CLOCK_MONOTONIC deadline_ns."""
        while not self._event.is_set():
            left_ns = deadline_ns - time.monotonic_ns()
            if left_ns <= 0:
                return False
            self._event.wait(min(left_ns / 1e9, threading.TIMEOUT_MAX))
        return True
