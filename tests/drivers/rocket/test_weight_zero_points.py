"""Zero points of int8 weights: TFLite's kernels subtract them in FULLY_CONNECTED with one scale only."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import run, subgraph_of
from tests.support import interpreter, model_builder
from tests.support.model_builder import Model


def _with_zero_point(model: Model, zero_point: int) -> Model:
    source, weights, *rest = model.tensors
    return replace(model, tensors=(source, replace(weights, zero_points=(zero_point,) * len(weights.scales)), *rest))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["conv2d", "depthwise"])
def test_convolutions_with_one_stay_on_the_cpu(kind: str, per_channel: bool) -> None:
    rng = np.random.default_rng(0)
    model = model_builder.conv2d(rng, (1, 4, 4, 8), 8, per_channel=per_channel) if kind == "conv2d" else \
        model_builder.depthwise(rng, (1, 4, 4, 8), per_channel=per_channel)
    subgraph = subgraph_of(_with_zero_point(model, 5))
    refusal = RocketDriver(RK3588).refuse(subgraph, subgraph.operations[0], CompileOptions())
    assert refusal is not None and refusal.rule == "weight_quantisation_fits"
    assert refusal.reason == "int8 weights have zero point 5, which TFLite ignores: must be 0"


@pytest.mark.parametrize("zero_point", [5, -128, 127])
def test_fully_connected_equals_tflite(zero_point: int) -> None:
    rng = np.random.default_rng(0)
    model = _with_zero_point(model_builder.fully_connected(rng, (3, 32), 8), zero_point)
    inputs, (output,) = run(model, rng)
    (reference,) = interpreter.run(model.data, inputs)
    assert np.abs(output.astype(int) - reference.astype(int)).max() <= 1
