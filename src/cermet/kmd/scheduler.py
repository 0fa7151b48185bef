"""Queues and cores: one queue per open file, one job at a time per core, and the rule that picks the core."""
from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence

from cermet.hw.soc import Soc
from cermet.kmd.busy import Busy
from cermet.kmd.job import Job, NpuCore, run_job
from cermet.kmd.power import Power

log = logging.getLogger("cermet.kmd")


class Entity:
    """The queue of one open file. All fields belong to the scheduler's lock.

    core_mask   which cores may run its jobs: bit n, core n; mainline knows no such thing
    """

    def __init__(self, core_mask: int = -1) -> None:
        self.core_mask = core_mask
        self.queue: deque[Job] = deque()
        self.in_flight = 0                      # queued and running
        self.num_queued_tasks = 0
        self.core: CoreThread | None = None     # where its jobs go while any is in flight
        self.run_time_ns = 0                    # what the fair policy compares
        self.is_closed = False                  # nothing will be queued any more

    def ended(self) -> None:
        """The scheduler has no use for it any more."""


class CoreThread(threading.Thread):
    """One core with its own scheduler: it takes the next ready job of the entities that chose it."""

    def __init__(self, scheduler: Scheduler, core: NpuCore) -> None:
        super().__init__(name=f"core{core.index}", daemon=True)
        self.scheduler = scheduler
        self.core = core
        self.power = Power(core)
        self.load = 0               # jobs queued for it or running on it
        self.running: Job | None = None
        self.entities: list[Entity] = []
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)

    def wake(self) -> None:
        """A job of its entities may have become ready. Of all ways this one lets go of the interpreter's lock, so that
        the core runs while its waker is still in the system call, or in what it does next."""
        if not self.scheduler.stopping.is_set():
            self.ring()

    def ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def sleep(self) -> None:
        """Until it is woken, or back at once when it was since the last time."""
        os.eventfd_read(self._bell)

    def run(self) -> None:
        try:
            self._run_jobs()
        finally:
            os.close(self._bell)

    def _run_jobs(self) -> None:
        while (chosen := self.scheduler.next_job(self)) is not None:
            entity, job = chosen
            started_ns = time.monotonic_ns()
            try:
                self.power.resume()
                error = run_job(self.core, self.scheduler.soc, job, self.scheduler.stopping, self.scheduler.busy)
            except Exception:
                log.exception("core %d job %d: the driver failed", self.core.index, job.number)
                error = errno.ECANCELED
            self.scheduler.finish(entity, job, error, time.monotonic_ns() - started_ns)


