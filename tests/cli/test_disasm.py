"""`cermet disasm`: plans and raw words as text."""
from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cermet.program.plan_reader import decode_plan
from tests.cli.conftest import Cermet

OP_EN = 0x0081 << 48 | 0x1D << 16 | 0x0008
CONV_CON3 = 0x0201 << 48 | (2 | 3 << 3) << 16 | 0x1014


@pytest.fixture
def plan_path(cermet: Cermet, conv_model: Path, tmp_path: Path) -> Path:
    cermet("compile", conv_model, "-o", tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    return path


def test_plan_shows_every_task_with_layer_and_addresses(cermet: Cermet, plan_path: Path) -> None:
    program = decode_plan(plan_path.read_bytes()).partitions[0].program
    result = cermet("disasm", plan_path)
    lines = result.out.splitlines()
    titles = [line for line in lines if line.startswith("task ")]
    assert (result.status, len(titles)) == (0, len(program.tasks))
    assert titles[0].startswith("task 0: partition 0, operation 0 (conv_2d)")
    assert len(lines) == len(titles) + sum(task.num_words for task in program.tasks)
    assert sum(" -> bo " in line for line in lines) == len(program.relocations)
    assert lines[-1].split()[1:] == ["OP_ENABLE", "CNA|CORE|DPU|DPU_RDMA"]


def test_shortened_programs_are_shown_as_they_are(cermet: Cermet, models_dir: Path, tmp_path: Path) -> None:
    cermet("compile", models_dir / "mobilenet_v1_0.25_128_quant.tflite", "-o", tmp_path / "cache", "--option",
           "registers=changed")
    (path,) = (tmp_path / "cache").iterdir()
    program = decode_plan(path.read_bytes()).partitions[0].program
    lines = cermet("disasm", path).out.splitlines()
    assert len(lines) == sum(1 + task.num_words for task in program.tasks)
    assert sum(" -> bo " in line for line in lines) == len(program.relocations)
    assert program.tasks[5].num_words < 0.5 * program.tasks[0].num_words


def test_one_task_can_be_chosen(cermet: Cermet, plan_path: Path) -> None:
    assert cermet("disasm", plan_path, "--task", 0).out.startswith("task 0: ")
    result = cermet("disasm", plan_path, "--task", 99)
    assert result.status == 1 and "--task: 99 must be 0.." in result.err


def test_raw_words_are_cut_behind_op_en(cermet: Cermet, tmp_path: Path) -> None:
    path = tmp_path / "regcmd.bin"
    path.write_bytes(struct.pack("<5Q", CONV_CON3, OP_EN, CONV_CON3, OP_EN, CONV_CON3))
    lines = cermet("disasm", path).out.splitlines()
    assert [line for line in lines if line.startswith("task")] == [
        "task 0: at byte 0, 2 words", "task 1: at byte 16, 2 words", "task 2: at byte 32, without op_en, 1 words"]
    assert lines[1] == "0000  CNA.CONV_CON3  CONV_Y_STRIDE=3 CONV_X_STRIDE=2"


@pytest.mark.parametrize(("data", "words"), [
    (b"", "0 bytes, must be a plan or whole 64-bit words"), (b"1234567", "7 bytes, must be"),
    (b"CRMP" + bytes(200), "plan: format version 0, must be 6")])
def test_other_files_are_refused(cermet: Cermet, tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    result = cermet("disasm", path)
    assert result.status == 1 and result.err.startswith(f"cermet: {path}: ")
    assert words in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize("data", [bytes(range(1, 201)), np.random.default_rng(1).bytes(80_000)], ids=["200", "80000"])
def test_words_none_of_which_is_known_are_refused(cermet: Cermet, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    result = cermet("disasm", path)
    assert (result.status, result.out) == (1, "")
    assert result.err == (f"cermet: {path}: none of {len(data) // 8} words names a register of the rk3588, "
                          "must be a register program\n")


def test_single_unknown_words_are_shown_raw_with_a_warning(cermet: Cermet, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(struct.pack("<4Q", CONV_CON3, 0x0807060504030201, 0, OP_EN))
    result = cermet("disasm", path)
    assert result.status == 0 and "0001  ?  0x0807060504030201" in result.out
    assert result.err == f"cermet: {path}: 1 of 3 words name no register of the rk3588\n"


def test_known_words_are_no_reason_to_warn(cermet: Cermet, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(struct.pack("<3Q", CONV_CON3, 0, OP_EN))
    assert cermet("disasm", path).err == ""


@pytest.mark.parametrize("path", ["/dev/null", "/tmp"])
def test_what_is_no_file_is_one_line(cermet: Cermet, path: str) -> None:
    result = cermet("disasm", path)
    assert (result.status, result.err) == (1, f"cermet: {path}: is not a regular file\n")


def test_closed_streams_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(bytes(8))
    command = f"{sys.executable} -m cermet disasm {tmp_path / 'words'} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
