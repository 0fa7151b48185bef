"""A driver with fake cores for the tests of this folder, and programs that know nothing of it."""
from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

import pytest

from cermet import paths
from cermet.cli.exec import preloadable
from tests.kmd.client import ROOT, Node, environ, environment

CFLAGS = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-nonnull"]
AARCH64_GCC, QEMU, AARCH64_ROOT = "aarch64-linux-gnu-gcc", "qemu-aarch64-static", "/usr/aarch64-linux-gnu"

Build = Callable[..., pathlib.Path]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def fake_socket() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="kmd") as folder:
        yield pathlib.Path(folder) / "s"


@pytest.fixture
def fake_driver(fake_socket: pathlib.Path) -> Iterator[pathlib.Path]:
    """Clients reach (and start) a driver with fake cores; its socket. The log is beside it, with .log added."""
    with environ(**environment(fake_socket)):
        yield fake_socket


@pytest.fixture
def node(fake_driver: pathlib.Path) -> Iterator[Node]:
    with Node() as opened:
        yield opened


@pytest.fixture
def second(fake_driver: pathlib.Path) -> Iterator[Node]:
    with Node() as opened:
        yield opened


# --- programs with the shim -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """build(source, *options, compiler) -> program."""
    folder = tmp_path_factory.mktemp("programs")

    def compile_program(source: pathlib.Path, *options: str, compiler: str = "gcc") -> pathlib.Path:
        if shutil.which(compiler) is None:
            pytest.skip(f"no {compiler}")
        program = folder / f"{source.stem}-{abs(hash((options, compiler)))}"
        subprocess.run([compiler, *CFLAGS, f"-I{paths.uapi_dir()}", "-o", program, source, *options], check=True)
        return program
    return compile_program


@pytest.fixture
def run_with_shim(fake_socket: pathlib.Path) -> Run:
    """run(command...) with the fake driver behind the shim."""
    shim = preloadable(paths.library("libcermet_shim.so"))
    variables = os.environ | environment(fake_socket) | {"LD_PRELOAD": str(shim)}

    def run(*command: object, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(word) for word in command], env=variables | more, capture_output=True, text=True,
                              timeout=60)
    return run


@pytest.fixture(scope="session")
def aarch64_shim(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The shim built as docs/simulated-device.md says."""
    for tool in (AARCH64_GCC, QEMU, "meson", "ninja"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")
    folder = tmp_path_factory.mktemp("aarch64")
    cross_file = ROOT / "tools/cross/aarch64.ini"
    for command in (["meson", "setup", folder, ROOT, "-Dpython=false", "--cross-file", cross_file],
                    ["meson", "compile", "-C", folder, "cermet_shim"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "src/client/libcermet_shim.so"


@pytest.fixture
def run_aarch64(fake_socket: pathlib.Path, aarch64_shim: pathlib.Path) -> Run:
    """As run_with_shim, for a program of that architecture: qemu-user beside a driver of this one."""
    variables = os.environ | environment(fake_socket)

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([QEMU, "-L", AARCH64_ROOT, "-E", f"LD_PRELOAD={aarch64_shim}", *map(str, command)],
                              env=variables, capture_output=True, text=True, timeout=120)
    return run
