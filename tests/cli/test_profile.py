"""`cermet profile`: tables, JSON, CSV and trace that say the same, for every model."""
from __future__ import annotations

import csv
import io
import json
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from cermet.hw.soc import RK3588
from tests.cli.conftest import Cermet
from tests.support.model_builder import conv2d

MODELS = ("mobilenet_v1_0.25_128_quant", "kws_ref_model", "ad01_int8", "split_concat", "v2_vad")


def profile_of(cermet: Cermet, model: Path, *arguments: object) -> dict:
    result = cermet("profile", model, "--json", *arguments)
    assert (result.status, result.err) == (0, ""), result.err
    return json.loads(result.out)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, models_dir: Path) -> Path:
    return models_dir / f"{request.param}.tflite"


def test_every_operation_has_one_layer_and_sums_are_totals(cermet: Cermet, model: Path) -> None:
    profile, report = profile_of(cermet, model), json.loads(cermet("report", model, "--json").out)
    layers, totals = profile["layers"], profile["totals"]
    assert sorted(index for layer in layers for index in layer["operations"]) == list(range(len(report["nodes"])))
    for layer in layers:
        assert {report["nodes"][index]["target"] for index in layer["operations"]} == {layer["target"]}
        assert layer["type"] == "+".join(report["nodes"][index]["operation"] for index in layer["operations"])
        assert layer["macs"] == sum(report["nodes"][index]["macs"] for index in layer["operations"])
        assert layer["max_cycles"] >= max(layer["npu_cycles"], layer["ddr_cycles"] - 1)
        assert 0 <= layer["mac_use"] <= 1 and all(0 <= share <= 1 for share in layer["load"])
        assert (layer["tasks"] > 0) == (layer["bound_by"] not in ("", "cpu"))
    for name in ("tasks", "macs", "ddr_cycles", "npu_cycles", "max_cycles", "read_bytes", "written_bytes"):
        assert totals[name] == sum(layer[name] for layer in layers)
    assert totals["tasks"] == report["estimate"]["tasks"]
    on_npu = sum(layer["time_us"] for layer in layers if layer["target"] == "NPU")
    submits = sum(part["submit_us"] for part in profile["parts"])
    assert totals["npu_us"] == pytest.approx(on_npu + submits)
    assert totals["total_us"] == pytest.approx(totals["npu_us"] + totals["convert_us"] + totals["cpu_us"])
    assert sum(kind["time_us"] for kind in profile["types"]) == pytest.approx(sum(x["time_us"] for x in layers))
    assert [kind["time_us"] for kind in profile["types"]] == sorted((k["time_us"] for k in profile["types"]),
                                                                   reverse=True)


def test_memory_holds_what_is_alive_side_by_side(cermet: Cermet, model: Path) -> None:
    for part in profile_of(cermet, model)["parts"]:
        memory = part["memory"]
        assert memory["total"] == sum(memory[name] for name in ("weights", "programs", "arena", "inputs", "outputs"))
        assert memory["programs"] >= 8 * sum(launch["words"] for task in part["tasks"] for launch in task["launches"])
        assert memory["weights"] > 0 and memory["peak"] <= memory["arena"]
        for one, other in combinations(part["arena"], 2):
            apart = one["last_task"] < other["first_task"] or other["last_task"] < one["first_task"]
            beside = (one["offset_bytes"] + one["size_bytes"] <= other["offset_bytes"]
                      or other["offset_bytes"] + other["size_bytes"] <= one["offset_bytes"])
            assert apart or beside, (one, other)
        assert all(each["offset_bytes"] + each["size_bytes"] <= memory["arena"] for each in part["arena"])


