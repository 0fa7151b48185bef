"""The calls that make, map, share and drop buffers."""
from __future__ import annotations

import errno
import mmap
import os
import struct
from typing import Any

from cermet.kmd import uapi
from tests.kmd.fuzz.arena import PAGE, Broken
from tests.kmd.fuzz.calls import HUGE_BYTES, Calls, Made, OpenFile
from tests.kmd.fuzz.choices import Choices

MAX_LIVE_BYTES = 32 << 20       # of all files, so that a long sequence does not fill the machine
CREATED_SIZES = (PAGE, 1, PAGE, 4095, 4097, 3 * PAGE, 64 << 10, 1 << 20, PAGE)
WILD_SIZES = (0, 0x7FFF_F001, 0x8000_0000, 0xFFFF_FFFF)


class Buffers(Calls):
    """Checks each new buffer against those that there are."""

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
