"""Operations with constants that change no byte cost no task."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.drivers.rocket.grid import run
from tests.drivers.rocket.measure import num_tasks
from tests.support import interpreter, model_builder
from tests.support.builders_binary import Operand, binary
from tests.support.model_builder import Model

RNG = np.random.default_rng(1)
SHAPE = (1, 12, 10, 3)


def _constant(value: int, scale: float, zero_point: int) -> Operand:
    return Operand((), scale, zero_point, data=np.array(value, np.int8))


def _before_convolution(*steps: tuple[str, Operand, tuple[float, int]]) -> Model:
    """An input with scale 1, the steps, a convolution."""
    scale, point, model = 1.0, -128, None
    for name, constant, output in steps:
        one = binary(RNG, name, Operand(SHAPE, scale, point), constant, output=output)
        model = one if model is None else model_builder.chain(model, lambda _, one=one: one)
        scale, point = output
    assert model is not None
    return model_builder.chain(model, lambda t: model_builder.conv2d(RNG, t.shape, 16, input_zero_point=t.zero_point))


NOTHING = ("SUB", _constant(1, 1e-6, 0), (1.0, -128))
RENAMED = ("MUL", _constant(127, 1 / 127.5 / 255, -128), (1 / 127.5, -128))
SHIFTED = ("SUB", _constant(127, 1 / 255, -128), (1 / 127.5, -1))


@pytest.mark.parametrize("steps,tasks", [((NOTHING,), 1), ((NOTHING, RENAMED), 1), ((NOTHING, RENAMED, SHIFTED), 2),
                                         ((SHIFTED,), 2)])
def test_tasks_before_a_convolution(steps: tuple, tasks: int) -> None:
    model = _before_convolution(*steps)
    assert num_tasks(model) == tasks
    inputs, (output,) = run(model, RNG)
    (reference,) = interpreter.run(model.data, inputs)
    difference = np.abs(output.astype(int) - reference.astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_alone_it_is_a_copy() -> None:
    model = binary(RNG, "SUB", Operand(SHAPE, 1.0, -128), NOTHING[1], output=NOTHING[2])
    inputs, (output,) = run(model, RNG)
    assert np.array_equal(output, inputs[0]) and num_tasks(model) == 1


def test_both_tensors_are_read_outside() -> None:
    first = model_builder.conv2d(RNG, SHAPE, 16, output_zero_point=3)
    (made,) = first.outputs
    scale = first.tensors[made].scale
    same = binary(RNG, "SUB", Operand(first.tensors[made].shape, scale, 3), _constant(1, scale / 1e6, 0),
                  output=(scale, 3))
    model = model_builder.chain(first, lambda _: same)
    both = replace(model, outputs=(made, *model.outputs))
    assert num_tasks(both) == 1
    _, outputs = run(both, RNG)
    assert np.array_equal(*outputs)


def test_a_clamp_changes_bytes() -> None:
    model = binary(RNG, "ADD", Operand(SHAPE, 0.05, 0), _constant(0, 0.05, 0), output=(0.05, 0), activation="RELU")
    inputs, (output,) = run(model, RNG)
    assert np.array_equal(output, np.maximum(inputs[0], 0))
