"""`cermet bench`: what it prints and writes, and what it refuses. How long things take is not asserted."""
from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path

import pytest

from cermet import benchmark
from cermet.cli import bench, bench_history
from cermet.errors import CermetError
from tests.cli.conftest import Cermet

QUICK = ("--repeat", "3", "--starts", "1", "--warm-starts", "2", "--device", "sim")
COLUMNS = ("time,build_id,device,processors,load,model,cold_ms,warm_added_ms,p50_ms,p99_ms,overhead_p50_ms,peak_mib,"
           "ref_p50_ms,xnnpack_p50_ms,workers_per_s")


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "history.csv"


def test_json_has_every_figure(cermet: Cermet, needs_delegate: None, conv_model: Path) -> None:
    result = cermet("bench", conv_model, *QUICK, "--workers", "1,2", "--seconds", "0.1", "--peers", "--json")
    assert result.status == 0, result.err
    (model,) = json.loads(result.out)["models"]
    assert model["latency"]["count"] == 3
    assert 0 < model["overhead"]["min"] <= model["overhead"]["p50"] < model["latency"]["p50"]
    assert model["latency"]["min"] <= model["latency"]["p50"] <= model["latency"]["max"]
    assert list(model["workers_per_s"]) == ["1", "2"] and min(model["workers_per_s"].values()) > 0
    start = model["start"]
    assert start["cold"] == start["cold_least"] > start["warm"] >= start["warm_least"] > 0      # one cold start
    assert set(model["peers"]) >= {"ref"}


def test_second_run_is_compared_with_the_first(cermet: Cermet, needs_delegate: None, conv_model: Path,
                                               history: Path) -> None:
    first = cermet("bench", conv_model, *QUICK, "--csv", history)
    second = cermet("bench", conv_model, *QUICK, "--csv", history)
    assert (first.status, second.status) == (0, 0)
    assert "times the run of" not in first.out
    assert second.out.splitlines()[-1].startswith(f"{conv_model.name}: times the run of ")
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == [conv_model.name] * 2


def test_a_file_that_is_no_history_is_left_alone(cermet: Cermet, needs_delegate: None, conv_model: Path,
                                                 history: Path) -> None:
    history.write_text("precious\n")
    result = cermet("bench", conv_model, *QUICK, "--csv", history)
    assert result.status == 1 and result.err.count("\n") == 1 and str(history) in result.err
    assert history.read_text() == "precious\n"


@pytest.mark.parametrize(("arguments", "text"), [
    (("--workers", "0"), "1..64"), (("--workers", "1,x"), "1..64"), (("--repeat", "0"), "1..1000000"),
    (("--starts", "0"), "1..1000"), (("--warm-starts", "0"), "1..1000"),
    (("--seconds", "nan"), "above 0"), (("--seconds", "-1"), "above 0"), (("--option", "x"), "NAME=VALUE"),
    (("--device", "/nonexistent"), "/nonexistent"), (("--option", "prefer=x"), "option prefer: 'x' must be one of")])
def test_wrong_options_are_one_line(cermet: Cermet, needs_delegate: None, conv_model: Path, arguments: tuple[str, ...],
                                    text: str) -> None:
    result = cermet("bench", conv_model, *arguments)
    assert result.status != 0 and text in result.err and result.err.count("\n") == 1


def test_what_is_no_model_is_one_line(cermet: Cermet, tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"nothing")
    result = cermet("bench", tmp_path / "x.tflite")
    assert result.status == 1 and result.err.count("\n") == 1 and "x.tflite" in result.err


def test_percentiles() -> None:
    one = benchmark.Latency.of([float(time) for time in range(1, 102)])
    assert (one.count, one.min, one.p50, one.p90, one.p99, one.max) == (101, 1, 51, 91, 100, 101)


def made_with(warm: list[float]) -> benchmark.Benchmark:
    """Figures of a model whose starts with the plan in the cache took so long."""
    return benchmark.Benchmark("x/m.tflite", benchmark.Start.of([900, 700, 800], warm, [2, 3, 4]),
                               benchmark.Latency.of([10]), None, {}, benchmark.Memory(1, 1, 0, 100), {})


