"""Frames in their compressed form, and what a trace holds in a few numbers."""
from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cermet.trace.events import Call, Note, OpenFile, Process, read_events
from cermet.trace.reader import Frame, TraceReader, constant, trace_header

MIN_COMPRESSED = 128        # shorter payloads are stored as they are


@dataclass(frozen=True)
class Summary:
    """processes: that used a node. simulated: whether all nodes were. calls: the application's."""

    processes: int
    files: int
    calls: int
    failed_calls: int
    jobs: int
    tasks: int
    probes: int
    simulated: bool
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def frame_bytes(frame: Frame) -> bytes:
    """The frame as it lies in a file."""
    layout = trace_header().records["trace_frame"]
    stored = zlib.compress(frame.payload) if len(frame.payload) >= MIN_COMPRESSED else frame.payload
    if len(stored) >= len(frame.payload):
        stored = frame.payload
    head = dict(magic=constant("MAGIC"), version=constant("VERSION"), kind=frame.kind,
                is_compressed=int(stored is not frame.payload), stored_bytes=len(stored),
                raw_bytes=len(frame.payload), process=frame.process, time_ns=frame.time_ns)
    return layout.pack(**head, crc=zlib.crc32(stored, zlib.crc32(layout.pack(**head)))) + stored


class Repeats:
    """Finds pages that have been written before: models that are loaded twice, inputs that come again."""

    def __init__(self) -> None:
        self._offsets: dict[bytes, int] = {}

    def shortened(self, frame: Frame, offset: int) -> Frame:
        """The frame, or one that points to an earlier one. offset: where it will lie."""
        head = trace_header().records["trace_pages"].size
        if frame.kind != constant("PAGES") or len(frame.payload) <= head + MIN_COMPRESSED:
            return frame
        digest = hashlib.blake2b(memoryview(frame.payload)[head:], digest_size=32).digest()
        first = self._offsets.setdefault(digest, offset)
        if first == offset:
            return frame
        repeat = trace_header().records["trace_repeat"].pack(offset=first)
        return replace(frame, kind=constant("REPEAT"), payload=frame.payload[:head] + repeat)


def pack(source: Path, target: Path, progress: Callable[[float], None] = lambda part: None) -> None:
    """The same frames, compressed. The target is whole or not there."""
    temporary = target.with_name(f"{target.name}.{os.getpid()}")
    size = max(source.stat().st_size, 1)
    repeats = Repeats()
    try:
        with open(temporary, "wb") as file:
            for frame in TraceReader(source).frames():
                file.write(frame_bytes(repeats.shortened(frame, file.tell())))
                progress(frame.offset / size)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def summarise(path: Path) -> Summary:
    """Raises CermetError when it is no trace."""
    warnings: list[str] = []
    counts = Summary(0, 0, 0, 0, 0, 0, 0, True, ())
    for event in read_events(path, warnings):
        if isinstance(event, Process):
            counts = replace(counts, processes=counts.processes + 1)
        elif isinstance(event, OpenFile):
            counts = replace(counts, files=counts.files + 1, simulated=counts.simulated and event.is_simulated)
        elif isinstance(event, Call) and not event.flags & constant("CALL_BY_RECORDER"):
            counts = replace(counts, calls=counts.calls + 1, failed_calls=counts.failed_calls + (event.error != 0),
                             jobs=counts.jobs + len(event.jobs),
                             tasks=counts.tasks + sum(len(job.tasks) for job in event.jobs))
        elif isinstance(event, Note) and event.level == constant("NOTE_WARNING"):
            warnings.append(event.text)
        elif isinstance(event, Note) and event.level == constant("NOTE_PROBE"):
            counts = replace(counts, probes=counts.probes + 1)
    return replace(counts, warnings=tuple(warnings))
