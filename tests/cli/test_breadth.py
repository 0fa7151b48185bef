"""How much of every reference model runs on the NPU, and how exactly: reports and accuracy, asserted and in a table."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from cermet.frontend.tflite_file import load
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType
from tests.cli.conftest import Cermet
from tests.end_to_end.reference_models import ReferenceModel, load_manifest

EIGHT_BITS = (DType.INT8, DType.UINT8)
# At least this share of the nodes; the others are promised by their MACs alone.
DENSE_TASKS = ("detection", "segmentation", "pose")
MIN_NODES, MIN_MACS = 0.90, 0.99


WHATEVER_IT_COSTS = ("--option", "prefer=npu")


def has_8_bits(subgraph: Subgraph, operation: Operation) -> bool:
    """Whether all that it reads and writes at run time is of 8 bits: no indices, no floats, no custom code."""
    tensors = [subgraph.tensor(t) for t in (*operation.inputs, *operation.outputs) if t is not None]
    return not operation.name.startswith("CUSTOM") and all(t.is_constant or t.dtype in EIGHT_BITS for t in tensors)


def report_of(cermet: Cermet, path: Path, *options: str) -> dict:
    result = cermet("report", "--json", *options, path)
    assert result.status == 0, result.err
    return json.loads(result.out)


@pytest.mark.parametrize("model", load_manifest(), ids=lambda model: model.name)
def test_reference_model_runs_on_the_npu(cermet: Cermet, model: ReferenceModel, record_table) -> None:
    """99 % of the MACs, 90 % of the 8-bit nodes of dense tasks; no operation more than a step from exact arithmetic.

    Nodes that could run but do not pay (the last few numbers of a decoded pose) count as running.
    """
    report, subgraph = report_of(cermet, model.path), load(model.path)
    if any(tensor.dtype is DType.FLOAT32 and tensor.is_constant and tensor.data.size > 1
           for tensor in subgraph.tensors.values() if tensor.data is not None):
        assert report["summary"]["nodes_npu"] == 0
        pytest.skip("a model with float weights: it stays on the CPU")
    dense = [op for op in subgraph.operations if has_8_bits(subgraph, op)]
    whatever = report_of(cermet, model.path, *WHATEVER_IT_COSTS)
    can = {node["index"] for node in whatever["nodes"] if node["target"] == "NPU"}
    on_npu = sum(op.index in can for op in dense)
    result = cermet("accuracy", model.path, "--against", "exact", "--json")
    assert result.status == 0, result.err
    (measurement,) = json.loads(result.out)["measurements"]
    alone = [(t["alone"], len(t["operations"])) for t in measurement["tensors"]
             if t["target"] == "NPU" and t["alone"] and t["alone"]["unit"] == "LSB"]
    single = [error for error, count in alone if count == 1]
    elements = sum(error["elements"] for error, _ in alone)
    summary = report["summary"]
    record_table("Reference models on the NPU; each layer alone against exact arithmetic", {
        "model": model.name, "nodes": f"{summary['nodes_npu']}/{summary['nodes']}",
        "8-bit ones that can": f"{on_npu}/{len(dense)}",
        "MACs": f"{summary['macs_share']:.2%}", "partitions": summary["partitions"],
        "one operation, most LSB": max((error["max"] for error in single), default=0),
        "fused, most LSB": max((error["max"] for error, count in alone if count > 1), default=0),
        "not equal": f"{sum(e['differing'] * e['elements'] for e, _ in alone) / max(elements, 1):.3%}"})
    assert all(error["max"] <= 1 for error in single)
    assert not any(error["beyond"] for error, _ in alone)
    assert summary["macs"] == 0 or summary["macs_share"] >= MIN_MACS
    if model.entry["task"] in DENSE_TASKS:
        assert on_npu >= MIN_NODES * len(dense)
