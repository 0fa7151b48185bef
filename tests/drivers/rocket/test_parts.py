"""CONCATENATION of channels that producers write in place: fewer tasks, the same numbers."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.hw.soc import RK3588
from cermet.ir.operation import Kind
from tests.drivers.rocket.grid import run, subgraph_of
from tests.drivers.rocket.test_moving import rng
from tests.support import interpreter, model_builder
from tests.support.model_builder import Model, OperationSpec, TensorSpec

STEPS = ("conv", "depthwise", "max", "add")


def branches(kinds: tuple[str, ...], channels: tuple[int, ...], *, behind: bool, plane: tuple[int, int] = (7, 6),
             keep: bool = False) -> Model:
    """Inputs of their own through one operation each, joined; behind: a convolution reads the result.

    All tensors share one quantisation, so that nothing is requantised. keep: the first part is an output too.
    """
    draw = rng((kinds, channels))
    tensors: list[TensorSpec] = []
    operations: list[OperationSpec] = []
    inputs, parts = [], []
    for kind, count in zip(kinds, channels, strict=True):
        shape = (1, *plane, count)
        if kind == "conv":
            made = model_builder.conv2d(draw, shape, count, input_zero_point=-7, output_zero_point=-7)
        elif kind == "depthwise":
            made = model_builder.depthwise(draw, shape, input_zero_point=-7, output_zero_point=-7)
        elif kind == "max":
            made = model_builder.pool(draw, shape, "MAX", (3, 3), stride=(1, 1), padding="SAME", zero_point=-7)
        else:
            made = model_builder.add(draw, shape, zero_points=(-7, -7), output_zero_point=-7)
        factor = 0.03125 / made.tensors[made.outputs[0]].scale
        start = len(tensors)
        tensors += [replace(t, name=f"{t.name}{start}", scales=tuple(
            float(np.float32(s * (1 if t.name == "weights" else factor))) for s in t.scales)) for t in made.tensors]
        inputs += [start + i for i in made.inputs]
        parts.append(start + made.outputs[0])
        tensors[parts[-1]] = replace(tensors[parts[-1]], scales=(0.03125,))
        operations += [replace(op, inputs=tuple(start + i for i in op.inputs), outputs=(parts[-1],))
                       for op in made.operations]
    joined = TensorSpec("joined", (1, *plane, sum(channels)), "int8", (0.03125,), (-7,))
    operations.append(OperationSpec("CONCATENATION", tuple(parts), (len(tensors),), {"Axis": 3}))
    tensors.append(joined)
    outputs = (*parts[:1], len(tensors) - 1) if keep else (len(tensors) - 1,)
    model = Model(tuple(tensors), tuple(operations), tuple(inputs), outputs)
    if behind:
        model = model_builder.chain(model, lambda t: model_builder.conv2d(draw, t.shape, 20, input_zero_point=-7))
    return model


def num_copies(model: Model) -> int:
    """Tasks of the CONCATENATION."""
    subgraph = subgraph_of(model)
    (index,) = (op.index for op in subgraph.operations if op.kind is Kind.CONCATENATION)
    tasks = RocketDriver(RK3588).compile(subgraph, CompileOptions()).debug["tasks"]
    return sum(index in task["operations"] for task in tasks)   # type: ignore[attr-defined]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("kinds,channels,copies", [
    (("conv", "conv"), (32, 64), 0), (("conv", "conv"), (32, 24), 0), (("conv", "conv"), (16, 32), 1),
    (("depthwise", "conv"), (64, 96), 0), (("depthwise", "conv"), (32, 96), 1), (("max", "add"), (64, 33), 0),
    (("conv", "depthwise", "max"), (32, 64, 7), 0), (("add", "max", "conv", "depthwise"), (64, 128, 64, 16), 0),
    (("conv", "conv"), (3, 5), 3)], ids=str)
def test_parts_are_written_in_place(kinds: tuple, channels: tuple, copies: int, behind: bool) -> None:
    model = branches(kinds, channels, behind=behind)
    assert num_copies(model) == copies
    inputs, outputs = run(model, rng(channels))
    expected = interpreter.run(model.data, inputs)
    for mine, theirs in zip(outputs, expected, strict=True):
        different = np.abs(mine.astype(int) - theirs.astype(int))
        # A step from TFLite in a part may be as much behind the convolution, rarely more.
        assert different.max() <= (2 if behind else 1) and np.mean(different == 0) > 0.9


def test_an_output_is_copied() -> None:
    model = branches(("conv", "conv"), (32, 32), behind=False, keep=True)
    assert num_copies(model) == 1
    _, outputs = run(model, rng(0))
    np.testing.assert_array_equal(outputs[0], outputs[1][..., :32])


def test_a_tensor_joined_twice_is_copied() -> None:
    model = branches(("conv",), (32,), behind=False)
    (op,) = [op for op in model.operations if op.name == "CONCATENATION"]
    joined = replace(model.tensors[-1], shape=(1, 7, 6, 64))
    twice = replace(op, inputs=op.inputs * 2)
    model = replace(model, tensors=(*model.tensors[:-1], joined), operations=(*model.operations[:-1], twice))
    assert num_copies(model) == 2
    _, (output,) = run(model, rng(1))
    np.testing.assert_array_equal(output[..., :32], output[..., 32:])
