"""docs/kernel-lab.md does what it says: its files and changes, put into a copy of the tree, work."""
from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from cermet import paths

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^\*\*`([^`]+)`\*\*\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HUNK = re.compile(r"^@@.*@@\n", re.MULTILINE)
C_FOLDERS = ("src/runtime", "src/client", "kernel-uapi", "kernel-uapi/proposals/queues", "kernel-uapi/proposals/busy")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A copy of what the document changes, changed."""
    made = tmp_path_factory.mktemp("lab")
    for folder in ("src", "kernel-uapi", "delegate"):
        shutil.copytree(ROOT / folder, made / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "meson.build", made)
    blocks = dict(BLOCK.findall((ROOT / "docs" / "kernel-lab.md").read_text()))
    change(made, blocks.pop("changes"))
    assert set(blocks) == {"kernel-uapi/proposals/busy/rocket_busy.h", "src/cermet/kmd/busy_ioctls.py",
                           "kernel-uapi/conformance/test_busy.py", "busy.c"}
    for name, text in blocks.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(text)
    (made / "cermet").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cermet "$@"\n')
    (made / "cermet").chmod(0o755)
    return made


def change(tree: pathlib.Path, diff: str) -> None:
    """Hunks without line numbers: what they take away or stand beside occurs once."""
    for part in re.split(r"^--- a/.*\n\+\+\+ b/", diff, flags=re.MULTILINE)[1:]:
        name, _, hunks = part.partition("\n")
        text = (tree / name).read_text()
        for hunk in HUNK.split(hunks)[1:]:
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            new = "".join(line[1:] for line in lines if line[0] in " +")
            assert text.count(old) == 1, f"{name}: {old!r}"
            text = text.replace(old, new)
        (tree / name).write_text(text)


@pytest.fixture(scope="module")
def environment(tree: pathlib.Path) -> dict[str, str]:
    """The copy's Python with the installed libraries."""
    return {**os.environ, "PYTHONPATH": str(tree / "src"), "CERMET_COMMAND": str(tree / "cermet"),
            "CERMET_LIB_DIR": str(paths.library("libcermet_shim.so").parent)}


@pytest.mark.parametrize(("options", "outcome"), [(["--proposals", "busy"], "3 passed"), ([], "3 skipped"),
                                                  (["--proposals", "busy,queues"], "3 passed")])
def test_subtests(options: list[str], outcome: str, tree: pathlib.Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib",
               str(tree / "kernel-uapi" / "conformance"), "-k", "busy.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tree, env=environment)
    assert outcome in done.stdout, done.stdout + done.stderr


def test_header_is_installed(tree: pathlib.Path) -> None:
    """All that the driver reads: in a clone the commands are those of the installed package."""
    installed = re.findall(r"^install_data\((.*?)\)", (tree / "meson.build").read_text(), re.DOTALL | re.MULTILINE)
    names = {pathlib.PurePath(path).name for path in re.findall(r"'([^']+\.h)'", " ".join(installed))
             if (tree / path).is_file()}
    script = "from cermet.kmd import uapi; print(*uapi.HEADERS)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(tree / "src")})
    assert "rocket_busy.h" in done.stdout and set(done.stdout.split()) <= names


def c_sources(tree: pathlib.Path) -> list[str]:
    """What device.c needs: the library of the simulated device's client, as meson makes it."""
    text = (tree / "src" / "client" / "meson.build").read_text()
    client = re.search(r"^client_sources = files\((.*?)\)", text, re.DOTALL | re.MULTILINE)
    assert client is not None
    return ["src/runtime/base.c", "src/runtime/device.c",
            *(f"src/client/{name}" for name in re.findall(r"'(\w+\.c)'", client[1]))]


@pytest.mark.parametrize(("proposals", "said"), [("busy", "busy for 0 ns\n"), ("", "this kernel does not count\n")])
def test_user(proposals: str, said: str, tree: pathlib.Path, environment: dict[str, str],
              tmp_path: pathlib.Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc")
    (tmp_path / "cermet_build.h").write_text('#define CERMET_BUILD_ID "lab"\n')
    includes = [f"-I{folder}" for folder in (tmp_path, *(tree / name for name in C_FOLDERS))]
    subprocess.run([gcc, "-std=gnu11", "-Wall", "-Wextra", "-Werror", *includes, str(tree / "busy.c"),
                    *(str(tree / source) for source in c_sources(tree)), "-o", str(tmp_path / "busy"), "-lpthread",
                    "-ldl"], check=True)
    done = subprocess.run([tmp_path / "busy"], capture_output=True, text=True, timeout=60, env={
        **environment, "CERMET_SIM_SOCKET": str(tmp_path / "s"), "CERMET_SIM_PROPOSALS": proposals})
    assert done.stdout == said, done.stderr