def test_csv_has_the_layers_of_the_json(cermet: Cermet, model: Path) -> None:
    profile = profile_of(cermet, model)
    rows = list(csv.DictReader(io.StringIO(cermet("profile", model, "--csv").out)))
    assert [row["operations"] for row in rows] == [" ".join(map(str, x["operations"])) for x in profile["layers"]]
    for row, layer in zip(rows, profile["layers"], strict=True):
        assert {name: row[name] for name in ("type", "target", "bound_by", "npu_cycles", "tasks")} == {
            name: str(layer[name]) for name in ("type", "target", "bound_by", "npu_cycles", "tasks")}
        assert float(row["time_us"]) == pytest.approx(layer["time_us"], abs=1e-3)


@pytest.mark.parametrize("kernel", ["mainline", "chained"])
def test_trace_is_one_inference(cermet: Cermet, model: Path, tmp_path: Path, kernel: str) -> None:
    path = tmp_path / "trace.json"
    profile = profile_of(cermet, model, "--trace", path, "--kernel", kernel, "--cores", 2)
    trace = json.loads(path.read_text())["traceEvents"]
    spans = [event for event in trace if event["ph"] == "X"]
    threads = {(event["pid"], event["tid"]): event["args"]["name"] for event in trace if event["name"] == "thread_name"}
    assert all((event["pid"], event["tid"]) in threads for event in spans)
    assert all(event["dur"] >= 0 and event["ts"] > -0.001 for event in spans)
    assert max(event["ts"] + event["dur"] for event in spans) == pytest.approx(profile["totals"]["total_us"], abs=0.01)
    for thread, name in threads.items():
        own = sorted((event["ts"], event["dur"]) for event in spans if (event["pid"], event["tid"]) == thread)
        assert name in ("PC",) or all(a + length <= b + 0.002 for (a, length), (b, _) in pairwise(own)), name
        if name == "tasks":
            assert len(own) == profile["totals"]["tasks"]
    interrupts = sum(event["name"] == "interrupt" for event in spans)
    assert interrupts == (profile["totals"]["tasks"] if kernel == "mainline" else 0)
    assert any(event["ph"] == "C" for event in trace)


def test_text_has_what_rockchips_users_know(cermet: Cermet, conv_model: Path) -> None:
    result = cermet("profile", conv_model)
    assert (result.status, result.err) == (0, "")
    for word in ("type", "dtype", "target", "input shapes", "cycles DDR", "NPU", "max", "time us", "MAC use",
                 "load/core", "tasks", "RW KB", "bound by", "convert in us", "convert out us", "weights", "programs",
                 "arena", "SOFTMAX", "on the CPU: 1 operations", "per second, by estimate"):
        assert word in result.out, word
    (line,) = [line for line in result.out.splitlines() if line.startswith(" 0  CONV_2D")]
    assert "1x8x8x4,6x3x3x4" in line and "1x8x8x6" in line and "NPU 0" in line


