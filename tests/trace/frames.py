"""The file format written down again for these tests, from docs/trace-format.md: nothing here reads the header."""
from __future__ import annotations

import pathlib
import struct
import zlib
from dataclasses import dataclass

MAGIC = b"CMTR"
HEAD = struct.Struct("<4sHBBIIIIQ")
PROCESS, FILE, CALL, PAGES, CHECK, CLOSE, NOTE, END, REPEAT = range(1, 10)
PAGES_HEAD = struct.Struct("<QQIIII")
RUN = struct.Struct("<II")
CALL_HEAD = struct.Struct("<QQQiIIiiIII")
FILE_HEAD = struct.Struct("<QiIiiiI32s64s")
PAGE = 4096
CREATE_BO, SUBMIT = 0xC0186440, 0x40186441


@dataclass
class RawFrame:
    kind: int
    payload: bytes
    process: int = 7
    time_ns: int = 0
    version: int = 1
    is_compressed: bool = False

    def encode(self) -> bytes:
        stored = zlib.compress(self.payload) if self.is_compressed else self.payload
        values = [MAGIC, self.version, self.kind, self.is_compressed, len(stored), len(self.payload), self.process, 0,
                  self.time_ns]
        values[7] = zlib.crc32(HEAD.pack(*values) + stored)
        return HEAD.pack(*values) + stored


def decode(data: bytes, resolves: bool = True) -> list[RawFrame]:
    """Whole and sound files only; with `resolves` repetitions are the frames that they repeat."""
    frames = []
    by_offset = {}
    at = 0
    while at < len(data):
        magic, version, kind, is_compressed, stored_bytes, raw_bytes, process, crc, time_ns = HEAD.unpack_from(data, at)
        head = HEAD.pack(magic, version, kind, is_compressed, stored_bytes, raw_bytes, process, 0, time_ns)
        stored = data[at + HEAD.size:at + HEAD.size + stored_bytes]
        assert magic == MAGIC and len(stored) == stored_bytes and zlib.crc32(head + stored) == crc, at
        payload = zlib.decompress(stored) if is_compressed else stored
        assert len(payload) == raw_bytes
        if kind == REPEAT and resolves:
            (first,) = struct.unpack("<Q", payload[PAGES_HEAD.size:])
            kind, payload = PAGES, payload[:PAGES_HEAD.size] + by_offset[first].payload[PAGES_HEAD.size:]
        frames.append(RawFrame(kind, payload, process, time_ns, version, bool(is_compressed)))
        by_offset[at] = frames[-1]
        at += HEAD.size + stored_bytes
    return frames


def read(path: pathlib.Path, resolves: bool = True) -> list[RawFrame]:
    return decode(path.read_bytes(), resolves)


def write(path: pathlib.Path, frames: list[RawFrame]) -> pathlib.Path:
    path.write_bytes(b"".join(frame.encode() for frame in frames))
    return path


@dataclass
class PagesFrame:
    """A PAGES payload taken apart: contents by page."""

    file: int
    handle: int
    side: int
    bo_bytes: int
    pages: dict[int, bytearray]

    @staticmethod
    def parse(payload: bytes) -> PagesFrame:
        file, bo_bytes, handle, side, num_runs, num_pages = PAGES_HEAD.unpack_from(payload)
        at = PAGES_HEAD.size + num_runs * RUN.size
        pages = {}
        for index in range(num_runs):
            first, count = RUN.unpack_from(payload, PAGES_HEAD.size + index * RUN.size)
            for page in range(first, first + count):
                pages[page] = bytearray(payload[at:at + PAGE])
                at += PAGE
        assert at == len(payload) and len(pages) == num_pages
        return PagesFrame(file, handle, side, bo_bytes, pages)

    def payload(self) -> bytes:
        runs = b"".join(RUN.pack(page, 1) for page in self.pages)
        head = PAGES_HEAD.pack(self.file, self.bo_bytes, self.handle, self.side, len(self.pages), len(self.pages))
        return head + runs + b"".join(map(bytes, self.pages.values()))


def file_frame(number: int = 1) -> RawFrame:
    return RawFrame(FILE, FILE_HEAD.pack(number, 3, 1, 0, 0, 0, 0, b"rocket", b"simulated"))


def call_frame(request: int, before: bytes, after: bytes, jobs: bytes = b"", num_jobs: int = 0, file: int = 1,
               error: int = 0, flags: int = 0) -> RawFrame:
    head = CALL_HEAD.pack(file, 10, 20, 3, 7, request, -1 if error else 0, error, len(before), flags, num_jobs)
    return RawFrame(CALL, head + before + after + jobs)


def create_frame(handle: int, size: int, address: int, file: int = 1) -> RawFrame:
    return call_frame(CREATE_BO, struct.pack("<IIQQ", size, 0, 0, 0),
                      struct.pack("<IIQQ", size, handle, address, 1 << 32), file=file)


def submit_frame(tasks: list[tuple[int, int]], reads: list[int], writes: list[int], file: int = 1) -> RawFrame:
    numbers = [number for task in tasks for number in task] + reads + writes
    jobs = struct.pack(f"<4I{len(numbers)}I", len(tasks), len(reads), len(writes), 0, *numbers)
    argument = struct.pack("<QIIQ", 0x1000, 1, 40, 0)
    return call_frame(SUBMIT, argument, argument, jobs, 1, file)


def pages_frame(handle: int, contents: dict[int, bytes], bo_bytes: int, by_device: bool = False,
                file: int = 1) -> RawFrame:
    """contents: page -> 4096 bytes."""
    pages = {page: bytearray(data) for page, data in contents.items()}
    return RawFrame(PAGES, PagesFrame(file, handle, int(by_device), bo_bytes, pages).payload())


def check_frame(handle: int, file: int = 1) -> RawFrame:
    return RawFrame(CHECK, struct.pack("<QII", file, handle, 0))
