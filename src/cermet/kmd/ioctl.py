"""The common DRM layer: which handler, what is copied in and out, which errors come before any driver code."""
from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cermet.kmd import uapi
from cermet.kmd.errors import DeviceError
from cermet.kmd.file import File
from cermet.kmd.user_memory import UserMemory

DRM_LETTER = uapi.CONSTANTS["DRM_IOCTL_BASE"]


class Needs(enum.Enum):
    """Permission that the common layer asks for."""

    NOTHING = enum.auto()
    AUTH = enum.auto()      # CAP_SYS_ADMIN at open: this node has no other way to authenticate
    MASTER = enum.auto()    # nobody is master of an accel node


@dataclass
class Call:
    """One ioctl in progress. Handlers read and write `data`, the kernel's copy of the argument."""

    file: File
    memory: UserMemory
    argument: int
    data: Any = None
    fd: int = -1                # goes to the caller with the reply
    fd_offset: int = 0          # in the argument, where its number belongs
    fd_flags: int = 0

    def give_fd(self, fd: int, member: str, flags: int) -> None:
        """Install an fd in the caller; its number is stored in this member of the argument."""
        self.fd = fd
        self.fd_offset = uapi.ffi.offsetof(uapi.ffi.typeof(self.data).item, member)
        self.fd_flags = flags


@dataclass(frozen=True)
class Blocking:
    """What a handler returns to go on in a thread of its own, where it may wait; signals interrupt the caller then.

    Exactly one of both is called: function waits, abandon lets go of what the handler took for it.
    """

    function: Callable[[], int | None]
    abandon: Callable[[], None] = lambda: None


Handler = Callable[[Call, Any], "int | Blocking | None"]


@dataclass(frozen=True)
class Ioctl:
    """One entry of the table."""

    number: uapi.Number
    struct: str | None
    handler: Handler
    needs: Needs = Needs.NOTHING


@dataclass(frozen=True)
class Pending:
    """A call between copying in and copying out."""

    call: Call
    buffer: bytearray
    num_out: int
    blocking: Blocking | None = None
    value: int = 0
    error: int = 0
    reason: str = ""


@dataclass
class IoctlTable:
    """Handlers by the low 8 bits of the number: only these and the letter select one."""

    entries: dict[int, Ioctl] = field(default_factory=dict)

    def add(self, name: str, handler: Handler, needs: Needs = Needs.NOTHING) -> None:
        """An ioctl that the headers declare."""
        number, struct = uapi.IOCTLS[name]
        self.entries[number.index] = Ioctl(number, struct, handler, needs)

    def add_plain(self, index: int, handler: Handler, direction: int = 0, num_bytes: int = 0) -> None:
        """An ioctl whose argument the handler does not look at."""
        self.entries[index] = Ioctl(uapi.Number(direction, num_bytes, DRM_LETTER, index), None, handler)

    def refuse(self, indices: Iterable[int], error: int, reason: str, needs: Needs = Needs.NOTHING) -> None:
        """Core ioctls that exist but always fail on this node. They never look at their argument."""
        def handler(call: Call, data: Any) -> None:
            raise DeviceError(error, reason)
        for index in indices:
            self.entries[index] = Ioctl(uapi.Number(0, 0, DRM_LETTER, index), None, handler, needs)

    def find(self, number: uapi.Number) -> Ioctl:
        if number.letter != DRM_LETTER:
            raise DeviceError(errno.ENOTTY, f"ioctl letter {number.letter:#x}")
        entry = self.entries.get(number.index)
        if entry is None:
            raise DeviceError(errno.EINVAL, f"ioctl {number.index:#x}: no handler")
        return entry

    def begin(self, file: File, memory: UserMemory, request: int, argument: int) -> Pending:
        """Check, copy in and call the handler. Raises DeviceError for what is refused before the handler."""
        number = uapi.Number.parse(request)
        entry = self.find(number)
        check_permission(entry.needs, file)
        common = number.direction & entry.number.direction
        num_in = number.size if common & uapi.IOC_WRITE else 0
        num_out = number.size if common & uapi.IOC_READ else 0
        buffer = bytearray(max(num_in, num_out, entry.number.size, 1))
        if num_in:
            buffer[:num_in] = memory.read(argument, num_in)
        call = Call(file, memory, argument)
        if entry.struct:
            call.data = uapi.ffi.from_buffer(f"{entry.struct} *", buffer)
        return run_step(Pending(call, buffer, num_out), lambda: entry.handler(call, call.data))


def run_step(pending: Pending, function: Callable[[], int | Blocking | None]) -> Pending:
    """The call after one more step: its handler, or the part of it that waits."""
    try:
        result = function()
    except DeviceError as error:
        return Pending(pending.call, pending.buffer, pending.num_out, None, 0, error.errno, error.reason)
    if isinstance(result, Blocking):
        return Pending(pending.call, pending.buffer, pending.num_out, result)
    return Pending(pending.call, pending.buffer, pending.num_out, None, result or 0)


def copy_out(pending: Pending) -> tuple[int, str]:
    """(error, reason) of the whole call: what is copied is copied whether the handler succeeded or not."""
    try:
        pending.call.memory.write(pending.call.argument, pending.buffer[:pending.num_out])
    except DeviceError as error:
        return error.errno, error.reason
    return pending.error, pending.reason


def check_permission(needs: Needs, file: File) -> None:
    if needs is Needs.MASTER or needs is Needs.AUTH and not file.is_admin:
        raise DeviceError(errno.EACCES, f"needs {needs.name}")


def close_fd(call: Call) -> None:
    """The caller does not get it."""
    if call.fd >= 0:
        os.close(call.fd)
        call.fd = -1
