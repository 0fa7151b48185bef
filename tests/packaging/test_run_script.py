"""./run on machines that lack something: one line that says what to do."""
from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ("sh", "dirname", "cat", "cksum", "rm", "mkdir", "tail", "find", "sort", "flock", "env", "printf")


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> pathlib.Path:
    """A clone in a folder with a space in its name, and bin/ with basic tools: no Python, no compiler, not root."""
    clone = tmp_path / "a clone"
    clone.mkdir()
    for name in ("run", "pyproject.toml"):
        shutil.copy(ROOT / name, clone / name)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found:
            (programs / name).symlink_to(found)
    program(programs / "id", "echo 1000")
    program(programs / "apt-get", "exit 100")
    return clone


def program(path: pathlib.Path, body: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run(clone: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(clone.parent / "bin"), "HOME": str(clone.parent)}
    return subprocess.run([clone / "run", *arguments], env=environment, capture_output=True, text=True)


def test_missing_packages_are_named_in_one_apt_get_line(machine):
    shown = run(machine, "demo")
    assert shown.returncode == 1
    assert shown.stderr == ("run: system packages are missing; install them and run this again: "
                            "sudo apt-get install python3 python3-venv gcc libc6-dev\n")


def test_root_gets_them_installed(machine):
    called = machine / "called"
    program(machine.parent / "bin" / "id", "echo 0")
    program(machine.parent / "bin" / "apt-get", f'echo "$*" >> "{called}"; exit 100')
    shown = run(machine, "demo")
    assert shown.returncode == 1
    assert called.read_text().splitlines()[0] == "install -y --no-install-recommends python3 python3-venv gcc libc6-dev"
    assert "run: apt-get install python3 python3-venv gcc libc6-dev failed" in shown.stderr


def test_machine_without_apt_gets_the_names(machine):
    (machine.parent / "bin" / "apt-get").unlink()
    assert run(machine, "demo").stderr.startswith("run: needs python3 python3-venv gcc libc6-dev (Debian's names)")


def test_failed_set_up_leaves_nothing_that_looks_finished(machine):
    run(machine, "demo")
    assert not list(machine.glob(".venv/*.stamp"))


def test_unknown_command_is_a_usage_error(machine):
    shown = run(machine, "dmeo")
    assert shown.returncode == 2
    assert "usage: ./run COMMAND" in shown.stderr


def test_help_needs_no_set_up(machine):
    assert run(machine, "help").stdout.startswith("usage: ./run COMMAND")
    assert not (machine / ".cermet").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_is_an_error(machine):
    machine.chmod(0o555)
    assert "cannot write here" in run(machine, "demo").stderr
