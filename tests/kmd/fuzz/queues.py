"""Calls of the proposal "queues": address spaces, queues, sync objects. Nodes without it refuse them."""
from __future__ import annotations

import errno
import struct
import time
from typing import Any

from cermet.kmd import uapi
from tests.kmd.fuzz.arena import PAGE, Broken
from tests.kmd.fuzz.calls import ANSWERS, OpenFile
from tests.kmd.fuzz.choices import Choices
from tests.kmd.fuzz.core import HANGING, SLEEPING
from tests.kmd.fuzz.jobs import COUNTS, FOREVER, REGCMD_COUNTS, STRIDES
from tests.kmd.fuzz.world import WEIGHTS, World

OBJECT_CALLS = ("VM_CREATE", "VM_BIND", "VM_BIND", "VM_BIND", "VM_DESTROY", "QUEUE_CREATE", "QUEUE_CREATE",
                "QUEUE_DESTROY", "JOB_STATUS", "JOB_STATUS", "GET_PARAM")
SYNC_CALLS = ("CREATE", "CREATE", "WAIT", "WAIT", "DESTROY", "RESET", "SIGNAL")
QUEUE_WEIGHTS = WEIGHTS | {"object_call": 10, "sync_call": 8, "queue_submit": 14, "queue_work": 6}
REFUSED = {errno.EINVAL, errno.EOPNOTSUPP}
ANSWERS |= {
    "object_call": {0, errno.ENOENT, errno.ENOMEM, errno.EEXIST} | REFUSED,
    "sync_call": {0, errno.ENOENT, errno.ENOMEM, errno.ETIME} | REFUSED,
    "queue_work": {0, errno.ETIME, errno.ENOMEM} | REFUSED,
    "queue_submit": {0, errno.ENOENT, errno.ENOMEM} | REFUSED}


