"""Convolutions with more padding than registers hold: laid out in memory, at most 1 LSB from exact."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.drivers.rocket.grid import Case, case_id, pairwise, run
from tests.drivers.rocket.measure import Measured, measure, num_tasks, summary
from tests.drivers.rocket.test_grid import _rng
from tests.support import interpreter, model_builder
from tests.support.builders_conv import dilated
from tests.support.model_builder import Model


def _rows_bytes(case: Case) -> int:
    """Of the rows under one window, which must fit the CBUF."""
    rows, reach = ((k - 1) * d + 1 for k, d in zip(case["kernel"], case["dilation"], strict=True))
    channels = case["inputs"] * (2 if case["kind"] == "groups" else 1)
    return rows * (case["plane"][1] + reach // 2) * -(-channels // 16) * 16


CASES = pairwise({
    "plane": ((33, 33), (65, 40), (20, 70)), "kernel": ((3, 3), (5, 3), (3, 2)),
    "dilation": ((16, 16), (18, 18), (8, 24), (1, 32)), "inputs": (3, 16, 40), "outputs": (5, 32),
    "kind": ("plain", "groups", "depthwise", "multiplier"), "dtype": ("int8", "uint8", "channel"),
}, lambda case: _rows_bytes(case) < 200_000, seed=41)
measured: list[Measured] = []


def _model(case: Case) -> Model:
    options = {"dilation": case["dilation"], "dtype": "uint8" if case["dtype"] == "uint8" else "int8",
               "per_channel": case["dtype"] == "channel"}
    if case["kind"] in ("depthwise", "multiplier"):
        return model_builder.depthwise(_rng(case), (1, *case["plane"], case["inputs"]), case["kernel"],
                                       multiplier=1 + (case["kind"] == "multiplier"), **options)
    groups = 2 if case["kind"] == "groups" else 1
    return model_builder.conv2d(_rng(case), (1, *case["plane"], case["inputs"] * groups), case["outputs"] * groups,
                                case["kernel"], groups=groups, **options)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_within_1_lsb_of_exact(case: Case) -> None:
    measured.append(measure(_model(case), _rng(case)))
    assert measured[-1].from_exact.max() <= 1


def test_atrous_rates_of_a_segmentation_head() -> None:
    """Rates 6, 12, 18 at 33x33, written with SPACE_TO_BATCH_ND: one task each, but the last one pads in memory."""
    tasks = []
    for rate in (6, 12, 18):
        model = dilated(np.random.default_rng(rate), (1, 33, 33, 32), (rate, rate), depthwise=True)
        inputs, (output,) = run(model, np.random.default_rng(0))
        (reference,) = interpreter.run(model.data, inputs)
        assert np.abs(output.astype(int) - reference.astype(int)).max() <= 1
        tasks.append(num_tasks(model))
    assert tasks == [1, 1, 3]


def test_differences_are_rare(record_table: Callable[[str, dict[str, object]], None]) -> None:
    record_table("padding in memory", summary("convolutions", measured))
    assert np.mean(np.concatenate([m.from_exact.reshape(-1) for m in measured]) > 0) < 0.03
