"""Buffer objects: shared memory that clients map, the NPU addresses, and jobs and handles keep alive."""
from __future__ import annotations

import errno
import fcntl
import mmap
import os
from typing import Protocol

import cffi
import numpy as np

from cermet.kmd.errors import DeviceError
from cermet.kmd.fence import Fence

PAGE_BYTES = 4096
# fcntl and seals that Python 3.11 does not all name.
F_SETLEASE, F_ADD_SEALS = 1024, 1033
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW = 1, 2, 4


def round_to_pages(num_bytes: int) -> int:
    return -(-num_bytes // PAGE_BYTES) * PAGE_BYTES


def make_memory(num_bytes: int) -> int:
    """Fd of zeroed shared memory whose length nobody can change: a client that could would kill the driver."""
    fd = os.memfd_create("cermet-bo", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, num_bytes)
        fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


_ffi = cffi.FFI()
_ffi.cdef("""
void *mmap(void *address, size_t bytes, int protection, int flags, int fd, int64_t offset);
int munmap(void *address, size_t bytes);
""")
_libc = _ffi.dlopen(None)


def map_memory(fd: int, num_bytes: int) -> np.ndarray:
    """The memory as bytes; unmapped when the last view of it is gone. Python's own mmap would keep another fd."""
    address = _libc.mmap(_ffi.NULL, num_bytes, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    if int(_ffi.cast("intptr_t", address)) == -1:
        raise OSError(_ffi.errno, os.strerror(_ffi.errno))
    owned = _ffi.gc(address, lambda pointer: _libc.munmap(pointer, num_bytes), size=0)
    return np.frombuffer(_ffi.buffer(owned, num_bytes), np.uint8)


class BoOwner(Protocol):
    """Who is told when a BO changes hands: the file that made it."""

    def free_bo(self, bo: Bo) -> None:
        """Nothing refers to it any more."""

    def orphan_bo(self, bo: Bo) -> None:
        """Only mappings or exports in other processes refer to it."""


class Bo:
    """One buffer. Its memory, address and NPU mapping live until nothing refers to it: handle, job, mapping or export.

    Clients get the memory through an open file description of its own (open_again). The kernel counts these, and
    has_outside_references asks for the count: so mappings and exported fds are seen wherever they have been passed to.

    array is what the NPU sees. With has_caches it is another copy than what the CPU maps, until one of sync_for_cpu
    and sync_for_device carries the bytes over: all caches as lazy as they may be.
    """

    def __init__(self, size_bytes: int, owner: BoOwner, has_caches: bool = False) -> None:
        self.size_bytes = size_bytes
        self.mapped_bytes = round_to_pages(size_bytes)
        self.dma_address = 0
        self.offset = 0
        self.was_shared = False
        self.was_exported = False       # as a dma-buf; mappings alone keep their file alive
        self.is_freed = False
        self.references = 0
        self.waits = 0                  # calls that wait for it; each has a reference too
        self.write_fences: list[Fence] = []
        self.read_fences: list[Fence] = []
        self.write_error = 0            # of the last job that was to write it
        self.flink_name = 0
        self.owner = owner
        try:
            memory = make_memory(self.mapped_bytes)
            try:
                self._fd = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY | os.O_CLOEXEC)
                self._cpu_array: np.ndarray | None = map_memory(memory, self.mapped_bytes)
            finally:
                os.close(memory)
        except OSError as error:
            raise DeviceError(errno.ENOMEM, f"{size_bytes} bytes: {error.strerror}") from None
        self.array: np.ndarray | None = self._cpu_array
        if has_caches:
            self.array = np.zeros(self.mapped_bytes, np.uint8)
        self.inode = os.fstat(self._fd).st_ino

    def open_again(self) -> int:
        """An fd of the memory for a client."""
        self.was_shared = True
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)

    def is_this(self, status: os.stat_result) -> bool:
        mine = os.fstat(self._fd)
        return (status.st_dev, status.st_ino) == (mine.st_dev, mine.st_ino)

    def has_outside_references(self) -> bool:
        """Whether any process still maps the memory or holds an fd of it: a read lease needs that nobody can write.

        The driver's own mapping does not count, as memfd_create() makes its file without opening it.
        """
        if not self.was_shared:
            return False
        try:
            fcntl.fcntl(self._fd, F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(self._fd, F_SETLEASE, fcntl.F_UNLCK)
        except OSError:
            return True     # also where leases are not there: then a shared BO lives as long as the driver
        return False

    def pending_fences(self, reads: bool = False) -> list[Fence]:
        """The write fences, with `reads` also the read fences, that have not signalled; forgets the others."""
        if self.write_fences:
            self.write_fences = [fence for fence in self.write_fences if not fence.is_signalled]
        if self.read_fences:
            self.read_fences = [fence for fence in self.read_fences if not fence.is_signalled]
        return self.write_fences + self.read_fences if reads else self.write_fences

    def sync_for_cpu(self) -> None:
        """Invalidate the CPU's cache lines, all of them: what the CPU wrote and nobody cleaned is lost."""
        if self.array is not self._cpu_array and self.array is not None and self._cpu_array is not None:
            self._cpu_array[:] = self.array

    def sync_for_device(self) -> None:
        """Clean the CPU's cache lines, all of them: also over what the NPU wrote meanwhile."""
        if self.array is not self._cpu_array and self.array is not None and self._cpu_array is not None:
            self.array[:] = self._cpu_array

    def get(self) -> None:
        self.references += 1

    def put(self) -> None:
        """Drop one reference; the last one frees unless somebody outside still has the memory."""
        self.references -= 1
        if not self.free_if_unused() and not self.references:
            self.owner.orphan_bo(self)

    def free_if_unused(self) -> bool:
        """Whether it is gone."""
        if self.is_freed or self.references or self.has_outside_references():
            return self.is_freed
        self.owner.free_bo(self)
        self.discard()
        return True

    def discard(self) -> None:
        """Let go of the memory. The mapping goes with the last view of it: a core may be reading right now."""
        self.is_freed = True
        self.array = self._cpu_array = None
        os.close(self._fd)
