"""Every reason why an operation makes no sense, each from one change to a sound model."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.frontend.tflite_file import read_tflite
from cermet.ir.operation import Activation, Pair
from cermet.ir.problems import op_problem
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Quantisation
from tests.support import model_builder
from tests.support.model_builder import Model


def rng() -> np.random.Generator:
    return np.random.default_rng(8)


MODELS: dict[str, Callable[[], Model]] = {
    "conv": lambda: model_builder.conv2d(rng(), (1, 8, 9, 3), 4),
    "channel": lambda: model_builder.conv2d(rng(), (1, 8, 9, 3), 4, per_channel=True),
    "uint8": lambda: model_builder.conv2d(rng(), (1, 8, 9, 3), 4, dtype="uint8"),
    "depthwise": lambda: model_builder.depthwise(rng(), (1, 8, 9, 3), multiplier=2),
    "fc": lambda: model_builder.fully_connected(rng(), (2, 12), 5),
    "add": lambda: model_builder.add(rng(), (1, 2, 3, 4)),
    "pool": lambda: model_builder.pool(rng(), (1, 8, 8, 3)),
    "same_pool": lambda: model_builder.pool(rng(), (1, 8, 8, 3), padding="SAME"),
    "mean": lambda: model_builder.mean(rng(), (1, 4, 4, 6)),
    "reshape": lambda: model_builder.reshape(rng(), (1, 2, 3, 4), (1, 24)),
}


def tensor(number: int, **changes: object) -> Callable[[Subgraph], Subgraph]:
    """A change of one tensor; contents follow its dtype and shape."""
    def change(subgraph: Subgraph) -> Subgraph:
        changed = replace(subgraph.tensors[number], **changes)      # type: ignore[arg-type]
        if changed.data is not None and "data" not in changes:
            changed = replace(changed, data=np.zeros(changed.shape, changed.dtype.numpy))
        return replace(subgraph, tensors={**subgraph.tensors, number: changed})
    return change


def operation(**changes: object) -> Callable[[Subgraph], Subgraph]:
    def change(subgraph: Subgraph) -> Subgraph:
        return replace(subgraph, operations=(replace(subgraph.operations[0], **changes),))      # type: ignore[arg-type]
    return change


def window(**changes: object) -> Callable[[Subgraph], Subgraph]:
    def change(subgraph: Subgraph) -> Subgraph:
        old = subgraph.operations[0].window
        assert old is not None
        return operation(window=replace(old, **changes))(subgraph)      # type: ignore[arg-type]
    return change


def quantised(number: int, **changes: object) -> Callable[[Subgraph], Subgraph]:
    def change(subgraph: Subgraph) -> Subgraph:
        old = subgraph.tensors[number].quantisation
        assert old is not None
        return tensor(number, quantisation=replace(old, **changes))(subgraph)       # type: ignore[arg-type]
    return change


CASES = [
    ("conv", operation(inputs=(0,)), "1 inputs, must be 2..3 and the first present"),
    ("conv", operation(outputs=(3, 3)), "2 outputs, must be 1"),
    ("conv", operation(activation=Activation.OTHER), "its fused activation has no quantised kernel"),
    ("conv", tensor(3, dtype=DType.UINT8), "output is uint8, must be int8 like the input"),
    ("reshape", lambda s: tensor(0, dtype=DType.FLOAT32)(tensor(2, dtype=DType.FLOAT32)(s)),
     "input is float32, must be int8 or uint8"),
    ("conv", tensor(0, quantisation=None), "input is not quantised, must have a scale"),
    ("conv", quantised(0, scales=(0.1, 0.2, 0.3), axis=3), "input is quantised per channel, must be per tensor"),
    ("conv", quantised(3, scales=(0.0,)), "output has scale 0.0, must be finite and above 0"),
    ("conv", quantised(3, scales=(float("nan"),)), "output has scale nan, must be finite and above 0"),
    ("conv", quantised(3, zero_points=(128,)), "output has zero point 128, must be -128..127"),
    ("conv", tensor(0, shape=(0, 8, 9, 3)), "input has shape (0, 8, 9, 3), must have 1..2147483648 elements"),
    ("conv", tensor(0, shape=(8, 9, 3)), "input and weights must have 4 dimensions"),
    ("conv", tensor(0, shape=(1, 8, 9, 5)), "weights have shape (4, 3, 3, 3), must have input channels that divide 5"),
    ("conv", tensor(1, dtype=DType.FLOAT32), "weights are float32, must be int8 like the input"),
    ("conv", tensor(1, quantisation=None), "weights are not quantised, must have a scale"),
    ("conv", quantised(1, zero_points=(5,)), "int8 weights have zero point 5, must be 0"),
    ("channel", quantised(1, zero_points=(0, 0, 3, 0)), "int8 weights have zero point 3, must be 0"),
    ("uint8", quantised(1, scales=(0.1,) * 4), "uint8 weights have 4 scales on axis 0, must be one, or int8 on axis 0"),
    ("conv", tensor(2, dtype=DType.INT64), "bias is int64 of shape (4,), must be int32 with 4 elements"),
    ("conv", quantised(2, scales=(1.0,)), "bias has scale 1, must be "),
    ("conv", tensor(3, shape=(1, 8, 8, 4)), "output has shape (1, 8, 8, 4), must be (1, 8, 9, 4)"),
    ("conv", operation(window=None), "padding is unknown, must be SAME or VALID"),
    ("conv", window(stride=Pair(0, 1)), "stride 0x1, must be 1..65536 each"),
    ("conv", window(dilation=Pair(1, -1)), "dilation 1x-1, must be 1..65536 each"),
    ("pool", window(kernel=Pair(9, 9), stride=Pair(1, 1)), "window of 9x9 does not fit in 8x8"),
    ("depthwise", operation(depth_multiplier=3), "weights have shape (1, 3, 3, 6), must have 1 first and 3 channels"),
    ("fc", operation(weights_format=1), "weights format 1, must be 0 (plain)"),
    ("fc", tensor(0, shape=(2, 13)), "weights have shape (5, 12), the input's 26 must be rows of 12"),
    ("fc", tensor(3, shape=(3, 5)), "output has shape (3, 5), must have 2 rows of 5"),
    ("fc", tensor(1, shape=(60,)), "weights must have 2 dimensions"),
    ("add", operation(inputs=(0, None)), "second operand is absent"),
    ("add", tensor(1, dtype=DType.UINT8), "second operand is uint8, must be int8 like the first"),
    ("add", tensor(1, shape=(1, 2, 3, 5)), "operands of shapes (1, 2, 3, 4) and (1, 2, 3, 5) do not broadcast"),
    ("add", tensor(2, shape=(2, 2, 3, 4)), "output has shape (2, 2, 3, 4), must be (1, 2, 3, 4)"),
    ("add", tensor(1, quantisation=None), "second operand is not quantised, must have a scale"),
    ("pool", quantised(1, zero_points=(99,)), "output is quantised differently from the input"),
    ("same_pool", window(kernel=Pair(1, 1), stride=Pair(7, 1)), "output has shape (1, 4, 4, 3), must be (1, 2, 8, 3)"),
    ("mean", tensor(1, data=None), "axes must be a constant of int32"),
    ("mean", tensor(1, data=np.array([1, 4], np.int32)), "axes [1, 4], must be -4..3"),
    ("mean", tensor(2, shape=(1, 1, 6)), "output has shape (1, 1, 6), must be (1, 6)"),
    ("reshape", tensor(2, shape=(1, 25)), "output has 25 elements, must be 24 like the input"),
]


@pytest.mark.parametrize("name", MODELS)
def test_sound_models_have_no_problem(name: str) -> None:
    subgraph = read_tflite(MODELS[name]().data)
    assert op_problem(subgraph, subgraph.operations[0]) is None


@pytest.mark.parametrize(("name", "change", "message"), CASES, ids=[f"{name}-{text[:40]}" for name, _, text in CASES])
def test_reasons(name: str, change: Callable[[Subgraph], Subgraph], message: str) -> None:
    subgraph = change(read_tflite(MODELS[name]().data))
    problem = op_problem(subgraph, subgraph.operations[0])
    assert problem is not None and problem.startswith(message)


def test_other_kinds_have_no_numerics() -> None:
    subgraph = read_tflite(model_builder.unary(rng(), "FLOOR", (1, 4)).data)
    assert op_problem(subgraph, subgraph.operations[0]) == "FLOOR has no numerics here"


def test_zero_points_of_fully_connected_int8_weights_are_computed_with() -> None:
    subgraph = read_tflite(model_builder.fully_connected(rng(), (2, 12), 5, weight_zero_point=3).data)
    assert subgraph.tensors[1].quantisation == Quantisation(subgraph.tensors[1].quantisation.scales, (3,))  # type: ignore
    assert op_problem(subgraph, subgraph.operations[0]) is None
