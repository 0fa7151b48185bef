"""copy_from_user and copy_to_user: another process' memory, read and written by the addresses that it gives."""
from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from itertools import accumulate
from typing import NoReturn

import cffi
import numpy as np

from cermet.kmd.errors import DeviceError

MAX_RANGES = 1024       # UIO_MAXIOV: ranges that one system call takes
ADDRESS_BITS = 64

_ffi = cffi.FFI()
_ffi.cdef("""
struct iovec { uint64_t iov_base; size_t iov_len; };
ssize_t process_vm_readv(int pid, struct iovec *local, unsigned long num_local,
                         struct iovec *remote, unsigned long num_remote, unsigned long flags);
ssize_t process_vm_writev(int pid, struct iovec *local, unsigned long num_local,
                          struct iovec *remote, unsigned long num_remote, unsigned long flags);
""")
_libc = _ffi.dlopen(None)
IOVEC, IOVECS = _ffi.typeof("struct iovec *"), _ffi.typeof("struct iovec[2]")


def _address(buffer: object) -> int:
    return int(_ffi.cast("uintptr_t", _ffi.from_buffer(buffer)))


class UserMemory:
    """The memory of one process. Every failure is EFAULT: bad addresses, and processes that may not be looked into."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def _copy(self, function: object, local: object, num_bytes: int, remote: object, num_ranges: int) -> None:
        mine = _ffi.new(IOVEC, (_address(local), num_bytes))
        if function(self.pid, mine, 1, remote, num_ranges, 0) != num_bytes:     # type: ignore[operator]
            self._fail(num_bytes)

    def _fail(self, num_bytes: int) -> NoReturn:
        number = _ffi.errno
        if number in (errno.EPERM, errno.ENOSYS):
            reason = os.strerror(number)
            raise DeviceError(errno.EFAULT, f"process {self.pid}: its memory may not be accessed ({reason})")
        raise DeviceError(errno.EFAULT, f"process {self.pid}: {num_bytes} bytes are not all accessible")

    def read_into(self, buffer: object, address: int, num_bytes: int) -> None:
        """The first num_bytes of buffer."""
        if num_bytes:
            both = _ffi.new(IOVECS, ((_address(buffer), num_bytes), (address, num_bytes)))
            if _libc.process_vm_readv(self.pid, both, 1, both + 1, 1, 0) != num_bytes:
                self._fail(num_bytes)

    def read(self, address: int, num_bytes: int) -> bytes:
        buffer = bytearray(num_bytes)
        self.read_into(buffer, address, num_bytes)
        return bytes(buffer)

    def read_parts(self, parts: Sequence[tuple[int, int]]) -> list[bytes]:
        """(address, bytes) each, at most MAX_RANGES, by one system call."""
        num_bytes = sum(size for _, size in parts)
        buffer = bytearray(num_bytes)
        if num_bytes:
            self._copy(_libc.process_vm_readv, buffer, num_bytes, _ffi.new("struct iovec[]", list(parts)), len(parts))
        ends = list(accumulate(size for _, size in parts))
        return [bytes(buffer[end - size:end]) for end, (_, size) in zip(ends, parts, strict=True)]

    def write(self, address: int, data: bytes | bytearray) -> None:
        if data:
            self._copy(_libc.process_vm_writev, data, len(data), _ffi.new(IOVEC, (address, len(data))), 1)

    def read_elements(self, address: int, count: int, stride: int, size: int, wraps: bool = False) -> np.ndarray:
        """(count, size) uint8: elements of an array whose stride the caller chose.

        wraps: index * stride is computed in 32 bits, so that offsets wrap at 4 GiB.
        """
        elements = np.empty((count, size), np.uint8)
        if stride == size and count * size < 1 << 32:
            self.read_into(elements, address, count * size)
            return elements
        mask = 0xFFFF_FFFF if wraps else 0xFFFF_FFFF_FFFF_FFFF
        offsets = (np.arange(count, dtype=np.uint64) * np.uint64(stride)) & np.uint64(mask)
        for first in range(0, count, MAX_RANGES):
            chosen = offsets[first:first + MAX_RANGES]
            ranges = _ffi.new("struct iovec[]", [((address + int(o)) & (1 << ADDRESS_BITS) - 1, size) for o in chosen])
            self._copy(_libc.process_vm_readv, elements[first:first + MAX_RANGES], len(chosen) * size, ranges,
                       len(chosen))
        return elements


# --- files of the caller ----------------------------------------------------------------------------------------------

SYS_PIDFD_GETFD = 438       # the same number on every architecture
_syscall = ctypes.CDLL(None, use_errno=True).syscall


def take_fd(pid: int, fd: int) -> int:
    """This process' own copy of another process' fd; EBADF when it has none of that number."""
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        raise DeviceError(errno.EBADF, f"process {pid}: {error.strerror}") from None
    try:
        copy = _syscall(SYS_PIDFD_GETFD, process, ctypes.c_int(fd), 0)
    finally:
        os.close(process)
    if copy < 0:
        raise DeviceError(errno.EBADF, f"process {pid} fd {fd}: {os.strerror(ctypes.get_errno())}")
    return int(copy)
