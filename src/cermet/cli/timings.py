"""Where the time of a command goes, from the start of the process."""
from __future__ import annotations

import os
import time
from pathlib import Path


class Timings:
    """Names and durations of consecutive phases; the first one begins when the process did."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, float]] = []
        self._last = process_start_s()
        self.mark("start Python")

    def mark(self, phase: str) -> None:
        """The phase that ends here."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.phases.append((phase, now - self._last))
        self._last = now

    def __str__(self) -> str:
        total = sum(seconds for _, seconds in self.phases)
        parts = [f"{phase} {seconds * 1000:.0f} ms" for phase, seconds in self.phases]
        return ", ".join([*parts, f"total {total * 1000:.0f} ms"])


def process_start_s() -> float:
    """When this process began, on CLOCK_BOOTTIME; a clock tick (10 ms) exact."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
