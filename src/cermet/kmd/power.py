"""Runtime power management of a core: off 50 ms after its last job, on again when the next one starts.

What it was told before it went off is lost: registers of both groups, tables, CBUF. ASSUMED: that they are, and that
registers read 0 afterwards, as after the reset pulse of a timeout; nobody has measured either.
Buffers, addresses and queues are the driver's and stay. Clocks and how long waking takes are not modelled.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Callable

from cermet.kmd.job import NpuCore

log = logging.getLogger("cermet.kmd")

AUTOSUSPEND_S = 0.05        # what the driver of Linux 7.2 asks for: 50 ms


class Power:
    """Of one core, used by its thread only. The core goes off by itself: what counts is how long it was idle."""

    def __init__(self, core: NpuCore, clock: Callable[[], float] = time.monotonic) -> None:
        self.core = core
        self.num_resumes = 0
        self._clock = clock
        self._is_on = False
        self._idle_since: float | None = None       # None: it has work

    def resume(self) -> None:
        """A job is about to start."""
        idle_s = 0.0 if self._idle_since is None else self._clock() - self._idle_since
        self._idle_since = None
        if self._is_on and idle_s < AUTOSUSPEND_S:
            return
        self._is_on = True
        self.num_resumes += 1
        self.core.reset()
        log.debug("core %d: resumed", self.core.index)

    def idle(self) -> None:
        """No job is ready."""
        if self._idle_since is None:
            self._idle_since = self._clock()
