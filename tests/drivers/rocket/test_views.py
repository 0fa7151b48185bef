"""RESHAPE and SQUEEZE at the borders of a program, where a copy may be needed."""
from __future__ import annotations

import numpy as np
import pytest

from tests.drivers.rocket.grid import run
from tests.support import exact, model_builder
from tests.support.model_builder import Model, OperationSpec


def test_a_reshaped_input_that_is_an_output_too_takes_the_layout_of_its_readers() -> None:
    """input [1, 4, 7, 4] -> RESHAPE [1, 112], an output -> ADD with itself: 112 channels on both sides of the copy."""
    rng = np.random.default_rng(0)
    model = model_builder.chain(
        model_builder.reshape(rng, (1, 4, 7, 4), (1, 112)),
        lambda t: model_builder.add(rng, t.shape, zero_points=(t.zero_point, t.zero_point)))
    add = model.operations[1]
    doubled = OperationSpec("ADD", (add.inputs[0], add.inputs[0]), add.outputs, add.options)
    model = Model(model.tensors, (model.operations[0], doubled), model.inputs[:1], (add.inputs[0], add.outputs[0]))
    inputs, outputs = run(model, rng)
    for output, expected in zip(outputs, exact.run(model, inputs), strict=True):
        assert np.abs(output.astype(int) - expected.quantised.astype(int)).max() <= 1


@pytest.mark.parametrize("shape", [(20_000, 1, 3), (1, 1, 8193, 3), (2, 2, 9000), (1, 3, 9001, 33), (1, 200, 200, 3)],
                         ids=str)
def test_a_copy_larger_than_the_cube_is_made_in_parts(shape: tuple[int, ...]) -> None:
    """RESHAPE of an input to an output: no side of the DPU's cube passes 8192."""
    rng = np.random.default_rng(0)
    flat = (int(np.prod(shape[:-1])), shape[-1])
    model = model_builder.chain(
        model_builder.reshape(rng, shape, flat),
        lambda t: model_builder.add(rng, t.shape, zero_points=(t.zero_point, None)))
    model = Model(model.tensors, model.operations, model.inputs, (model.operations[0].outputs[0], *model.outputs))
    inputs, (copy, _) = run(model, rng)
    assert np.array_equal(copy, inputs[0].reshape(flat))
