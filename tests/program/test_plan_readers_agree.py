"""The two readers of plans, in Python and in C, take the same files and refuse the same files."""
from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from cermet.program.plan import PlanError
from cermet.program.plan_reader import decode_plan
from cermet.program.plan_writer import encode_plan
from tests.program.test_plan import resigned, sample_plan

SOURCES = ("plan*.c", "base.c")
NUM_FILES = 6000
VIEW_BYTES = 256        # more than struct cermet_plan_view has
ERROR_BYTES = 512       # struct cermet_error


@pytest.fixture(scope="module")
def c_reader(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = Path(__file__).resolve().parents[2] / "src" / "runtime"
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("reader") / "reader.so"
    sources = [path for pattern in SOURCES for path in sorted(folder.glob(pattern))]
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, *sources], check=True)
    return ctypes.CDLL(str(library))


def c_verdict(reader: ctypes.CDLL, data: bytes) -> str:
    """The C reader's error, empty when it takes the file."""
    words = (ctypes.c_uint64 * (len(data) // 8 + 1))()      # 8-byte aligned, as malloc gives it
    ctypes.memmove(words, data, len(data))
    expectation = (ctypes.c_void_p * 3)()
    view, error = ctypes.create_string_buffer(VIEW_BYTES), ctypes.create_string_buffer(ERROR_BYTES)
    reader.cermet_plan_open.restype = ctypes.c_bool
    taken = reader.cermet_plan_open(words, ctypes.c_size_t(len(data)), expectation, view, error)
    return "" if taken else error.value.decode()


def python_verdict(data: bytes) -> str:
    try:
        decode_plan(data)
    except PlanError as error:
        return str(error)
    return ""


def test_both_take_a_good_plan_and_refuse_a_damaged_one(c_reader: ctypes.CDLL) -> None:
    data = encode_plan(sample_plan())
    assert c_verdict(c_reader, data) == python_verdict(data) == ""
    damaged = data[:-1] + b"\xff"
    assert c_verdict(c_reader, damaged) == python_verdict(damaged) == "plan: checksum differs: the file is damaged"


def test_both_say_the_same_of_hostile_files(c_reader: ctypes.CDLL) -> None:
    """With right checksums, so that every rule behind it is reached. Only what C does not read may differ."""
    generator = random.Random(3588)
    data = encode_plan(sample_plan())
    folded = (0x07010000, 0x01020080, 0x32010000, 0x01000000)
    numbers = (0, 1, 2, 3, 4, 16, 33, 64, 128, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(data), *folded)
    verdicts = {True: 0, False: 0}
    for _ in range(NUM_FILES):
        changed = bytearray(data)
        for _ in range(generator.choice((1, 1, 1, 2))):
            offset = generator.randrange(len(data) // 4) * 4
            changed[offset:offset + 4] = generator.choice(numbers).to_bytes(4, "little")
        hostile = resigned(bytes(changed))
        mine, theirs = python_verdict(hostile), c_verdict(c_reader, hostile)
        if only_python_reads(mine):
            continue
        assert bool(mine) == bool(theirs), f"Python: {mine or 'takes it'}; C: {theirs or 'takes it'}"
        verdicts[not mine] += 1
    assert min(verdicts.values()) > NUM_FILES // 20


def only_python_reads(verdict: str) -> bool:
    """The debug section and what follows a name's NUL are nothing to the runtime."""
    return "debug section" in verdict or "must be ASCII text" in verdict