class Scheduler:
    """All cores of the device. `lock` is the device's own: jobs, handles and buffers change under it."""

    def __init__(self, soc: Soc, cores: Sequence[NpuCore], lock: threading.RLock, busy: Busy) -> None:
        self.soc = soc
        self.lock = lock
        self.busy = busy
        self.stopping = threading.Event()
        self.changed = threading.Condition(lock)        # for calls that wait; each core has its own
        self.cores = [CoreThread(self, core) for core in cores]

    def start(self) -> None:
        for core in self.cores:
            core.start()

    def stop(self) -> None:
        with self.changed:
            self.stopping.set()
            self.changed.notify_all()
            for core in self.cores:
                core.ring()

    def push(self, entity: Entity, job: Job) -> None:
        """Queue a job. Its core is chosen when nothing of the entity is in flight: least load, then lowest index."""
        with self.lock:
            if entity.in_flight == 0:
                allowed = [core for core in self.cores if entity.core_mask >> core.core.index & 1]
                self._attach(entity, min(allowed, key=lambda core: (core.load, core.core.index)))
            assert entity.core is not None
            entity.queue.append(job)
            entity.num_queued_tasks += len(job.tasks)
            entity.in_flight += 1
            entity.core.load += 1
            log.debug("job %d: %d tasks, %d in, %d out, queued for core %d", job.number, len(job.tasks),
                      len(job.in_bos), len(job.out_bos), entity.core.core.index)

    def hand_over(self, entity: Entity) -> None:
        """Jobs were queued: wake the core. Without the lock, which it needs then."""
        with self.changed:
            self.changed.notify_all()
            core = entity.core
        if core is not None:
            core.wake()

    def _attach(self, entity: Entity, core: CoreThread) -> None:
        if entity.core is not None:
            entity.core.entities.remove(entity)
        entity.core = core
        # A newcomer starts level with the others: time slept is no credit.
        entity.run_time_ns = max(entity.run_time_ns, min((other.run_time_ns for other in core.entities), default=0))
        core.entities.append(entity)

    def next_job(self, core: CoreThread) -> tuple[Entity, Job] | None:
        """Waits for a job whose dependencies are done, of the entity that has run least; None: the device stops."""
        while not self.stopping.is_set():
            with self.lock:
                if chosen := self._take_job(core):
                    return chosen
                core.power.idle()
            core.sleep()
        return None

    def _take_job(self, core: CoreThread) -> tuple[Entity, Job] | None:
        ready = [entity for entity in core.entities if entity.queue and entity.queue[0].is_ready()]
        if not ready:
            return None
        entity = min(ready, key=lambda entity: entity.run_time_ns)
        job = entity.queue.popleft()
        entity.num_queued_tasks -= len(job.tasks)
        core.running = job
        self.changed.notify_all()       # who waits for the queue to be handed over
        return entity, job

    def finish(self, entity: Entity, job: Job, error: int, spent_ns: int) -> None:
        """The job is over: signal, let go of its buffers, see who can run now."""
        with self.lock:
            assert entity.core is not None
            entity.run_time_ns += spent_ns
            entity.in_flight -= 1
            entity.core.load -= 1
            entity.core.running = None
            self._release(job, error)
            if entity.is_closed and not entity.in_flight:
                self._forget(entity)
            self._fences_signalled()

    def close(self, entity: Entity) -> None:
        """It ends when its last job has."""
        with self.lock:
            entity.is_closed = True
            if not entity.in_flight:
                self._forget(entity)

    def _forget(self, entity: Entity) -> None:
        if entity.core is not None and entity in entity.core.entities:
            entity.core.entities.remove(entity)
        entity.ended()

    def _release(self, job: Job, error: int) -> None:
        """The job has ended one way or another."""
        if error and not job.progress.error:
            job.progress.error = errno.ECANCELED
        for bo in job.out_bos:
            bo.write_error = error
        job.fence.signal(error)         # ends calls that wait for it: all that they look at is set
        for bo in (*job.in_bos, *job.out_bos):
            bo.put()
        job.in_bos, job.out_bos = [], []

    def drop_queue(self, entity: Entity) -> int:
        """Forget what has not started: fences signal ESRCH. How many."""
        with self.changed:
            dropped = list(entity.queue)
            entity.queue.clear()
            entity.num_queued_tasks = 0
            for job in dropped:
                entity.in_flight -= 1
                if entity.core is not None:
                    entity.core.load -= 1
                self._release(job, errno.ESRCH)
            self._fences_signalled()
            return len(dropped)

    def _fences_signalled(self) -> None:
        """Jobs that wait for them may be ready now, and calls may end."""
        for core in self.cores:
            if any(entity.queue for entity in core.entities):
                core.wake()
        self.changed.notify_all()

    def wait_handed_over(self, entity: Entity, timeout_s: float | None) -> bool:
        """Whether the whole queue was given to the hardware in time."""
        with self.changed:
            return self.changed.wait_for(lambda: not entity.queue or self.stopping.is_set(), timeout_s)

    def detach(self, entity: Entity) -> None:
        """The file is gone. A job that still runs keeps the entity until it ends."""
        with self.changed:
            self.changed.wait_for(lambda: entity.in_flight == 0 or self.stopping.is_set())
            self._forget(entity)
