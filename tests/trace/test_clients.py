"""Clients that know neither the recorder nor the simulated node do under both what they do without the recorder."""
from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from cermet import paths
from cermet.cli import main
from cermet.cli.exec import preloadable
from tests.kmd.client import ROOT, environment
from tests.kmd.conftest import AARCH64_GCC, AARCH64_ROOT, QEMU, Build, Run
from tests.trace import frames

CLIENTS = ROOT / "tests/kmd/clients"
PLAIN = ["usual", "paths", "lifetimes", "raw"]


@pytest.fixture
def trace(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "x.trace"


@pytest.fixture
def run_recorded(fake_socket: pathlib.Path, trace: pathlib.Path) -> Run:
    """run(command...) with a driver with fake cores behind recorder and shim."""
    libraries = [preloadable(paths.library(name)) for name in ("libcermet_trace.so", "libcermet_shim.so")]
    variables = os.environ | environment(fake_socket) | {
        "LD_PRELOAD": ":".join(map(str, libraries)), "CERMET_TRACE_FILE": str(trace)}

    def run(*command: object, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(word) for word in command], env=variables | more, capture_output=True, text=True,
                              timeout=60)
    return run


def check_trace(trace: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every frame is sound, and replay reads all of them. (Its verdicts mean nothing: the cores are fake.)"""
    read = frames.read(trace)
    assert {frames.PROCESS, frames.FILE, frames.CALL} <= {frame.kind for frame in read}
    capsys.readouterr()
    assert main(["replay", str(trace)]) in (0, 1)
    assert "malformed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", PLAIN)
def test_c_client(build: Build, run_recorded: Run, trace: pathlib.Path, name: str,
                  capsys: pytest.CaptureFixture[str]) -> None:
    done = run_recorded(build(CLIENTS / f"{name}.c", "-pthread", "-ldl"))
    assert (done.returncode, done.stderr) == (0, "")
    if name != "paths":
        check_trace(trace, capsys)


def test_libdrm(build: Build, run_recorded: Run, trace: pathlib.Path,
                capsys: pytest.CaptureFixture[str]) -> None:
    if not pathlib.Path("/usr/include/xf86drm.h").exists():
        pytest.skip("libdrm's headers are not installed")
    done = run_recorded(build(CLIENTS / "libdrm.c", "-I/usr/include/libdrm", "-ldrm"))
    assert (done.returncode, done.stderr) == (0, "")
    check_trace(trace, capsys)


def test_python_client(run_recorded: Run, trace: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_recorded(sys.executable, CLIENTS / "own.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    check_trace(trace, capsys)


def test_aarch64_under_qemu(build: Build, aarch64_shim: pathlib.Path, fake_socket: pathlib.Path,
                            trace: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = aarch64_shim.parents[2]
    made = subprocess.run(["meson", "compile", "-C", folder, "cermet_trace"], capture_output=True, text=True)
    assert made.returncode == 0, made.stdout
    assert shutil.which(QEMU)
    preloaded = f"LD_PRELOAD={folder / 'src/trace/libcermet_trace.so'}:{aarch64_shim}"
    program = build(CLIENTS / "usual.c", "-pthread", "-ldl", compiler=AARCH64_GCC)
    variables = os.environ | environment(fake_socket) | {"CERMET_TRACE_FILE": str(trace)}
    done = subprocess.run([QEMU, "-L", AARCH64_ROOT, "-E", preloaded, program], env=variables, capture_output=True,
                          text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    check_trace(trace, capsys)


def test_what_a_vfork_child_closes_stays_open(build: Build, run_recorded: Run, trace: pathlib.Path) -> None:
    done = run_recorded(build(ROOT / "tests/trace/vfork.c"))
    assert (done.returncode, done.stderr) == (0, "")
    kinds = [frame.kind for frame in frames.read(trace)]
    assert kinds.count(frames.FILE) == 1 and frames.CLOSE not in kinds and kinds[-1] == frames.END
