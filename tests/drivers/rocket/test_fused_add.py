"""ADD behind a convolution: the sum is within 1 LSB of exact for a convolution result that is within 1 LSB of exact."""
from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions, Program
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.passes.fuse_add import fuse_adds
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import Case, case_id, pairwise, run, subgraph_of
from tests.support import exact, interpreter, model_builder
from tests.support.model_builder import Model

FACTORS = {
    "ic": (3, 16, 33, 100, 320), "oc": (1, 16, 17, 33, 64, 100, 300), "plane": ((4, 3), (7, 7), (13, 29), (56, 56)),
    "kernel": ((1, 1), (3, 3)), "scheme": ("uint8", "int8", "channel"), "inner": ("NONE", "RELU", "RELU6"),
    "activation": ("NONE", "RELU", "RELU6"), "match": ("tflite", "exact"), "swapped": (False, True)}
CASES = pairwise(FACTORS, lambda c: c["plane"][0] * c["plane"][1] * c["ic"] * c["oc"] * c["kernel"][0] ** 2 < 3e7, 4)
# Row bands, channel parts, and both: notches and offsets of the second operand.
CASES += [{"ic": ic, "oc": oc, "plane": plane, "kernel": kernel} for ic, oc, plane, kernel in (
    (64, 64, (150, 60), (3, 3)), (512, 512, (7, 7), (3, 3)), (300, 1001, (14, 14), (1, 1)))]
differences: list[tuple[int, int, int]] = []
imitated: list[tuple[int, int]] = []


def build(case: Case, rng: np.random.Generator) -> Model:
    """input -> CONV_2D -> ADD(other input)."""
    scheme = case.get("scheme", "channel")
    conv = model_builder.conv2d(rng, (1, *case["plane"], case["ic"]), case["oc"], case["kernel"],
                                activation=case.get("inner", "NONE"), dtype="uint8" if scheme == "uint8" else "int8",
                                per_channel=scheme == "channel")
    model = model_builder.chain(conv, lambda t: model_builder.add(
        rng, t.shape, activation=case.get("activation", "NONE"), dtype=t.dtype, zero_points=(t.zero_point, None)))
    return _swapped(model) if case.get("swapped") else model


def _swapped(model: Model) -> Model:
    """The ADD's operands the other way round."""
    add = model.operations[-1]
    return replace(model, operations=(*model.operations[:-1], replace(add, inputs=add.inputs[::-1])))


def sums_nearby(model: Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Exact sums for the exact convolution result, and for it one LSB lower and higher."""
    conv, add = model.operations
    values = {i: t.data for i, t in enumerate(model.tensors) if t.data is not None}
    values |= dict(zip(model.inputs, inputs, strict=True))
    inner = exact.operation(model, conv, values).quantised
    info = np.iinfo(inner.dtype)
    sums = []
    for step in (0, -1, 1):
        values[conv.outputs[0]] = np.clip(inner.astype(int) + step, info.min, info.max).astype(inner.dtype)
        sums.append(exact.operation(model, add, values).quantised.astype(int))
    return sums


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_sum_is_within_1_lsb(case: Case) -> None:
    rng = np.random.default_rng(zlib.crc32(case_id(case).encode()))
    model = build(case, rng)
    match = str(case.get("match", "exact"))
    assert bool(fuse_adds(subgraph_of(model), match)) == (match == "exact")
    inputs, (output,) = run(model, rng, match)
    sums = sums_nearby(model, inputs)
    nearest = np.min([np.abs(output.astype(int) - s) for s in sums], axis=0)
    if match == "tflite":
        (reference,) = interpreter.run(model.data, inputs)
        imitated.append((output.size, int((output != reference).sum())))
    off = np.abs(output.astype(int) - sums[0])
    differences.append((output.size, int((off > 0).sum()), int(off.max())))
    assert nearest.max() <= 1


def test_differences_are_rare(record_table: Callable[[str, dict[str, object]], None]) -> None:
    """The convolution's result is rounded once, by a multiplier of 15 bits: about 1 in 500 falls on the other side."""
    elements, ones = sum(d[0] for d in differences), sum(d[1] for d in differences)
    record_table("ADD behind a convolution against exact arithmetic of both", {
        "cases": len(differences), "elements": elements, "differ": ones, "share": f"{100 * ones / elements:.3f} %",
        "largest": max(d[2] for d in differences)})
    assert ones / elements < 0.01
    elements, ones = sum(d[0] for d in imitated), sum(d[1] for d in imitated)
    record_table("ADD behind a convolution against TFLite, match=tflite", {
        "cases": len(imitated), "elements": elements, "differ": ones})
    assert ones / max(elements, 1) < 1e-4


def _compile(model: Model) -> Program:
    return RocketDriver(RK3588).compile(subgraph_of(model), CompileOptions(match="exact"))


def test_one_task_does_both() -> None:
    model = build({"ic": 16, "oc": 16, "plane": (8, 8), "kernel": (1, 1)}, np.random.default_rng(0))
    program = _compile(model)
    assert [task["operations"] for task in program.debug["tasks"]] == [[0, 1]]
    assert "arena" not in [bo.role for bo in program.bos]


def test_small_planes_take_two_tasks() -> None:
    """No working program adds behind a convolution of fewer than 12 pixels."""
    model = build({"ic": 16, "oc": 16, "plane": (3, 3), "kernel": (1, 1)}, np.random.default_rng(0))
    assert not fuse_adds(subgraph_of(model), "exact")
    assert len(_compile(model).tasks) == 2


def test_a_convolution_that_others_read_is_not_swallowed() -> None:
    model = build({"ic": 16, "oc": 16, "plane": (8, 8), "kernel": (1, 1)}, np.random.default_rng(0))
    model = replace(model, outputs=(model.operations[0].outputs[0], *model.outputs))
    assert not fuse_adds(subgraph_of(model), "exact")


def test_of_two_convolutions_the_later_one_takes_the_sum() -> None:
    rng = np.random.default_rng(0)
    first = build({"ic": 16, "oc": 16, "plane": (8, 8), "kernel": (1, 1)}, rng)
    conv, add = first.operations
    second_weights = replace(first.tensors[conv.inputs[1]], data=first.tensors[conv.inputs[1]].data[::-1].copy())
    tensors = (*first.tensors, second_weights)
    other = replace(conv, inputs=(conv.inputs[0], len(first.tensors), conv.inputs[2]), outputs=(add.inputs[1],))
    bridge = replace(first.tensors[add.inputs[1]], scales=first.tensors[add.inputs[0]].scales,
                     zero_points=first.tensors[add.inputs[0]].zero_points)
    tensors = tuple(bridge if i == add.inputs[1] else t for i, t in enumerate(tensors))
    model = Model(tensors, (conv, other, add), (conv.inputs[0],), add.outputs)
    (fused,) = fuse_adds(subgraph_of(model), "exact").values()
    assert fused.convolution.index == 1
    inputs, (output,) = run(model, rng, "exact")
    wanted = exact.run(model, inputs)[-1].quantised
    assert np.abs(output.astype(int) - wanted.astype(int)).max() <= 2
