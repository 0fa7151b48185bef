"""One job on one core: what the kernel writes per task, when the job counts as done, and the timeout."""
from __future__ import annotations

import errno
import functools
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from cermet.hw.soc import Soc
from cermet.kmd.bo import Bo
from cermet.kmd.busy import Busy
from cermet.kmd.errors import DeviceError
from cermet.kmd.fence import Fence
from cermet.sim.memory import AddressSpace
from cermet.sim.outcome import TaskOutcome

log = logging.getLogger("cermet.kmd")

DPU_INTERRUPTS = 0x300          # INTERRUPT_MASK: DPU groups 0 and 1; on mainline nothing else ends a task
PPU_INTERRUPTS = 0xC00          # the same of the PPU
DMA_ERRORS = 0x3000             # of reading and of writing
ALL_INTERRUPTS = 0x1FFFF
# What Linux 7.2 writes for a task, in its order (execution model §4); behind it OPERATION_ENABLE and INTERRUPT_CLEAR.
WRITTEN = ("PC.BASE_ADDRESS", "CNA.S_POINTER", "CORE.S_POINTER", "PC.BASE_ADDRESS", "PC.REGISTER_AMOUNTS",
           "PC.INTERRUPT_MASK", "PC.INTERRUPT_CLEAR", "PC.TASK_CON", "PC.TASK_DMA_BASE_ADDR", "PC.OPERATION_ENABLE")
INTERRUPT_CLEAR, OPERATION_ENABLE = (WRITTEN.index(f"PC.{name}") for name in ("INTERRUPT_CLEAR", "OPERATION_ENABLE"))
POINTER_PING_PONG = 0xE
TASK_CON = 1 << 14 | 1 << 13 | 1 << 12      # and TASK_NUMBER in the bits below
MAX_PROGRAMS = 0xFFF            # of one task: what TASK_NUMBER holds
PLACE = "core %d job %d task %d at %#x: "
AMOUNT_MASK = 0xFFFF            # the register's field: longer programs wrap


class NpuCore(Protocol):
    """What the driver needs of a core; cermet.sim.core.Core is one, tests bring their own."""

    index: int

    def begin_job(self, timeout_ms: int) -> None: ...
    def write(self, offset: int, value: int) -> None: ...
    def run(self, space: AddressSpace, cancelled: Callable[[], bool]) -> TaskOutcome: ...
    def reset(self) -> None: ...


@dataclass
class Progress:
    """What became of a job: mainline tells nobody, the proposal in queue_ioctls.py does.

    error   0, ETIMEDOUT, EFAULT (the IOMMU's), ECANCELED (it did not run) or EIO
    """

    start_ns: int = 0                   # CLOCK_MONOTONIC; 0: never
    end_ns: int = 0
    core: int | None = None
    tasks_done: int = 0
    error: int = 0


@dataclass(eq=False)
class Job:
    """Tasks that run one after another, and the buffers that they hold until the end.

    tasks       (n, 4) uint32: regcmd, regcmd_count, number of programs, mask of the interrupts that end it
    waits_for   fences that must have signalled, with an error or not
    needs       fences that must have signalled without an error, or the job does not run; mainline has none
    """

    space: AddressSpace
    tasks: np.ndarray
    in_bos: list[Bo]
    out_bos: list[Bo]
    fence: Fence
    waits_for: list[Fence] = field(default_factory=list)
    needs: list[Fence] = field(default_factory=list)
    timeout_ms: int = 0                 # 0: the kernel's
    number: int = field(default_factory=itertools.count(1).__next__)
    progress: Progress = field(default_factory=Progress)

    def is_ready(self) -> bool:
        self.waits_for = [fence for fence in self.waits_for if not fence.is_signalled]
        return not self.waits_for


@functools.lru_cache(8)
def offsets_of(soc: Soc) -> tuple[int, ...]:
    """Offsets of WRITTEN."""
    return tuple(soc.registers[name].offset for name in WRITTEN)


