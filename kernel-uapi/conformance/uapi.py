"""The interface written down again for these tests: structs, numbers, and the system calls on one open file.

Nothing here comes from the project's headers: a mistake there must show. Facts: Linux 7.2's public header.
"""
from __future__ import annotations

import ctypes
import errno
import mmap as mmap_flags
import os
import time
from collections.abc import Sequence
from ctypes import Structure, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_ulong, c_void_p
from typing import Any

PAGE = 4096
FOREVER = (1 << 63) - 1
MAP_FAILED = c_void_p(-1).value


def _struct(name: str, *fields: tuple[str, Any]) -> type[Structure]:
    return type(name, (Structure,), {"_fields_": list(fields)})


CreateBo = _struct("CreateBo", ("size", c_uint32), ("handle", c_uint32), ("dma_address", c_uint64),
                   ("offset", c_uint64))
PrepBo = _struct("PrepBo", ("handle", c_uint32), ("reserved", c_uint32), ("timeout_ns", c_int64))
FiniBo = _struct("FiniBo", ("handle", c_uint32), ("reserved", c_uint32))
Task = _struct("Task", ("regcmd", c_uint32), ("regcmd_count", c_uint32))
JobStruct = _struct("Job", ("tasks", c_uint64), ("in_bo_handles", c_uint64), ("out_bo_handles", c_uint64),
                    ("task_count", c_uint32), ("task_struct_size", c_uint32), ("in_bo_handle_count", c_uint32),
                    ("out_bo_handle_count", c_uint32))
Submit = _struct("Submit", ("jobs", c_uint64), ("job_count", c_uint32), ("job_struct_size", c_uint32),
                 ("reserved", c_uint64))
Version = _struct("Version", ("major", c_int), ("minor", c_int), ("patch", c_int), ("name_len", c_size_t),
                  ("name", c_char_p), ("date_len", c_size_t), ("date", c_char_p), ("desc_len", c_size_t),
                  ("desc", c_char_p))
GetCap = _struct("GetCap", ("capability", c_uint64), ("value", c_uint64))
GemClose = _struct("GemClose", ("handle", c_uint32), ("pad", c_uint32))
GemFlink = _struct("GemFlink", ("handle", c_uint32), ("name", c_uint32))
GemOpen = _struct("GemOpen", ("name", c_uint32), ("handle", c_uint32), ("size", c_uint64))
Prime = _struct("Prime", ("handle", c_uint32), ("flags", c_uint32), ("fd", c_int32))
Client = _struct("Client", ("idx", c_int), ("auth", c_int), ("pid", c_ulong), ("uid", c_ulong), ("magic", c_ulong),
                 ("iocs", c_ulong))
Unique = _struct("Unique", ("length", c_size_t), ("unique", c_char_p))
ClientName = _struct("ClientName", ("length", c_uint64), ("name", c_uint64))

SyncobjCreate = _struct("SyncobjCreate", ("handle", c_uint32), ("flags", c_uint32))
SyncobjDestroy = _struct("SyncobjDestroy", ("handle", c_uint32), ("pad", c_uint32))
SyncobjWait = _struct("SyncobjWait", ("handles", c_uint64), ("timeout_nsec", c_int64), ("count_handles", c_uint32),
                      ("flags", c_uint32), ("first_signaled", c_uint32), ("pad", c_uint32), ("deadline_nsec", c_uint64))
SyncobjArray = _struct("SyncobjArray", ("handles", c_uint64), ("count_handles", c_uint32), ("pad", c_uint32))

# The proposal "queues".
GetParam = _struct("GetParam", ("param", c_uint32), ("pad", c_uint32), ("value", c_uint64))
VmCreate = _struct("VmCreate", ("flags", c_uint32), ("vm", c_uint32))
VmDestroy = _struct("VmDestroy", ("vm", c_uint32), ("pad", c_uint32))
VmBind = _struct("VmBind", ("vm", c_uint32), ("op", c_uint32), ("handle", c_uint32), ("pad", c_uint32),
                 ("address", c_uint64))
QueueCreate = _struct("QueueCreate", ("vm", c_uint32), ("core_mask", c_uint32), ("flags", c_uint32),
                      ("queue", c_uint32), ("timeout_ns", c_uint64))
QueueDestroy = _struct("QueueDestroy", ("queue", c_uint32), ("pad", c_uint32))
QueueTask = _struct("QueueTask", ("regcmd", c_uint32), ("regcmd_count", c_uint32), ("num_programs", c_uint32),
                    ("flags", c_uint32))
