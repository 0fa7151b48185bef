"""Maps with more rows than a task counts, and images of one row that are as long: cut into tasks, exact to one step."""
from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import run, subgraph_of
from tests.drivers.rocket.measure import Measured, measure, refusal, summary
from tests.support import builders_unary, interpreter, model_builder
from tests.support.builders_binary import Operand, binary
from tests.support.model_builder import Model

PLANES = [(1, 2048), (2048, 1), (1, 9000), (9000, 1), (5000, 3), (1, 20_000)]
measured: dict[str, list[Measured]] = {}


def rng_of(*case: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(case).encode()))


def check(name: str, model: Model, rng: np.random.Generator, most_from_tflite: float = 0.01) -> None:
    result = measure(model, rng)
    measured.setdefault(name, []).append(result)
    assert result.from_exact.max() <= 1 and result.from_tflite.max() <= 1
    assert (result.from_tflite > 0).mean() <= most_from_tflite


def along(plane: tuple[int, int], length: int) -> tuple[int, int]:
    """A window or stride of so many pixels along the longer side."""
    return (length, 1) if plane[0] > plane[1] else (1, length)


@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize("channels", [3, 40])
@pytest.mark.parametrize("kernel,options", [
    (5, {}), (1, {"stride": 2}), (31, {"stride": 7}), (3, {"padding": "VALID"}), (3, {"dilation": 8}),
    (9, {"activation": "RELU6", "dtype": "uint8"})], ids=str)
def test_convolutions(kernel: int, options: dict[str, Any], channels: int, plane: tuple[int, int]) -> None:
    given = {name: along(plane, value) if name in ("stride", "dilation") else value for name, value in options.items()}
    for build in (lambda rng, shape, window, **more: model_builder.conv2d(rng, shape, 24, window, **more),
                  model_builder.depthwise):
        rng = rng_of(kernel, options, channels, plane)
        check("convolutions", build(rng, (1, *plane, channels), along(plane, kernel), **given), rng)


@pytest.mark.parametrize("kernel", [(3, 3), (2, 5)], ids=str)
def test_windows_over_several_rows_of_one(kernel: tuple[int, int]) -> None:
    """Most of them see padding."""
    rng = rng_of(kernel)
    check("convolutions", model_builder.conv2d(rng, (1, 1, 3000, 20), 8, kernel), rng)
    check("convolutions", model_builder.conv2d(rng, (3, 1, 3000, 20), 8, kernel), rng)


@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize("kind", ["MAX", "AVERAGE"])
@pytest.mark.parametrize("window,stride", [(2, 2), (3, 1), (7, 5)])
def test_pools(window: int, stride: int, kind: str, plane: tuple[int, int]) -> None:
    rng = rng_of(window, stride, kind, plane)
    check(f"{kind}_POOL", model_builder.pool(rng, (1, *plane, 20), kind, along(plane, window),
                                             stride=along(plane, stride), padding="SAME"), rng)


@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize("name", ["ADD", "MUL", "MAXIMUM"])
@pytest.mark.parametrize("shape", ["map", "vector", "pixels", "constant map", "constant vector"])
def test_two_operands(shape: str, name: str, plane: tuple[int, int]) -> None:
    rng, alike = rng_of(shape, name, plane), name == "MAXIMUM"
    second = {"map": (1, *plane, 20), "vector": (1, 1, 1, 20), "pixels": (1, *plane, 1),
              "constant map": (*plane, 20), "constant vector": (20,)}[shape]
    model = binary(rng, name, Operand((1, *plane, 20), 0.03, 5),
                   Operand(second, 0.03 if alike else 0.021, 5 if alike else -9, is_constant="constant" in shape),
                   output=(0.03, 5) if alike else (0.05, 3))
    check(name, model, rng, 0.04)


@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize("name", ["TANH", "LEAKY_RELU", "RELU6"])
def test_functions(name: str, plane: tuple[int, int]) -> None:
    ends = builders_unary.likely_ends(name, rng_of(name), "int8")
    model = builders_unary.unary(name, ends, (1, *plane, 20))
    inputs, (output,) = run(model, rng_of(name, plane))
    (reference,) = interpreter.run(model.data, inputs)
    np.testing.assert_array_equal(output, reference)


def test_several_rows_may_not_be_as_long() -> None:
    found = refusal(model_builder.conv2d(rng_of(), (1, 2, 2048, 3), 4, (1, 3)))
    assert found is not None
    assert f"{found.rule}: {found.reason}" == "width_fits: tensor 0: width 2048 must be 1..2047 where there are " \
                                              "several rows"


@pytest.mark.parametrize("match", ["tflite", "exact"])
def test_a_network_of_one_dimension(match: str) -> None:
    """As converters write it: one row, a residual sum, a pool, a mean of all. One partition, one step per operation."""
    rng = rng_of(match)
    first = model_builder.reshape(rng, (1, 6000, 2), (1, 1, 6000, 2))
    steps: list[Callable[[Any], Model]] = [
        lambda t: model_builder.conv2d(rng, t.shape, 16, (1, 9), input_zero_point=t.zero_point, activation="RELU"),
        lambda t: model_builder.depthwise(rng, t.shape, (1, 5), input_zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, 40, (1, 1), input_zero_point=t.zero_point),
        lambda t: model_builder.pool(rng, t.shape, "MAX", (1, 2), zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, 8, (1, 3), stride=(1, 2), input_zero_point=t.zero_point),
        lambda t: model_builder.reshape(rng, t.shape, (1, 1500, 8), zero_point=t.zero_point)]
    model = model_builder.chain(first, *steps)
    subgraph, driver = subgraph_of(model), RocketDriver(RK3588)
    assert [driver.refuse(subgraph, op, CompileOptions(match=match)) for op in subgraph.operations] == [None] * 7
    inputs, (output,) = run(model, rng, match)
    (reference,) = interpreter.run(model.data, inputs)
    assert (output != reference).mean() <= (0.001 if match == "tflite" else 0.2)


def test_summary(record_table: Callable[[str, dict[str, object]], None]) -> None:
    """Not a check: the table of how often results differ."""
    for name, results in measured.items():
        record_table("long signals", summary(name, results))
