"""Files in the tree that a tool writes say what the tool would write today."""
from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_register_table_is_what_the_yaml_says():
    checked = subprocess.run([sys.executable, ROOT / "tools" / "generate_registers.py", "--check"],
                             capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