class QueueWorld(World):
    """A World whose files have numbered objects, mostly from 1 to 3."""

    def number(self, c: Choices) -> int:
        return c.of((0, 4, c.word())) if c.one_in(10) else 1 + c.below(3)

    def zero(self, c: Choices) -> int:
        return c.word() if c.one_in(25) else 0

    def object_call(self, file: OpenFile, c: Choices) -> int | None:
        name = c.of(OBJECT_CALLS)
        address = self.address(file, c)
        members = dict(
            vm=self.number(c), queue=self.number(c), flags=self.zero(c), pad=self.zero(c), op=c.of((0, 0, 0, 1, 2)),
            handle=0 if c.one_in(4) else self.handle(file, c),
            address=address if c.one_in(6) else address & ~(PAGE - 1),
            core_mask=c.of((1, 2, 4, 7, 7, 0, 8, c.word())), timeout_ns=c.of((0, 0, 1, 2_000_000, 60_000_000_001)),
            seqno=c.of((0, 0, 1, 2, c.word())), param=c.below(8))
        known = {member for member, _ in uapi.ffi.typeof(uapi.IOCTLS[f"DRM_IOCTL_ROCKET_{name}"][1]).fields}
        return self.call(file, f"ROCKET_{name}", c, **{key: value for key, value in members.items() if key in known})[0]

    def sync_call(self, file: OpenFile, c: Choices) -> int | None:
        name = c.of(SYNC_CALLS)
        if name == "CREATE":
            return self.call(file, "SYNCOBJ_CREATE", c, flags=c.of((0, 0, 1, 2)))[0]
        if name == "DESTROY":
            return self.call(file, "SYNCOBJ_DESTROY", c, handle=self.number(c), pad=self.zero(c))[0]
        handles = [self.number(c) for _ in range(c.of((1, 1, 2, 3, 0)))]
        count = len(handles)
        if c.one_in(25):
            self.spoil()
            count = c.of(COUNTS)
        array = struct.pack(f"<{len(handles)}I", *handles)
        members: dict[str, Any] = dict(handles=self.place(array, c), count_handles=count)
        if name != "WAIT":
            return self.call(file, f"SYNCOBJ_{name}", c, **members, pad=self.zero(c))[0]
        flags = c.of((0, 1, 2, 3, 4))
        soon = time.monotonic_ns() + c.below(3_000_000)
        until = c.of((0, soon, FOREVER, -1))        # for ever: until the file is closed, when nobody submits anything
        data = uapi.ffi.new("struct drm_syncobj_wait *", members | dict(flags=flags, timeout_nsec=until))
        return self.plain(file, "SYNCOBJ_WAIT", data)

    def queue_work(self, file: OpenFile, c: Choices) -> int | None:
        """What applications do, all of it right: an address space, a queue, jobs, and waiting for the last."""
        vm = self.made(file, "vm_create")
        syncobj = uapi.ffi.new("struct drm_syncobj_create *")
        if vm is None or self.plain(file, "SYNCOBJ_CREATE", syncobj):
            return errno.EINVAL
        bo = self.new_program(file, c.of((SLEEPING, SLEEPING, HANGING, 0)))
        if bo is None:
            return errno.ENOMEM
        queue = self.made(file, "vm_bind", vm=vm.vm, handle=bo.handle, address=PAGE) and self.made(
            file, "queue_create", vm=vm.vm, core_mask=c.of((1, 3, 7)), timeout_ns=c.of((0, 2_000_000)))
        if queue is None:
            raise Broken("a right address space, binding or queue was refused")
        task, sync = struct.pack("<4I", PAGE, 2, 1, 0), struct.pack("<2IQ", syncobj.handle, 1, 0)
        job = uapi.ffi.new("struct drm_rocket_queue_job *", dict(
            tasks=self.arena.put(task), task_count=1, task_struct_size=16, syncs=self.arena.put(sync), sync_count=1,
            sync_struct_size=16, queue=queue.queue))
        count = c.of((1, 1, 3, 6))
        if self.made(file, "queue_submit", jobs=self.arena.put(bytes(uapi.ffi.buffer(job)) * count), job_count=count,
                     job_struct_size=uapi.ffi.sizeof("struct drm_rocket_queue_job")) is None:
            raise Broken("right jobs were refused")
        status = self.made(file, "job_status", queue=queue.queue)
        if status is None or status.seqno != count or status.state > 2:
            raise Broken("JOB_STATUS does not know the job")
        if c.one_in(2):
            self.made(file, "queue_destroy", queue=queue.queue)
        handles = self.arena.put(struct.pack("<2I", syncobj.handle, 0))
        return self.plain(file, "SYNCOBJ_WAIT", uapi.ffi.new("struct drm_syncobj_wait *", dict(
            handles=handles, count_handles=1, timeout_nsec=c.of((FOREVER, time.monotonic_ns() + 300_000)))))

    def made(self, file: OpenFile, name: str, **members: int) -> Any:
        """The struct after an ioctl with nothing wrong; None when it is refused."""
        data = uapi.ffi.new(f"struct drm_rocket_{name} *", members)
        return None if self.plain(file, f"ROCKET_{name.upper()}", data) else data

    def queue_submit(self, file: OpenFile, c: Choices) -> int | None:
        count = c.of((1, 1, 1, 2, 4, 0))
        jobs = [uapi.ffi.new("struct drm_rocket_queue_job *", self.queue_job(file, c)) for _ in range(count)]
        records = b"".join(bytes(uapi.ffi.buffer(job)) for job in jobs)
        members = dict(jobs=self.place(records, c), job_count=count, flags=self.zero(c),
                       job_struct_size=uapi.ffi.sizeof("struct drm_rocket_queue_job"))
        if c.one_in(25):
            members[c.of(("job_count", "job_struct_size"))] = c.of((*STRIDES, *COUNTS))
        self.spoil()            # arrays that are not there are EFAULT
        return self.call(file, "ROCKET_QUEUE_SUBMIT", c, **members)[0]

    def queue_job(self, file: OpenFile, c: Choices) -> dict[str, int]:
        tasks = b"".join(self.queue_task(file, c) for _ in range(c.of((1, 1, 2, 3, 0 if c.one_in(8) else 1))))
        syncs = b"".join(struct.pack("<2IQ", self.number(c), c.of((0, 1, 1, 2 if c.one_in(10) else 1)), self.zero(c))
                         for _ in range(c.of((0, 1, 1, 2))))
        lists = [self.handles(file, c), self.handles(file, c)]
        lists[0] = [handle for handle in lists[0] if handle not in lists[1]]
        reads, writes = (self.place(struct.pack(f"<{len(each)}I", *each), c) for each in lists)
        members = dict(tasks=self.place(tasks, c), task_count=len(tasks) // 16, task_struct_size=16,
                       syncs=self.place(syncs, c), sync_count=len(syncs) // 16, sync_struct_size=16,
                       in_bo_handles=reads, in_bo_handle_count=len(lists[0]),
                       out_bo_handles=writes, out_bo_handle_count=len(lists[1]),
                       queue=self.number(c), flags=self.zero(c), seqno=c.word())
        if c.one_in(25):
            members[c.of(list(members))] = c.of((*STRIDES, *COUNTS))
        return members

    def queue_task(self, file: OpenFile, c: Choices) -> bytes:
        regcmd = c.word() if c.one_in(20) else self.address(file, c) & ~15
        programs, flags = (c.of((1, 2, 0, 4095, 4096)), c.below(3)) if c.one_in(6) else (1, 0)
        return struct.pack("<4I", regcmd, c.of(REGCMD_COUNTS), programs, flags)
