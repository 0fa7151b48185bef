"""SUB, MUL, MAXIMUM and MINIMUM against TFLite's reference kernels, bit for bit, and against exact arithmetic."""
from __future__ import annotations

import zlib

import numpy as np
import pytest

from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from tests.support import exact, interpreter
from tests.support.builders_binary import Operand, binary
from tests.support.model_builder import Model

NAMES = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM")
SHAPES = (((1, 9, 7, 5), (1, 9, 7, 5)), ((1, 9, 7, 5), (1, 1, 1, 5)), ((5,), (1, 9, 7, 5)), ((1, 9, 7, 5), ()),
          ((1, 9, 7, 1), (1, 7, 5)), ((4, 6), (4, 1)))


def _model(name: str, shapes: int, dtype: str, activation: str = "NONE") -> tuple[Model, np.random.Generator]:
    rng = np.random.default_rng(zlib.crc32(f"{name} {shapes} {dtype} {activation}".encode()))
    low, high = (-128, 127) if dtype == "int8" else (0, 255)
    scales = np.exp(rng.uniform(np.log(0.003), np.log(0.3), 2))
    points = rng.integers(low, high, 2, endpoint=True)
    if name in ("MAXIMUM", "MINIMUM"):
        scales[1], points[1] = scales[0], points[0]
        output: tuple[float, int] | None = (scales[0], int(points[0]))
    else:
        output = None
    operands = [Operand(shape, float(scale), int(point))
                for shape, scale, point in zip(SHAPES[shapes], scales, points, strict=True)]
    return binary(rng, name, *operands, output=output, dtype=dtype, activation=activation), rng


def _soft(model: Model, inputs: list[np.ndarray], match: str) -> np.ndarray:
    subgraph = read_tflite(model.data)
    (output,) = SoftDriver(match).execute(subgraph, dict(zip(subgraph.inputs, inputs, strict=True))).values()
    return output


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("shapes", range(len(SHAPES)))
@pytest.mark.parametrize("name", NAMES)
def test_equal_to_the_reference_kernels(name: str, shapes: int, dtype: str) -> None:
    model, rng = _model(name, shapes, dtype)
    for _ in range(3):
        inputs = model.random_inputs(rng)
        (reference,) = interpreter.run(model.data, inputs)
        assert np.array_equal(_soft(model, inputs, "tflite"), reference)
        assert np.array_equal(_soft(model, inputs, "exact"), exact.run(model, inputs)[-1].quantised)


@pytest.mark.parametrize("activation", ["RELU", "RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize("name", ["SUB", "MUL"])
def test_fused_activations(name: str, activation: str) -> None:
    for dtype in ("int8", "uint8"):
        model, rng = _model(name, 0, dtype, activation)
        inputs = model.random_inputs(rng)
        (reference,) = interpreter.run(model.data, inputs)
        assert np.array_equal(_soft(model, inputs, "tflite"), reference)


@pytest.mark.parametrize("first,second,output", [(7.19, 1.7e-4, 0.05), (1e-6, 1e-5, 1e-9), (100.0, 30.0, 2.0),
                                                 (0.5, 0.5, 0.5), (1.0, 1.0, 1e9)])
def test_unusual_scales_multiply_as_in_the_reference(first: float, second: float, output: float) -> None:
    rng = np.random.default_rng(9)
    model = binary(rng, "MUL", Operand((1, 16, 16, 16), first, 3), Operand((1, 16, 16, 16), second, -7),
                   output=(output, 1))
    inputs = model.random_inputs(rng)
    (reference,) = interpreter.run(model.data, inputs)
    assert np.array_equal(_soft(model, inputs, "tflite"), reference)
