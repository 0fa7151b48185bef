"""copy_from_user and copy_to_user: another process' memory, read and written by the addresses that it gives."""
from __future__ import annotations

import ctypes
import errno
import os
from typing import NoReturn

import numpy as np

from cermet.kmd.errors import DeviceError
from cermet.kmd.library import ffi, lib

BYTES = ffi.typeof("uint8_t[]")


class UserMemory:
    """The memory of one process. Every failure is EFAULT: bad addresses, and processes that may not be looked into."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def _fail(self, number: int, num_bytes: int) -> NoReturn:
        if number in (errno.EPERM, errno.ENOSYS):
            reason = os.strerror(number)
            raise DeviceError(errno.EFAULT, f"process {self.pid}: its memory may not be accessed ({reason})")
        raise DeviceError(errno.EFAULT, f"process {self.pid}: {num_bytes} bytes are not all accessible")

    def read(self, address: int, num_bytes: int) -> bytes:
        buffer = ffi.new(BYTES, num_bytes)
        if error := lib.cermet_user_read(self.pid, buffer, address, num_bytes):
            self._fail(error, num_bytes)
        return bytes(ffi.buffer(buffer))

    def write(self, address: int, data: bytes) -> None:
        if error := lib.cermet_user_write(self.pid, address, data, len(data)):
            self._fail(error, len(data))

    def read_elements(self, address: int, count: int, stride: int, size: int, wraps: bool = False) -> np.ndarray:
        """(count, size) uint8: elements of an array whose stride the caller chose.

        wraps: index * stride is computed in 32 bits, so that offsets wrap at 4 GiB.
        """
        elements = np.empty((count, size), np.uint8)
        mask = 0xFFFF_FFFF if wraps else 0xFFFF_FFFF_FFFF_FFFF
        if error := lib.cermet_user_read_elements(self.pid, ffi.from_buffer(BYTES, elements), address, count, stride,
                                                  size, mask):
            self._fail(error, count * size)
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
