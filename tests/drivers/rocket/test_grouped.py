"""Grouped convolutions on the simulated core: at most 1 LSB from exact; how they are cut into blocks."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.grouped import plan_blocks
from cermet.hw.soc import RK3588
from cermet.ir.operation import Padding, Pair, Window
from tests.drivers.rocket.grid import Case, case_id, compare, pairwise, run
from tests.drivers.rocket.measure import Measured, measure, num_tasks, summary
from tests.drivers.rocket.test_grid import _rng
from tests.support import interpreter, model_builder
from tests.support.builders_unary import behind_gently

CASES = pairwise({
    "groups": (2, 3, 4, 8, 32), "inputs": (1, 3, 4, 16, 24, 32), "outputs": (1, 2, 5, 16, 32, 48),
    "plane": ((1, 1), (5, 7), (9, 1), (14, 14), (31, 10)), "kernel": ((1, 1), (3, 3), (5, 2)),
    "stride": ((1, 1), (2, 2), (1, 3)), "padding": ("SAME", "VALID"), "dtype": ("int8", "uint8", "channel"),
    "activation": ("NONE", "RELU6"), "match": ("tflite", "exact"),
}, lambda case: case["padding"] == "SAME" or all(k <= p for k, p in zip(case["kernel"], case["plane"], strict=True)),
    seed=11)
measured: dict[str, list[Measured]] = {}


def _model(case: Case, *, bias: bool = True) -> model_builder.Model:
    return model_builder.conv2d(
        _rng(case), (1, *case["plane"], case["groups"] * case["inputs"]), case["groups"] * case["outputs"],
        case["kernel"], groups=case["groups"], stride=case["stride"], padding=case["padding"],
        activation=case["activation"], bias=bias, dtype="uint8" if case["dtype"] == "uint8" else "int8",
        per_channel=case["dtype"] == "channel")


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_grouped_convolution_is_within_1_lsb_of_exact(case: Case) -> None:
    made = measure(_model(case), _rng(case), case["match"])
    measured.setdefault(case["match"], []).append(made)
    assert made.from_exact.max() <= 1


@pytest.mark.parametrize("case", CASES[:4], ids=case_id)
def test_without_bias(case: Case) -> None:
    """TFLite 2.14 refuses these."""
    assert compare(_model(case, bias=False), _rng(case), case["match"]).largest <= 1


def _geometry(groups: int, inputs: int, outputs: int, plane: int) -> Geometry:
    window = Window(Pair(3, 3), Pair(1, 1), Padding.SAME)
    return Geometry.of(window, (plane, plane, groups * inputs), groups * outputs)


@pytest.mark.parametrize("geometry,groups,count", [
    (_geometry(4, 16, 16, 16), 4, 1),           # the vendor's example: one convolution costs less than four round trips
    (_geometry(2, 8, 8, 64), 2, 1),             # 8 channels do not begin a block
    (_geometry(32, 4, 4, 56), 32, 4),           # ResNeXt's first stage: 8 groups are a whole kernel group
    (_geometry(4, 256, 256, 14), 4, 4)])
def test_blocks_are_the_cheapest(geometry: Geometry, groups: int, count: int) -> None:
    blocks = plan_blocks(RK3588, geometry, groups)
    assert blocks is not None and blocks.count == count


def test_a_function_behind_runs_in_the_tasks_of_the_blocks() -> None:
    rng = np.random.default_rng(0)
    model = behind_gently(model_builder.conv2d(rng, (1, 14, 14, 512), 512, (3, 3), groups=4), rng)
    assert num_tasks(model, "exact") == 4
    inputs, (output,) = run(model, rng, "exact")
    (reference,) = interpreter.run(model.data, inputs)
    assert (output == reference).mean() > 0.98


def test_differences_are_rare(record_table: Callable[[str, dict[str, object]], None]) -> None:
    """As for any convolution (test_grid.py): ties, and TFLite's two roundings."""
    for match, made in sorted(measured.items()):
        record_table("grouped convolution", summary(f"CONV_2D, match {match}", made))
        wrong = np.concatenate([m.from_exact.reshape(-1) for m in made])
        assert (wrong > 0).mean() < (0.002 if match == "exact" else 0.03)