Sync = _struct("Sync", ("handle", c_uint32), ("flags", c_uint32), ("point", c_uint64))
QueueJob = _struct("QueueJob", ("tasks", c_uint64), ("syncs", c_uint64), ("in_bo_handles", c_uint64),
                   ("out_bo_handles", c_uint64), ("task_count", c_uint32), ("task_struct_size", c_uint32),
                   ("sync_count", c_uint32), ("sync_struct_size", c_uint32), ("in_bo_handle_count", c_uint32),
                   ("out_bo_handle_count", c_uint32), ("queue", c_uint32), ("flags", c_uint32), ("seqno", c_uint64))
QueueSubmit = _struct("QueueSubmit", ("jobs", c_uint64), ("job_count", c_uint32), ("job_struct_size", c_uint32),
                      ("flags", c_uint32), ("failed_job", c_uint32))
JobStatus = _struct("JobStatus", ("queue", c_uint32), ("pad", c_uint32), ("seqno", c_uint64), ("state", c_uint32),
                    ("error", c_uint32), ("start_ns", c_uint64), ("end_ns", c_uint64), ("core", c_uint32),
                    ("tasks_done", c_uint32))

WRITE, READ = 1, 2


def number(index: int, direction: int, size: int, letter: str = "d") -> int:
    """An ioctl number."""
    return direction << 30 | size << 16 | ord(letter) << 8 | index


def _of(index: int, direction: int, struct: type[Structure]) -> tuple[int, type[Structure]]:
    return number(index, direction, ctypes.sizeof(struct)), struct


IOCTLS = {
    "VERSION": _of(0x00, 3, Version), "GET_UNIQUE": _of(0x01, 3, Unique), "GET_CLIENT": _of(0x05, 3, Client),
    "GEM_CLOSE": _of(0x09, WRITE, GemClose), "GEM_FLINK": _of(0x0A, 3, GemFlink), "GEM_OPEN": _of(0x0B, 3, GemOpen),
    "GET_CAP": _of(0x0C, 3, GetCap), "PRIME_HANDLE_TO_FD": _of(0x2D, 3, Prime),
    "PRIME_FD_TO_HANDLE": _of(0x2E, 3, Prime), "SET_CLIENT_NAME": _of(0xD1, 3, ClientName),
    "CREATE_BO": _of(0x40, 3, CreateBo), "SUBMIT": _of(0x41, WRITE, Submit), "PREP_BO": _of(0x42, WRITE, PrepBo),
    "FINI_BO": _of(0x43, WRITE, FiniBo),
    "SYNCOBJ_CREATE": _of(0xBF, 3, SyncobjCreate), "SYNCOBJ_DESTROY": _of(0xC0, 3, SyncobjDestroy),
    "SYNCOBJ_WAIT": _of(0xC3, 3, SyncobjWait), "SYNCOBJ_RESET": _of(0xC4, 3, SyncobjArray),
    "SYNCOBJ_SIGNAL": _of(0xC5, 3, SyncobjArray),
    "GET_PARAM": _of(0x44, 3, GetParam), "VM_CREATE": _of(0x45, 3, VmCreate), "VM_DESTROY": _of(0x46, WRITE, VmDestroy),
    "VM_BIND": _of(0x47, WRITE, VmBind), "QUEUE_CREATE": _of(0x48, 3, QueueCreate),
    "QUEUE_DESTROY": _of(0x49, WRITE, QueueDestroy), "QUEUE_SUBMIT": _of(0x4A, 3, QueueSubmit),
    "JOB_STATUS": _of(0x4B, 3, JobStatus),
}


class System:
    """open, ioctl and mmap: the C library's, or those of the library that puts the simulated device in their place."""

    def __init__(self, library: str | None, path: str) -> None:
        self.path = path
        self.is_simulated = library is not None
        self.calls = ctypes.CDLL(library, use_errno=True)
        self.calls.open.argtypes = [c_char_p, c_int]
        self.calls.ioctl.argtypes = [c_int, c_ulong, c_void_p]
        self.calls.mmap.argtypes = [c_void_p, c_size_t, c_int, c_int, c_int, c_int64]
        self.calls.mmap.restype = c_void_p
        self.calls.munmap.argtypes = [c_void_p, c_size_t]
        self.calls.mprotect.argtypes = [c_void_p, c_size_t, c_int]

    def open(self, flags: int) -> int:
        ctypes.set_errno(0)
        fd = self.calls.open(self.path.encode(), flags)
        if fd < 0:
            raise OSError(ctypes.get_errno(), f"open {self.path}: {os.strerror(ctypes.get_errno())}")
        return int(fd)


