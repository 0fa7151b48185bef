"""Float operations between 8-bit tensors: equal to TFLite's kernels for every input value."""
from __future__ import annotations

import numpy as np
import pytest

from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.ir.numerics_float import evaluate_float
from cermet.ir.problems import op_problem
from tests.support import interpreter
from tests.support.model_builder import Model
from tests.support.sketch import FLOAT, Sketch, all_bytes

# Kernels that one of the runtimes lacks.
ELSEWHERE = {"ELU": ("tflite", "default"), "CEIL": ("tflite", "default"), "ROUND": ("tflite", "default")}
UNARY = ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "HARD_SWISH", "LOGISTIC", "TANH", "EXP", "SIN",
         "COS", "ELU", "ABS", "NEG", "SQUARE", "FLOOR", "CEIL", "ROUND", "GELU")
OPTIONS = {"LEAKY_RELU": {"Alpha": 0.1}}
CONSTANTS = {"ADD": 0.3, "SUB": 1.7, "MUL": -0.6, "DIV": 3.3, "MAXIMUM": 0.2, "MINIMUM": -0.4}


def zero(dtype: str, signed: int) -> int:
    return signed + 128 * (dtype == "uint8")


def unary(name: str, dtype: str, *, lowest: int = 3) -> Model:
    made = Sketch()
    x = made.input(scale=0.04, zero_point=zero(dtype, lowest), dtype=dtype)
    real = made.real("DEQUANTIZE", x, version=2)
    function = made.real(name, real, **OPTIONS.get(name, {}))
    return made.model(made.op("QUANTIZE", (function,), 0.03, zero(dtype, -20), dtype=dtype, version=1))


def binary(name: str, dtype: str, activation: str, order: str) -> Model:
    made = Sketch()
    x = made.input(scale=0.04, zero_point=zero(dtype, 3), dtype=dtype)
    real = made.real("CAST", x) if order == "cast" else made.real("DEQUANTIZE", x, version=2)
    operands = [real, made.constant(CONSTANTS[name])]
    options = {"activation": activation} if name in ("ADD", "SUB", "MUL", "DIV") else {}
    first, second = operands if order != "reversed" else operands[::-1]
    result = made.op(name, (first, second), dtype=FLOAT, version=1, shape=(1, 16, 16, 1), **options)
    scale = 2.0 if order == "cast" else 0.05
    return made.model(made.op("QUANTIZE", (result,), scale, zero(dtype, -20), dtype=dtype, version=1))


def check(model: Model, runtime: tuple[str, str] = ("tflite", "ref")) -> None:
    inputs = all_bytes(model)
    (theirs,) = interpreter.run(model.data, inputs, runtime=runtime[0], resolver=runtime[1])
    subgraph = read_tflite(model.data)
    (mine,) = SoftDriver().execute(subgraph, dict(zip(subgraph.inputs, inputs, strict=True))).values()
    assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, dtype: str) -> None:
    check(unary(name, dtype), ELSEWHERE.get(name, ("tflite", "ref")))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_square_root_where_it_is_defined(dtype: str) -> None:
    check(unary("SQRT", dtype, lowest=-128))


@pytest.mark.parametrize("name", ["LOG", "RSQRT"])
def test_unary_above_zero(name: str) -> None:
    made = Sketch()
    real = made.real("DEQUANTIZE", made.input(scale=0.04, zero_point=-128), version=2)
    moved = made.real("ADD", real, made.constant(0.1))
    check(made.model(made.op("QUANTIZE", (made.real(name, moved),), 0.02, 0, dtype="int8", version=1)))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize("order", ["plain", "cast"])
@pytest.mark.parametrize("name", CONSTANTS)
def test_with_a_constant(name: str, activation: str, order: str, dtype: str) -> None:
    check(binary(name, dtype, activation, order))


@pytest.mark.parametrize("name", ["SUB", "MAXIMUM"])
def test_a_constant_may_come_first(name: str) -> None:
    check(binary(name, "int8", "NONE", "reversed"))


def test_another_libm_is_some_units_in_the_last_place_away() -> None:
    subgraph = read_tflite(unary("EXP", "int8").data)
    exponential = subgraph.operations[1]
    x = np.linspace(-5, 5, 256, dtype=np.float32).reshape(1, 16, 16, 1)
    plain, moved = (evaluate_float(subgraph, exponential, {exponential.inputs[0]: x}, ulps) for ulps in (0, 3))
    assert np.array_equal(moved, plain + 3 * np.spacing(plain)) and (moved > plain).all()


def test_what_makes_no_sense_has_a_reason() -> None:
    made = Sketch()
    x = made.input(scale=None)
    real = made.real("DEQUANTIZE", x, version=2)
    other = made.tensor((5,), FLOAT, None, 0, data=np.zeros(5, np.float32))
    made.op("ADD", (real, other), dtype=FLOAT, version=1)
    subgraph = read_tflite(made.model(2).data)
    assert [op_problem(subgraph, op) for op in subgraph.operations] == [
        "tensor 0 must have one scale above 0 and one zero point",
        "output has shape (1, 16, 16, 1), must be what the inputs' shapes broadcast to"]
