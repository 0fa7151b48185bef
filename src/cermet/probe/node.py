"""A device node by the C library's calls, so that what is preloaded (a recorder, a simulated node) sees them."""
from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cffi
import numpy as np

from cermet.errors import CermetError
from cermet.kmd import uapi

PAGE_BYTES = 4096
PROT_READ_WRITE, MAP_SHARED = 3, 1
WAIT_NS = 3_000_000_000         # more than the kernel's limit for the longest job list of a probe

_ffi = cffi.FFI()
_ffi.cdef("""
int open(const char *path, int flags, ...);
int ioctl(int fd, unsigned long request, ...);
void *mmap(void *address, size_t bytes, int protection, int flags, int fd, int64_t offset);
int munmap(void *address, size_t bytes);
int close(int fd);
""")
_libc: Any = _ffi.dlopen(None)
_notes = cffi.FFI()
_notes.cdef("void cermet_trace_note(uint32_t level, const char *text);")


def note(level: int, text: str) -> None:
    """Into the trace; nowhere when nothing records."""
    library: Any = _notes.dlopen(None)
    try:
        function = library.cermet_trace_note
    except AttributeError:
        return
    function(level, text.encode())


@dataclass
class Bo:
    """A mapped buffer."""

    handle: int
    address: int
    bytes: np.ndarray


class Node:
    """One open device node."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = int(_libc.open(path.encode(), _ffi.cast("int", os.O_RDWR | os.O_CLOEXEC)))
        if self.fd < 0:
            raise CermetError(f"{path}: {os.strerror(_ffi.errno)}")

    def __enter__(self) -> Node:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        _libc.close(self.fd)

    def call(self, name: str, **members: Any) -> Any:
        """The struct after the call. Raises CermetError."""
        number, struct = uapi.IOCTLS[f"DRM_IOCTL_{name}"]
        argument = uapi.ffi.new(f"{struct} *", members)
        address = _ffi.cast("void *", int(uapi.ffi.cast("uintptr_t", argument)))
        if _libc.ioctl(self.fd, number.value, address) != 0:
            raise CermetError(f"{self.path}: {name}: {os.strerror(_ffi.errno)}")
        return argument

    def buffer(self, num_bytes: int) -> Bo:
        """Zeroed, mapped, closed by free()."""
        size = -(-num_bytes // PAGE_BYTES) * PAGE_BYTES
        made = self.call("ROCKET_CREATE_BO", size=size)
        address = _libc.mmap(_ffi.NULL, size, PROT_READ_WRITE, MAP_SHARED, self.fd, made.offset)
        if int(_ffi.cast("intptr_t", address)) == -1:
            raise CermetError(f"{self.path}: mmap: {os.strerror(_ffi.errno)}")
        return Bo(made.handle, made.dma_address, np.frombuffer(_ffi.buffer(address, size), np.uint8))

    def free(self, bo: Bo) -> None:
        size, address = bo.bytes.size, bo.bytes.ctypes.data
        bo.bytes = np.zeros(0, np.uint8)
        _libc.munmap(_ffi.cast("void *", address), size)
        self.call("GEM_CLOSE", handle=bo.handle)

    def finish_cpu(self, bo: Bo) -> None:
        self.call("ROCKET_FINI_BO", handle=bo.handle)

    def run(self, tasks: Sequence[tuple[int, int]], reads: Sequence[Bo], writes: Sequence[Bo]) -> int:
        """One job, to its end or to the kernel's time limit. Nanoseconds from SUBMIT to the end."""
        records = uapi.ffi.new("struct drm_rocket_task[]", [{"regcmd": at, "regcmd_count": count}
                                                            for at, count in tasks])
        handles = [uapi.ffi.new("uint32_t[]", [bo.handle for bo in bos]) for bos in (reads, writes)]
        job = uapi.ffi.new("struct drm_rocket_job *", {
            "tasks": address_of(records), "task_count": len(tasks),
            "task_struct_size": uapi.ffi.sizeof("struct drm_rocket_task"), "in_bo_handles": address_of(handles[0]),
            "in_bo_handle_count": len(reads), "out_bo_handles": address_of(handles[1]),
            "out_bo_handle_count": len(writes)})
        start = time.monotonic_ns()
        self.call("ROCKET_SUBMIT", jobs=address_of(job), job_count=1, job_struct_size=uapi.ffi.sizeof(job[0]))
        for bo in writes:
            self.call("ROCKET_PREP_BO", handle=bo.handle, timeout_ns=start + WAIT_NS)
        return time.monotonic_ns() - start


def address_of(data: Any) -> int:
    return int(uapi.ffi.cast("uintptr_t", data))