def test_array_cycles_are_the_vendors(cermet: Cermet, models_dir: Path) -> None:
    """MobileNet V1 0.25 128: the vendor's column for layers that neither compiler cuts; of 9 taps the first has 4."""
    layers = profile_of(cermet, models_dir / "mobilenet_v1_0.25_128_quant.tflite")["layers"]
    assert [layer["npu_cycles"] for layer in layers[:4]] == [36864 * 4 // 9, 36864, 16384, 9216]


def test_circumstances_change_what_they_should(cermet: Cermet, models_dir: Path) -> None:
    model = models_dir / "mobilenet_v1_0.25_128_quant.tflite"
    usual = profile_of(cermet, model)
    chained, slow = profile_of(cermet, model, "--kernel", "chained"), profile_of(cermet, model, "--clock", 200)
    assert usual["setting"] == {"soc": "rk3588", "clock_mhz": 1000, "cores": 1, "kernel": "mainline"}
    saved = usual["totals"]["npu_us"] - chained["totals"]["npu_us"]
    assert saved >= 34 * usual["totals"]["tasks"]
    busy = [sum(part["busy_us"] for part in profile["parts"]) for profile in (usual, slow)]
    assert 4 * busy[0] < busy[1] <= 5.001 * busy[0]
    three = profile_of(cermet, model, "--cores", 3)
    assert 2 < three["totals"]["per_second"] / usual["totals"]["per_second"] <= 3
    assert all(len(set(layer["load"])) == 1 for layer in three["layers"])
    assert {layer["load"][1] for layer in usual["layers"]} == {0.0}


@pytest.mark.parametrize("cores", [1, 3])
def test_queues_share_one_inference_between_cores(cermet: Cermet, models_dir: Path, tmp_path: Path, cores: int) -> None:
    """Tasks of a core follow each other; whoever reads what another core wrote waits for its interrupt."""
    model, path = models_dir / "mobilenet_v1_0.25_128_quant.tflite", tmp_path / "trace.json"
    profile = profile_of(cermet, model, "--kernel", "queues", "--cores", cores, "--clock", 200, "--trace", path)
    usual = profile_of(cermet, model, "--clock", 200)
    assert profile["totals"]["npu_us"] < usual["totals"]["npu_us"]
    (part,) = profile["parts"]
    tasks = part["tasks"]
    for core in range(cores):
        own = sorted((task["start_us"], task["end_us"] + task["kernel_us"]) for task in tasks if task["core"] == core)
        assert own and all(end <= start + 1e-6 for (_, end), (start, _) in pairwise(own))
    assert {task["core"] for task in tasks} == set(range(cores))
    makers = {index: max(task["end_us"] + task["kernel_us"] for task in tasks if index in task["operations"])
              for layer in profile["layers"] if layer["tasks"] and cores > 1 for index in layer["operations"]
              if len({task["core"] for task in tasks if index in task["operations"]}) > 1}
    for index, end in makers.items():           # a chain of layers: what comes behind reads it
        assert all(task["start_us"] >= end - 1e-6 for task in tasks if min(task["operations"]) > index)
    assert bool(makers) == (cores > 1)
    totals = profile["totals"]
    on_npu = sum(layer["time_us"] for layer in profile["layers"] if layer["target"] == "NPU")
    assert totals["npu_us"] == pytest.approx(on_npu + part["submit_us"])
    assert part["npu_us"] == pytest.approx(part["busy_us"] + part["interrupts_us"] + part["submit_us"])
    assert totals["per_second"] == pytest.approx(1e6 / totals["total_us"])
    assert all(0 <= share <= 1.000001 for layer in profile["layers"] for share in layer["load"])
    spans = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("cat") == "tasks"]
    assert len(spans) == totals["tasks"] and len({event["pid"] for event in spans}) == cores


@pytest.mark.parametrize("kernel", ["mainline", "chained", "queues"])
def test_words_that_are_left_out_cost_no_time(cermet: Cermet, models_dir: Path, kernel: str) -> None:
    """In chains fetching is hidden but for each step's first task, which is whole."""
    model = models_dir / "mobilenet_v1_0.25_128_quant.tflite"
    whole, short = (profile_of(cermet, model, "--kernel", kernel, "--option", f"registers={registers}")
                    for registers in ("all", "changed"))
    words = [sum(launch["words"] for part in profile["parts"] for task in part["tasks"] for launch in task["launches"])
             for profile in (whole, short)]
    saved_us = 8 * (words[0] - words[1]) / 1000
    assert words[1] < 0.5 * words[0]
    assert whole["totals"]["npu_us"] - short["totals"]["npu_us"] == pytest.approx(
        saved_us if kernel == "mainline" else 0, abs=0.01)
    assert short["totals"]["npu_cycles"] == whole["totals"]["npu_cycles"]
    assert short["parts"][0]["memory"]["programs"] < whole["parts"][0]["memory"]["programs"]


