"""`cermet report --html`: one page that needs nothing else, with every operation on it and where it runs."""
from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Quantisation, Tensor
from cermet.report_advice import hints
from cermet.report_html.layout import GAP, LANE_WIDTH, NODE_WIDTH, lay_out
from tests.cli.conftest import Cermet
from tests.cli.page import LOADING_ATTRIBUTES, check_names_are_text, page_of
from tests.support.model_builder import conv2d


@pytest.fixture
def written(cermet: Cermet, tmp_path: Path):
    """The page and the JSON of a model."""
    def write(model: Path, *arguments: str) -> tuple[str, dict]:
        path = tmp_path / "report.html"
        result = cermet("report", model, "--json", "--html", path, *arguments)
        assert (result.status, result.err) == (0, "")
        return path.read_text(encoding="utf-8"), json.loads(result.out)
    return write


def test_page_has_every_operation_of_every_reference_model(written, models_dir: Path) -> None:
    for model in sorted(models_dir.glob("*.tflite")):
        text, report = written(model)
        page = page_of(text)
        identifiers, links = page.values("id"), page.values("href")
        assert sorted(identifiers) == sorted(f"n{node['index']}" for node in report["nodes"])
        assert {link.removeprefix("#") for link in links} <= set(identifiers)
        boxes = [value for value in page.values("class") if value.startswith("node ")]
        assert len(boxes) == len(report["nodes"])
        assert sum("npu" in box for box in boxes) == report["summary"]["nodes_npu"]
        for node in report["nodes"]:
            assert node["target"] == "NPU" or any(node["reason"] in words for words in page.text)


def test_page_needs_no_other_file(written, conv_model: Path) -> None:
    text, _ = written(conv_model)
    page = page_of(text)
    assert "script" not in page.tags and "link" not in page.tags and "img" not in page.tags
    assert not LOADING_ATTRIBUTES & {name for name, _ in page.attributes}
    assert not re.search(r"url\(|@import|javascript:", text)
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}


def test_names_from_the_model_are_text(cermet: Cermet, conv_model: Path, tmp_path: Path) -> None:
    check_names_are_text(cermet, "report", conv_model, tmp_path)


def test_page_says_what_would_change_it(written, conv_model: Path) -> None:
    text, report = written(conv_model)
    assert report["nodes"][1]["advice"] in " ".join(page_of(text).text)
    assert report["nodes"][1]["advice"].startswith("Replace it by operations of the support table")


def test_idle_channels_are_hinted_at(cermet: Cermet, tmp_path: Path) -> None:
    expected = {(64, 32): [], (48, 96): [], (32, 8): ["8 output channels, 32 take"],
                (33, 40): ["33 input channels, 64 take",
                           "40 output channels, 64 take"]}
    for (channels, outputs), words in expected.items():
        path = tmp_path / "model.tflite"
        path.write_bytes(conv2d(np.random.default_rng(1), (1, 6, 6, channels), outputs).data)
        (node,) = json.loads(cermet("report", path, "--json").out)["nodes"]
        assert len(node["hints"]) == len(words) and all(w in h for w, h in zip(words, node["hints"], strict=True))


def test_what_cuts_the_npus_part_in_two_is_hinted_at(cermet: Cermet, models_dir: Path) -> None:
    model = models_dir / "mobilenet_v1_0.25_128_quant.tflite"
    for options, count in ([], 0), (["--option", "deny=DEPTHWISE_CONV_2D", "--option", "prefer=npu"], 13):
        nodes = json.loads(cermet("report", model, "--json", *options).out)["nodes"]
        cuts = [node for node in nodes if any("stands between" in hint for hint in node["hints"])]
        assert len(cuts) == count and {node["target"] for node in cuts} <= {"CPU"}
        if cuts:
            assert cuts[0]["hints"] == ["stands between partitions 0 and 1: its data goes from the NPU to the CPU and "
                                        "back"]


