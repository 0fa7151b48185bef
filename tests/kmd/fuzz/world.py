"""Calls of several files at once, right, nearly right and wild, and what must hold for each answer.

A World carries out steps (choices.py) through ports: the driver in this process (local.py) or behind its socket
(remote.py). It knows which handles each file must have by now, so that answers about handles are checked exactly.
"""
from __future__ import annotations

import errno
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cermet.kmd import uapi
from tests.kmd.fuzz.arena import PAGE, Arena, Broken, Memory, Port
from tests.kmd.fuzz.choices import Choices, Step
from tests.kmd.fuzz.core import HANGING, SLEEPING

FOREVER = (1 << 63) - 1
MAX_LIVE_BYTES = 32 << 20       # of all files, so that a long sequence does not fill the machine
HUGE_BYTES = 1 << 28
MAX_JOBS = 60                   # of one submit that is right
CREATED_SIZES = (PAGE, 1, PAGE, 4095, 4097, 3 * PAGE, 64 << 10, 1 << 20, PAGE)
WILD_SIZES = (0, 0x7FFF_F001, 0x8000_0000, 0xFFFF_FFFF)
STRIDES = (0, 1, 7, 39, 41, 48, 4096, 4097, 0x8000_0000, 0xFFFF_FFFF)
COUNTS = (0, 2, 1000, 65_536, 65_537, 1 << 20, 0x7FFF_FFFF, 0xFFFF_FFFF)
REGCMD_COUNTS = (2, 2, 2, 1, 4, 512, 131_073, 0xFFFF_FFFF)
WRONG_POINTERS = (0, 1, 0x7FFF_FFFF_F000, 1 << 63, 0xFFFF_8000_0000_0000, (1 << 64) - 8)
# How often each call is drawn.
WEIGHTS = {"open": 2, "close": 1, "create": 12, "destroy": 5, "map": 6, "write": 10, "unmap": 4, "prep": 10, "fini": 6,
           "submit": 18, "work": 8, "export": 4, "drop_fd": 3, "import_": 4, "flink": 2, "open_name": 2, "ask": 3,
           "raw": 4}
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


