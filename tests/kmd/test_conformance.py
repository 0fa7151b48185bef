"""The conformance suite: the driver without its bugs passes all of it, and the suite's runner reports what happens."""
from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

SUITE = pathlib.Path(__file__).resolve().parents[2] / "kernel-uapi" / "conformance"
SUBTESTS = '''
import os, pytest
def test_good(node): assert node.create().handle == 1
def test_bad(node): assert node.create().handle == 2
def test_dies(node): os.abort()
def test_leaves(node): os._exit(3)
def test_skips(node): pytest.skip("for a reason")
def test_noisy(lab, node): node.submit(lab.fill(lab.buffer(node), 1, task_count=0))
def test_known(): assert False
def test_known_but_good(): pass
'''


def run_suite(folder: pathlib.Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", str(folder)]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=280, cwd=folder.parent)


def test_driver_without_quirks_passes_everything(tmp_path: pathlib.Path) -> None:
    """With what is proposed for it. The suite itself runs the driver with mainline's bugs and without proposals."""
    done = run_suite(SUITE, "--quirks", "none", "--proposals", "queues", "--tap", str(tmp_path / "tap"))
    assert done.returncode == 0, done.stdout[-3000:]
    lines = (tmp_path / "tap").read_text().splitlines()
    assert lines[0] == "TAP version 13" and len(lines) - 2 == int(lines[1].split("..")[1]) >= 150
    assert all(line.startswith("ok ") for line in lines[2:])


def test_proposal_on_a_driver_with_quirks() -> None:
    done = run_suite(SUITE, "--proposals", "queues", "-k", "queues or sync_objects")
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:]


def test_runner(tmp_path: pathlib.Path) -> None:
    """Every way in which a subtest can end, each in a process of its own."""
    copy = tmp_path / "conformance"
    shutil.copytree(SUITE, copy, ignore=shutil.ignore_patterns("test_*", "__pycache__"))
    (copy / "test_it.py").write_text(SUBTESTS)
    with (copy / "expected" / "mainline-7.2.txt").open("a") as known:
        known.write("it@known* a reason\n")
    done = run_suite(copy, "--tap", str(tmp_path / "tap"))
    assert done.returncode == 1
    assert (tmp_path / "tap").read_text().splitlines()[2:] == [
        "ok 1 - it@good", "not ok 2 - it@bad", "not ok 3 - it@dies # crash: signal SIGABRT",
        "not ok 4 - it@leaves # crash: exit status 3", "ok 5 - it@skips # SKIP", "not ok 6 - it@noisy",
        "not ok 7 - it@known # TODO a reason", "not ok 8 - it@known_but_good"]


def test_wrong_options_are_one_line(tmp_path: pathlib.Path) -> None:
    for options, text in ((["--expect", "no-such"], "mainline-7.2"), (["--device", "/nonexistent"], "/nonexistent"),
                          (["--quirks", "no-such"], "no-such")):
        done = run_suite(SUITE, *options, "-k", "test_version_names")
        assert done.returncode != 0 and text in done.stdout + done.stderr and "Traceback" not in done.stderr, options
