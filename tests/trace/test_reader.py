"""Files that are no trace, or were one once: one line each, never more."""
from __future__ import annotations

import pathlib
import random
import struct
import zlib

import pytest

from cermet.cli import main
from tests.trace import frames
from tests.trace.frames import RawFrame

PAGE = frames.PAGE


def good_frames() -> list[RawFrame]:
    """A file with one buffer whose contents change."""
    return [frames.file_frame(), frames.create_frame(1, PAGE, 0),
            frames.pages_frame(1, {0: b"\1" * PAGE}, PAGE), frames.submit_frame([(0, 8)], [1], []),
            frames.pages_frame(1, {0: b"\2" * PAGE}, PAGE, by_device=True), frames.check_frame(1)]


def replay_of(path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(["replay", str(path)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


@pytest.mark.parametrize("content", [b"", b"C", b"not a trace at all", b"CMTR", b"CMTR" * 1000, bytes(4096)])
def test_what_is_no_trace(content: bytes, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.trace"
    path.write_bytes(content)
    status, out, err = replay_of(path, capsys)
    assert status == 1 and not out
    assert err == f"cermet: {path}: holds no trace, must be a file that cermet trace or cermet probe wrote\n"


def test_what_is_no_file(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must be a regular file" in replay_of(pathlib.Path("/dev/zero"), capsys)[2]
    assert "must be a regular file" in replay_of(tmp_path, capsys)[2]
    assert "No such file" in replay_of(tmp_path / "missing", capsys)[2]


def test_another_version(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = frames.write(tmp_path / "x", [RawFrame(frames.NOTE, bytes(8), version=9)])
    status, _, err = replay_of(path, capsys)
    assert status == 1 and err == f"cermet: {path}: trace format 9, this cermet reads 1\n"


def test_a_file_that_ends_inside_a_frame(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = b"".join(frame.encode() for frame in good_frames())
    path = tmp_path / "x"
    for cut in range(1, 200, 7):
        path.write_bytes(whole[:-cut])
        status, out, _ = replay_of(path, capsys)
        assert status == 1 and ("the recording stopped there" in out or cut == len(frames.check_frame(1).encode()))


def test_damage_in_the_middle_costs_one_frame(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [frame.encode() for frame in good_frames()]
    damaged = bytearray(parts[2])
    damaged[100] ^= 1
    path = tmp_path / "x"
    path.write_bytes(b"".join([*parts[:2], bytes(damaged), *parts[3:]]))
    out = replay_of(path, capsys)[1]
    assert f"{len(damaged)} bytes at {len(parts[0] + parts[1])} are damaged and were skipped" in out
    assert "1 jobs, 1 tasks" in out


def test_compressed_frames_are_read_and_bombs_are_not(tmp_path: pathlib.Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    packed = [RawFrame(frame.kind, frame.payload, is_compressed=True) for frame in good_frames()]
    assert "1 jobs, 1 tasks" in replay_of(frames.write(tmp_path / "x", packed), capsys)[1]
    bomb = zlib.compress(bytes(1 << 28))
    values = [b"CMTR", 1, frames.NOTE, 1, len(bomb), 64, 7, 0, 0]
    values[7] = zlib.crc32(frames.HEAD.pack(*values) + bomb)
    path = tmp_path / "y"
    path.write_bytes(b"".join(frame.encode() for frame in packed) + frames.HEAD.pack(*values) + bomb)
    assert "no whole frame" in replay_of(path, capsys)[1]


def replaced(index: int, frame: RawFrame) -> list[RawFrame]:
    made = good_frames()
    made[index] = frame
    return made


HOSTILE = {
    "file never opened": good_frames()[1:],
    "buffer never made": [frames.file_frame(), *good_frames()[2:]],
    "buffer of another size": replaced(1, frames.create_frame(1, 2 * PAGE, 0)),
    "buffer beyond 32 bits": replaced(1, frames.create_frame(1, PAGE, 1 << 32)),
    "buffers of 16 GiB": [frames.file_frame(), *(frames.create_frame(handle, 0x7FFFF000, 0, file=1)
                                                 for handle in range(1, 9))],
    "pages outside": replaced(2, frames.pages_frame(1, {7: b"\1" * PAGE}, PAGE)),
    "unknown kind": replaced(2, RawFrame(99, b"")),
    "empty payloads": [RawFrame(kind, b"") for kind in range(12)],
    "a billion jobs": replaced(3, frames.call_frame(frames.SUBMIT, bytes(24), bytes(24), b"", 1 << 30)),
    "a billion tasks": replaced(3, frames.call_frame(frames.SUBMIT, bytes(24), bytes(24),
                                                     struct.pack("<4I", 1 << 30, 0, 0, 0), 1)),
    "argument of another size": replaced(1, frames.call_frame(frames.CREATE_BO, bytes(3), bytes(3))),
    "program outside": replaced(3, frames.submit_frame([(0xFFFFFFF0, 0xFFFFFFFF)], [], [])),
    "tasks without end": [*good_frames()[:3], *([frames.submit_frame([(0, 8)] * 4, [1], [])] * 50)],
    "check twice": [*good_frames(), frames.check_frame(1), frames.check_frame(99)],
    "repeats of what is not there": [*good_frames()[:2], *(RawFrame(9, frames.PAGES_HEAD.pack(1, PAGE, 1, 0, 1, 1)
                                                           + struct.pack("<Q", at)) for at in (0, 1, 1 << 40, 8))],
    "repeat of itself": [frames.file_frame(), frames.create_frame(1, PAGE, 0), RawFrame(
        9, frames.PAGES_HEAD.pack(1, PAGE, 1, 0, 1, 1) + struct.pack("<Q", 400))],
    "note of nonsense": [*good_frames(), RawFrame(frames.NOTE, struct.pack("<II", 4, 0) + b"\xff\x1b[2J")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = replay_of(frames.write(tmp_path / "x", HOSTILE[name]), capsys)
    assert status == 1 and len(err.splitlines()) <= 1 and "\x1b" not in out


def test_mutated_files_end_in_order(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Payload bytes changed under a right checksum."""
    numbers = random.Random(5)
    for seed in range(150):
        made = good_frames()
        for _ in range(numbers.randrange(1, 4)):
            victim = numbers.choice(made)
            payload = bytearray(victim.payload)
            payload[numbers.randrange(min(len(payload), 96))] = numbers.choice((0, 1, 7, 127, 255))
            victim.payload = bytes(payload)
        status, _, err = replay_of(frames.write(tmp_path / "x", made), capsys)
        assert status == 1 and len(err.splitlines()) <= 1, seed
