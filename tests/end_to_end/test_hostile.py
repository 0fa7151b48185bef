"""Damaged models, blobs, cache entries and plans through the public doors: an error in one line or the right result."""
from __future__ import annotations

import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from cermet import cli, paths
from cermet.frontend.tflite_file import to_blob
from cermet.program.plan_layout import plan_header, with_checksum
from tests.frontend.test_hostile import mutated
from tests.support import model_builder

tflite = pytest.importorskip("tflite_runtime.interpreter")

NUM_MODELS = 1500       # through the compiler, in this process
NUM_ENTRIES = 600       # through the delegate
NUM_PROCESSES = 24      # through the command as users start it
OK, OUR_ERROR = 0, 1


def network() -> bytes:
    rng = np.random.default_rng(3)
    return model_builder.chain(
        model_builder.conv2d(rng, (1, 6, 6, 3), 20),
        lambda t: model_builder.pool(rng, t.shape, "MAX", (2, 2), zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, 7, input_zero_point=t.zero_point)).data


def picture() -> np.ndarray:
    return np.random.default_rng(4).integers(-128, 128, (1, 6, 6, 3)).astype(np.int8)


def result(cache_dir: pathlib.Path, **options: str) -> np.ndarray:
    """Through the delegate on the simulator."""
    settings = {"device": "sim", "cache_dir": str(cache_dir), "log_level": "error", **options}
    delegate = tflite.load_delegate(str(paths.library("libcermet_delegate.so")), settings)
    interpreter = tflite.Interpreter(model_content=network(), experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture())
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, np.ndarray]:
    """A cache entry and the result of the program in it."""
    folder = tmp_path_factory.mktemp("good")
    folder.chmod(0o700)
    expected = result(folder)
    (entry,) = folder.glob("*.plan")
    return entry, expected


# --- the command ------------------------------------------------------------------------------------------------------

def check_command(capfd: pytest.CaptureFixture[str], *arguments: object) -> int:
    """The exit status: 0, or 1 with exactly one line of error; exceptions fail the test."""
    status = cli.main([str(argument) for argument in arguments])
    errors = capfd.readouterr().err.splitlines()
    assert status in (OK, OUR_ERROR), (arguments, status, errors)
    if status == OUR_ERROR:
        assert errors and all(line.startswith("cermet") for line in errors), (arguments, errors)
    return status


def plan_arguments(blob: pathlib.Path, out: pathlib.Path) -> list[object]:
    return ["plan", "--blob", blob, "--out", out, "--soc", "rk3588"]


DOORS: dict[str, tuple[Callable[[], bytes], Callable[[pathlib.Path, pathlib.Path], list[object]]]] = {
    "report": (network, lambda path, _: ["report", path]),
    "compile": (network, lambda path, folder: ["compile", path, "-o", folder / "cache"]),
    "plan": (lambda: to_blob(network()), lambda path, folder: plan_arguments(path, folder / "plan")),
}