class World:
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

    # --- running ---

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

    # --- files ---

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

    # --- buffers ---

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

    def create(self, file: OpenFile, c: Choices) -> int | None:
        size = c.of(WILD_SIZES) if c.one_in(12) else c.of(CREATED_SIZES)
        if size < HUGE_BYTES and self.live_bytes + size > MAX_LIVE_BYTES:
            size = 1
        answer, bo = self.call(file, "ROCKET_CREATE_BO", c, size=size)
        if answer == 0 and not self._was_spoilt:
            self._check_new(file, bo)
            if size > HUGE_BYTES:       # nobody shall touch all of it
                return file.port.ioctl(uapi.number("DRM_IOCTL_GEM_CLOSE"),
                                       self.arena.put(struct.pack("<2I", bo.handle, 0)))
            self.live_bytes += size
            file.handles[bo.handle] = Made(size, bo.dma_address, bo.offset)
        return answer

    def _check_new(self, file: OpenFile, bo: Any) -> None:
        end = bo.dma_address + bo.size
        if bo.dma_address % PAGE or bo.offset % PAGE or end > 1 << 32:
            raise Broken(f"BO of {bo.size} bytes at {bo.dma_address:#x}, offset {bo.offset:#x}")
        if not all(each.is_known for each in self.files.values()):
            return
        for other in file.made():
            if bo.dma_address < other.address + other.size and other.address < end:
                raise Broken(f"BO of {bo.size} bytes at {bo.dma_address:#x} overlaps the one at {other.address:#x}")
        if any(bo.offset == made.offset for each in self.files.values() for made in each.made()):
            raise Broken(f"offset {bo.offset:#x} twice")
        if bo.handle != next(n for n in range(1, 1 << 31) if n not in file.handles):
            raise Broken(f"handle {bo.handle} is not the lowest free one")

    def destroy(self, file: OpenFile, c: Choices) -> int | None:
        handle = self.handle(file, c)
        answer, _ = self.call(file, "GEM_CLOSE", c, handle=handle)
        self.expect(file, handle, answer, errno.EINVAL, "GEM_CLOSE")
        if answer == 0:
            made = file.handles.pop(handle, None)
            self.live_bytes -= made.size if made else 0
        return answer

    def map(self, file: OpenFile, c: Choices) -> int:
        known = [made for each in self.files.values() for made in each.made()]
        mine = file.made()
        made = c.of(mine) if mine and not c.one_in(8) else c.of(known or [Made(PAGE, 0, c.word() << 12)])
        num_bytes = min(-(-made.size // PAGE) * PAGE, 1 << 20)
        offset = made.offset
        if c.one_in(10):
            num_bytes = c.of((0, 1, num_bytes + 1, num_bytes + PAGE, 1 << 40))
        if c.one_in(15):
            offset = c.of((0, offset + PAGE, offset + 1, offset - PAGE, c.word()))
        flags = mmap.MAP_PRIVATE if c.one_in(20) else mmap.MAP_SHARED
        answer, memory = file.port.mmap(num_bytes, mmap.PROT_READ | mmap.PROT_WRITE, flags, offset)
        if memory is not None:
            file.memories.append(memory)
        return answer

    def write(self, file: OpenFile, c: Choices) -> int:
        """A program of the core, most of the time, for addresses of this file."""
        if file.memories:
            memory = c.of(file.memories)
            words = (c.word(), self.address(file, c), self.address(file, c), c.word())
            memory.write(c.of((0, 0, 0, 16, 4080)) % max(1, memory.num_bytes - 15), struct.pack("<4I", *words))
        return 0

    def unmap(self, file: OpenFile, c: Choices) -> int:
        if file.memories:
            file.memories.pop(c.below(len(file.memories))).drop()
        return 0

    def address(self, file: OpenFile, c: Choices) -> int:
        """Of the NPU: in one of the file's buffers, or wild."""
        made = file.made()
        if made and not c.one_in(8):
            return (c.of(made).address + c.of((0, 0, 0, 16, 4080, PAGE))) & 0xFFFF_FFFF
        return c.of((0, 0xFFFF_F000, 0xFFFF_FFF8, c.word()))

    # --- jobs ---

    def prep(self, file: OpenFile, c: Choices) -> int | None:
        handle = self.handle(file, c)
        soon = time.monotonic_ns() + c.below(2_000_000)
        reserved = c.word() if c.one_in(30) else 0
        answer, _ = self.call(file, "ROCKET_PREP_BO", c, handle=handle, reserved=reserved,
                              timeout_ns=c.of((0, 0, 1, -1, -FOREVER - 1, soon, soon, FOREVER)))
        self.expect(file, handle, answer, errno.ENOENT, "PREP_BO")
        return answer

    def fini(self, file: OpenFile, c: Choices) -> int | None:
        handle = self.handle(file, c)
        answer, _ = self.call(file, "ROCKET_FINI_BO", c, handle=handle, reserved=c.word() if c.one_in(30) else 0)
        self.expect(file, handle, answer, errno.ENOENT, "FINI_BO")
        return answer

    def submit(self, file: OpenFile, c: Choices) -> int | None:
        count = MAX_JOBS if c.one_in(60) else c.of((1, 1, 1, 2, 3, 0))
        records = b"".join(bytes(uapi.ffi.buffer(uapi.ffi.new("struct drm_rocket_job *", self.job(file, c))))
                           for _ in range(count))
        members = dict(jobs=self.place(records, c), job_count=count, job_struct_size=40)
        if c.one_in(20):
            self.spoil()
            members[c.of(("job_count", "job_struct_size", "reserved"))] = c.of((*STRIDES, *COUNTS))
        answer, _ = self.call(file, "ROCKET_SUBMIT", c, **members)
        return answer

    def work(self, file: OpenFile, c: Choices) -> int | None:
        """What applications do, all of it right: a program that takes a while, a job, and waiting for it."""
        bo = self.new_program(file, c.of((SLEEPING, SLEEPING, HANGING, 0)))
        if bo is None:
            return errno.ENOMEM
        handle = self.arena.put(struct.pack("<2I", bo.handle, 0))
        job = uapi.ffi.new("struct drm_rocket_job *", dict(
            tasks=self.arena.put(struct.pack("<4I", *(bo.dma_address, 2) * 2)), out_bo_handles=handle,
            task_count=c.of((1, 2)), task_struct_size=8, out_bo_handle_count=1))
        count = c.of((1, 1, 3, 6))
        answer = self.plain(file, "ROCKET_SUBMIT", uapi.ffi.new("struct drm_rocket_submit *", dict(
            jobs=self.arena.put(bytes(uapi.ffi.buffer(job)) * count), job_count=count, job_struct_size=40)))
        if answer:
            raise Broken(f"SUBMIT of right jobs answered {answer}")
        until = c.of((0, FOREVER, FOREVER, time.monotonic_ns() + 300_000))
        return self.plain(file, "ROCKET_PREP_BO", uapi.ffi.new("struct drm_rocket_prep_bo *",
                                                               {"handle": bo.handle, "timeout_ns": until}))

    def new_program(self, file: OpenFile, end: int) -> Any:
        """A BO with a program that ends this way; None when there is no room."""
        bo = uapi.ffi.new("struct drm_rocket_create_bo *", {"size": PAGE})
        if self.plain(file, "ROCKET_CREATE_BO", bo):
            return None
        self._check_new(file, bo)
        file.handles[bo.handle] = Made(PAGE, bo.dma_address, bo.offset)
        self.live_bytes += PAGE
        answer, memory = file.port.mmap(PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, bo.offset)
        if memory is None:
            raise Broken(f"mmap of a new BO answered {answer}")
        memory.write(0, struct.pack("<4I", end, 0, 0, 0))
        memory.drop()
        if self.plain(file, "ROCKET_FINI_BO", uapi.ffi.new("struct drm_rocket_fini_bo *", {"handle": bo.handle})):
            raise Broken("FINI_BO of a new BO failed")
        return bo

    def plain(self, file: OpenFile, name: str, data: Any) -> int | None:
        """An ioctl with nothing wrong; data is the struct before and after."""
        num_bytes = uapi.ffi.sizeof(uapi.ffi.typeof(data).item)
        put = self.arena.put_lasting if name.endswith("WAIT") else self.arena.put
        address = put(bytes(uapi.ffi.buffer(data)))
        answer = file.port.ioctl(uapi.number(f"DRM_IOCTL_{name}"), address)
        self.num_calls += 1
        uapi.ffi.memmove(data, uapi.ffi.cast("void *", address), num_bytes)
        return answer

    def job(self, file: OpenFile, c: Choices) -> dict[str, int]:
        """Mostly right; rarely one member is any number."""
        num_tasks = 40 if c.one_in(40) else c.of((1, 1, 1, 2, 4, 0 if c.one_in(4) else 1))
        tasks = struct.pack(f"<{2 * num_tasks}I", *(number for _ in range(num_tasks) for number in (
            self.address(file, c), 0 if c.one_in(40) else c.of(REGCMD_COUNTS))))
        lists = [self.handles(file, c), self.handles(file, c)]
        if not c.one_in(8):         # else one may be in both
            lists[0] = [handle for handle in lists[0] if handle not in lists[1]]
        reads, writes = (self.place(struct.pack(f"<{len(each)}I", *each), c) for each in lists)
        members = dict(tasks=self.place(tasks, c), in_bo_handles=reads, out_bo_handles=writes, task_count=num_tasks,
                       task_struct_size=8, in_bo_handle_count=len(lists[0]), out_bo_handle_count=len(lists[1]))
        if c.one_in(25):
            self.spoil()
            members[c.of(list(members))] = c.of((*STRIDES, *COUNTS))
        return members

    def handles(self, file: OpenFile, c: Choices) -> list[int]:
        chosen = [self.handle(file, c) for _ in range(c.of((0, 1, 1, 2, 3)))]
        return chosen if c.one_in(10) else list(dict.fromkeys(chosen))

    # --- sharing ---

    def export(self, file: OpenFile, c: Choices) -> int | None:
        handle, flags = self.handle(file, c), c.word() if c.one_in(20) else os.O_CLOEXEC | os.O_RDWR
        before = -7
        answer, data = self.call(file, "PRIME_HANDLE_TO_FD", c, handle=handle, flags=flags, fd=before)
        self.expect(file, handle, answer, errno.ENOENT, "PRIME_HANDLE_TO_FD")
        if answer == 0 and data.fd != before:
            self.fds.append(data.fd)
        return answer

    def drop_fd(self, file: OpenFile, c: Choices) -> int:
        if self.fds:
            os.close(self.fds.pop(c.below(len(self.fds))))
        return 0

    def import_(self, file: OpenFile, c: Choices) -> int | None:
        fd = c.of(self.fds) if self.fds and not c.one_in(8) else c.of((-1, 1 << 20, -(1 << 31), *self.foreign))
        answer, data = self.call(file, "PRIME_FD_TO_HANDLE", c, fd=fd)
        if answer == 0 and not self._was_spoilt:
            file.handles.setdefault(data.handle, None)
        return answer

    def flink(self, file: OpenFile, c: Choices) -> int | None:
        handle = self.handle(file, c)
        answer, data = self.call(file, "GEM_FLINK", c, handle=handle)
        if answer != errno.EACCES:
            self.expect(file, handle, answer, errno.ENOENT, "GEM_FLINK")
        if answer == 0:
            self.names.append(data.name)
        return answer

    def open_name(self, file: OpenFile, c: Choices) -> int | None:
        answer, data = self.call(file, "GEM_OPEN", c, name=c.of([*self.names, 0, c.word()]))
        if answer == 0 and not self._was_spoilt:
            if data.handle in file.handles and file.is_known:
                raise Broken(f"GEM_OPEN gave handle {data.handle}, which is in use")
            file.handles[data.handle] = None
        return answer

    # --- the rest ---

    def ask(self, file: OpenFile, c: Choices) -> int | None:
        """VERSION, GET_CAP and the others that only tell something."""
        kind = c.below(4)
        if kind == 0:
            room = c.of((0, 1, 6, 1000))
            text = uapi.ffi.cast("char *", self.place(bytes(room), c))
            return self.call(file, "VERSION", c, name_len=room, name=text, desc_len=room, desc=text)[0]
        if kind == 1:
            return self.call(file, "GET_CAP", c, capability=c.of((1, 5, 6, 0x13, 0x14, c.word())))[0]
        if kind == 2:
            return self.call(file, "GET_CLIENT", c, idx=c.of((0, 0, 1, -1)))[0]
        name = bytes(c.below(256) if c.one_in(5) else 0x21 + c.below(94) for _ in range(c.of((0, 1, 8, 20))))
        return self.call(file, "SET_CLIENT_NAME", c, name=self.place(name, c),
                         name_len=c.of((len(name), len(name), 64, 65, 1 << 40)))[0]

    def raw(self, file: OpenFile, c: Choices) -> int | None:
        """Any number, any bytes: of the numbers that make or close handles only such that fail."""
        index = c.below(256)
        if index in (0x09, 0x0B, 0x2D, 0x2E, 0x40, 0xC3):        # and none that waits
            return self.call(file, "GEM_CLOSE", c, handle=0)[0]
        letter = ord("d") if not c.one_in(10) else c.below(256)
        data = struct.pack("<16I", *(c.word() >> c.of((0, 0, 16, 24, 28, 31)) for _ in range(16)))
        request = c.below(4) << 30 | c.of((0, 4, 8, 16, 24, 40, 64)) << 16 | letter << 8 | index
        return file.port.ioctl(request, self.place(data + bytes(192), c))
