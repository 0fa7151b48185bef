"""The events of a trace: frames decoded and checked, so that nothing behind this file meets a malformed one."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cermet.kmd import uapi
from cermet.trace.reader import Frame, TraceReader, constant, trace_header

PAGE_BYTES = 4096
MAX_NOTE_BYTES = 1 << 22
NAMES = {entry[0].value: name.removeprefix("DRM_IOCTL_").removeprefix("ROCKET_")
         for name, entry in uapi.IOCTLS.items()}
STRUCTS = {entry[0].value: entry[1] for entry in uapi.IOCTLS.values()}


class Malformed(ValueError):
    """A frame's payload is not what its kind says."""


@dataclass(frozen=True)
class Event:
    """What all have: the process that wrote it, when, and where it lies in the file."""

    process: int
    time_ns: int
    offset: int


@dataclass(frozen=True)
class Process(Event):
    realtime_ns: int
    parent: int
    program: str
    system: str
    board: str
    recorder: str


@dataclass(frozen=True)
class OpenFile(Event):
    file: int
    fd: int
    is_simulated: bool
    driver: str
    version: str
    path: str


@dataclass(frozen=True)
class TracedJob:
    """tasks: (n, 2) uint32, regcmd and regcmd_count."""

    tasks: np.ndarray = field(repr=False)
    in_handles: tuple[int, ...]
    out_handles: tuple[int, ...]
    is_unreadable: bool = False


@dataclass(frozen=True)
class Call(Event):
    """One ioctl. before, after: the argument's bytes."""

    file: int
    start_ns: int
    end_ns: int
    fd: int
    thread: int
    request: int
    result: int
    error: int
    flags: int
    before: bytes = field(repr=False)
    after: bytes = field(repr=False)
    jobs: tuple[TracedJob, ...]

    @property
    def name(self) -> str:
        return NAMES.get(self.request, f"{self.request:#010x}")

    @property
    def index(self) -> int:
        """The number within the driver's ioctls."""
        return self.request & 0xFF

    def argument(self, data: bytes) -> Any:
        """before or after as the struct of the header. Raises Malformed when it is another size."""
        struct = STRUCTS[self.request]
        if len(data) != uapi.ffi.sizeof(struct):
            raise Malformed(f"argument of {self.name} has {len(data)} bytes")
        return uapi.ffi.from_buffer(f"{struct} *", data, require_writable=False)


@dataclass(frozen=True)
class Pages(Event):
    """New contents of a buffer: (first byte, bytes) pairs of whole pages."""

    file: int
    handle: int
    bo_bytes: int
    by_device: bool
    parts: tuple[tuple[int, bytes], ...] = field(repr=False)


@dataclass(frozen=True)
class Check(Event):
    file: int
    handle: int


@dataclass(frozen=True)
class CloseFile(Event):
    file: int


@dataclass(frozen=True)
class Note(Event):
    level: int
    text: str


@dataclass(frozen=True)
class End(Event):
    pass


def read_events(path: Path, remarks: list[str]) -> Iterator[Event]:
    """The events of a file; what is wrong with it is added to remarks. Raises CermetError when it is no trace."""
    reader = TraceReader(path)
    reader.remarks = remarks
    for frame in reader.frames():
        decode = DECODERS.get(frame.kind)
        if decode is None:
            remarks.append(f"frame at {frame.offset}: kind {frame.kind} is unknown to this version")
            continue
        try:
            yield decode(frame)
        except ValueError as error:
            remarks.append(f"frame at {frame.offset} is malformed: {error}")


def text_of(raw: bytes) -> str:
    """A text of fixed room; control characters, which a terminal would obey, become question marks."""
    return printable(raw.split(b"\0")[0].decode("utf-8", "replace"))


def printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def record_of(name: str, payload: bytes) -> tuple[Any, memoryview]:
    """(struct, what is behind it)."""
    layout = trace_header().records[name]
    return layout.unpack(payload), memoryview(payload)[layout.size:]


def place(frame: Frame) -> dict[str, int]:
    return dict(process=frame.process, time_ns=frame.time_ns, offset=frame.offset)


