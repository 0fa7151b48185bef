"""Dilation written with SPACE_TO_BATCH_ND: TFLite's numbers, what is not folded, how it is claimed."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.compiler import compile_subgraph
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.operation import Pair
from cermet.ir.passes import run_passes
from cermet.ir.passes.fold_dilation import fold_dilations
from cermet.ir.subgraph import Subgraph
from tests.drivers.rocket.grid import Case, case_id, pairwise
from tests.drivers.rocket.test_grid import _rng
from tests.support import interpreter
from tests.support.builders_conv import dilated
from tests.support.model_builder import Model

CASES = pairwise({
    "plane": ((9, 10), (13, 7), (20, 20), (33, 33), (6, 31), (27, 16)),
    "block": ((2, 2), (3, 2), (4, 4), (1, 6), (12, 12), (5, 1), (7, 3)), "kernel": ((3, 3), (1, 3), (5, 2), (2, 2)),
    "same": (True, False), "extra": ((0, 0), (1, 0), (2, 3)),
    "inputs": (3, 16, 40), "depthwise": (True, False), "dtype": ("int8", "uint8", "channel"),
    "activation": ("NONE", "RELU6"),
}, lambda case: all((k - 1) * b < p for k, b, p in zip(case["kernel"], case["block"], case["plane"], strict=True)),
    seed=31)
results: list[np.ndarray] = []


def _model(case: Case) -> Model:
    return dilated(_rng(case), (1, *case["plane"], case["inputs"]), case["block"], case["kernel"], same=case["same"],
                   depthwise=case["depthwise"], extra=case["extra"], activation=case["activation"],
                   dtype="uint8" if case["dtype"] == "uint8" else "int8", per_channel=case["dtype"] == "channel")


def fold_dilation(subgraph: Subgraph) -> Subgraph:
    return fold_dilations(subgraph, lambda made, conv: True)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_folded_dilation_computes_the_same(case: Case) -> None:
    model = _model(case)
    before, inputs = read_tflite(model.data), model.random_inputs(_rng(case))
    after = run_passes(before, (fold_dilation,))
    (conv,) = after.operations
    assert conv.window is not None and conv.window.dilation == Pair(*case["block"])
    named = dict(zip(before.inputs, inputs, strict=True))
    expected = interpreter.run(model.data, inputs)[0]
    for subgraph in (before, after):
        (soft,) = SoftDriver().execute(subgraph, named).values()
        np.testing.assert_array_equal(soft, expected)
    driver = RocketDriver(RK3588)
    assert len(driver.compile(before, CompileOptions()).tasks) == 1
    (npu,) = driver.execute(before, named).values()
    results.append(np.abs(npu.astype(int) - expected.astype(int)))
    assert results[-1].max() <= 1


def test_equality_with_tflite(record_table: Callable[[str, dict[str, object]], None]) -> None:
    each = np.concatenate([r.reshape(-1) for r in results])
    record_table("dilation as SPACE_TO_BATCH_ND, one task", {
        "cases": len(results), "elements": each.size, "equal to TFLite": f"{np.mean(each == 0):.4%}",
        "largest": int(each.max())})
    assert np.mean(each == 0) > 0.99


def test_what_is_read_elsewhere_stays() -> None:
    model = dilated(np.random.default_rng(0), (1, 9, 10, 3), (2, 2))
    for number in (0, model.operations[1].outputs[0]):
        before = read_tflite(replace(model, outputs=(*model.outputs, number)).data)
        assert fold_dilation(before) is before


@pytest.mark.parametrize("options,operands", [
    ({"stride": (2, 1)}, {}), ({}, {"crops": [[3, 1], [0, 0]]}), ({}, {"block": [4, 1]})], ids=str)
def test_what_is_no_dilation_stays(options: dict, operands: dict) -> None:
    """A stride steps over images of the batch; more cut off in front than added; blocks that differ."""
    model = dilated(np.random.default_rng(0), (1, 9, 10, 3), (2, 2), same=False, **options)
    tensors = list(model.tensors)
    for name, values in operands.items():
        at = next(i for i, tensor in enumerate(tensors) if tensor.name == name)
        if name == "block":     # of the last operation alone
            tensors.append(replace(tensors[at], data=np.asarray(values, np.int32)))
            last = model.operations[2]
            changed = replace(last, inputs=(last.inputs[0], len(tensors) - 1, last.inputs[2]))
            model = replace(model, operations=(*model.operations[:2], changed))
        else:
            tensors[at] = replace(tensors[at], data=np.asarray(values, np.int32))
    before = read_tflite(replace(model, tensors=tuple(tensors)).data)
    assert fold_dilation(before) is before


def test_three_operations_that_fold_are_claimed_together_or_judged_alone() -> None:
    """Blocks of 12 by 12 need more copies than are worth it, so that SPACE_TO_BATCH_ND alone stays on the CPU."""
    subgraph = read_tflite(dilated(np.random.default_rng(0), (1, 33, 33, 16), (12, 12)).data)
    together = compile_subgraph(subgraph, RocketDriver(RK3588), CompileOptions())
    assert together.groups == ((0, 1, 2),) and len(together.programs[0].tasks) == 1 and not together.faults
    unproven = compile_subgraph(subgraph, RocketDriver(RK3588), CompileOptions(assume="off"))
    assert not unproven.faults and {0, 1, 2} == set(unproven.refusals) and "dilation" in unproven.refusals[1].reason
    apart = compile_subgraph(subgraph, RocketDriver(RK3588), CompileOptions(deny=frozenset({"BATCH_TO_SPACE_ND"})))
    assert not apart.faults and {0, 2} <= set(apart.refusals)
    assert "copies" in apart.refusals[0].reason or "pieces" in apart.refusals[0].reason \
        or "tasks" in apart.refusals[0].reason, apart.refusals[0]
