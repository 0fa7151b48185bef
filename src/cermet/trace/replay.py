"""Runs the tasks of a trace in the simulator and compares what they wrote with what was recorded, task by task.

Each comparison is local: the simulator starts a job from the memory that was recorded, and once a buffer has been
compared it holds what was recorded again. So one wrong task makes no other one wrong.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cermet.errors import CermetError
from cermet.hw.soc import Soc
from cermet.kmd.job import DPU_INTERRUPTS, acknowledge, offsets_of, program_task
from cermet.sim.core import Core
from cermet.sim.memory import IommuFault
from cermet.sim.outcome import TaskOutcome
from cermet.trace.compare import TaskResult, compare
from cermet.trace.events import Call, Check, Event, Malformed, Note, TracedJob, read_events
from cermet.trace.machine import ATOM_BYTES, Buffer, File, Machine
from cermet.trace.reader import constant
from cermet.trace.written import written_by

MAX_TASKS = 1 << 20         # of one trace
MAX_TASKS_OF_JOB = 1 << 16
WORD_BYTES = 8
DRIVER_INDICES = range(0x40, 0xA0)      # other ioctls are the DRM core's
REPLAYED = ("CREATE_BO", "SUBMIT", "PREP_BO", "FINI_BO")
TIME_LIMIT_NS = 450_000_000     # the kernel gives a job 500 ms; to its clock's accuracy


@dataclass
class Stray:
    """Bytes that changed on the device although no simulated task wrote them."""

    file: int
    handle: int
    num_bytes: int
    offset: int


@dataclass(frozen=True)
class Unwaited:
    """A job until somebody waits for a buffer that it writes."""

    file: int
    handles: frozenset[int]
    start_ns: int
    number: int
    first_task: int


class Replay:
    """One run over a trace. tasks, strays and remarks are its results."""

    def __init__(self, soc: Soc, progress: Callable[[int], None] = lambda number: None) -> None:
        self.remarks: list[str] = []
        self.machine = Machine(soc, self.remarks)
        self.tasks: list[TaskResult] = []
        self.strays: list[Stray] = []
        self.notes: list[Note] = []
        self.num_jobs = 0
        self.num_calls = 0
        self.num_failed_calls = 0
        self.wait_ns = 0                # inside the application's PREP_BO calls
        self._label: dict[int, str] = {}
        self._unwaited: list[Unwaited] = []
        self._progress = progress

    def run(self, path: Path) -> None:
        """Raises CermetError when the file is no trace or asks for more than a device could have."""
        for event in read_events(path, self.remarks):
            try:
                self._take(event)
            except Malformed as error:
                self.remarks.append(f"frame at {event.offset}: {error}")

    def _take(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event)
            if event.level == constant("NOTE_LABEL"):
                self._label[event.process] = event.text
        if isinstance(event, Call):
            self._count(event)
            if event.name == "SUBMIT" and not event.error:
                label = self._label.get(event.process, "")
                for job in event.jobs:
                    self._run_job(self.machine.file(event.file), job, label, event.start_ns)
        if isinstance(event, Check):
            self._check(event)
        self.machine.apply(event)

    def _count(self, call: Call) -> None:
        if call.flags & constant("CALL_BY_RECORDER"):
            return
        if call.index in DRIVER_INDICES and call.name not in REPLAYED and not call.error:
            remark = f"{call.name} is not mainline's: recorded, not replayed"
            self.remarks += [remark] * (remark not in self.remarks)
        self.num_calls += 1
        self.num_failed_calls += call.error != 0
        if call.name == "PREP_BO":
            self.wait_ns += call.end_ns - call.start_ns

    # -- running ---------------------------------------------------------------------------------------------

    def _run_job(self, file: File, job: TracedJob, label: str, start_ns: int) -> None:
        number = self.num_jobs
        self.num_jobs += 1
        reason = file.why_dropped(job)
        if reason:
            self.remarks.append(f"job {number}: {reason}: mainline drops such a job in silence, so it was not run")
            return
        if len(job.tasks) > MAX_TASKS_OF_JOB or len(self.tasks) + len(job.tasks) > MAX_TASKS:
            raise CermetError(f"job {number}: {len(job.tasks)} tasks are more than replay takes")
        self._unwaited.append(Unwaited(file.number, frozenset(job.out_handles), start_ns, number, len(self.tasks)))
        file.core.begin_job()
        for index, (regcmd, count) in enumerate(job.tasks.tolist()):
            result = TaskResult(len(self.tasks), number, index, file.number, regcmd, count, label,
                                words=words_at(file, regcmd, count))
            self.tasks.append(result)
            self._progress(result.number)
            self._run_task(file, result)
            if result.failure:
                file.core.reset()       # as the kernel's timeout does; the rest of the job is not run
                self._skip_rest(file, job, result)
                return

    def _skip_rest(self, file: File, job: TracedJob, failed: TaskResult) -> None:
        """The kernel gives the whole job up."""
        for index in range(failed.index + 1, len(job.tasks)):
            regcmd, count = job.tasks[index].tolist()
            reason = f"not run: task {failed.number} before it did not complete"
            self.tasks.append(TaskResult(len(self.tasks), failed.job, index, file.number, regcmd, count, failed.label,
                                         words=words_at(file, regcmd, count), is_hung=True, failure=reason))

    def _run_task(self, file: File, result: TaskResult) -> None:
        core = file.core
        offsets = offsets_of(self.machine.soc)
        program_task(core, offsets, (result.regcmd, result.regcmd_count, 1, DPU_INTERRUPTS))
        outcome = core.run(file.space)
        result.diagnostics = tuple(f"{one.rule}: {one.text}" for one in outcome.diagnostics)
        result.registers = registers_of(core)
        result.cycles = outcome.cycles
        if not outcome.interrupts & DPU_INTERRUPTS:
            result.failure = failure_of(outcome)
            result.is_hung = outcome.hang is not None or outcome.fault is not None
            if result.is_hung:
                return
        acknowledge(core, offsets)
        result.written = written_by(core.launches)
        for written in result.written:
            result.num_written += written.num_atoms
            mark(file, written.atoms().reshape(-1), result.number)

    # -- comparing -------------------------------------------------------------------------------------------

    def _check(self, check: Check) -> None:
        buffer = self.machine.buffer(check.file, check.handle)
        if buffer is None:
            raise Malformed(f"check of handle {check.handle}, which does not exist")
        self._take_times(check)
        owners, counts = np.unique(buffer.writer, return_counts=True)
        for owner, count in zip(owners.tolist(), counts.tolist(), strict=True):
            if owner:
                self.tasks[owner - 1].num_compared += count
        different = buffer.memory != buffer.recorded
        if different.any():
            self._record_differences(check.file, buffer, different.reshape(-1, ATOM_BYTES))
        buffer.memory[different] = buffer.recorded[different]
        buffer.writer[:] = 0

    def _take_times(self, check: Check) -> None:
        """Of the jobs that write this buffer. One that hangs here hung there too when it took so long."""
        for job in [job for job in self._unwaited if job.file == check.file and check.handle in job.handles]:
            self._unwaited.remove(job)
            for task in self.tasks[job.first_task:]:
                if task.job != job.number:
                    break
                task.duration_ns = max(check.time_ns - job.start_ns, 0)
                task.hung_there = task.is_hung and task.duration_ns >= TIME_LIMIT_NS

    def _record_differences(self, file: int, buffer: Buffer, different: np.ndarray) -> None:
        atoms = np.flatnonzero(different.any(axis=1))
        owners = buffer.writer[atoms]
        for owner in np.unique(owners).tolist():
            mine = atoms[owners == owner]
            if owner:
                compare(self.tasks[owner - 1], buffer, mine, different)
            else:
                first = int(mine[0]) * ATOM_BYTES + int(np.argmax(different[mine[0]]))
                self.strays.append(Stray(file, buffer.handle, int(different[mine].sum()), first))

    @property
    def is_equal(self) -> bool:
        return not self.strays and all(task.verdict in ("equal", "unseen") for task in self.tasks)


def failure_of(outcome: TaskOutcome) -> str:
    return outcome.hang or (str(outcome.fault) if outcome.fault else
                            f"no DPU interrupt, raw status {outcome.interrupts:#x}")


def words_at(file: File, regcmd: int, count: int) -> tuple[int, ...]:
    """The program, as it lies in memory when its job starts; nothing where nothing is mapped."""
    try:
        raw = file.space.read(regcmd & ~0xF, min(count, MAX_TASKS_OF_JOB) * WORD_BYTES)
    except IommuFault:
        return ()
    return tuple(np.frombuffer(raw.tobytes(), "<u8").tolist())


def registers_of(core: Core) -> dict[int, int]:
    """Offset -> value of all blocks that the last launch of the last run started."""
    values: dict[int, int] = {}
    for blocks in core.launches[-1:]:
        for snapshot in blocks.values():
            values.update(snapshot.values)
    return values


def mark(file: File, addresses: np.ndarray, number: int) -> None:
    """These atoms are the task's now."""
    for buffer in file.buffers.values():
        inside = addresses[(addresses >= buffer.address) & (addresses < buffer.address + buffer.memory.size)]
        buffer.writer[(inside - buffer.address) // ATOM_BYTES] = number + 1