@pytest.mark.parametrize("door", DOORS)
def test_damaged_models_give_one_line_or_a_plan(door: str, tmp_path: pathlib.Path,
                                                capfd: pytest.CaptureFixture[str]) -> None:
    make, arguments = DOORS[door]
    data, rng = make(), random.Random(door)
    path = tmp_path / "model"
    path.write_bytes(data)
    assert check_command(capfd, *arguments(path, tmp_path)) == OK
    statuses = []
    for _ in range(NUM_MODELS // len(DOORS)):
        path.write_bytes(mutated(rng, data))
        statuses.append(check_command(capfd, *arguments(path, tmp_path)))
    assert {OK, OUR_ERROR} == set(statuses), "mutations must both pass and fail"


def test_damaged_plans_and_programs_are_disassembled_or_refused(good: tuple[pathlib.Path, np.ndarray],
                                                                tmp_path: pathlib.Path,
                                                                capfd: pytest.CaptureFixture[str]) -> None:
    data, rng = good[0].read_bytes(), random.Random(7)
    path = tmp_path / "plan"
    statuses = []
    for number in range(NUM_ENTRIES):
        changed = mutated(rng, data)
        path.write_bytes(with_checksum(changed) if number % 2 and len(changed) > 200 else changed)
        statuses.append(check_command(capfd, "disasm", path))
    assert {OK, OUR_ERROR} == set(statuses)


@pytest.mark.parametrize("verb", ["report", "run", "compile"])
def test_the_command_as_users_start_it(verb: str, tmp_path: pathlib.Path) -> None:
    rng = random.Random(verb)
    more = {"report": [], "run": ["--device", "sim"], "compile": ["-o", str(tmp_path / "cache")]}[verb]
    for number in range(NUM_PROCESSES // 3):
        path = tmp_path / f"{number}.tflite"
        path.write_bytes(mutated(rng, network()) if number % 4 else rng.randbytes(number * 37))
        ended = subprocess.run([sys.executable, "-m", "cermet", verb, str(path), *more], capture_output=True, text=True,
                               timeout=60, check=False)
        assert ended.returncode in (OK, OUR_ERROR), ended
        assert "Traceback" not in ended.stderr
        assert (ended.returncode == OUR_ERROR) <= ("cermet" in ended.stderr)


# --- cache entries ----------------------------------------------------------------------------------------------------

def foreign(data: bytes, offset: int, value: bytes) -> bytes:
    """An entry that somebody made for something else: its checksum is right."""
    return with_checksum(data[:offset] + value + data[offset + len(value):])


def offset_of(member: str) -> int:
    """Where a member of the plan's header lies; its layout is the C header's (cermet_plan.h)."""
    return {"version": 4, "key": 32, "build_id": 64, "soc": 96}[member]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[:len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "one byte long": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
    "checksum": lambda data: data[:-7] + b"damaged",
    "other key": lambda data: foreign(data, offset_of("key"), bytes(32)),
    "other soc": lambda data: foreign(data, offset_of("soc"), b"rk3576\0"),
    "other compiler": lambda data: foreign(data, offset_of("build_id"), b"0.0.1+x\0"),
    "future version": lambda data: foreign(data, offset_of("version"), struct.pack("<I", 99)),
}


def test_offsets_are_the_headers() -> None:
    record = plan_header().records["cermet_plan_header"]
    for member, value in {"version": 0x01020304, "key": b"\5" * 32, "build_id": b"\6" * 32, "soc": b"\7" * 16}.items():
        raw = value if isinstance(value, bytes) else struct.pack("<I", value)
        data = bytearray(record.size)
        data[offset_of(member):offset_of(member) + len(raw)] = raw
        assert getattr(record.unpack(bytes(data)), member) == value


@pytest.mark.parametrize("name", DAMAGES)
def test_entries_that_cannot_be_used_are_compiled_again(name: str, good: tuple[pathlib.Path, np.ndarray],
                                                        tmp_path: pathlib.Path) -> None:
    entry, expected = good
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    copy = folder / entry.name
    copy.write_bytes(DAMAGES[name](entry.read_bytes()))
    with pytest.raises(RuntimeError, match=r"option cache=required: .* is unusable: "):
        result(folder, cache="required")
    np.testing.assert_array_equal(result(folder), expected)
    assert copy.read_bytes() == entry.read_bytes()


@pytest.mark.parametrize("kind", ["directory", "pipe", "dangling link", "link to itself"])
def test_something_else_in_an_entrys_place(kind: str, good: tuple[pathlib.Path, np.ndarray],
                                           tmp_path: pathlib.Path) -> None:
    entry, expected = good
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    place = folder / entry.name
    {"directory": place.mkdir, "pipe": lambda: os.mkfifo(place), "dangling link": lambda: place.symlink_to("nowhere"),
     "link to itself": lambda: place.symlink_to(place)}[kind]()
    np.testing.assert_array_equal(result(folder), expected)


def test_randomly_damaged_entries_are_never_run(good: tuple[pathlib.Path, np.ndarray], tmp_path: pathlib.Path) -> None:
    """cache=required compiles nothing: each is refused, unless the damage changed nothing."""
    entry, expected = good
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    copy, data, rng = folder / entry.name, entry.read_bytes(), random.Random(9)
    num_refused = 0
    for _ in range(NUM_ENTRIES):
        changed = mutated(rng, data)
        copy.write_bytes(changed)
        if changed == data:
            np.testing.assert_array_equal(result(folder, cache="required"), expected)
            continue
        with pytest.raises(RuntimeError, match="is unusable: plan: "):
            result(folder, cache="required")
        num_refused += 1
    assert num_refused > NUM_ENTRIES // 2
    shutil.copy(entry, copy)
    np.testing.assert_array_equal(result(folder, cache="required"), expected)
