"""The programs of tools/bench run and print what they promise; how fast anything is, is not asserted."""
from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools" / "bench"
MODEL = "mobilenet_v1_0.25_128_quant"


def run(tool: str, *arguments: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOLS / tool, *arguments], capture_output=True, text=True)


def test_conversions_are_timed() -> None:
    """A line for each shape, with a speed of memcpy and of the way in, in the caches and in memory."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    done = run("convert.py")
    assert done.returncode == 0, done.stderr
    shapes = [line for line in done.stdout.splitlines() if re.match(r" *\d+x\d+x\d+[apbv] ", line)]
    assert len(shapes) >= 10
    for line in shapes:
        for state in line.split("|")[1:]:
            memcpy, there = (float(text) for text in state.split()[:2])
            assert memcpy > 0 and there > 0, line


def test_starts_are_timed(models_dir: pathlib.Path) -> None:
    done = run("start.py", models_dir / f"{MODEL}.tflite", "--count", "1")
    assert done.returncode == 0, done.stderr
    plain, _, with_delegate, *_ = (float(text) for text in done.stdout.splitlines()[-1].split()[1:])
    assert 0 < plain < with_delegate


@pytest.mark.parametrize("tool", ["start.py", "parallel.py", "ablation.py", "cores.py"])
def test_no_model_is_one_line(tool: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "none.tflite"
    path.write_bytes(b"none")
    done = run(tool, path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"{tool}: error: {path}: ")
