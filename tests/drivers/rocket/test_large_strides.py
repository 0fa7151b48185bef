"""CONV_2D with strides above 7, by way of blocks of pixels: exact to one step, equal to TFLite's kernels."""
from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.drivers.rocket.grid import run
from tests.drivers.rocket.measure import Measured, measure, num_tasks, reason, summary
from tests.support import interpreter, model_builder
from tests.support.model_builder import Model

Steps = tuple[int, int]
CASES: list[tuple[tuple[int, ...], Steps, Steps, str]] = [
    ((1, 64, 64, 3), (16, 16), (16, 16), "VALID"), ((1, 50, 47, 5), (8, 8), (8, 8), "SAME"),
    ((1, 50, 47, 5), (3, 11), (9, 10), "SAME"), ((1, 50, 47, 5), (1, 1), (12, 1), "VALID"),
    ((1, 53, 61, 20), (12, 9), (8, 9), "VALID"), ((2, 40, 33, 64), (8, 8), (8, 8), "VALID"),
    ((1, 98, 98, 3), (49, 49), (49, 49), "VALID"), ((1, 1, 4000, 2), (1, 20), (1, 10), "SAME"),
    ((1, 20, 300, 1), (2, 31), (2, 30), "SAME"), ((1, 9, 9, 4), (5, 5), (14, 14), "SAME")]
FORMS: list[dict[str, Any]] = [{}, {"dtype": "uint8", "activation": "RELU6"}, {"per_channel": True}]
measured: list[Measured] = []


def rng_of(*case: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(case).encode()))


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("shape,kernel,stride,padding", CASES, ids=str)
def test_of_the_input(shape: tuple[int, ...], kernel: Steps, stride: Steps, padding: str,
                      form: dict[str, Any]) -> None:
    """Which the runtime may give in blocks itself."""
    rng = rng_of(shape, kernel, form)
    result = measure(model_builder.conv2d(rng, shape, 20, kernel, stride=stride, padding=padding, **form), rng)
    measured.append(result)
    assert result.from_exact.max() <= 1 and result.from_tflite.max() == 0


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("shape,kernel,stride,padding", CASES, ids=str)
def test_inside_a_network(shape: tuple[int, ...], kernel: Steps, stride: Steps, padding: str,
                          form: dict[str, Any]) -> None:
    """Behind a pool, whose result no runtime gives in blocks."""
    rng = rng_of(shape, kernel, form)
    pool = model_builder.pool(rng, shape, "MAX", (1, 1), stride=(1, 1), dtype=form.get("dtype", "int8"))
    model = model_builder.chain(pool, lambda t: model_builder.conv2d(
        rng, t.shape, 20, kernel, stride=stride, padding=padding, input_zero_point=t.zero_point, **form))
    inputs, (output,) = run(model, rng)
    (reference,) = interpreter.run(model.data, inputs)
    np.testing.assert_array_equal(output, reference)


def test_blocks_take_one_task() -> None:
    rng = rng_of(1)
    model: Model = model_builder.chain(
        model_builder.pool(rng, (1, 32, 32, 16), "MAX", (2, 2)),
        lambda t: model_builder.conv2d(rng, t.shape, 20, (8, 8), stride=(8, 8), padding="VALID",
                                       input_zero_point=t.zero_point))
    assert num_tasks(model) == num_tasks(model_builder.pool(rng, (1, 32, 32, 16), "MAX", (2, 2))) + 2


def test_reasons() -> None:
    def refused(shape: tuple[int, ...], stride: int, **options: Any) -> str:
        return reason(model_builder.conv2d(rng_of(2), shape, 8, (3, 3), stride=(stride, stride), **options))
    assert refused((1, 64, 64, 3), 11) == "stride_fits: stride is 11x11, must be 1..7, or a product of two such " \
                                          "numbers without groups and dilation"
    assert refused((1, 40, 40, 100), 28).startswith(
        "blocks_of_pixels_fit: blocks of 4x4 pixels for its stride need 2867200 weights")
    depthwise = model_builder.depthwise(rng_of(3), (1, 40, 40, 8), (3, 3), stride=(8, 8))
    assert reason(depthwise).startswith("stride_fits: stride is 8x8")


def test_summary(record_table: Callable[[str, dict[str, object]], None]) -> None:
    """Not a check: the table of how often results differ."""
    if measured:
        record_table("large strides", summary("CONV_2D", measured))
