"""The runtime's and the delegate's tests in C: built as docs/testing.md says, and run."""
from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_c_programs(tmp_path: pathlib.Path) -> None:
    for tool in ("meson", "ninja"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")
    folder = tmp_path / "build"
    said = ""
    for command in (["setup", str(folder), str(ROOT), "-Dpython=false", "-Dtests=true"],
                    ["test", "-C", str(folder), "--print-errorlogs"]):
        done = subprocess.run(["meson", *command], capture_output=True, text=True, timeout=600)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
    passed = re.search(r"^Ok:\s+(\d+)\b", said, re.MULTILINE)
    sources = [*ROOT.glob("tests/runtime/test_*.c"), ROOT / "tests/delegate/host.c"]
    assert passed is not None and int(passed[1]) == len(sources), said
