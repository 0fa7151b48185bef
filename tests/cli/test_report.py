"""`cermet report`: the table for people, the JSON for tools."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from cermet.cli.models import compile_options
from tests.cli.conftest import Cermet

SUMMARY = {"nodes": int, "nodes_npu": int, "macs": int, "macs_npu": int, "macs_share": float, "partitions": int,
           "bytes": int, "bytes_npu": int, "bytes_share": float}
NODE = {"index": int, "operation": str, "target": str, "partition": (int, type(None)), "rule": str, "reason": str,
        "macs": int, "output_shape": list, "output_dtype": str, "bytes": int, "advice": str, "hints": list,
        "assumed": list}
PARTITION = {"nodes": list, "tasks": int, "macs": int, "input_bytes": int, "output_bytes": int, "npu_us": float,
             "cpu_us": float}
ASSUMPTION = {"name": str, "words": str, "evidence": str, "source": str, "nodes": list}
TOP = {"model": str, "soc": str, "build_id": str, "subgraph": int, "subgraphs": int, "summary": dict, "nodes": list,
       "partitions": list, "assumptions": list, "estimate": dict, "faults": list}


def check_schema(report: dict) -> None:
    for value, schema in [(report, TOP), (report["summary"], SUMMARY), *((node, NODE) for node in report["nodes"]),
                          *((part, PARTITION) for part in report["partitions"]),
                          *((part, ASSUMPTION) for part in report["assumptions"])]:
        assert list(value) == list(schema)
        for name, kind in schema.items():
            assert isinstance(value[name], kind), name


def test_json_has_the_documented_members(cermet: Cermet, conv_model: Path) -> None:
    result = cermet("report", conv_model, "--json")
    assert (result.status, result.err) == (0, "")
    report = json.loads(result.out)
    check_schema(report)
    assert report["summary"] == {"nodes": 2, "nodes_npu": 1, "macs": 13824, "macs_npu": 13824, "macs_share": 1.0,
                                 "partitions": 1, "bytes": 1648, "bytes_npu": 880, "bytes_share": 880 / 1648}
    assert [node["target"] for node in report["nodes"]] == ["NPU", "CPU"]
    assert report["nodes"][0]["rule"] == report["nodes"][0]["reason"] == ""
    assert report["nodes"][1]["rule"] and "SOFTMAX" in report["nodes"][1]["reason"]


def test_json_adds_up_for_reference_models(cermet: Cermet, models_dir: Path) -> None:
    for model in sorted(models_dir.glob("mobilenet_*.tflite")):
        report = json.loads(cermet("report", model, "--json").out)
        check_schema(report)
        summary, nodes = report["summary"], report["nodes"]
        on_npu = [node for node in nodes if node["target"] == "NPU"]
        assert [node["index"] for node in nodes] == list(range(summary["nodes"]))
        assert (summary["nodes_npu"], summary["macs_npu"]) == (len(on_npu), sum(node["macs"] for node in on_npu))
        for number, part in enumerate(report["partitions"]):
            assert part["nodes"] == [node["index"] for node in on_npu if node["partition"] == number]
        assert len(report["partitions"]) == summary["partitions"]
        assert sum(part["macs"] for part in report["partitions"]) == summary["macs_npu"]
        assert sum(part["tasks"] for part in report["partitions"]) == report["estimate"]["tasks"]
        for part in report["assumptions"]:
            assert part["nodes"] == [node["index"] for node in nodes if part["name"] in node["assumed"]] != []
        assert all(bool(node["reason"]) == bool(node["rule"]) == (node["target"] == "CPU") for node in nodes)
        assert report["faults"] == []


def test_table_has_a_line_per_node_and_a_summary(cermet: Cermet, conv_model: Path) -> None:
    lines = cermet("report", conv_model).out.splitlines()
    assert lines[0].split()[:4] == ["node", "operation", "output", "MACs"]
    assert lines[1].split() == ["0", "CONV_2D", "1x8x8x6", "int8", "13,824", "880", "NPU", "0"]
    assert "no NPU program for SOFTMAX" in lines[2]
    table = next(number for number, line in enumerate(lines) if line.startswith("partition"))
    assert lines[table].split() == ["partition", "nodes", "tasks", "MACs", "bytes", "in", "bytes", "out", "us", "NPU",
                                    "us", "CPU", "which"]
    assert lines[table + 1].split()[:6] == ["0", "1", "1", "13,824", "256", "384"]
    advice = lines.index("to bring more onto the NPU:", table)
    assert lines[advice + 1].startswith("  - SOFTMAX (1): Replace it by")
    assert ("conv.tflite on rk3588: 1 of 2 nodes, 100.00% of the MACs, 53.40% of the bytes, 1 partition on the NPU"
            in lines[advice:])


def test_lines_are_narrow_and_nothing_is_lower_cased(cermet: Cermet, models_dir: Path) -> None:
    for model in sorted(models_dir.glob("*.tflite")):
        lines = cermet("report", model).out.splitlines()
        end = next(number for number, line in enumerate(lines) if line.startswith(f"{model.name} on rk3588"))
        assert max(map(len, lines[:end])) <= 120
        assert not any(word in " ".join(lines) for word in (" mEAN", " fULLY", " there are", "holds: "))


def test_numbers_choose_nodes(cermet: Cermet, models_dir: Path) -> None:
    model = models_dir / "mobilenet_v1_0.25_128_quant.tflite"

    def on_npu(*options: str) -> list[int]:
        arguments = [word for option in ("prefer=npu", *options) for word in ("--option", option)]
        nodes = json.loads(cermet("report", model, "--json", *arguments).out)["nodes"]
        return [node["index"] for node in nodes if node["target"] == "NPU"]
    everything = on_npu()
    assert on_npu("deny=3,5-7") == [index for index in everything if index not in (3, 5, 6, 7)]
    assert on_npu("allow=2-4+depthwise_conv_2d", "deny=3") == [
        index for index in everything if index in {2, 4, *range(1, 27, 2)} - {3}]
    assert on_npu("deny=0-30") == []


def test_options_decide_as_in_the_delegate(cermet: Cermet, conv_model: Path) -> None:
    report = json.loads(cermet("report", conv_model, "--json", "--option", "deny=conv_2d").out)
    assert report["nodes"][0]["reason"] == "option deny names CONV_2D"
    assert report["summary"]["macs_share"] == 0.0


@pytest.mark.parametrize(("arguments", "words"), [
    (["nosuch.tflite"], "nosuch.tflite: no such file, must be a .tflite model"),
    ([__file__], "bytes 4..7 must be TFL3"),
    (["MODEL", "--soc", "rk1"], "soc: 'rk1' must be one of rk3588"),
    (["MODEL", "--option", "denny=ADD"], "option 'denny=ADD': must be one of match, allow, deny"),
    (["MODEL", "--option", "deny=FOO"], "option deny: FOO must be among A"),
    (["MODEL", "--option", "deny=1-2"], "option deny: 1-2 must be below 2, the number of operations"),
    (["MODEL", "--option", "allow=7"], "option allow: 7 must be below 2"),
    (["MODEL", "--option", "deny=2-1"], "option deny: '2-1' must be operation names like CONV_2D or numbers like"),
    (["MODEL", "--option", "assume=no"], "option assume: 'no' must be one of on, replayed, off"),
    (["MODEL", "--option", "match=exact", "--option", "match=tflite"], "match is given as exact and as tflite"),
    (["MODEL", "--option", "match"], "--option: 'match' must be NAME=VALUE"),
    (["MODEL", "--option", "prefer=cpu"], "option prefer: 'cpu' must be one of speed, npu"),
    (["MODEL", "--subgraph", "3"], "subgraph 3 does not exist, must be 0..0"),
])
def test_errors_are_one_line(cermet: Cermet, conv_model: Path, arguments: list[str], words: str) -> None:
    result = cermet("report", *(str(conv_model) if word == "MODEL" else word for word in arguments))
    assert (result.status, result.out) == (1, "")
    assert words in result.err
    assert result.err.startswith("cermet: ") and result.err.count("\n") == 1


def test_lists_given_several_times_are_joined() -> None:
    options = compile_options(["allow=ADD", "deny=3", "allow=MEAN+2", "deny=", "match=exact", "match=exact"], {})
    assert (options.allow, options.deny, options.match) == ({"ADD", "MEAN", "2"}, {"3"}, "exact")


def test_environment_holds_where_the_command_line_says_nothing() -> None:
    environment = {"CERMET_DENY": "add", "CERMET_MATCH": "exact", "CERMET_ALLOW": ""}
    options = compile_options(["match=tflite"], environment)
    assert (options.match, options.deny, options.allow) == ("tflite", {"ADD"}, frozenset())
