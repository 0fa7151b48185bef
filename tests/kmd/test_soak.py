"""Many clients that live and die at the same time, for a few seconds: tools/soak.py for longer."""
from __future__ import annotations

import subprocess
import sys

from tests.kmd.client import ROOT

SECONDS = "10"


def test_nothing_is_left_behind() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "soak.py"), "--seconds", SECONDS], capture_output=True,
                          text=True, timeout=200)
    assert done.returncode == 0 and "nothing is left behind" in done.stdout, done.stdout + done.stderr
