"""Convolutions with pruned channels: weights of zero, and scales and biases that mean nothing."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.drivers.rocket.grid import run
from tests.support import interpreter, model_builder
from tests.support.model_builder import Model

PRUNED = (2, 7)


def pruned(model: Model, multiplier: float, bias: int) -> Model:
    """Some channels of a per-channel convolution without weights; what their bias comes to is bias * multiplier."""
    (operation,) = model.operations
    number, weights, biases = operation.inputs
    tensors = list(model.tensors)
    data, offsets = np.array(tensors[weights].data), np.array(tensors[biases].data)
    scales = np.array(tensors[weights].scales)
    data[list(PRUNED)], offsets[list(PRUNED)] = 0, bias
    scales[list(PRUNED)] = multiplier * tensors[operation.outputs[0]].scale / tensors[number].scale
    held = tuple(np.float32(scales).tolist())
    tensors[weights] = replace(tensors[weights], data=data, scales=held)
    tensors[biases] = replace(tensors[biases], data=offsets.astype(np.int32),
                              scales=tuple(np.float32(np.array(held) * tensors[number].scale).tolist()))
    return replace(model, tensors=tuple(tensors))


@pytest.mark.parametrize("multiplier,bias", [
    (2.0**-31 * 0.999999, 1 << 30), (2.0**-30, (1 << 30) - 3), (2.0**-26, -(1 << 30)), (0.4, 100), (1e-9, 0)])
def test_their_bytes_and_all_others_are_tflites(multiplier: float, bias: int) -> None:
    rng = np.random.default_rng(4)
    model = pruned(model_builder.conv2d(rng, (1, 6, 6, 32), 24, per_channel=True), multiplier, bias)
    inputs, (output,) = run(model, rng)
    assert np.array_equal(output, interpreter.run(model.data, inputs)[0])
