"""Files in the tree that a tool writes say what the tool would write today."""
from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("tool", ["generate_registers.py", "generate_operations.py"])
def test_generated_files_are_what_their_sources_say(tool):
    checked = subprocess.run([sys.executable, ROOT / "tools" / tool, "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