def program_task(core: NpuCore, offsets: Sequence[int], task: Sequence[int]) -> None:
    """The register writes for one task; offsets: of WRITTEN. On Linux 7.2 the number of programs is 1."""
    regcmd, regcmd_count, programs, interrupts = task
    pointers = POINTER_PING_PONG | core.index << 28
    amounts = ((regcmd_count + 1) // 2 - 1) & AMOUNT_MASK
    values = (1, pointers, pointers, regcmd, amounts, interrupts, interrupts, TASK_CON | programs, 0, 1)
    for offset, value in zip(offsets, values, strict=True):
        core.write(offset, value)


def acknowledge(core: NpuCore, offsets: Sequence[int]) -> None:
    """What the interrupt thread writes."""
    core.write(offsets[OPERATION_ENABLE], 0)
    core.write(offsets[INTERRUPT_CLEAR], ALL_INTERRUPTS)


def run_task(core: NpuCore, space: AddressSpace, cancelled: Callable[[], bool]) -> TaskOutcome:
    """Until the interrupt, the hang or the fault of what was started."""
    outcome = core.run(space, cancelled)
    while not outcome.interrupts and outcome == TaskOutcome():      # not our interrupt, the task goes on
        outcome = core.run(space, cancelled)
    return outcome


def why_not_ended(task: Sequence[int], outcome: TaskOutcome) -> str | None:
    """Why no completion interrupt came, or None: it did."""
    interrupts = task[3]
    if outcome.interrupts & interrupts:
        return None
    reason = outcome.hang or (outcome.fault and str(outcome.fault))
    return reason or f"no interrupt of mask {interrupts:#x}, raw status {outcome.interrupts:#x}"


def report(core: NpuCore, job: Job, index: int, outcome: TaskOutcome) -> None:
    """A task into the log."""
    place = core.index, job.number, index, int(job.tasks[index, 0])
    for diagnostic in outcome.diagnostics:
        log.warning(PLACE + "%s: %s", *place, diagnostic.rule, diagnostic.text)
    if outcome.interrupts & DMA_ERRORS:
        log.warning(PLACE + "DMA error interrupt, status %#x", *place, outcome.interrupts)
    log.debug(PLACE + "status %#x, %d cycles", *place, outcome.interrupts, outcome.cycles)


def run_tasks(core: NpuCore, soc: Soc, job: Job, cancelled: Callable[[], bool], busy: Busy) -> str | None:
    """Why the job does not end, or None.

    The clock is the NPU's, not the simulation's: slow simulating is no timeout, many estimated cycles are one.
    """
    limit = timeout_ms(soc, job) * 1000 * soc.clock_mhz
    interrupt = round(soc.interrupt_us * soc.clock_mhz)
    offsets = offsets_of(soc)
    space, progress, is_verbose = job.space, job.progress, log.isEnabledFor(logging.DEBUG)
    spent = 0
    core.begin_job(timeout_ms(soc, job))
    for index, task in enumerate(job.tasks.tolist()):
        busy.begin(core.index)
        try:
            program_task(core, offsets, task)
            outcome = run_task(core, space, cancelled)
            reason = why_not_ended(task, outcome)
            if reason is None:
                acknowledge(core, offsets)
        except Exception:
            log.exception(PLACE + "the simulator failed; the job times out", core.index, job.number, index, task[0])
            return f"task {index}: the simulator failed"
        finally:
            busy.end(core.index)
        if outcome.diagnostics or outcome.interrupts & DMA_ERRORS or is_verbose:
            report(core, job, index, outcome)
        if reason is not None:
            progress.error = errno.EFAULT if outcome.fault else errno.ETIMEDOUT
            return f"task {index}: {reason}"
        spent += outcome.cycles + interrupt
        if spent > limit:
            progress.error = errno.ETIMEDOUT
            return f"task {index}: {spent} cycles so far are more than {limit}, the timeout at {soc.clock_mhz} MHz"
        progress.tasks_done = index + 1
    return None


def timeout_ms(soc: Soc, job: Job) -> int:
    return job.timeout_ms or soc.job_timeout_ms


def run_job(core: NpuCore, soc: Soc, job: Job, stopping: threading.Event, busy: Busy) -> int:
    """Run to the end or to the timeout; the fence's error. A job that hangs takes its 500 ms of wall time."""
    progress = job.progress
    if any(fence.error for fence in job.needs):
        progress.error = errno.ECANCELED
        return errno.ECANCELED
    progress.core, progress.start_ns = core.index, time.monotonic_ns()
    progress.error = errno.EIO              # unless it gets somewhere: the driver itself may fail
    try:
        reason = run_tasks(core, soc, job, stopping.is_set, busy)
    except DeviceError as error:            # the core does not start: no power, no IOMMU
        log.warning("core %d job %d: does not start: %s", core.index, job.number, error)
        progress.end_ns = time.monotonic_ns()
        return error.errno
    if reason is None:
        progress.error = 0
    else:
        deadline_ns = progress.start_ns + timeout_ms(soc, job) * 1_000_000
        stopping.wait(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9))
        log.warning("core %d job %d: NPU job timed out: %s", core.index, job.number, reason)
        core.reset()
    progress.end_ns = time.monotonic_ns()
    return 0 if reason is None else errno.ECANCELED
