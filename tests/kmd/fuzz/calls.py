"""What all calls have in common: the open files, arguments in the arena, and what must hold for each answer.

Calls is the base of a World (world.py), which has a method for each call.
"""
from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cermet.kmd import uapi
from tests.kmd.fuzz.arena import Arena, Broken, Memory, Port
from tests.kmd.fuzz.choices import Choices, Step

HUGE_BYTES = 1 << 28
WRONG_POINTERS = (0, 1, 0x7FFF_FFFF_F000, 1 << 63, 0xFFFF_8000_0000_0000, (1 << 64) - 8)
# What each call may answer; EFAULT also where an argument was put at a wrong address on purpose.
ANSWERS: dict[str, set[int]] = {
    "open": {0, errno.EBUSY}, "close": {0}, "dup": {0}, "child": {0}, "write": {0}, "unmap": {0}, "drop_fd": {0},
    "create": {0, errno.ENOSPC, errno.EINVAL, errno.ENOMEM}, "destroy": {0, errno.EINVAL},
    "map": {0, errno.EINVAL, errno.EACCES}, "prep": {0, errno.EINVAL, errno.ENOENT, errno.EBUSY, errno.ETIMEDOUT,
                                                     errno.EIO, errno.ENOMEM},
    "work": {0, errno.EBUSY, errno.ETIMEDOUT, errno.EIO, errno.ENOMEM},
    "fini": {0, errno.EINVAL, errno.ENOENT}, "export": {0, errno.EINVAL, errno.ENOENT},
    "submit": {0, errno.EINVAL, errno.ENOENT, errno.EALREADY, errno.ENOMEM},
    "import_": {0, errno.EINVAL, errno.EBADF}, "flink": {0, errno.ENOENT, errno.EACCES},
    "open_name": {0, errno.ENOENT, errno.EACCES}, "ask": {0, errno.EINVAL, errno.EOPNOTSUPP, errno.EFAULT},
    "raw": {0, errno.EINVAL, errno.ENOTTY, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOENT, errno.EBADF,
            errno.ENOSPC, errno.ENOMEM, errno.EBUSY, errno.ETIMEDOUT, errno.EIO, errno.EALREADY}}


@dataclass
class Made:
    """A BO as CREATE_BO described it."""

    size: int
    address: int
    offset: int


@dataclass
class OpenFile:
    """handles: all that the file has, as long as `is_known`; None: what GEM_OPEN and imports gave."""

    port: Port
    handles: dict[int, Made | None] = field(default_factory=dict)
    memories: list[Memory] = field(default_factory=list)
    is_known: bool = True

    def made(self) -> list[Made]:
        return [made for made in self.handles.values() if made is not None]


