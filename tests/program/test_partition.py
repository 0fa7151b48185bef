"""Grouping of operations, compared with what the TFLite runtimes themselves make of the same claims."""
from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from cermet.drivers.base import Refusal
from cermet.frontend.tflite_file import load
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor
from cermet.partition import group_nodes, partition, refuse_group
from tests.support.interpreter import load_delegate, make_interpreter

ROOT = Path(__file__).resolve().parents[2]
CLAIMS_PER_MODEL = 12
BRANCHING_MODELS = ("mobilenet_v2_1.0_224_quant", "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29_no_metadata",
                    "yolo-fastest-1.1-coco80-int8", "deeplabv3_mnv2_dm05_pascal_quant", "v2_vad", "split_concat",
                    "movenet_single_pose_lightning_ptq", "dilated_conv")


def graph(*edges: tuple[str, tuple[int, ...], int]) -> Subgraph:
    """Operations (name, inputs, output) on int8 tensors; tensor 0 is the input, the last output is the output."""
    names = {kind.value: kind for kind in Kind}
    operations = tuple(Operation(index, names.get(name, Kind.OTHER), name, inputs, (output,))
                       for index, (name, inputs, output) in enumerate(edges))
    numbers = {0} | {edge[2] for edge in edges}
    tensors = {number: Tensor(number, f"t{number}", (1, 4, 4, 4), DType.INT8) for number in numbers}
    return Subgraph(tensors, operations, (0,), (edges[-1][2],))


def groups_of(subgraph: Subgraph, claimed: set[int]) -> list[tuple[int, ...]]:
    return group_nodes(subgraph, lambda operation: operation.index in claimed)


def test_a_chain_is_cut_at_unclaimed_operations() -> None:
    chain = graph(("CONV_2D", (0,), 1), ("CONV_2D", (1,), 2), ("SOFTMAX", (2,), 3), ("CONV_2D", (3,), 4))
    assert groups_of(chain, {0, 1, 3}) == [(0, 1), (3,)]
    assert groups_of(chain, {0, 1, 2, 3}) == [(0, 1, 2, 3)]
    assert groups_of(chain, set()) == []


def test_branches_beside_an_unclaimed_operation_join_one_group() -> None:
    """The unclaimed operation waits: 0, 2 and 3 are ready without it."""
    branches = graph(("CONV_2D", (0,), 1), ("SOFTMAX", (1,), 2), ("CONV_2D", (1,), 3), ("ADD", (3, 1), 4),
                     ("ADD", (4, 2), 5))
    assert groups_of(branches, {0, 2, 3, 4}) == [(0, 2, 3), (4,)]


def test_operations_with_side_effects_keep_their_order() -> None:
    """Operation 3 is ready in the first epoch but waits for 2, which waits for the claimed 1; so 4 cannot join 1."""
    ordered = graph(("SOFTMAX", (0,), 1), ("CONV_2D", (0,), 2), ("IF", (2,), 3), ("WHILE", (0,), 4),
                    ("CONV_2D", (4,), 5))
    assert groups_of(ordered, {1, 4}) == [(1,), (4,)]
    free = graph(("SOFTMAX", (0,), 1), ("CONV_2D", (0,), 2), ("SOFTMAX", (2,), 3), ("SOFTMAX", (0,), 4),
                 ("CONV_2D", (4,), 5))
    assert groups_of(free, {1, 4}) == [(1, 4)]


def test_groups_that_only_reshape_stay_on_the_cpu() -> None:
    refusals = {1: Refusal("kind", "x"), 3: Refusal("kind", "x")}
    chain = graph(("CONV_2D", (0,), 1), ("SOFTMAX", (1,), 2), ("RESHAPE", (2,), 3), ("SOFTMAX", (3,), 4))
    assert partition(chain, refusals, 1) == [(0,)]
    assert refusals[2].rule == "group_does_work"


def test_small_groups_stay_on_the_cpu_and_the_rest_is_grouped_anew() -> None:
    """Without operation 2 nothing separates 0-1 from 3-4-5 but an unclaimed one that needs both."""
    model = graph(("CONV_2D", (0,), 1), ("CONV_2D", (1,), 2), ("SOFTMAX", (2,), 3), ("CONV_2D", (3,), 4),
                  ("SOFTMAX", (4,), 5), ("CONV_2D", (5,), 6), ("CONV_2D", (6,), 7))
    refusals = {2: Refusal("kind", "x"), 4: Refusal("kind", "x")}
    assert partition(model, refusals, 2) == [(0, 1), (5, 6)]
    assert refusals[3].reason == "only 1 operations could run together, min_partition_nodes is 2"


def test_a_lone_convolution_is_worth_a_job() -> None:
    assert refuse_group(list(graph(("CONV_2D", (0,), 1)).operations), 1) is None


def test_operation_whose_input_nothing_makes_is_an_error() -> None:
    with pytest.raises(ValueError, match="inputs are never produced"):
        groups_of(graph(("ADD", (0, 2), 1), ("ADD", (1, 0), 2)), {0})


# What the runtime does


@pytest.fixture(scope="module")
def preview_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    source = Path(__file__).with_name("preview_delegate.c")
    library = tmp_path_factory.mktemp("preview") / "libpreview.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, f"-I{ROOT / 'delegate'}"], check=True)
    return library


@pytest.mark.parametrize("runtime", ["tflite", "litert"])
@pytest.mark.parametrize("name", BRANCHING_MODELS)
def test_groups_are_those_of_the_runtime(name: str, runtime: str, models_dir: Path, preview_library: Path,
                                         tmp_path: Path) -> None:
    """Random claims and claims by operator on models with branches, control flow and variables."""
    pytest.importorskip("tflite_runtime" if runtime == "tflite" else "ai_edge_litert")
    model = models_dir / f"{name}.tflite"
    if not model.exists():
        pytest.skip("not among the models that are here")
    subgraph = load(model)
    generator = random.Random(name)
    for _ in range(CLAIMS_PER_MODEL):
        share = generator.choice((0.3, 0.7, 0.95))
        claimed = {operation.index for operation in subgraph.operations
                   if generator.random() < share and "VAR" not in operation.name and operation.name != "CALL_ONCE"}
        out = tmp_path / "groups"
        delegate = load_delegate(preview_library, {"nodes": ",".join(map(str, sorted(claimed))), "out": out},
                                 runtime=runtime)
        make_interpreter(model, runtime=runtime, delegates=[delegate])
        expected = [tuple(map(int, line.split())) for line in out.read_text().splitlines()]
        assert groups_of(subgraph, claimed) == expected
