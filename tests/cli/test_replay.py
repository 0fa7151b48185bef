"""`cermet replay` of a recorded model: equal as recorded, and every change that is made to the file is found."""
from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.cli.conftest import Cermet
from tests.trace import frames
from tests.trace.frames import PAGES, PagesFrame

OUT_CVT_OFFSET = 0x1001_0000_0000_4080
REGISTER_MASK = 0xFFFF_0000_0000_FFFF


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, conv_model: pathlib.Path) -> pathlib.Path:
    """A trace of one inference through TFLite with device=sim: nothing but the recorder is preloaded."""
    pytest.importorskip("ai_edge_litert")
    path = tmp_path_factory.mktemp("trace") / "conv.trace"
    command = ["cermet", "trace", "--device", "real", "--each", "task", "-o", str(path), "--", sys.executable, "-m",
               "cermet", "run", str(conv_model), "--device", "sim", "--random", "1", "--option", "prefer=npu"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return path


def test_a_model_replays_equal(cermet: Cermet, recorded: pathlib.Path) -> None:
    result = cermet("replay", recorded)
    assert result.status == 0 and "1 tasks: 1 equal" in result.out


@pytest.mark.parametrize("each", ["", "job", "task"])
def test_shortened_programs_replay_equal(cermet: Cermet, models_dir: pathlib.Path, tmp_path: pathlib.Path,
                                         each: str) -> None:
    """They rely on what ran before them on their core, so that tasks of a job are not submitted one by one."""
    pytest.importorskip("ai_edge_litert")
    path, model = tmp_path / "short.trace", models_dir / "mobilenet_v1_0.25_128_quant.tflite"
    command = ["cermet", "trace", "--device", "real", *(["--each", each] if each else []), "-o", str(path), "--",
               sys.executable, "-m", "cermet", "run", str(model), "--device", "sim", "--random", "1", "--option",
               "registers=changed"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = cermet("replay", "--json", path)
    report = json.loads(result.out)
    words = [task["regcmd_count"] for task in report["tasks"]]
    assert result.status == 0 and report["equal"] and len(words) > 20
    assert {task["job"] for task in report["tasks"]} == {0} and min(words) < 0.5 * max(words)


def altered(source: pathlib.Path, target: pathlib.Path, change: object) -> pathlib.Path:
    """change(PagesFrame) -> whether it changed this one; the first that it changes is the only one."""
    read = frames.read(source)
    for frame in read:
        if frame.kind == PAGES:
            pages = PagesFrame.parse(frame.payload)
            if change(pages):      # type: ignore[operator]
                frame.payload = pages.payload()
                return frames.write(target, read)
    raise AssertionError("nothing was changed")


@pytest.mark.parametrize(("column", "row", "channel"), [(0, 0, 0), (5, 2, 3), (7, 7, 5)])
def test_a_changed_output_byte_is_found_where_it_is(cermet: Cermet, recorded: pathlib.Path, tmp_path: pathlib.Path,
                                                     column: int, row: int, channel: int) -> None:
    place = (row * 8 + column) * 16 + channel           # one surface of 8x8 atoms, at the start of its buffer
    output = json.loads(cermet("replay", "--json", "--task", 0, recorded).out)

    def change(pages: PagesFrame) -> bool:
        if pages.side != 1 or 0 not in pages.pages or len(pages.pages[0].strip(b"\0")) < 100:
            return False
        pages.pages[0][place] ^= 0x04
        return True
    assert output["tasks"][0]["verdict"] == "equal"
    path = altered(recorded, tmp_path / "x.trace", change)
    report = json.loads(cermet("replay", "--json", path).out)
    (task,) = report["tasks"]
    assert not report["equal"] and task["verdict"] == "differs" and task["bytes_different"] == 1
    assert task["largest_difference"] == 4
    first = task["first"]
    assert (first["column"], first["row"], first["channel"]) == (column, row, channel)
    assert abs(first["recorded"] - first["simulated"]) == 4
    result = cermet("replay", path)
    assert result.status == 1
    assert f"channel {channel}, row {row}, column {column}" in result.out and "OUT_CVT_SCALE" in result.out
    assert "OP_ENABLE  CNA|CORE|DPU|DPU_RDMA" in result.out


def test_a_changed_register_is_found(cermet: Cermet, recorded: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """OUT_CVT_OFFSET one higher: all outputs are, but for those that saturate."""
    def change(pages: PagesFrame) -> bool:
        for page in pages.pages.values():
            words = np.frombuffer(page, "<u8")
            found = np.flatnonzero((words & np.uint64(REGISTER_MASK)) == OUT_CVT_OFFSET)
            if pages.side == 0 and len(found):
                at = int(found[0]) * 8
                page[at:at + 8] = (int(words[found[0]]) + (1 << 16)).to_bytes(8, "little")
                return True
        return False
    report = json.loads(cermet("replay", "--json", altered(recorded, tmp_path / "x.trace", change)).out)
    (task,) = report["tasks"]
    assert task["verdict"] == "differs" and task["largest_difference"] == 1 and task["bytes_different"] > 100
    assert any("OUT_CVT_OFFSET" in line for line in report["shown"]["registers"])


def test_filler_is_no_difference(cermet: Cermet, recorded: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Six channels lie in atoms of 16 bytes; what the rest holds is nobody's business, and is told all the same."""
    def change(pages: PagesFrame) -> bool:
        if pages.side != 1 or 0 not in pages.pages or len(pages.pages[0].strip(b"\0")) < 100:
            return False
        pages.pages[0][9] ^= 0x20
        return True
    result = cermet("replay", altered(recorded, tmp_path / "x.trace", change))
    assert result.status == 0 and "1 bytes of no channel differ" in result.out


def test_bytes_that_no_task_wrote_are_found(cermet: Cermet, recorded: pathlib.Path, tmp_path: pathlib.Path) -> None:
    def change(pages: PagesFrame) -> bool:
        if pages.side != 1 or 0 not in pages.pages or len(pages.pages[0].strip(b"\0")) < 100:
            return False
        pages.pages[0][4000] = 1
        return True
    path = altered(recorded, tmp_path / "x.trace", change)
    result = cermet("replay", path)
    assert result.status == 1 and "bytes changed that no simulated task wrote" in result.out


def test_options(cermet: Cermet, recorded: pathlib.Path) -> None:
    assert cermet("replay", recorded, "--task", 5).err == "cermet: --task: 5, but the trace has 1 tasks\n"
    assert "task 0" in cermet("replay", recorded, "--task", 0).out
    assert "examples:" in cermet("replay", "--help").out and "examples:" in cermet("trace", "--help").out