class Mapping:
    """Mapped memory; `bytes` is a view of it."""

    def __init__(self, system: System, address: int, num_bytes: int) -> None:
        self.system, self.address, self.num_bytes = system, address, num_bytes

    def read(self, start: int = 0, num_bytes: int | None = None) -> bytes:
        return ctypes.string_at(self.address + start, self.num_bytes - start if num_bytes is None else num_bytes)

    def write(self, data: bytes, start: int = 0) -> None:
        ctypes.memmove(self.address + start, data, len(data))

    def unmap(self) -> None:
        assert self.system.calls.munmap(self.address, self.num_bytes) == 0


class Job:
    """struct drm_rocket_job and the arrays that it points to. Members given by name replace the right values."""

    def __init__(self, tasks: Sequence[tuple[int, int]], reads: Sequence[int] = (), writes: Sequence[int] = (),
                 **members: int) -> None:
        self.tasks = (Task * len(tasks))(*tasks)
        self.reads = (c_uint32 * len(reads))(*reads)
        self.writes = (c_uint32 * len(writes))(*writes)
        right = dict(tasks=ctypes.addressof(self.tasks), in_bo_handles=ctypes.addressof(self.reads),
                     out_bo_handles=ctypes.addressof(self.writes), task_count=len(tasks),
                     task_struct_size=ctypes.sizeof(Task), in_bo_handle_count=len(reads),
                     out_bo_handle_count=len(writes))
        self.record = JobStruct(**right | members)


class Node:
    """One open file."""

    def __init__(self, system: System, flags: int = os.O_RDWR | os.O_CLOEXEC) -> None:
        self.system = system
        self.fd = system.open(flags)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def raw(self, request: int, argument: int) -> int:
        """The errno of any ioctl at all, 0 for success."""
        ctypes.set_errno(0)
        self.result = self.system.calls.ioctl(self.fd, request, argument)
        return ctypes.get_errno() if self.result < 0 else 0

    def call(self, name: str, /, **members: Any) -> Any:
        """The struct after the call; OSError when it fails."""
        request, struct = IOCTLS[name]
        data = struct(**members)
        error = self.raw(request, ctypes.addressof(data))
        if error:
            raise OSError(error, f"{name} {members}: {os.strerror(error)}")
        return data

    def error(self, name: str, /, **members: Any) -> int:
        """The errno, 0 for success."""
        request, struct = IOCTLS[name]
        data = struct(**members)
        return self.raw(request, ctypes.addressof(data))

    @property
    def features(self) -> int:
        """What the node has of the proposal "queues"; 0 where GET_PARAM is not there."""
        try:
            return int(self.call("GET_PARAM", param=0).value)
        except OSError as error:
            assert error.errno == errno.EINVAL, error
            return 0

    def create(self, size: int = PAGE) -> Any:
        return self.call("CREATE_BO", size=size)

    def mmap(self, offset: int, num_bytes: int = PAGE, flags: int = mmap_flags.MAP_SHARED,
             protection: int = mmap_flags.PROT_READ | mmap_flags.PROT_WRITE) -> Mapping:
        ctypes.set_errno(0)
        address = self.system.calls.mmap(None, num_bytes, protection, flags, self.fd, offset)
        if address == MAP_FAILED:
            error = ctypes.get_errno()
            raise OSError(error, f"mmap {num_bytes} bytes at {offset:#x}: {os.strerror(error)}")
        return Mapping(self.system, address, num_bytes)

    def mmap_error(self, *arguments: Any, **options: Any) -> int:
        try:
            self.mmap(*arguments, **options).unmap()
        except OSError as error:
            assert error.errno
            return error.errno
        return 0

    def prep(self, bo: Any, timeout_s: float = 20) -> int:
        """PREP_BO with a deadline that far from now: the errno."""
        return self.error("PREP_BO", handle=bo.handle, timeout_ns=time.monotonic_ns() + int(timeout_s * 1e9))

    def fini(self, bo: Any) -> int:
        return self.error("FINI_BO", handle=bo.handle)

    def is_busy(self, bo: Any) -> bool:
        error = self.error("PREP_BO", handle=bo.handle, timeout_ns=0)
        assert error in (0, errno.EBUSY, errno.EIO), os.strerror(error)     # EIO: done, and it failed
        return error == errno.EBUSY

    def submit_error(self, *jobs: Job, **members: int) -> int:
        """SUBMIT with an array of jobs: the errno."""
        records = (JobStruct * len(jobs))(*(job.record for job in jobs))
        right = dict(jobs=ctypes.addressof(records), job_count=len(jobs), job_struct_size=ctypes.sizeof(JobStruct))
        return self.error("SUBMIT", **right | members)

    def submit(self, *jobs: Job) -> None:
        error = self.submit_error(*jobs)
        assert error == 0, os.strerror(error)
