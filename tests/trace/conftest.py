"""Programs under the recorder."""
from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from cermet import paths
from tests.conftest import ROOT
from tests.kmd.conftest import aarch64_shim, build, fake_socket

__all__ = ["aarch64_shim", "build", "fake_socket", "record"]

APP_HEAD = f"""
import importlib.util, os, signal, sys, threading, time
FOLDER = {str(ROOT / "kernel-uapi/conformance")!r}
package = importlib.util.spec_from_file_location("conformance", FOLDER + "/__init__.py",
                                                 submodule_search_locations=[FOLDER])
sys.modules["conformance"] = importlib.util.module_from_spec(package)
from conformance import programs
from conformance.laboratory import Laboratory
from conformance.uapi import Job, System
lab = Laboratory(System(None, "/dev/accel/accel0"))
node = lab.open()
"""


@pytest.fixture
def record(tmp_path: pathlib.Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], pathlib.Path]]:
    """record(text of a Python program, options of cermet trace) -> (what it did, the file). The program finds a
    laboratory of the conformance suite, `lab`, and an open node."""
    paths.library("libcermet_trace.so")
    numbers = iter(range(1000))

    def run(text: str, *options: str) -> tuple[subprocess.CompletedProcess[str], pathlib.Path]:
        number = next(numbers)
        program = tmp_path / f"app{number}.py"
        program.write_text(APP_HEAD + text)
        output = tmp_path / f"{number}.trace"
        command = ["cermet", "trace", "--device", "sim", "-o", str(output), *options, "--"]
        done = subprocess.run([*command, sys.executable, str(program)], env=os.environ, capture_output=True, text=True,
                              timeout=120)
        return done, output
    return run