class Calls:
    """Files, exported fds and names of one sequence. `open_port` opens the device: a port, or an errno."""

    def __init__(self, open_port: Callable[[int], Port | int]) -> None:
        self.open_port = open_port
        self.arena = Arena()
        self.files: dict[int, OpenFile] = {}
        self.fds: list[int] = []
        self.names: list[int] = []
        self.live_bytes = 0
        self.num_calls = 0
        self.answers: list[tuple[str, int | None]] = []
        reader, writer = os.pipe()
        self.foreign = [reader, writer, os.memfd_create("foreign")]

    def carry_out(self, steps: Iterable[Step]) -> None:
        """Raises Broken at the first answer that must not be."""
        for step in steps:
            file = self.files.get(step.slot)
            if file is None and step.name != "open":
                continue
            self.arena.restart()
            self._was_spoilt = False
            answer = getattr(self, step.name)(step.slot if step.name in ("open", "close") else file,
                                              Choices(step.numbers))
            self.num_calls += 1
            self.answers.append((step.name, answer))
            allowed = ANSWERS[step.name] | ({errno.EFAULT} if self._was_spoilt or step.name == "raw" else set())
            if answer is not None and answer not in allowed:
                raise Broken(f"{step.name} answered {errno.errorcode.get(answer, answer)}")

    def finish(self) -> None:
        """Let go of everything."""
        for file in self.files.values():
            for memory in file.memories:
                memory.drop()
        for fd in self.fds:
            os.close(fd)
        for file in self.files.values():
            file.port.close()
        self.files, self.fds, self.names, self.live_bytes = {}, [], [], 0

    def spoil(self) -> None:
        """This call is wrong on purpose in a way that nothing is expected of its answer."""
        self._was_spoilt = True

    def place(self, data: bytes, c: Choices) -> int:
        """Address of these bytes; rarely one where they are not."""
        if c.one_in(40):
            self.spoil()
            return c.of((*WRONG_POINTERS, self.arena.end, self.arena.end - 4))
        return self.arena.put(data, at_end=c.one_in(4))

    def call(self, file: OpenFile, name: str, c: Choices, /, **members: Any) -> tuple[int | None, Any]:
        """(errno, struct afterwards) of an ioctl of the headers; rarely with another size or direction."""
        number, struct_name = uapi.IOCTLS[f"DRM_IOCTL_{name}"]
        data = uapi.ffi.new(f"{struct_name} *", members)
        request = number.value
        may_spoil = members.get("size", 0) <= HUGE_BYTES       # else nobody could close it again
        if may_spoil and c.one_in(40):
            self.spoil()
            size = c.of((0, 4, 8, number.size + 8, number.size - 8, 16_380))
            request = number.value & ~(0x3FFF << 16) | (size & 0x3FFF) << 16
        if may_spoil and c.one_in(60):
            self.spoil()
            request = request & ~(3 << 30) | c.below(4) << 30
        raw = bytes(uapi.ffi.buffer(data))
        address = self.place(raw + bytes(16), c) if may_spoil else self.arena.put(raw)
        answer = file.port.ioctl(request, address)
        if self.arena.start <= address <= self.arena.end - len(raw):
            uapi.ffi.memmove(data, uapi.ffi.cast("void *", address), len(raw))
        if self._was_spoilt and name in ("ROCKET_CREATE_BO", "PRIME_FD_TO_HANDLE", "GEM_OPEN"):
            file.is_known = False       # perhaps it made a handle and nobody was told
        return answer, data

    def plain(self, file: OpenFile, name: str, data: Any) -> int | None:
        """An ioctl with nothing wrong; data is the struct before and after."""
        num_bytes = uapi.ffi.sizeof(uapi.ffi.typeof(data).item)
        put = self.arena.put_lasting if name.endswith("WAIT") else self.arena.put
        address = put(bytes(uapi.ffi.buffer(data)))
        answer = file.port.ioctl(uapi.number(f"DRM_IOCTL_{name}"), address)
        self.num_calls += 1
        uapi.ffi.memmove(data, uapi.ffi.cast("void *", address), num_bytes)
        return answer

    def open(self, slot: int, c: Choices) -> int:
        if slot in self.files:
            if not c.one_in(8):
                return 0
            self.close(slot, c)
        port = self.open_port(os.O_RDWR | (os.O_EXCL if c.one_in(30) else 0))
        if isinstance(port, int):
            return port
        self.files[slot] = OpenFile(port)
        return 0

    def close(self, slot: int, c: Choices) -> int:
        """With mappings and exports left or not."""
        file = self.files.pop(slot)
        if c.one_in(2):
            for memory in file.memories:
                memory.drop()
        else:
            rest = next(iter(self.files.values()), None)
            for memory in file.memories:
                rest.memories.append(memory) if rest is not None else memory.drop()
        file.port.close()
        return 0

    def handle(self, file: OpenFile, c: Choices) -> int:
        """Mostly one that the file has."""
        if file.handles and not c.one_in(6):
            return c.of(list(file.handles))
        others = [handle for other in self.files.values() for handle in other.handles]
        return c.of([0, len(file.handles) + 1, 0xFFFF_FFFF, c.word(), *others])

    def expect(self, file: OpenFile, handle: int, answer: int | None, unknown: int, what: str) -> None:
        """A handle is either the file's or unknown."""
        if not file.is_known or self._was_spoilt or answer is None or answer == errno.EINVAL != unknown:
            return
        if (answer == unknown) != (handle not in file.handles):
            raise Broken(f"{what} of handle {handle} answered {answer}, the file's are {sorted(file.handles)}")
