"""What a World needs from outside: an open file, memory of a BO, and memory of the caller for arguments."""
from __future__ import annotations

import ctypes
import mmap
from typing import Protocol

PAGE = 4096
ARENA_BYTES = 1 << 18
LASTING_BYTES = 64


class Broken(Exception):
    """The driver did what it must not."""


class Memory(Protocol):
    """Mapped memory of a BO."""

    num_bytes: int

    def write(self, offset: int, data: bytes) -> None: ...
    def drop(self) -> None: ...


class Port(Protocol):
    """An open file. Both calls return an errno; ioctl None when the answer comes later."""

    def ioctl(self, request: int, argument: int) -> int | None: ...
    def mmap(self, num_bytes: int, protection: int, flags: int, offset: int) -> tuple[int, Memory | None]: ...
    def close(self) -> None: ...


class Arena:
    """The caller's memory: arguments lie here, also right before a page that nobody may touch."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2 * ARENA_BYTES + PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._keep = ctypes.c_char.from_buffer(self._memory)
        self.start = ctypes.addressof(self._keep) + ARENA_BYTES
        self.end = self.start + ARENA_BYTES
        self._used = 0
        self._next_lasting = 0
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        assert protect(ctypes.c_void_p(self.end), ctypes.c_size_t(PAGE), 0) == 0

    def restart(self) -> None:
        self._used = 0

    def put_lasting(self, data: bytes) -> int:
        """For a call that may wait: its answer comes when others have long used the rest. A ring."""
        self._next_lasting = (self._next_lasting + LASTING_BYTES) % ARENA_BYTES
        address = self.end - 2 * ARENA_BYTES + self._next_lasting
        ctypes.memmove(address, data, len(data))
        return address

    def put(self, data: bytes, *, at_end: bool = False) -> int:
        address = self.end - len(data) & ~7 if at_end else self.start + self._used
        if not at_end:
            self._used += len(data) + 7 & ~7
            assert self._used < ARENA_BYTES - PAGE
        ctypes.memmove(address, data, len(data))
        return address
