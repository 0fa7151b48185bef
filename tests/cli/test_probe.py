"""`cermet probe` on the simulated node: one file, its answers, and what it does with files that others made."""
from __future__ import annotations

import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time

import pytest

from tests.cli.conftest import Cermet
from tests.trace import frames
from tests.trace.frames import RawFrame

QUICK = ("Q-N4", "Q-L1", "Q-X8")


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    from cermet.cli import main
    path = tmp_path_factory.mktemp("probe") / "probe.trace"
    assert main(["probe", "--device", "sim", "-o", str(path), *QUICK]) == 0
    return path


def test_answers_are_in_the_file(cermet: Cermet, probed: pathlib.Path) -> None:
    result = cermet("probe", "--read", probed, "--json")
    assert result.status == 0
    results = json.loads(result.out)["results"]
    assert [one["name"] for one in results] == ["control", *QUICK]
    assert all(one["answers"] == [one["assumed"]] and not one["error"] for one in results)
    assert [case["elements"] for case in results[1]["cases"]] == [256, 256]


def test_text(cermet: Cermet, probed: pathlib.Path) -> None:
    lines = cermet("probe", "--read", probed).out.splitlines()
    assert lines[0].startswith("recorded on Linux ")
    assert "Q-N4     saturates                        as the simulator has it" in lines
    assert lines[-1] == "3 questions: 3 as the simulator has them, 0 otherwise, 0 open, 0 could not be run"


def test_the_file_replays_equal(cermet: Cermet, probed: pathlib.Path) -> None:
    result = cermet("replay", probed, "--json")
    report = json.loads(result.out)
    assert result.status == 0 and report["equal"]
    assert {task["label"] for task in report["tasks"]} >= {"Q-N4 beyond the largest", "Q-L1", "Q-X8 two jobs"}
    assert {task["verdict"] for task in report["tasks"]} == {"equal"}


def test_jobs_that_end_in_the_time_limit(cermet: Cermet, tmp_path: pathlib.Path) -> None:
    """A pooling task, whose interrupt mainline never sees, and one that hangs."""
    path = tmp_path / "x.trace"
    result = cermet("probe", "--device", "sim", "-o", path, "--json", "Q-P7", "Q-X10")
    results = {one["name"]: one for one in json.loads(result.out)["results"] if one["name"] != "control"}
    assert result.status == 0 and {name: one["answers"] for name, one in results.items()} == {
        "Q-P7": ["ignored"], "Q-X10": ["hangs"], "Q-X10.least": ["right"]}
    assert {name for name, one in results.items() if all(case["timed_out"] for case in one["cases"])} == {
        "Q-P7", "Q-X10"}
    replayed = json.loads(cermet("replay", path, "--json").out)
    assert replayed["equal"]
    failures = [task["failure"] for task in replayed["tasks"] if task["failure"]]
    assert sum("no DPU interrupt" in failure for failure in failures) == 2
    assert sum("FEATURE_GRAINS" in failure for failure in failures) == 2


def with_results(path: pathlib.Path, texts: list[str]) -> pathlib.Path:
    return frames.write(path, [RawFrame(frames.NOTE, struct.pack("<II", 3, 0) + text.encode()) for text in texts])


def result(**members: object) -> str:
    case = {"label": "x", "elements": 9, "agrees": {"a": 9, "b": 3}, "observed": "00", "duration_ns": 5,
            "timed_out": False}
    return json.dumps({"name": "Q-1", "question": "?", "assumed": "a", "verdict": "b", "error": "", "answers": ["b"],
                       "cases": [case], **members})


def test_other_answers_are_shown(cermet: Cermet, tmp_path: pathlib.Path) -> None:
    path = with_results(tmp_path / "x", [result(), result(name="Q-2", answers=[], verdict="none of these"),
                                         result(name="Q-3", answers=["a"], verdict="a"),
                                         result(name="Q-4", error="no memory", verdict="could not be run: no memory")])
    shown = cermet("probe", "--read", path)
    assert shown.status == 1
    assert "OTHERWISE: the simulator has 'a'" in shown.out and "OPEN: the simulator has 'a'" in shown.out
    assert "x: of 9 elements agree: a 9, b 3" in shown.out
    assert "4 questions: 1 as the simulator has them, 1 otherwise, 1 open, 1 could not be run" in shown.out


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", result(cases=5), result(cases=[{}]), result(answers=3),
                                  result(cases=[{"label": 1}]), "[" * 100000])
def test_malformed_results(cermet: Cermet, tmp_path: pathlib.Path, text: str) -> None:
    shown = cermet("probe", "--read", with_results(tmp_path / "x", [text]))
    assert shown.status == 1 and len(shown.err.splitlines()) == 1 and "malformed" in shown.err


def test_control_characters_are_not_printed(cermet: Cermet, tmp_path: pathlib.Path) -> None:
    shown = cermet("probe", "--read", with_results(tmp_path / "x", [result(name="\x1b[2Jq", verdict="\x07")]))
    assert "\x1b" not in shown.out and "\x07" not in shown.out


def test_a_control_that_does_not_work_is_an_error(cermet: Cermet, tmp_path: pathlib.Path) -> None:
    path = with_results(tmp_path / "x", [result(name="control", answers=[], verdict="none of these")])
    assert cermet("probe", "--read", path).status == 1


def test_list_and_names(cermet: Cermet, tmp_path: pathlib.Path) -> None:
    shown = cermet("probe", "--list")
    assert shown.status == 0 and "saturates: at 32 bits  <- the simulator" in shown.out and "Q-N11" in shown.out
    named = json.loads(cermet("probe", "--list", "--json", "Q-N7").out)["probes"]
    assert [one["name"] for one in named] == ["control", "Q-N7.sign", "Q-N7.rounding", "Q-N7.overflow",
                                                     "Q-N7.negative"]
    (case,) = named[1]["cases"]
    assert any("BN_MUL_OPERAND=36864" in line for line in case["jobs"][0][0])
    assert {name: len(bytes.fromhex(text)) for name, text in case["predictions"].items()} == {"unsigned": 256,
                                                                                            "signed": 256}
    assert cermet("probe", "--list", "Q-N99").err == "cermet: probe: Q-N99: unknown; cermet probe --list names all\n"
    refused = cermet("probe", "-o", tmp_path / "x", "Q-N11")
    assert refused.status == 1 and "no program can settle it: fp16" in refused.err and not list(tmp_path.iterdir())


def test_interrupted(tmp_path: pathlib.Path) -> None:
    """Ctrl-C reaches both processes: one line says where the answers so far are."""
    path = tmp_path / "probe.trace"
    part = path.with_name("probe.trace.part")
    child = subprocess.Popen([sys.executable, "-m", "cermet", "probe", "--device", "sim", "-o", str(path)],
                             start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (part.exists() and b"Q-N4" in part.read_bytes()):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (130, f"cermet probe: not done; what there is so far is in {path}\n")
    assert not part.exists()
    assert subprocess.run([sys.executable, "-m", "cermet", "probe", "--read", str(path)],
                          capture_output=True).stdout.count(b"\n") > 2


def test_no_node_to_probe(cermet: Cermet, tmp_path: pathlib.Path) -> None:
    if pathlib.Path("/dev/accel/accel0").exists():
        pytest.skip("this machine has one")
    refused = cermet("probe", "--device", "real", "-o", tmp_path / "x")
    assert refused.status == 1 and "no rocket node" in refused.err and refused.err.count("\n") == 1
    assert "without results of cermet probe" in cermet("probe", "--read", frames.write(
        tmp_path / "y", [frames.file_frame()])).err
