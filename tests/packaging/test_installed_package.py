"""What a wheel brings: libraries, headers, the demo's files, the command; and that the libraries need only libc."""
from __future__ import annotations

import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from cermet import paths

LIBRARIES = ("libcermet_delegate.so", "libcermet_runtime.so", "libcermet_shim.so", "libcermet_sim.so")
ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = tomllib.loads(paths.data_file("demo/manifest.toml").read_text())
needs_readelf = pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf (binutils)")


def dynamic_section(library: str) -> str:
    command = ["readelf", "-d", "--wide", paths.library(library)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_readelf
@pytest.mark.parametrize("library", LIBRARIES)
def test_library_needs_only_the_c_library(library):
    needed = set(re.findall(r"\(NEEDED\).*\[([^]]+)\]", dynamic_section(library)))
    libc = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
    assert needed <= libc | set(LIBRARIES)


@needs_readelf
@pytest.mark.parametrize("library", LIBRARIES)
def test_library_has_no_search_path_of_the_build_machine(library):
    run_paths = re.findall(r"\((?:RPATH|RUNPATH)\).*\[([^]]*)\]", dynamic_section(library))
    assert all(path.startswith("$ORIGIN") for value in run_paths for path in value.split(":"))


@pytest.mark.parametrize("name", ["rocket_accel.h", "drm_core.h", "rocket_queues.h", "cermet_blob.h", "cermet_plan.h"])
def test_installed_header_is_the_one_of_this_tree(name):
    (source,) = (ROOT / folder / name for folder in paths.HEADER_FOLDERS if (ROOT / folder / name).is_file())
    assert paths.header(name).read_bytes() == source.read_bytes()


def test_missing_library_is_one_line_that_says_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("CERMET_LIB_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        paths.library("libcermet_sim.so")
    assert str(caught.value) == (f"libcermet_sim.so: not in {tmp_path}; install the package (./run does) "
                                 "or set CERMET_LIB_DIR to the folder that has it")


@pytest.mark.parametrize("entry", [entry for task in DEMO.values() for entry in (
    task["picture"], task["labels"], *task["models"])], ids=lambda entry: entry["file"])
def test_demo_file_is_what_its_manifest_says(entry):
    assert hashlib.sha256(paths.data_file(f"demo/{entry['file']}").read_bytes()).hexdigest() == entry["sha256"]


def test_licence_of_the_demo_files_comes_with_them():
    assert "Apache License" in paths.data_file("demo/LICENSE.Apache-2.0.txt").read_text()


def test_every_file_of_the_package_is_installed():
    listed = subprocess.run([sys.executable, ROOT / "tools" / "package_files.py", ROOT / "src" / "cermet"],
                            capture_output=True, text=True, check=True).stdout.split("\n")
    missing = [name for name in filter(None, listed) if not (paths.PACKAGE / name).is_file()]
    assert not missing
