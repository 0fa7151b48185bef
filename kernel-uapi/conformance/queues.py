"""What the subtests of queues are made of. The nodes that do not have them skip those subtests."""
from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import programs
from .laboratory import Buffer, Laboratory
from .uapi import FOREVER, IOCTLS, Node, QueueJob, QueueTask, Sync

QUEUES, CHAINS, PPU_DONE = 1, 2, 4
SIGNAL = 1
QUEUED, RUNNING, DONE = range(3)
SUBMIT_SIZE = ctypes.sizeof(QueueJob)


class QueuedJob:
    """struct drm_rocket_queue_job and its arrays. Members given by name replace the right values."""

    def __init__(self, queue: int, tasks: Sequence[tuple[int, int, int, int]], /, waits: Sequence[int] = (),
                 signals: Sequence[int] = (), reads: Sequence[int] = (), writes: Sequence[int] = (),
                 **members: int) -> None:
        syncs = [(handle, 0, 0) for handle in waits] + [(handle, SIGNAL, 0) for handle in signals]
        self.tasks = (QueueTask * len(tasks))(*tasks)
        self.syncs = (Sync * len(syncs))(*syncs)
        self.reads = (ctypes.c_uint32 * len(reads))(*reads)
        self.writes = (ctypes.c_uint32 * len(writes))(*writes)
        right = dict(tasks=ctypes.addressof(self.tasks), syncs=ctypes.addressof(self.syncs),
                     in_bo_handles=ctypes.addressof(self.reads), out_bo_handles=ctypes.addressof(self.writes),
                     task_count=len(tasks), task_struct_size=ctypes.sizeof(QueueTask), sync_count=len(syncs),
                     sync_struct_size=ctypes.sizeof(Sync), in_bo_handle_count=len(reads),
                     out_bo_handle_count=len(writes), queue=queue)
        self.record = QueueJob(**right | members)


@dataclass
class Bench:
    """An address space, and what is bound in it at the addresses that the file itself sees it at."""

    lab: Laboratory
    node: Node
    vm: int

    @staticmethod
    def make(lab: Laboratory, node: Node) -> Bench:
        return Bench(lab, node, int(node.call("VM_CREATE").vm))

    # --- objects ---

    def queue(self, core_mask: int = 1, **members: int) -> int:
        return int(self.node.call("QUEUE_CREATE", vm=self.vm, core_mask=core_mask, **members).queue)

    def sync(self, flags: int = 0) -> int:
        return int(self.node.call("SYNCOBJ_CREATE", flags=flags).handle)

    def buffer(self, data: bytes | int = 4096) -> Buffer:
        made = self.lab.buffer(self.node, data)
        self.bind(made)
        return made

    def bind(self, buffer: Buffer, address: int | None = None) -> None:
        self.node.call("VM_BIND", vm=self.vm, handle=buffer.handle,
                       address=buffer.address if address is None else address)

    # --- jobs ---

    def job(self, queue: int, text: bytes, /, **members: Any) -> QueuedJob:
        """One program as one job."""
        return QueuedJob(queue, [(self.buffer(text).address, len(text) // 8, 1, 0)], **members)

    def copy(self, queue: int, source: Buffer, target: Buffer, /, **members: Any) -> QueuedJob:
        return self.job(queue, programs.copy(source.address, target.address), **members)

    def fill(self, queue: int, target: Buffer, value: int, /, **members: Any) -> QueuedJob:
        return self.job(queue, programs.fill(target.address, target.address, value), **members)

    def hang(self, queue: int, **members: Any) -> QueuedJob:
        return self.job(queue, programs.endless(), **members)

    def submit_error(self, *jobs: QueuedJob, **members: int) -> int:
        """The errno; failed_job and the seqnos are kept."""
        self.records = (QueueJob * len(jobs))(*(job.record for job in jobs))
        right = dict(jobs=ctypes.addressof(self.records), job_count=len(jobs), job_struct_size=SUBMIT_SIZE)
        request, struct = IOCTLS["QUEUE_SUBMIT"]
        data = struct(**right | members)
        error = self.node.raw(request, ctypes.addressof(data))
        self.failed_job = int(data.failed_job)
        return error

    def submit(self, *jobs: QueuedJob) -> list[int]:
        """The jobs' numbers in their queues."""
        error = self.submit_error(*jobs)
        assert error == 0, f"job {self.failed_job}: {os.strerror(error)}"
        return [record.seqno for record in self.records]

    # --- results ---

    def status(self, queue: int, seqno: int = 0) -> Any:
        return self.node.call("JOB_STATUS", queue=queue, seqno=seqno)

    def status_error(self, queue: int, seqno: int = 0) -> int:
        return self.node.error("JOB_STATUS", queue=queue, seqno=seqno)

    def ended(self, queue: int, seqno: int = 0, limit_s: float = 20) -> Any:
        """The status once the job is done, without a wait that could itself be wrong."""
        deadline = time.monotonic() + limit_s
        while (status := self.status(queue, seqno)).state != DONE:
            assert time.monotonic() < deadline, "the job does not end"
            time.sleep(0.002)
        return status

    def wait_error(self, handles: Sequence[int], timeout_nsec: int = FOREVER, flags: int = 1, /, **members: int) -> int:
        """SYNCOBJ_WAIT, for all of them by default."""
        array = (ctypes.c_uint32 * len(handles))(*handles)
        right = dict(handles=ctypes.addressof(array), count_handles=len(handles), timeout_nsec=timeout_nsec,
                     flags=flags)
        return self.node.error("SYNCOBJ_WAIT", **right | members)

    def array_error(self, name: str, handles: Sequence[int], /, **members: int) -> int:
        array = (ctypes.c_uint32 * len(handles))(*handles)
        right = dict(handles=ctypes.addressof(array), count_handles=len(handles))
        return self.node.error(name, **right | members)
