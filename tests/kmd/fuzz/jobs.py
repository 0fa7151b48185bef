"""The calls that run programs and wait for them."""
from __future__ import annotations

import errno
import mmap
import struct
import time
from typing import Any

from cermet.kmd import uapi
from tests.kmd.fuzz.arena import PAGE, Broken
from tests.kmd.fuzz.buffers import Buffers
from tests.kmd.fuzz.calls import Made, OpenFile
from tests.kmd.fuzz.choices import Choices
from tests.kmd.fuzz.core import HANGING, SLEEPING

FOREVER = (1 << 63) - 1
MAX_JOBS = 60                   # of one submit that is right
STRIDES = (0, 1, 7, 39, 41, 48, 4096, 4097, 0x8000_0000, 0xFFFF_FFFF)
COUNTS = (0, 2, 1000, 65_536, 65_537, 1 << 20, 0x7FFF_FFFF, 0xFFFF_FFFF)
REGCMD_COUNTS = (2, 2, 2, 1, 4, 512, 131_073, 0xFFFF_FFFF)


class Jobs(Buffers):
    """Right ones, and such with any number in one member."""

    def prep(self, file: OpenFile, c: Choices) -> int | None:
        handle = self.handle(file, c)
        soon = time.monotonic_ns() + c.below(2_000_000)
        reserved = c.word() if c.one_in(30) else 0
        answer, _ = self.call(file, "ROCKET_PREP_BO", c, handle=handle, reserved=reserved,
                              timeout_ns=c.of((0, 0, 1, -1, -FOREVER - 1, soon, soon, FOREVER)))
        self.expect(file, handle, answer, errno.ENOENT, "PREP_BO")
        return answer

    def fini(self, file: OpenFile, c: Choices) -> int | None:
        handle = self.handle(file, c)
        answer, _ = self.call(file, "ROCKET_FINI_BO", c, handle=handle, reserved=c.word() if c.one_in(30) else 0)
        self.expect(file, handle, answer, errno.ENOENT, "FINI_BO")
        return answer

    def submit(self, file: OpenFile, c: Choices) -> int | None:
        count = MAX_JOBS if c.one_in(60) else c.of((1, 1, 1, 2, 3, 0))
        records = b"".join(bytes(uapi.ffi.buffer(uapi.ffi.new("struct drm_rocket_job *", self.job(file, c))))
                           for _ in range(count))
        members = dict(jobs=self.place(records, c), job_count=count, job_struct_size=40)
        if c.one_in(20):
            self.spoil()
            members[c.of(("job_count", "job_struct_size", "reserved"))] = c.of((*STRIDES, *COUNTS))
        answer, _ = self.call(file, "ROCKET_SUBMIT", c, **members)
        return answer

    def work(self, file: OpenFile, c: Choices) -> int | None:
        """What applications do, all of it right: a program that takes a while, a job, and waiting for it."""
        bo = self.new_program(file, c.of((SLEEPING, SLEEPING, HANGING, 0)))
        if bo is None:
            return errno.ENOMEM
        handle = self.arena.put(struct.pack("<2I", bo.handle, 0))
        job = uapi.ffi.new("struct drm_rocket_job *", dict(
            tasks=self.arena.put(struct.pack("<4I", *(bo.dma_address, 2) * 2)), out_bo_handles=handle,
            task_count=c.of((1, 2)), task_struct_size=8, out_bo_handle_count=1))
        count = c.of((1, 1, 3, 6))
        answer = self.plain(file, "ROCKET_SUBMIT", uapi.ffi.new("struct drm_rocket_submit *", dict(
            jobs=self.arena.put(bytes(uapi.ffi.buffer(job)) * count), job_count=count, job_struct_size=40)))
        if answer:
            raise Broken(f"SUBMIT of right jobs answered {answer}")
        until = c.of((0, FOREVER, FOREVER, time.monotonic_ns() + 300_000))
        return self.plain(file, "ROCKET_PREP_BO", uapi.ffi.new("struct drm_rocket_prep_bo *",
                                                               {"handle": bo.handle, "timeout_ns": until}))

    def new_program(self, file: OpenFile, end: int) -> Any:
        """A BO with a program that ends this way; None when there is no room."""
        bo = uapi.ffi.new("struct drm_rocket_create_bo *", {"size": PAGE})
        if self.plain(file, "ROCKET_CREATE_BO", bo):
            return None
        self._check_new(file, bo)
        file.handles[bo.handle] = Made(PAGE, bo.dma_address, bo.offset)
        self.live_bytes += PAGE
        answer, memory = file.port.mmap(PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, bo.offset)
        if memory is None:
            raise Broken(f"mmap of a new BO answered {answer}")
        memory.write(0, struct.pack("<4I", end, 0, 0, 0))
        memory.drop()
        if self.plain(file, "ROCKET_FINI_BO", uapi.ffi.new("struct drm_rocket_fini_bo *", {"handle": bo.handle})):
            raise Broken("FINI_BO of a new BO failed")
        return bo

    def job(self, file: OpenFile, c: Choices) -> dict[str, int]:
        """Mostly right; rarely one member is any number."""
        num_tasks = 40 if c.one_in(40) else c.of((1, 1, 1, 2, 4, 0 if c.one_in(4) else 1))
        tasks = struct.pack(f"<{2 * num_tasks}I", *(number for _ in range(num_tasks) for number in (
            self.address(file, c), 0 if c.one_in(40) else c.of(REGCMD_COUNTS))))
        lists = [self.handles(file, c), self.handles(file, c)]
        if not c.one_in(8):         # else one may be in both
            lists[0] = [handle for handle in lists[0] if handle not in lists[1]]
        reads, writes = (self.place(struct.pack(f"<{len(each)}I", *each), c) for each in lists)
        members = dict(tasks=self.place(tasks, c), in_bo_handles=reads, out_bo_handles=writes, task_count=num_tasks,
                       task_struct_size=8, in_bo_handle_count=len(lists[0]), out_bo_handle_count=len(lists[1]))
        if c.one_in(25):
            self.spoil()
            members[c.of(list(members))] = c.of((*STRIDES, *COUNTS))
        return members

    def handles(self, file: OpenFile, c: Choices) -> list[int]:
        chosen = [self.handle(file, c) for _ in range(c.of((0, 1, 1, 2, 3)))]
        return chosen if c.one_in(10) else list(dict.fromkeys(chosen))
