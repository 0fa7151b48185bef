"""Channels whose multipliers span from above 1 to 2**-10, on the simulated core against TFLite's reference kernels."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import subgraph_of
from tests.support import exact, interpreter, model_builder
from tests.support.model_builder import Model

DRIVER = RocketDriver(RK3588)
LARGEST, SMALLEST = 1.9, 2.0 ** -9.9
STEPS = 70              # output steps that a channel's sums typically are away from the bias
RELU6_SCALE = 1 / 32    # 6 is 192 steps
WITH_SIGNS = "bn_shift_by_sign"

# kind, input shape, activation, output zero point, cores
CASES = {
    "depthwise": ("depthwise", (1, 9, 7, 40), "NONE", -128, 1),
    "one group and a bit": ("depthwise", (1, 6, 5, 67), "RELU", -128, 1),
    "several tiles": ("depthwise", (1, 70, 90, 144), "NONE", -128, 1),
    "three cores": ("depthwise", (1, 40, 30, 130), "NONE", -128, 3),
    "batch": ("depthwise", (3, 8, 9, 20), "NONE", -128, 1),
    "direct": ("conv", (1, 9, 7, 24), "NONE", -128, 1),
    "direct, relu": ("conv", (2, 12, 12, 24), "RELU", -128, 1),
    "direct, tiles": ("conv", (1, 60, 61, 40), "NONE", -128, 2),
    "both signs": ("depthwise", (1, 9, 7, 40), "NONE", 12, 1),
    "relu above the lowest byte": ("depthwise", (1, 9, 7, 40), "RELU", -20, 1),
    "relu6": ("depthwise", (1, 9, 7, 40), "RELU6", -128, 1),
}


def spread(kind: str, shape: tuple[int, ...], activation: str, zero_point: int, *, smallest: float = SMALLEST) -> Model:
    """Multipliers evenly spread in octaves; weights so small, or so few, that outputs are not all saturated."""
    rng = np.random.default_rng(shape[-1])
    if kind == "conv":
        plain = model_builder.conv2d(rng, shape, 50, per_channel=True, activation=activation)
    else:
        plain = model_builder.depthwise(rng, shape, per_channel=True, activation=activation)
    source, weights, bias, output = plain.tensors
    count = weights.shape[weights.axis]
    multipliers = np.exp(rng.permutation(np.linspace(np.log(smallest), np.log(LARGEST), count)))
    across = tuple(-1 if axis == weights.axis else 1 for axis in range(4))
    taps = weights.data.size / count
    # |sum| of `kept` products of bytes around 74 with weights of that size is STEPS output steps.
    size = STEPS / multipliers / 74 / np.sqrt(taps)
    kept = rng.random(weights.data.shape) < np.minimum(size, 1).reshape(across) ** 2
    limit = np.clip(1.7 * size, 1, 127).reshape(across)
    data = np.where(kept, np.rint(limit * rng.uniform(-1, 1, weights.data.shape)), 0).astype(np.int8)
    scale = RELU6_SCALE if activation == "RELU6" else float(np.float32(output.scale))
    scales = tuple(float(np.float32(m * scale / source.scale)) for m in multipliers)
    given = np.rint(rng.uniform(-STEPS, STEPS, count) / multipliers).astype(np.int32)
    bias_scales = tuple(float(np.float32(source.scale) * np.float32(s)) for s in scales)
    return replace(plain, tensors=(
        source, replace(weights, data=data, scales=scales, zero_points=(0,) * count),
        replace(bias, data=given, scales=bias_scales, zero_points=(0,) * count),
        replace(output, scales=(scale,), zero_points=(zero_point,))))


def parts(model: Model, cores: int) -> set[str]:
    program = DRIVER.compile(subgraph_of(model), CompileOptions(cores=cores, prefer="npu"))
    return {name for task in program.debug["tasks"] for name in task["assumed"]}       # type: ignore[attr-defined]


@pytest.mark.parametrize("case", CASES)
def test_all_channels_are_tflites(case: str, record_table: Callable[..., None]) -> None:
    """To the last bit where saturation hides what is below zero; else large multipliers leave the others fewer bits."""
    kind, shape, activation, zero_point, cores = CASES[case]
    model = spread(kind, shape, activation, zero_point)
    subgraph, inputs = subgraph_of(model), model.random_inputs(np.random.default_rng(1))
    outputs = DRIVER.execute(subgraph, dict(zip(subgraph.inputs, inputs, strict=True)),
                             CompileOptions(cores=cores, prefer="npu"))
    got = outputs[subgraph.outputs[0]].astype(int)
    (reference,), wanted = interpreter.run(model.data, inputs), exact.run(model, inputs)[-1].quantised
    differ = got != reference
    assert 0.2 < np.mean((reference > zero_point) & (reference < 127)), "outputs of this test should not be saturated"
    assert np.abs(got - wanted.astype(int)).max() <= 1
    is_hidden = zero_point == -128 and activation != "RELU6"
    assert (WITH_SIGNS in parts(model, cores)) == is_hidden
    record_table("Channels from 2**-10 to 1.9, equal to TFLite", {
        "case": case, "elements": differ.size, "differ": int(differ.sum()), "share": f"{differ.mean():.5%}"})
    assert differ.mean() <= (1e-5 if is_hidden else 1e-2)


def test_the_signs_of_products_matter_to_no_other_channel() -> None:
    """Without multipliers below 2**-8 the output's own unit is in reach of EW, and signs are as usual."""
    model = spread("depthwise", (1, 9, 7, 40), "NONE", -128, smallest=2.0 ** -7.9)
    assert WITH_SIGNS not in parts(model, 1)
