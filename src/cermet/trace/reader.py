"""Trace files as frames: docs/trace-format.md, src/trace/cermet_trace.h. Whatever a file holds, reading it ends."""
from __future__ import annotations

import functools
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from cermet import paths
from cermet.errors import CermetError
from cermet.program.cstruct import Header, parse_header

SCAN_BYTES = 1 << 20


@functools.cache
def trace_header() -> Header:
    return parse_header(paths.header("cermet_trace.h"))


def constant(name: str) -> int:
    return trace_header().constants[f"TRACE_{name}"]


@dataclass(frozen=True)
class Frame:
    """One frame. offset: where it lies in the file."""

    kind: int
    process: int
    time_ns: int
    payload: bytes = field(repr=False)
    offset: int


class TraceReader:
    """The frames of a file, in their order. remarks: what was wrong with it, filled while reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remarks: list[str] = []

    def frames(self) -> Iterator[Frame]:
        """Raises CermetError when the file holds no frame at all."""
        found = False
        with open_regular(self.path) as file:
            size = os.fstat(file.fileno()).st_size
            at = 0
            while at < size:
                frame, end = self._frame_at(file, at, size)
                if frame is None:
                    end = self._next_magic(file, at + 1, size, found)
                    self._skipped(at, end, size)
                else:
                    found = True
                    yield from self._resolved(file, frame, size)
                at = end
        if not found:
            raise CermetError(f"{self.path}: holds no trace, must be a file that cermet trace or cermet probe wrote")

    def _resolved(self, file: BinaryIO, frame: Frame, size: int) -> Iterator[Frame]:
        """The frame; for a repetition the frame of pages that it stands for."""
        if frame.kind != constant("REPEAT"):
            yield frame
            return
        head, repeat = (trace_header().records[name] for name in ("trace_pages", "trace_repeat"))
        if len(frame.payload) == head.size + repeat.size:
            offset = repeat.unpack(frame.payload, head.size).offset
            first = self._frame_at(file, offset, size)[0] if offset < frame.offset else None
            if first is not None and first.kind == constant("PAGES"):
                yield replace(frame, kind=first.kind, payload=frame.payload[:head.size] + first.payload[head.size:])
                return
        self.remarks.append(f"frame at {frame.offset} repeats pages that are not there")

    def _frame_at(self, file: BinaryIO, at: int, size: int) -> tuple[Frame | None, int]:
        """(frame, where the next begins); None where no whole and sound frame is."""
        layout = trace_header().records["trace_frame"]
        file.seek(at)
        head = file.read(layout.size)
        if len(head) < layout.size:
            return None, at
        row = layout.unpack(head)
        limit = constant("MAX_FRAME_BYTES")
        if row.magic != constant("MAGIC") or row.stored_bytes > limit or row.raw_bytes > limit:
            return None, at
        if row.version != constant("VERSION"):
            raise CermetError(f"{self.path}: trace format {row.version}, this cermet reads {constant('VERSION')}")
        stored = file.read(row.stored_bytes)
        cleared = layout.pack(**row._replace(crc=0)._asdict())
        if len(stored) < row.stored_bytes or zlib.crc32(stored, zlib.crc32(cleared)) != row.crc:
            return None, at
        payload = unpacked(stored, row.raw_bytes) if row.is_compressed else stored
        if payload is None or len(payload) != row.raw_bytes:
            return None, at
        return Frame(row.kind, row.process, row.time_ns, payload, at), at + layout.size + row.stored_bytes

    def _next_magic(self, file: BinaryIO, at: int, size: int, found: bool) -> int:
        """Where the next frame may begin; a file that does not begin with one is not searched."""
        magic = constant("MAGIC").to_bytes(4, "little")
        while found and at < size:
            file.seek(at)
            data = file.read(SCAN_BYTES)
            place = data.find(magic)
            if place >= 0:
                return at + place
            if len(data) < SCAN_BYTES:
                break
            at += len(data) - len(magic) + 1
        return size

    def _skipped(self, start: int, end: int, size: int) -> None:
        if end == size:
            self.remarks.append(f"the last {end - start} bytes are no whole frame: the recording stopped there")
        else:
            self.remarks.append(f"{end - start} bytes at {start} are damaged and were skipped")


def open_regular(path: Path) -> BinaryIO:
    """Raises CermetError for what is no file: reading a pipe or a device could wait for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CermetError(f"{path}: must be a regular file")
    return open(descriptor, "rb")


def unpacked(stored: bytes, raw_bytes: int) -> bytes | None:
    """None when zlib cannot read it or it is longer than raw_bytes, which is found out without making it."""
    inflate = zlib.decompressobj()
    try:
        payload = inflate.decompress(stored, raw_bytes + 1)
    except zlib.error:
        return None
    return payload if inflate.eof else None
