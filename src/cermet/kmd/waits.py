"""Calls that wait for fences until a deadline. None has a thread: who signals the last fence ends it, or one clock."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from cermet.kmd.fence import Fence


class Wait:
    """Ends once, when all fences have signalled or at the deadline."""

    def __init__(self, waits: Waits, fences: Sequence[Fence], deadline_ns: int, end: Callable[[bool], None]) -> None:
        self.deadline_ns = deadline_ns
        self._waits, self._fences, self._end = waits, fences, end

    def look(self) -> None:
        """A fence has signalled."""
        if all(fence.is_signalled for fence in self._fences):
            self.end(in_time=True)

    def end(self, *, in_time: bool) -> None:
        for fence in self._fences:
            fence.waiters.discard(self)
        self._waits.open.discard(self)
        self._end(in_time)


class Waits:
    """Of one device; all of it belongs to the device's lock."""

    def __init__(self, lock: threading.RLock) -> None:
        self.open: set[Wait] = set()
        self._changed = threading.Condition(lock)
        self._look_ns: int | None = None        # when the clock looks next; None: when it is told to
        self._is_stopping = False

    def add(self, fences: Sequence[Fence], deadline_ns: int, end: Callable[[bool], None]) -> None:
        """end: what the end is, under the lock, by whoever brings it; whether all fences had signalled by
        CLOCK_MONOTONIC deadline_ns."""
        with self._changed:
            wait = Wait(self, fences, deadline_ns, end)
            self.open.add(wait)
            for fence in fences:
                fence.waiters.add(wait)
            wait.look()
            # A clock that looks earlier need not be told: it finds the new deadline then.
            if wait in self.open and (self._look_ns is None or deadline_ns < self._look_ns):
                self._changed.notify()

    # --- the clock ---

    def start(self) -> None:
        threading.Thread(target=self._run, name="deadlines", daemon=True).start()

    def stop(self) -> None:
        with self._changed:
            self._is_stopping = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._is_stopping:
                now_ns = time.monotonic_ns()
                for wait in [wait for wait in self.open if wait.deadline_ns <= now_ns]:
                    wait.end(in_time=False)
                self._look_ns = min((wait.deadline_ns for wait in self.open), default=None)
                self._changed.wait(None if self._look_ns is None else seconds_until(self._look_ns))


def seconds_until(deadline_ns: int) -> float:
    return min(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9), threading.TIMEOUT_MAX)
