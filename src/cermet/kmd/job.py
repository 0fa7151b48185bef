"""One job on one core: what the kernel writes per task, when the job counts as done, and the timeout."""
from __future__ import annotations

import errno
import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from cermet.hw.soc import Soc
from cermet.kmd.bo import Bo
from cermet.kmd.fence import Fence
from cermet.sim.memory import AddressSpace
from cermet.sim.outcome import TaskOutcome

log = logging.getLogger("cermet.kmd")

DPU_INTERRUPTS = 0x300          # INTERRUPT_MASK: DPU groups 0 and 1, nothing else ends a task
DMA_ERRORS = 0x3000
ALL_INTERRUPTS = 0x1FFFF
POINTER_PING_PONG = 0xE
TASK_CON_ONE_TASK = 1 << 14 | 1 << 13 | 1 << 12 | 1
AMOUNT_MASK = 0xFFFF            # the register's field: longer programs wrap
# Between tasks the kernel takes an interrupt and starts the next one: 27..41 us measured (execution model §10).
TASK_GAP_US = 34


class NpuCore(Protocol):
    """What the driver needs of a core; cermet.sim.core.Core is one, tests bring their own."""

    index: int

    def begin_job(self) -> None: ...
    def write(self, offset: int, value: int) -> None: ...
    def run(self, space: AddressSpace, cancelled: Callable[[], bool]) -> TaskOutcome: ...
    def reset(self) -> None: ...


@dataclass(eq=False)
class Job:
    """Tasks that run one after another, and the buffers that they hold until the end."""

    space: AddressSpace
    tasks: np.ndarray                   # (n, 2) uint32: regcmd, regcmd_count
    in_bos: list[Bo]
    out_bos: list[Bo]
    fence: Fence
    waits_for: list[Fence] = field(default_factory=list)
    number: int = field(default_factory=itertools.count(1).__next__)

    def is_ready(self) -> bool:
        self.waits_for = [fence for fence in self.waits_for if not fence.is_signalled]
        return not self.waits_for


def program_task(core: NpuCore, soc: Soc, regcmd: int, regcmd_count: int) -> None:
    """The register writes of Linux 7.2 for one task, in its order (execution model §4)."""
    registers = soc.registers
    pointers = POINTER_PING_PONG | core.index << 28
    for name, value in (
            ("PC.BASE_ADDRESS", 1), ("CNA.S_POINTER", pointers), ("CORE.S_POINTER", pointers),
            ("PC.BASE_ADDRESS", regcmd), ("PC.REGISTER_AMOUNTS", ((regcmd_count + 1) // 2 - 1) & AMOUNT_MASK),
            ("PC.INTERRUPT_MASK", DPU_INTERRUPTS), ("PC.INTERRUPT_CLEAR", DPU_INTERRUPTS),
            ("PC.TASK_CON", TASK_CON_ONE_TASK), ("PC.TASK_DMA_BASE_ADDR", 0), ("PC.OPERATION_ENABLE", 1)):
        core.write(registers[name].offset, value)


def acknowledge(core: NpuCore, soc: Soc) -> None:
    """What the interrupt thread writes."""
    core.write(soc.registers["PC.OPERATION_ENABLE"].offset, 0)
    core.write(soc.registers["PC.INTERRUPT_CLEAR"].offset, ALL_INTERRUPTS)


def run_task(core: NpuCore, soc: Soc, job: Job, index: int, cancelled: Callable[[], bool]) -> tuple[int, str | None]:
    """(cycles, why no completion interrupt came or None)."""
    regcmd, count = (int(value) for value in job.tasks[index])
    place = f"core {core.index} job {job.number} task {index} at {regcmd:#x}"
    program_task(core, soc, regcmd, count)
    try:
        outcome = core.run(job.space, cancelled)
        while outcome == TaskOutcome():     # an interrupt without a status bit: not ours, the task goes on
            outcome = core.run(job.space, cancelled)
    except Exception:
        log.exception("%s: the simulator failed; the job times out", place)
        return 0, "the simulator failed"
    for diagnostic in outcome.diagnostics:
        log.warning("%s: %s: %s", place, diagnostic.rule, diagnostic.text)
    if outcome.interrupts & DMA_ERRORS:
        log.warning("%s: DMA error interrupt, status %#x", place, outcome.interrupts)
    log.debug("%s: status %#x, %d cycles", place, outcome.interrupts, outcome.cycles)
    if outcome.interrupts & DPU_INTERRUPTS:
        acknowledge(core, soc)
        return outcome.cycles, None
    reason = outcome.hang or (outcome.fault and str(outcome.fault))
    return outcome.cycles, reason or f"no DPU interrupt, raw status {outcome.interrupts:#x}"


def run_tasks(core: NpuCore, soc: Soc, job: Job, cancelled: Callable[[], bool]) -> str | None:
    """Why the job does not end, or None.

    The clock is the NPU's, not the simulation's: slow simulating is no timeout, many estimated cycles are one.
    """
    limit = soc.job_timeout_ms * 1000 * soc.clock_mhz
    spent = 0
    core.begin_job()
    for index in range(len(job.tasks)):
        cycles, reason = run_task(core, soc, job, index, cancelled)
        spent += cycles + TASK_GAP_US * soc.clock_mhz
        if reason:
            return f"task {index}: {reason}"
        if spent > limit:
            return f"task {index}: {spent} cycles so far are more than {soc.job_timeout_ms} ms at {soc.clock_mhz} MHz"
    return None


def run_job(core: NpuCore, soc: Soc, job: Job, stopping: threading.Event) -> int:
    """Run to the end or to the timeout; the fence's error. A job that hangs takes its 500 ms of wall time."""
    started = time.monotonic()
    reason = run_tasks(core, soc, job, stopping.is_set)
    if reason is None:
        return 0
    stopping.wait(max(0.0, started + soc.job_timeout_ms / 1000 - time.monotonic()))
    log.warning("core %d job %d: NPU job timed out: %s", core.index, job.number, reason)
    core.reset()
    return errno.ECANCELED
