"""MUL then ADD per channel in one task: the sum is within 1 LSB of exact for a product within 1 LSB of exact."""
from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.passes.fuse_normalisation import fuse_normalisations
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import Case, case_id, pairwise, run, subgraph_of
from tests.drivers.rocket.test_fused_add import sums_nearby
from tests.support import interpreter, model_builder
from tests.support.builders_binary import Operand, binary
from tests.support.model_builder import Model

CASES = pairwise({
    "dtype": ("int8", "uint8"), "channels": (1, 3, 16, 33, 8200), "plane": ((1, 1), (4, 3), (13, 29), (9000, 1)),
    "name": ("ADD", "SUB"), "activation": ("NONE", "RELU", "RELU6"), "inner": ("NONE", "RELU", "low"),
    "first": (False, True), "match": ("tflite", "exact")},
    lambda c: c["plane"][0] * c["plane"][1] * c["channels"] < 1e6, 3)
seen: list[tuple[str, bool, int, int, int]] = []


def build(case: Case, rng: np.random.Generator) -> Model:
    """input -> MUL(per channel) -> ADD(per channel). inner "low": the product's zero point is the lowest byte."""
    dtype = str(case.get("dtype", "int8"))
    lowest, channels = (0 if dtype == "uint8" else -128), int(case["channels"])             # type: ignore[call-overload]
    shape, first = (1, *case["plane"], channels), bool(case.get("first"))                   # type: ignore[misc]
    gains = Operand((channels,), 0.002, int(rng.integers(lowest, lowest + 256)), is_constant=True)
    data = Operand(shape, 0.05, int(rng.integers(lowest, lowest + 256)))
    inner = case.get("inner", "NONE")
    product = binary(rng, "MUL", *((gains, data) if first else (data, gains)), dtype=dtype, output=None,
                     activation="NONE" if inner == "low" else str(inner))
    if inner == "low":
        made = replace(product.tensors[-1], zero_points=(lowest,))
        product = replace(product, tensors=(*product.tensors[:-1], made))
    offsets = Operand((channels,), 0.005, lowest + 100, is_constant=True)
    return model_builder.chain(product, lambda t: binary(
        rng, str(case.get("name", "ADD")), Operand(shape, t.scale, t.zero_point), offsets, output=None, dtype=dtype,
        activation=str(case.get("activation", "RELU"))))


def fused(model: Model, match: str = "exact") -> bool:
    return bool(fuse_normalisations(subgraph_of(model), match))


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_within_1_lsb(case: Case) -> None:
    rng = np.random.default_rng(zlib.crc32(case_id(case).encode()))
    model, match = build(case, rng), str(case["match"])
    inputs, (output,) = run(model, rng, match)
    sums = sums_nearby(model, inputs)
    assert np.min([np.abs(output.astype(int) - s) for s in sums], axis=0).max() <= 1
    (reference,) = interpreter.run(model.data, inputs)
    off = np.abs(output.astype(int) - reference.astype(int))
    seen.append((match, fused(model, match), off.size, int((off > 0).sum()), int(off.max())))


@pytest.mark.parametrize("match", ["tflite", "exact"])
def test_against_tflite(match: str, record_table: Callable[[str, dict[str, object]], None]) -> None:
    """match "tflite": two tasks where one would differ anywhere."""
    for together in (True, False):
        rows = [row for row in seen if row[:2] == (match, together)]
        elements, differ = sum(row[2] for row in rows), sum(row[3] for row in rows)
        record_table("MUL and ADD per channel against TFLite", {
            "match": match, "tasks": "one" if together else "two", "cases": len(rows), "elements": elements,
            "differ": f"{differ / max(elements, 1):.3%}", "most": max([row[4] for row in rows], default=0)})
        assert differ <= elements * (0 if match == "tflite" else 0.005)
    assert sum(row[:2] == (match, True) for row in seen) > 2


PLAIN: Case = {"channels": 20, "plane": (6, 5)}


def test_one_task_does_both() -> None:
    subgraph = subgraph_of(build(PLAIN, np.random.default_rng(0)))
    program = RocketDriver(RK3588).compile(subgraph, CompileOptions(match="exact"))
    assert [task["operations"] for task in program.debug["tasks"]] == [[0, 1]]         # type: ignore[attr-defined]
    assert "arena" not in [bo.role for bo in program.bos]


def test_a_product_that_others_read_takes_a_task_of_its_own() -> None:
    model = build(PLAIN, np.random.default_rng(0))
    assert not fused(replace(model, outputs=(*model.operations[0].outputs, *model.outputs)))


def test_a_low_end_that_shows_takes_two_tasks() -> None:
    """Without an activation a product below -128 shows: BS alone would not cut it off."""
    model = build({**PLAIN, "activation": "NONE"}, np.random.default_rng(0))
    made = replace(model.tensors[model.operations[0].outputs[0]], scales=(0.004,))
    number = model.operations[0].outputs[0]
    narrow = replace(model, tensors=(*model.tensors[:number], made, *model.tensors[number + 1:]))
    assert not fused(narrow)
    inputs, (output,) = run(narrow, np.random.default_rng(1))
    (reference,) = interpreter.run(narrow.data, inputs)
    assert np.abs(output.astype(int) - reference.astype(int)).max() <= 1


def test_addends_from_memory_are_no_proven_part() -> None:
    subgraph = subgraph_of(build(PLAIN, np.random.default_rng(0)))
    assert not fuse_normalisations(subgraph, "exact", with_addends=False)