def test_starts_are_medians_with_the_least_beside_them() -> None:
    start = made_with([13, 8, 9, 90]).start
    assert (start.cold, start.warm, start.plain, start.added) == (800, 11, 3, 8)
    assert (start.cold_least, start.warm_least, start.plain_least, start.added_least) == (700, 8, 2, 6)
    printed = bench.lines([made_with([13, 8, 9, 90])], 0)
    assert "  cold      p50 800   min 700   (start with an empty cache)" in printed
    assert ("  warm      p50 11.0   min 8.0   (start with the plan in the cache; over TFLite's p50 +8.0   min +6.0)"
            in printed)


def test_there_are_more_warm_starts_than_cold_ones() -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    arguments = parser.parse_args(["m.tflite"])
    assert (arguments.starts, arguments.warm_starts) == (3, 10)


def test_a_file_that_exists_keeps_its_columns_and_shows_slower_starts(history: Path) -> None:
    history.write_text(f"{COLUMNS}\n2026-11-20T10:00:00+0000,0.1.0+abc,sim,{os.cpu_count()},0.10,m.tflite,800.0,4.00,"
                       "10.000,10.000,,100,,,\n")
    (line,) = bench_history.append(history, bench.row(made_with([9]), "sim", 0.1))
    assert "warm_added_ms 1.50" in line and line.endswith("; SLOWER: warm_added_ms")
    assert history.read_text().splitlines()[0] == COLUMNS


class Broken:
    """An interpreter whose inferences fail from the third on."""

    def __init__(self) -> None:
        self.count = 0

    def get_input_details(self) -> list[dict]:
        return []

    def invoke(self) -> None:
        self.count += 1
        if self.count > 3:
            raise RuntimeError("the device is gone")


def test_a_failing_worker_is_an_error() -> None:
    with pytest.raises(CermetError, match="the device is gone"):
        benchmark.throughput([Broken(), Broken()], 5)


VALUES: dict[str, object] = {**dict.fromkeys((*bench_history.SAME, "time", "load", *bench_history.MEASURED), "10"),
                            "ref_p50_ms": "100"}


def test_a_run_without_an_older_one_compares_with_nothing(history: Path) -> None:
    assert bench_history.append(history, VALUES) == []
    assert bench_history.append(history, VALUES | {"model": "another"}) == []
    (line,) = bench_history.append(history, VALUES | {"p50_ms": "30"})
    assert "p50_ms 3.00" in line and "load 10" in line


def test_a_regression_shows(history: Path) -> None:
    """Against the median, so that one disturbed run before hides nothing."""
    for p50 in ("10", "10", "11", "90"):
        assert "SLOWER" not in "".join(bench_history.append(history, VALUES | {"p50_ms": p50, "ref_p50_ms": p50}))
    (line,) = bench_history.append(history, VALUES | {"p50_ms": "15", "ref_p50_ms": "10"})
    assert "p50_ms 1.43" in line and line.endswith("; SLOWER: p50_ms") and "median of 4 runs since 10" in line


def test_what_other_work_slows_down_is_no_regression(history: Path) -> None:
    """The reference kernels took as much longer in the same run; memory has no such excuse."""
    bench_history.append(history, VALUES)
    (line,) = bench_history.append(history, VALUES | {"p50_ms": "20", "ref_p50_ms": "195", "peak_mib": "20"})
    assert "p50_ms 2.00" in line and line.endswith("; SLOWER: peak_mib")


def test_without_peers_only_the_times_count(history: Path) -> None:
    bench_history.append(history, VALUES | {"ref_p50_ms": ""})
    (line,) = bench_history.append(history, VALUES | {"p50_ms": "13", "ref_p50_ms": ""})
    assert line.endswith("; SLOWER: p50_ms")


def test_only_the_last_runs_count(history: Path) -> None:
    for p50 in ("10", *["20"] * bench_history.NUM_COMPARED):
        bench_history.append(history, VALUES | {"p50_ms": p50})
    (line,) = bench_history.append(history, VALUES | {"p50_ms": "20"})
    assert "p50_ms 1.00" in line and f"{bench_history.NUM_COMPARED} runs" in line


def test_columns_that_an_older_file_has_not_are_added(history: Path) -> None:
    older = {name: value for name, value in VALUES.items() if name != "overhead_p50_ms"}
    bench_history.append(history, older)
    (line,) = bench_history.append(history, VALUES | {"p50_ms": "11"})
    assert "p50_ms 1.10" in line and "overhead_p50_ms -" in line
    with history.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == list(second) and first["overhead_p50_ms"] == "" and second["overhead_p50_ms"] == "10"
    assert {name: first[name] for name in older} == older
