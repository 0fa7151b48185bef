"""The common DRM layer: which handler, what is copied in and out, which errors come before any driver code."""
from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cermet.kmd import uapi
from cermet.kmd.errors import DeviceError
from cermet.kmd.fence import Fence
from cermet.kmd.file import File
from cermet.kmd.user_memory import UserMemory

if TYPE_CHECKING:
    from cermet.kmd.protocol import Request

DRM_LETTER = uapi.CONSTANTS["DRM_IOCTL_BASE"]
MAX_FORMS = 1024        # remembered; a stranger's numbers are many


class Needs(enum.Enum):
    """Permission that the common layer asks for."""

    NOTHING = enum.auto()
    AUTH = enum.auto()      # CAP_SYS_ADMIN at open: this node has no other way to authenticate
    MASTER = enum.auto()    # nobody is master of an accel node


@dataclass(slots=True)
class Call:
    """One ioctl in progress. Handlers read and write `data`, the kernel's copy of the argument, which is `buffer`."""

    file: File
    memory: UserMemory
    argument: int
    buffer: bytearray
    num_out: int                # bytes that are copied out, whether the handler succeeds or not
    data: Any = None
    fd: int = -1                # goes to the caller with the reply
    fd_offset: int = 0          # in the argument, where its number belongs
    fd_flags: int = 0
    later: Blocking | Waiting | None = None
    is_abandoned: Callable[[], bool] = lambda: False    # of one that waits: whether the caller does no longer
    value: int = 0
    error: int = 0
    reason: str = ""

    def give_fd(self, fd: int, member: str, flags: int) -> None:
        """Install an fd in the caller; its number is stored in this member of the argument."""
        self.fd = fd
        self.fd_offset = uapi.ffi.offsetof(uapi.ffi.typeof(self.data).item, member)
        self.fd_flags = flags

    def step(self, function: Callable[..., int | Blocking | Waiting | None], *arguments: Any) -> None:
        """Its handler, or the part of it that waits."""
        self.later = None
        try:
            result = function(*arguments)
        except DeviceError as error:
            self.error, self.reason = error.errno, error.reason
            return
        if isinstance(result, (Blocking, Waiting)):
            self.later = result
        else:
            self.value = result or 0

    def copy_out(self) -> None:
        if not self.num_out or self.is_abandoned():     # who no longer waits may use the memory for other things
            return
        try:
            self.memory.write(self.argument, bytes(self.buffer[:self.num_out]))
        except DeviceError as error:
            self.error, self.reason = error.errno, error.reason

    def close_fd(self) -> None:
        """The caller does not get it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(frozen=True, slots=True)
class Blocking:
    """What a handler returns to go on in a thread of its own, where it may wait; signals interrupt the caller then.

    Exactly one of both is called: function waits, abandon lets go of what the handler took for it.
    """

    function: Callable[[], int | None]
    abandon: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a handler returns to go on when fences have signalled or a deadline has come; signals interrupt the caller.

    Exactly one of both is called: end, under the device's lock, with whether all had signalled in time; or abandon.
    No thread is started for it, so only ioctls that copy nothing out may wait so: the caller's memory may block.
    """

    fences: Sequence[Fence]
    deadline_ns: int
    end: Callable[[bool], None]
    abandon: Callable[[], None]


Handler = Callable[[Call, Any], "int | Blocking | Waiting | None"]


@dataclass(frozen=True)
class Ioctl:
    """One entry of the table."""

    number: uapi.Number
    struct: str | None
    handler: Handler
    needs: Needs = Needs.NOTHING


@dataclass(frozen=True, slots=True)
class Form:
    """What an ioctl number says: handler, bytes copied in and out, bytes of the kernel's copy, its type for cffi."""

    entry: Ioctl
    num_in: int
    num_out: int
    num_bytes: int
    pointer: Any


@dataclass
class IoctlTable:
    """Handlers by the low 8 bits of the number: only these and the letter select one."""

    entries: dict[int, Ioctl] = field(default_factory=dict)
    _forms: dict[int, Form] = field(default_factory=dict)       # of the numbers that were asked for

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

    def form(self, request: int) -> Form:
        """Only the parts of a number that its entry has too are copied."""
        found = self._forms.get(request)
        if found is None:
            if len(self._forms) >= MAX_FORMS:
                self._forms.clear()
            found = self._forms[request] = self._make_form(uapi.Number.parse(request))
        return found

    def _make_form(self, number: uapi.Number) -> Form:
        entry = self.find(number)
        common = number.direction & entry.number.direction
        num_in = number.size if common & uapi.IOC_WRITE else 0
        num_out = number.size if common & uapi.IOC_READ else 0
        pointer = uapi.ffi.typeof(f"{entry.struct} *") if entry.struct else None
        return Form(entry, num_in, num_out, max(num_in, num_out, entry.number.size, 1), pointer)

    def begin(self, file: File, memory: UserMemory, request: Request) -> Call:
        """Check, copy in and call the handler. Raises DeviceError for what is refused before the handler."""
        form = self.form(request.request & 0xFFFF_FFFF)
        check_permission(form.entry.needs, file)
        buffer = bytearray(form.num_bytes)
        if form.num_in <= len(request.inlined):
            buffer[:form.num_in] = request.inlined[:form.num_in]
        else:
            buffer[:form.num_in] = memory.read(request.argument, form.num_in)
        call = Call(file, memory, request.argument, buffer, form.num_out)
        if form.pointer:
            call.data = uapi.ffi.from_buffer(form.pointer, buffer)
        call.step(form.entry.handler, call, call.data)
        return call


def check_permission(needs: Needs, file: File) -> None:
    if needs is Needs.MASTER or needs is Needs.AUTH and not file.is_admin:
        raise DeviceError(errno.EACCES, f"needs {needs.name}")
