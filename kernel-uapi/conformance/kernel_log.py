"""The kernel's log: the simulated driver's file, or /dev/kmsg where it may be read."""
from __future__ import annotations

import contextlib
import os
import pathlib
import re
import time

SIMULATED_PROBLEM = re.compile(r"^\S+ [WEC] ")
WARNING = 4         # KERN_WARNING; smaller numbers are worse


class KernelLog:
    """path: the simulated driver's log; None: this machine's kernel."""

    def __init__(self, path: pathlib.Path | None) -> None:
        self.path = path
        self.kmsg = -1
        if path is None:
            with contextlib.suppress(OSError):
                self.kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def is_silent_source(self) -> bool:
        """Whether nothing can be read here, so that nothing can be expected either."""
        return self.path is None and self.kmsg < 0

    def position(self) -> int:
        if self.path is not None:
            return self.path.stat().st_size if self.path.exists() else 0
        if self.kmsg >= 0:
            os.lseek(self.kmsg, 0, os.SEEK_END)
        return 0

    def problems_since(self, position: int) -> list[str]:
        """Lines of level warning or worse."""
        time.sleep(0.01)        # what happens behind a reply
        if self.path is not None:
            if not self.path.exists():
                return []
            with self.path.open(errors="replace") as file:
                file.seek(position)
                return [line.rstrip() for line in file if SIMULATED_PROBLEM.match(line)]
        lines = []
        with contextlib.suppress(OSError):      # EAGAIN: no more
            while self.kmsg >= 0:
                head, _, text = os.read(self.kmsg, 8192).decode(errors="replace").partition(";")
                if int(head.split(",")[0]) & 7 <= WARNING:
                    lines.append(text.splitlines()[0])
        return lines
