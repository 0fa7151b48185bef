"""The device as a trace tells it: each open file's buffers, what the recording knows of them, and a simulated core."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cermet.errors import CermetError
from cermet.hw.soc import Soc
from cermet.sim.core import Core
from cermet.sim.memory import SPACE_BYTES, AddressSpace
from cermet.sim.silicon import silicon_of_environment
from cermet.trace.events import (
    PAGE_BYTES,
    Call,
    CloseFile,
    End,
    Event,
    Malformed,
    OpenFile,
    Pages,
    Process,
    TracedJob,
)

ATOM_BYTES = 16
MAX_HANDLES = 4096             # of a job whose lists are searched for repetitions
MAX_MEMORY_BYTES = 4 << 30      # of all buffers that exist at a time


@dataclass
class Buffer:
    """A BO. memory: what the simulated NPU works on. recorded: what the CPU saw. writer: per atom, 1 + the task that
    wrote it last in the simulator since the last comparison, or 0."""

    handle: int
    address: int
    memory: np.ndarray
    recorded: np.ndarray
    writer: np.ndarray

    def apply(self, pages: Pages) -> None:
        """The CPU's writes reach both sides, byte by byte: the rest of a page may be the device's, not yet fetched."""
        for start, data in pages.parts:
            new = np.frombuffer(data, np.uint8)
            old = self.recorded[start:start + new.size]
            if not pages.by_device:
                changed = old != new
                self.memory[start:start + new.size][changed] = new[changed]
            old[:] = new


@dataclass
class File:
    """One open file: its own address space and, as mainline gives a file one core at a time, its own core."""

    number: int
    space: AddressSpace
    core: Core
    buffers: dict[int, Buffer] = field(default_factory=dict)
    imported: set[int] = field(default_factory=set)     # handles of buffers that other files made
    holders: set[int] = field(default_factory=set)      # processes

    def why_dropped(self, job: TracedJob) -> str | None:
        """What mainline finds wrong with a job when it drops it, which it tells nobody."""
        handles = job.in_handles + job.out_handles
        if job.is_unreadable:
            return "it lies where the caller cannot read"
        if not len(job.tasks) or not job.tasks[:, 1].all():
            return "it has no task, or one without words"
        unknown = [handle for handle in handles if handle not in self.buffers and handle not in self.imported]
        if unknown:
            return f"handle {unknown[0]} does not exist"
        twice = [handle for handle in handles if handles.count(handle) > 1] if len(handles) < MAX_HANDLES else []
        return f"handle {twice[0]} is listed twice" if twice else None


class Machine:
    """All files. Takes what is neither a submit nor a check."""

    def __init__(self, soc: Soc, remarks: list[str]) -> None:
        self.soc, self.silicon = soc, silicon_of_environment()
        self.remarks = remarks
        self.files: dict[int, File] = {}
        self.processes: list[Process] = []
        self.memory_bytes = 0
        self._of_call = {"CREATE_BO": self._create, "GEM_CLOSE": self._close, "GEM_OPEN": self._import,
                         "PRIME_FD_TO_HANDLE": self._import}

    def file(self, number: int) -> File:
        """Raises Malformed when the trace never opened it."""
        if number not in self.files:
            raise Malformed(f"file {number:#x} was never opened")
        return self.files[number]

    def buffer(self, file: int, handle: int) -> Buffer | None:
        return self.file(file).buffers.get(handle)

    def apply(self, event: Event) -> None:
        """Raises Malformed, and CermetError when the buffers are more than a device could have."""
        if isinstance(event, Process):
            self.processes.append(event)
            for file in self.files.values():
                if event.parent and event.parent in file.holders:
                    file.holders.add(event.process)
        elif isinstance(event, OpenFile):
            known = self.files.setdefault(event.file, File(event.file, AddressSpace(), Core(self.soc, 0, self.silicon)))
            known.holders.add(event.process)
        elif isinstance(event, CloseFile):
            self._let_go(event.file, event.process)
        elif isinstance(event, End):
            for number in list(self.files):
                self._let_go(number, event.process)
        elif isinstance(event, Pages):
            self._pages(event)
        elif isinstance(event, Call) and not event.error and event.name in self._of_call:
            self._of_call[event.name](event)

    def _let_go(self, number: int, process: int) -> None:
        file = self.files.get(number)
        if file is None:
            return
        file.holders.discard(process)
        if not file.holders:
            for handle in list(file.buffers):
                self._remove(file, handle)
            del self.files[number]

    def _create(self, call: Call) -> None:
        made = call.argument(call.after)
        file = self.file(call.file)
        size = -(-int(made.size) // PAGE_BYTES) * PAGE_BYTES
        address = int(made.dma_address)
        if not size or address + size > SPACE_BYTES or address % PAGE_BYTES:
            raise Malformed(f"CREATE_BO: {size} bytes at {address:#x} are not in the NPU's address space")
        if int(made.handle) in file.buffers:
            self._remove(file, int(made.handle))
        if self.memory_bytes + size > MAX_MEMORY_BYTES:
            raise CermetError(f"the trace's buffers take more than {MAX_MEMORY_BYTES >> 30} GiB at a time")
        buffer = Buffer(int(made.handle), address, np.zeros(size, np.uint8), np.zeros(size, np.uint8),
                        np.zeros(size // ATOM_BYTES, np.int32))
        try:
            file.space.map(address, buffer.memory)
        except ValueError as error:
            raise Malformed(f"CREATE_BO: {error}") from error
        file.buffers[buffer.handle] = buffer
        self.memory_bytes += size

    def _import(self, call: Call) -> None:
        self.file(call.file).imported.add(int(call.argument(call.after).handle))

    def _close(self, call: Call) -> None:
        handle = int(call.argument(call.before).handle)
        file = self.file(call.file)
        file.imported.discard(handle)
        if handle in file.buffers:
            self._remove(file, handle)

    def _remove(self, file: File, handle: int) -> None:
        buffer = file.buffers.pop(handle)
        file.space.unmap(buffer.address)
        self.memory_bytes -= buffer.memory.size

    def _pages(self, event: Pages) -> None:
        buffer = self.buffer(event.file, event.handle)
        if buffer is None:
            raise Malformed(f"pages of handle {event.handle}, which does not exist")
        if event.bo_bytes != buffer.memory.size:
            raise Malformed(f"pages of a buffer of {event.bo_bytes} bytes, handle {event.handle} has "
                            f"{buffer.memory.size}")
        buffer.apply(event)