def test_operands_of_other_scales_are_hinted_at() -> None:
    tensors = {t: Tensor(t, str(t), (1, 1, 1, 8), DType.INT8, Quantisation((scale,), (0,)))
               for t, scale in enumerate((0.5, 0.25, 0.5))}
    operation = Operation(0, Kind.CONCATENATION, "CONCATENATION", (0, 1), (2,))
    (hint,) = hints(Subgraph(tensors, (operation,), (0, 1), (2,)), operation, [], "rk3588")
    assert hint.startswith("1 of its 2 operands")


def test_idle_channels_are_those_of_blocks(cermet: Cermet, models_dir: Path) -> None:
    """The first convolution reads blocks of 2x2 pixels of 3 channels; 8 of 32 output channels are another matter."""
    model = models_dir / "mobilenet_v1_0.25_128_quant.tflite"
    first, *_ = json.loads(cermet("report", model, "--json").out)["nodes"]
    assert first["hints"][0] == ("38% of the array is busy: 12 input channels of blocks of 2x2 pixels, 32 take the "
                                 "same time")


def test_interrupts_of_an_operations_tasks_are_hinted_at_where_there_are_any(cermet: Cermet, tmp_path: Path) -> None:
    """A chain has one, behind its last program."""
    path = tmp_path / "model.tflite"
    path.write_bytes(conv2d(np.random.default_rng(1), (1, 224, 224, 32), 32).data)
    (alone,), (chained,) = (json.loads(cermet("report", path, "--json", *options).out)["nodes"][0]["hints"]
                            for options in ([], ["--option", "chains=program"]))
    count = int(alone.split()[1])
    assert count > 2 and chained.split()[1] == str(count)
    why = "ms of interrupts on a board, cut along its rows to fit the convolution buffer"
    assert alone == f"takes {count} tasks, {count * 0.034:.2g} {why}"
    assert chained == f"takes {count} tasks, 0.034 {why}"


def test_refusals_by_option_are_no_fault_of_the_model(cermet: Cermet, conv_model: Path) -> None:
    report = json.loads(cermet("report", conv_model, "--json", "--option", "deny=CONV_2D").out)
    assert report["nodes"][0]["advice"] == "Nothing in the model: take its name out of the option deny."
    assert "  - CONV_2D (0): Nothing in the model" in cermet("report", conv_model, "--option", "deny=CONV_2D").out


# The layout


def test_readers_stand_below_makers_and_nothing_overlaps() -> None:
    rng = np.random.default_rng(7)
    for _ in range(30):
        nodes = list(range(int(rng.integers(1, 40))))
        edges = sorted({(int(rng.integers(0, node)), node) for node in nodes[1:] for _ in range(2)})
        placed = lay_out(nodes, edges)
        assert all(placed.places[start][1] < placed.places[end][1] for start, end in edges)
        items = [(layer, x, NODE_WIDTH) for x, layer in placed.places.values()]
        items += [(layer, x, LANE_WIDTH) for route in placed.routes.values() for x, layer in route]
        for layer in range(placed.num_layers):
            row = sorted((x, width) for at, x, width in items if at == layer)
            for (x, width), (other, other_width) in pairwise(row):
                assert other - x >= (width + other_width) / 2 + GAP - 1e-6


def test_edges_pass_beside_the_layers_that_they_skip() -> None:
    placed = lay_out([0, 1, 2, 3], [(0, 1), (1, 2), (2, 3), (0, 3)])
    assert [layer for _, layer in placed.routes[0, 3]] == [1, 2]
    assert placed.routes[0, 1] == ()


def test_a_chain_is_a_straight_line() -> None:
    placed = lay_out([0, 1, 2], [(0, 1), (1, 2)])
    assert len({x for x, _ in placed.places.values()}) == 1


def test_a_graph_without_nodes_has_no_layers() -> None:
    assert lay_out([], []).num_layers == 0