def test_model_without_anything_for_the_npu(cermet: Cermet, conv_model: Path) -> None:
    profile = profile_of(cermet, conv_model, "--option", "deny=CONV_2D")
    assert profile["parts"] == [] and profile["totals"]["npu_us"] == 0
    assert [layer["bound_by"] for layer in profile["layers"]] == ["cpu", "cpu"]
    assert cermet("profile", conv_model, "--option", "deny=CONV_2D").status == 0


def test_layers_of_several_tasks_are_one_line(cermet: Cermet, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(conv2d(np.random.default_rng(0), (1, 96, 96, 96), 32).data)
    (layer,) = profile_of(cermet, path)["layers"]
    assert layer["tasks"] > 1 and layer["output_shape"] == [1, 96, 96, 32]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--clock", "0"], "--clock: 0 must be 1..1000 MHz"), (["--clock", "1001"], "--clock: 1001 must be 1..1000 MHz"),
    (["--cores", "4"], "--cores: 4 must be 1..3, rk3588 has no more"), (["--cores", "0"], "--cores: 0 must be 1..3"),
    (["--option", "cores=2"], "--option cores: is --kernel queues --cores N here"),
    (["--soc", "rk1"], "soc: 'rk1' must be one of rk3588"), (["--json", "--csv"], "only one of them"),
    (["--trace", "/nonexistent/x"], "/nonexistent/x: No such file or directory"),
    (["--subgraph", "7"], "subgraph"), (["--option", "deny=CONV_2D+99"], "option deny: 99 must be below 2"),
])
def test_errors_are_one_line(cermet: Cermet, conv_model: Path, arguments: list[str], words: str) -> None:
    result = cermet("profile", conv_model, *arguments)
    assert result.status == 1 and words in result.err and result.err.count("\n") == 1


def test_a_model_is_not_taken_for_a_file_to_write(cermet: Cermet, conv_model: Path) -> None:
    """Behind --json or --csv, whose file may be left out, also when it is the only model there is."""
    before = conv_model.read_bytes()
    for arguments in (["--json", conv_model], [conv_model, "--csv", conv_model], [conv_model, "--html", conv_model]):
        result = cermet("profile", *arguments)
        assert result.status == 2 and f"{conv_model} would be overwritten" in result.err
        assert result.err.count("\n") == 1 and conv_model.read_bytes() == before


def test_traffic_is_held_against_what_has_to_be_moved(cermet: Cermet, tmp_path: Path) -> None:
    """One convolution: its image once in, weights and biases once in, the result once out."""
    path = tmp_path / "conv.tflite"
    path.write_bytes(conv2d(np.random.default_rng(0), (1, 20, 20, 16), 32, kernel=(3, 3)).data)
    profile = profile_of(cermet, path)
    compulsory = 20 * 20 * 16 + 32 * 3 * 3 * 16 + 32 * 4 + 20 * 20 * 32
    assert profile["totals"]["compulsory_bytes"] == profile["parts"][0]["compulsory_bytes"] == compulsory
    assert profile["totals"]["traffic"] == pytest.approx(1.0)


def test_programs_that_chain_themselves_cost_one_interrupt(cermet: Cermet, models_dir: Path) -> None:
    """As where the kernel chains, but for the interrupt; where it does, the option has no effect."""
    model = models_dir / "mobilenet_v1_0.25_128_quant.tflite"
    option = ("--option", "chains=program")
    mainline, chained = (profile_of(cermet, model, "--kernel", kernel, *option) for kernel in ("mainline", "chained"))
    assert mainline["totals"]["tasks"] > 10
    assert mainline["totals"]["npu_us"] - chained["totals"]["npu_us"] == pytest.approx(RK3588.interrupt_us, abs=0.01)
    plain = profile_of(cermet, model)
    assert mainline["totals"]["npu_us"] < plain["totals"]["npu_us"] - 10 * RK3588.interrupt_us
    assert profile_of(cermet, model, "--kernel", "queues", *option) == profile_of(cermet, model, "--kernel", "queues")
