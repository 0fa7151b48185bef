"""One line on stderr that says how far a command is; nothing where nobody looks."""
from __future__ import annotations

import sys
import time

INTERVAL_S = 0.1


class Progress:
    """Shown on terminals only, at most ten times a second."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self._is_shown = sys.stderr.isatty()
        self._next = time.monotonic() + INTERVAL_S

    def say(self, text: str) -> None:
        if self._is_shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL_S
            print(f"\r\x1b[K{self.verb}: {text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
