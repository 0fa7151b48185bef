"""The build id: one value for the C delegate and the Python compiler, another one for another compiler."""
from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import pytest

from cermet import build

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "cermet"
FIELD_BYTES = 32    # char build_id[32] of cermet_plan.h, NUL included


@pytest.fixture
def package(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the sources that may be changed."""
    ignored = shutil.ignore_patterns("*.pyc", "demo")
    return pathlib.Path(shutil.copytree(PACKAGE, tmp_path / "src" / "cermet", ignore=ignored))


def test_installed_package_is_of_this_tree():
    """Otherwise every other test looks at another compiler than the one in this tree."""
    assert build.compute_build_id(PACKAGE, build.VERSION) == build.BUILD_ID


def test_fits_the_field_of_the_plan():
    assert build.BUILD_ID.isascii()
    assert len(build.BUILD_ID) < FIELD_BYTES


def test_changes_with_the_compiler(package):
    before = build.compute_build_id(package, "1")
    with (package / "ir" / "tensor.py").open("a") as file:
        file.write("# another compiler\n")
    assert build.compute_build_id(package, "1") != before


def test_changes_with_a_new_file_of_the_compiler(package):
    before = build.compute_build_id(package, "1")
    (package / "drivers" / "rocket" / "new_pass.py").touch()
    assert build.compute_build_id(package, "1") != before


def test_covers_all_that_compiling_imports():
    """Save what only reads command lines, or cannot change a program."""
    harmless = {"__init__.py", "build.py", "build_info.py", "cli/__init__.py", "cli/plan.py", "debug.py", "errors.py",
                "paths.py"}
    script = ("import sys, pathlib, cermet.cli.plan, cermet.compiler\n"
              "cermet.compiler.driver_for('rk3588')\n"
              "root = pathlib.Path(cermet.cli.plan.__file__).parents[1]\n"
              "files = [pathlib.Path(m.__file__) for m in sys.modules.values() if getattr(m, '__file__', None)]\n"
              "print(*(f.relative_to(root).as_posix() for f in files if root in f.parents), sep='\\n')")
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    imported = set(done.stdout.split())
    assert "compiler.py" in imported
    covered = {path.relative_to(PACKAGE).as_posix() for path in build.compiler_files(PACKAGE)}
    assert imported - covered <= harmless


def test_does_not_change_with_the_simulator(package):
    before = build.compute_build_id(package, "1")
    (package / "sim" / "another.py").touch()
    assert build.compute_build_id(package, "1") == before


def test_c_header_and_python_module_say_the_same(tmp_path):
    header, module = tmp_path / "cermet_build.h", tmp_path / "build_info.py"
    command = [sys.executable, ROOT / "tools" / "build_id.py", "--version", build.VERSION,
               "--header", header, "--python", module]
    subprocess.run(command, check=True)
    assert f'#define CERMET_BUILD_ID "{build.BUILD_ID}"' in header.read_text()
    assert f'BUILD_ID = "{build.BUILD_ID}"' in module.read_text()
    time = header.stat().st_mtime_ns
    subprocess.run(command, check=True)
    assert header.stat().st_mtime_ns == time, "an unchanged header was written again: everything would be rebuilt"


def test_delegate_was_built_with_this_compiler():
    from cermet import paths
    assert build.BUILD_ID.encode() in paths.library("libcermet_delegate.so").read_bytes()
