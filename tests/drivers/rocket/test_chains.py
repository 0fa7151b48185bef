"""Chains of element-wise operations on the simulated core: one task, equal to TFLite's kernels."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cermet.compiler import CompileOptions, compile_subgraph
from cermet.drivers.rocket.driver import RocketDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import run
from tests.drivers.rocket.measure import num_tasks, refusal
from tests.ir.passes.test_tabulate import CHAINS
from tests.support import interpreter, model_builder
from tests.support.model_builder import Model
from tests.support.sketch import Sketch

RNG = np.random.default_rng(5)
Chain = Callable[[Sketch, int], int]


def alone(chain: Chain, shape: tuple[int, ...] = (1, 16, 16, 20)) -> Model:
    made = Sketch()
    return made.model(chain(made, made.input(shape)))


def behind_a_convolution(chain: Chain) -> Model:
    made = Sketch()
    weights = made.constant(RNG.integers(-127, 128, (20, 3, 3, 5)), 0.0004)
    bias = made.constant(np.zeros(20, np.int32))
    x = made.op("CONV_2D", (made.input((1, 16, 16, 5)), weights, bias), 0.05, 3, shape=(1, 16, 16, 20), StrideH=1,
                StrideW=1, DilationHFactor=1, DilationWFactor=1)
    return made.model(chain(made, x))


def equals_tflite(model: Model) -> bool:
    inputs, (output,) = run(model, RNG)
    return np.array_equal(output, interpreter.run(model.data, inputs)[0])


@pytest.mark.parametrize("name", [name for name in CHAINS if name != "softplus"])
def test_alone(name: str) -> None:
    model = alone(CHAINS[name])
    assert equals_tflite(model) and num_tasks(model) == 1


def test_alone_in_float() -> None:
    model = alone(CHAINS["softplus"], (1, 16, 16, 1))
    assert equals_tflite(model) and num_tasks(model) == 1


@pytest.mark.parametrize("name", ["hard_swish", "swish", "leaky"])
def test_behind_a_convolution_it_costs_no_task_or_no_difference(name: str) -> None:
    """match "exact": in the convolution's task, unless it is steep, as SWISH is in places. "tflite": in one of its own,
    so that both round where TFLite does."""
    model = behind_a_convolution(CHAINS[name])
    inputs, (output,) = run(model, RNG)
    (reference,) = interpreter.run(model.data, inputs)
    assert num_tasks(model, "exact") == (1 if name == "leaky" else 2)
    assert num_tasks(model) == 2 and (output != reference).mean() < 0.001


def test_a_product_with_a_number_behind_a_convolution_costs_no_task() -> None:
    def scaled(made: Sketch, x: int) -> int:
        return made.op("MUL", (x, made.constant(-100, 0.01)), 0.06, -5)
    assert num_tasks(behind_a_convolution(scaled), "exact") == 1


def test_raw_bytes_become_int8_without_a_task_of_their_own() -> None:
    """What a converter puts in front of a model with uint8 pixels."""
    made = Sketch()
    x = made.input((1, 12, 12, 3), scale=None, dtype="uint8")
    y = made.op("QUANTIZE", (made.real("CAST", x),), 1.0, -128, dtype="int8", version=1)
    first = made.model(y)
    model = model_builder.chain(first, lambda t: model_builder.conv2d(RNG, t.shape, 16, input_zero_point=-128))
    assert num_tasks(model) == 1
    inputs, (output,) = run(model, RNG)
    assert np.abs(output.astype(int) - interpreter.run(model.data, inputs)[0]).max() <= 1


def test_a_sum_that_two_multipliers_cannot_give_is_looked_up() -> None:
    made = Sketch()
    model = made.model(made.op("ADD", (made.input((1, 4, 4, 16), scale=40.0), made.constant(3, 1.0)), 0.01, 5))
    assert refusal(model) is None and equals_tflite(model)


@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
def test_a_tensor_with_itself_is_looked_up(name: str) -> None:
    """And so equal to TFLite: two operands that differ are not always."""
    made = Sketch()
    x = made.input((1, 4, 4, 16), scale=0.0147)
    model = made.model(made.op(name, (x, x), 0.0211, 7))
    assert refusal(model) is None and equals_tflite(model)


def test_a_float_operation_outside_a_chain_says_so() -> None:
    made = Sketch()
    refused = refusal(made.model(made.real("DEQUANTIZE", made.input(), version=2)))
    assert refused is not None and refused.rule == "stands_in_a_chain"


@pytest.mark.parametrize("denied", ["SQRT", "QUANTIZE", "DEQUANTIZE"])
def test_a_chain_is_claimed_whole_or_not_at_all(denied: str) -> None:
    subgraph = read_tflite(alone(CHAINS["root"]).data)
    options = CompileOptions(deny=frozenset({denied}))
    compiled = compile_subgraph(subgraph, RocketDriver(RK3588), options)
    assert not compiled.groups and not compiled.faults and set(compiled.refusals) == {0, 1, 2, 3}
    assert len(compile_subgraph(subgraph, RocketDriver(RK3588), CompileOptions()).groups) == 1


def test_without_unproven_parts_there_are_no_look_ups() -> None:
    subgraph = read_tflite(alone(CHAINS["root"]).data)
    assert not compile_subgraph(subgraph, RocketDriver(RK3588), CompileOptions(assume="off")).groups


def test_part_of_a_chain_cannot_be_asked_for() -> None:
    subgraph = read_tflite(alone(CHAINS["root"]).data)
    compiled = compile_subgraph(subgraph, RocketDriver(RK3588), CompileOptions(groups=((0, 1, 2),)))
    assert not compiled.groups and not compiled.faults
    assert {compiled.refusals[index].rule for index in (0, 1, 2)} == {"stands_in_a_chain"}
