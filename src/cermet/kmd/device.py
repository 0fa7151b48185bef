"""The device: its open files, its buffers' mmap offsets, its cores."""
from __future__ import annotations

import errno
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable

from cermet.hw.soc import Soc
from cermet.kmd.behaviour import Behaviour
from cermet.kmd.bo import PAGE_BYTES, Bo
from cermet.kmd.busy import Busy
from cermet.kmd.errors import DeviceError
from cermet.kmd.faults import Faults
from cermet.kmd.faulty_core import FaultyCore
from cermet.kmd.file import File
from cermet.kmd.job import NpuCore
from cermet.kmd.queue import Vm
from cermet.kmd.ranges import RangeAllocator
from cermet.kmd.scheduler import Scheduler
from cermet.kmd.waits import Waits

log = logging.getLogger("cermet.kmd")

FIRST_MMAP_OFFSET = 0x1_0000_0000       # DRM's fake offsets start behind 32 bits
MMAP_OFFSET_BYTES = 1 << 40
EXIT_WAIT_S = 1.0                       # how long the queue of an exiting process may still be handed over
PROCESS_EXITING = 0x4                   # PF_EXITING in /proc/PID/stat
CAP_SYS_ADMIN = 21


def is_exiting(pid: int) -> bool:
    """Whether a process is gone or on its way out."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return True
    return fields[0] in (b"Z", b"X") or bool(int(fields[6]) & PROCESS_EXITING)


def has_admin_capability(pid: int) -> bool:
    """CAP_SYS_ADMIN in the process' effective set."""
    try:
        with open(f"/proc/{pid}/status") as file:
            line = next(line for line in file if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return False
    return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)


class Device:
    """Everything behind one node. `lock` protects handles, buffers and queues; no call holds it while it waits."""

    def __init__(self, soc: Soc, make_core: Callable[[Soc, int], NpuCore], behaviour: Behaviour) -> None:
        self.soc = soc
        self.behaviour = behaviour
        self.faults = Faults(behaviour.faults)
        self.lock = threading.RLock()
        self.busy = Busy(soc.cores)
        cores: list[NpuCore] = [make_core(soc, index) for index in range(soc.cores)]
        if behaviour.faults:
            cores = [FaultyCore(core, self.faults) for core in cores]
        self.scheduler = Scheduler(soc, cores, self.lock, self.busy)
        self.files: set[File] = set()
        self.vms: set[Vm] = set()
        self.flink_names: dict[int, Bo] = {}
        self._numbers = itertools.count(1)
        self._bos_by_offset: dict[int, Bo] = {}
        self._bos_by_inode: dict[int, Bo] = {}
        self._orphans: set[Bo] = set()          # no handle left, but mapped or exported somewhere
        self.offsets = RangeAllocator(FIRST_MMAP_OFFSET, FIRST_MMAP_OFFSET + MMAP_OFFSET_BYTES, PAGE_BYTES)
        self.waits = Waits(self.lock)
        self.num_syncobj_waits = 0              # calls in progress
        self.scheduler.start()
        self.waits.start()

    # --- files ---

    def open(self, pid: int, flags: int) -> File:
        self.faults.any_call()
        self.faults.fail("open-fails")
        if flags & os.O_EXCL:
            raise DeviceError(errno.EBUSY, "open: O_EXCL")
        with self.lock:
            file = File(self, next(self._numbers), pid, flags, has_admin_capability(pid))
            self.files.add(file)
        log.info("%s: opened", file)
        return file

    def release(self, file: File) -> None:
        """The last reference to an open file is gone.

        The queue is handed to the hardware first: all of it after a plain close, for 1 s when the process exits.
        """
        exiting = all(is_exiting(pid) for pid in file.pids)
        with self.lock:
            entities = list(file.entities)
        deadline = time.monotonic() + EXIT_WAIT_S
        for entity in entities:
            self.scheduler.wait_handed_over(entity, max(0.0, deadline - time.monotonic()) if exiting else None)
        dropped = sum(self.scheduler.drop_queue(entity) for entity in entities)
        if dropped:
            log.warning("%s: closed with %d jobs queued, dropped", file, dropped)
        with self.lock:
            file.close_all_handles()
            file.is_closed = True
            self.files.discard(file)
            self.scheduler.changed.notify_all()     # who waits for something that only this file could do
        for entity in entities:
            self.scheduler.detach(entity)
        with self.lock:
            file.close_vms()
        self.collect()
        log.info("%s: closed", file)

    # --- buffers ---

    def add_bo(self, bo: Bo) -> None:
        """Give a new BO its mmap offset."""
        offset = self.offsets.allocate(bo.mapped_bytes)
        if offset is None:
            raise DeviceError(errno.ENOSPC, "no mmap offset is free")
        bo.offset = offset
        self._bos_by_offset[offset] = bo
        self._bos_by_inode[bo.inode] = bo

    def keep_orphan(self, bo: Bo) -> None:
        """No handle and no job is left, but a mapping or an export is somewhere."""
        self._orphans.add(bo)

    def forget_bo(self, bo: Bo) -> None:
        self.offsets.free(bo.offset)
        del self._bos_by_offset[bo.offset]
        del self._bos_by_inode[bo.inode]
        self.flink_names.pop(bo.flink_name, None)

    def collect(self) -> bool:
        """Free the BOs that nobody holds any more; whether some are left that only the outside holds."""
        with self.lock:
            for bo in list(self._orphans):
                if bo.references or bo.free_if_unused():
                    self._orphans.discard(bo)
            return bool(self._orphans)

    def buffers(self) -> list[Bo]:
        """All that are not freed."""
        return list(self._bos_by_offset.values())

    def is_orphan(self, bo: Bo) -> bool:
        return bo in self._orphans

    def bo_at_offset(self, offset: int) -> Bo | None:
        return self._bos_by_offset.get(offset)

    def bo_of_fd(self, fd: int) -> Bo | None:
        """The BO whose exported memory an fd of this process is."""
        status = os.fstat(fd)
        bo = self._bos_by_inode.get(status.st_ino)
        return bo if bo is not None and bo.is_this(status) else None

    def stop(self) -> None:
        self.scheduler.stop()
        self.waits.stop()
