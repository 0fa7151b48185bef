"""Fences: when a job is done, and what became of it."""
from __future__ import annotations

from typing import Protocol


class Waiter(Protocol):
    """Who is told that a fence has signalled."""

    def look(self) -> None: ...


class Fence:
    """Signals once. error is 0 or an errno that, as on the kernel, nobody is told. It belongs to the device's lock."""

    def __init__(self, context: object) -> None:
        self.context = context      # the queue whose order makes waiting among its own jobs unnecessary
        self.error = 0
        self.is_signalled = False
        self.waiters: set[Waiter] = set()

    def signal(self, error: int = 0) -> None:
        self.error = error
        self.is_signalled = True
        for waiter in list(self.waiters):
            waiter.look()
