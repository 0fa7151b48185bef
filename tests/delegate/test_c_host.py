"""A C program that opens the delegate with declarations of its own: simulator, real compiler, no TFLite."""
from __future__ import annotations

import pathlib
import platform
import shutil
import subprocess

import pytest

from cermet import build, paths

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNTIME = ("base", "blake2sp*", "cache", "compiler*", "files", "locate", "plan*")
HOST_SOURCES = ["tests/delegate/host.c", "tests/runtime/plan_builder.c", "src/client/command.c", *(
    str(path.relative_to(ROOT)) for name in RUNTIME for path in sorted((ROOT / "src/runtime").glob(f"{name}.c")))]
FOLDERS = ("src/runtime", "src/client", "delegate", "tests/runtime")


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> pathlib.Path:
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("host")
    (folder / "cermet_build.h").write_text(f'#define CERMET_BUILD_ID "{build.BUILD_ID}"\n')
    program = folder / "host"
    folders = [f"-I{path}" for path in (folder, *(ROOT / name for name in FOLDERS))]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", *folders]
    wide = folder / "wide.o"
    if platform.machine() == "x86_64":
        leaves = ROOT / "src/runtime/blake2sp_leaves.c"
        subprocess.run([compiler, *flags, "-mavx2", "-DWIDE_MOVES", "-c", leaves, "-o", wide], check=True)
    subprocess.run([compiler, *flags, *(str(ROOT / name) for name in HOST_SOURCES), *folder.glob("wide.o"),
                    "-o", str(program), "-lpthread", "-ldl"], check=True)
    return program


def test_c_program_runs_a_graph_on_the_simulator(host):
    result = subprocess.run([host, paths.library("libcermet_delegate.so"), "sim"], capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "cermet: 3 of 3 nodes on the NPU (rk3588, sim) in 1 partition, plan compiled in" in result.stderr