def decode_process(frame: Frame) -> Process:
    row, _ = record_of("trace_process", frame.payload)
    return Process(**place(frame), realtime_ns=row.realtime_ns, parent=row.parent, program=text_of(row.program),
                   system=text_of(row.system), board=text_of(row.board), recorder=text_of(row.recorder))


def decode_file(frame: Frame) -> OpenFile:
    row, _ = record_of("trace_file", frame.payload)
    version = f"{row.version_major}.{row.version_minor}.{row.version_patchlevel}"
    return OpenFile(**place(frame), file=row.file, fd=row.fd, is_simulated=bool(row.is_simulated),
                    driver=text_of(row.driver), version=version, path=text_of(row.path))


def decode_call(frame: Frame) -> Call:
    row, rest = record_of("trace_call", frame.payload)
    size = row.argument_bytes
    if 2 * size > len(rest):
        raise Malformed(f"argument of {size} bytes ends beyond the frame")
    return Call(**place(frame), file=row.file, start_ns=row.start_ns, end_ns=row.end_ns, fd=row.fd, thread=row.thread,
                request=row.request, result=row.result, error=row.error, flags=row.flags, before=bytes(rest[:size]),
                after=bytes(rest[size:2 * size]), jobs=decode_jobs(rest[2 * size:], row.num_jobs))


def decode_jobs(rest: memoryview, num_jobs: int) -> tuple[TracedJob, ...]:
    layout = trace_header().records["trace_job"]
    jobs = []
    for _ in range(num_jobs):
        row = layout.unpack(rest)
        counts = (2 * row.num_tasks, row.num_in, row.num_out)
        if layout.size + 4 * sum(counts) > len(rest):
            raise Malformed("jobs end beyond the frame")
        words = np.frombuffer(rest[layout.size:layout.size + 4 * sum(counts)], "<u4")
        tasks, in_handles, out_handles = np.split(words, np.cumsum(counts)[:2])
        jobs.append(TracedJob(tasks.reshape(-1, 2), tuple(in_handles.tolist()), tuple(out_handles.tolist()),
                              bool(row.is_unreadable)))
        rest = rest[layout.size + 4 * sum(counts):]
    return tuple(jobs)


def decode_pages(frame: Frame) -> Pages:
    row, rest = record_of("trace_pages", frame.payload)
    layout = trace_header().records["trace_run"]
    parts = []
    data = rest[row.num_runs * layout.size:]
    for run in layout.unpack_all(rest, 0, row.num_runs):
        size = run.num_pages * PAGE_BYTES
        first = run.first_page * PAGE_BYTES
        if size > len(data) or first + size > row.bo_bytes:
            raise Malformed(f"run of {run.num_pages} pages at page {run.first_page} leaves the frame or the buffer")
        parts.append((first, bytes(data[:size])))
        data = data[size:]
    return Pages(**place(frame), file=row.file, handle=row.handle, bo_bytes=row.bo_bytes,
                 by_device=row.side == constant("BY_DEVICE"), parts=tuple(parts))


def decode_check(frame: Frame) -> Check:
    row, _ = record_of("trace_check", frame.payload)
    return Check(**place(frame), file=row.file, handle=row.handle)


def decode_close(frame: Frame) -> CloseFile:
    row, _ = record_of("trace_close", frame.payload)
    return CloseFile(**place(frame), file=row.file)


def decode_note(frame: Frame) -> Note:
    row, rest = record_of("trace_note", frame.payload)
    if len(rest) > MAX_NOTE_BYTES:
        raise Malformed(f"note of {len(rest)} bytes")
    return Note(**place(frame), level=row.level, text=bytes(rest).decode("utf-8", "replace"))


def decode_end(frame: Frame) -> End:
    return End(**place(frame))


DECODERS = {constant(name): decode for name, decode in {
    "PROCESS": decode_process, "FILE": decode_file, "CALL": decode_call, "PAGES": decode_pages, "CHECK": decode_check,
    "CLOSE": decode_close, "NOTE": decode_note, "END": decode_end}.items()}
