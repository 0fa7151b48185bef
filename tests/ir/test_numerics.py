"""Numerics against TFLite's reference kernels (match="tflite") and against the oracle (match="exact"), bit for bit."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from cermet.frontend.tflite_file import read_tflite
from cermet.ir.numerics import evaluate
from cermet.ir.problems import op_problem
from tests.support import builders_reduce, exact, interpreter, model_builder
from tests.support.model_builder import Model

Build = Callable[[np.random.Generator], Model]

ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
QUANTISATIONS: dict[str, dict[str, Any]] = {
    "uint8": {"dtype": "uint8"}, "int8": {"dtype": "int8"}, "channel": {"dtype": "int8", "per_channel": True}}
CONVS = [   # input shape, output channels, kernel, stride, dilation, padding
    ((1, 8, 8, 16), 16, (3, 3), (1, 1), (1, 1), "SAME"), ((1, 9, 7, 3), 17, (3, 3), (2, 2), (1, 1), "SAME"),
    ((2, 8, 9, 5), 4, (2, 4), (1, 3), (1, 1), "VALID"), ((1, 12, 12, 33), 1, (3, 2), (1, 1), (2, 3), "SAME"),
    ((1, 1, 1, 515), 9, (1, 1), (1, 1), (1, 1), "VALID"), ((1, 17, 5, 1), 8, (7, 5), (3, 1), (1, 1), "SAME"),
    ((1, 11, 11, 4), 6, (3, 3), (1, 1), (4, 2), "VALID")]
DEPTHWISE = [   # input shape, kernel, multiplier, stride, dilation, padding
    ((1, 8, 8, 16), (3, 3), 1, (1, 1), (1, 1), "SAME"), ((1, 9, 7, 5), (5, 3), 3, (2, 2), (1, 1), "SAME"),
    ((2, 9, 10, 1), (3, 3), 8, (1, 2), (1, 1), "VALID"), ((1, 12, 12, 33), (3, 2), 2, (1, 1), (2, 3), "SAME")]
POOLS = [((1, 9, 10, 7), (3, 3), (2, 2), "SAME"), ((1, 8, 8, 16), (2, 2), (2, 2), "VALID"),
         ((2, 7, 7, 3), (7, 7), (1, 1), "VALID"), ((1, 13, 5, 4), (4, 3), (1, 2), "SAME")]
MEANS = [((1, 7, 7, 100), (1, 2)), ((2, 5, 3, 9), (1, 2)), ((1, 4, 4, 6), (3,)), ((1, 16, 16, 8), (2, 1)),
         ((1, 1, 1, 4), (1, 2))]


def cases() -> Iterator[tuple[str, Build]]:
    """(id, function that draws the model)."""
    for i, (shape, channels, kernel, stride, dilation, padding) in enumerate(CONVS):
        for name, options in QUANTISATIONS.items():
            yield f"conv-{shape}-{channels}-k{kernel}-{name}", partial(
                model_builder.conv2d, input_shape=shape, out_channels=channels, kernel=kernel, stride=stride,
                dilation=dilation, padding=padding, activation=ACTIVATIONS[i % 4], **options)
    for name, options in QUANTISATIONS.items():
        yield f"conv-groups-{name}", partial(model_builder.conv2d, input_shape=(1, 8, 7, 12), out_channels=10,
                                             groups=2, activation="RELU6", **options)
    for i, (shape, kernel, multiplier, stride, dilation, padding) in enumerate(DEPTHWISE):
        for name, options in QUANTISATIONS.items():
            yield f"depthwise-{shape}-k{kernel}-m{multiplier}-{name}", partial(
                model_builder.depthwise, input_shape=shape, kernel=kernel, multiplier=multiplier, stride=stride,
                dilation=dilation, padding=padding, activation=ACTIVATIONS[(i + 1) % 4], **options)
    for dtype in ("uint8", "int8"):
        for activation in ACTIVATIONS:
            yield from activation_cases(dtype, activation)
        yield from plain_cases(dtype)


def activation_cases(dtype: str, activation: str) -> Iterator[tuple[str, Build]]:
    options, name = {"dtype": dtype, "activation": activation}, f"{dtype}-{activation}"
    yield f"fully_connected-{name}", partial(
        model_builder.fully_connected, input_shape=(3, 70), out_channels=33, **options)
    yield f"add-{name}", partial(model_builder.add, shape=(1, 9, 9, 20), **options)
    yield f"add-broadcast-{name}", partial(
        model_builder.add, shape=(2, 5, 4, 6), other_shape=(1, 1, 1, 6), constant=True, **options)
    for shape, window, stride, padding in POOLS:
        for kind in ("AVERAGE", "MAX"):
            yield f"pool-{kind}-{shape}-k{window}-{padding}-{name}", partial(
                model_builder.pool, input_shape=shape, kind=kind, window=window, stride=stride, padding=padding,
                **options)


def plain_cases(dtype: str) -> Iterator[tuple[str, Build]]:
    for shape, axes in MEANS:
        for keep, same in itertools.product((False, True), repeat=2):
            yield f"mean-{shape}-{axes}-{dtype}-keep_{keep}-same_{same}", partial(
                model_builder.mean, input_shape=shape, axes=axes, dtype=dtype, keep_dims=keep, same_quantisation=same)
            for name in ("REDUCE_MAX", "REDUCE_MIN", *(("SUM",) if dtype == "uint8" else ())):
                yield f"{name}-{shape}-{axes}-{dtype}-keep_{keep}-{same}", partial(
                    builders_reduce.reduce, name=name, shape=shape, axes=axes, dtype=dtype, keep_dims=keep)
    yield f"fully_connected-weight_zero-{dtype}", partial(
        model_builder.fully_connected, input_shape=(2, 64), out_channels=16, dtype=dtype, weight_zero_point=7)
    yield f"fully_connected-keep_dims-{dtype}", partial(
        model_builder.fully_connected, input_shape=(2, 3, 20), out_channels=16, dtype=dtype, keep_num_dims=True)
    yield f"fully_connected-no_bias-{dtype}", partial(
        model_builder.fully_connected, input_shape=(2, 20), out_channels=16, dtype=dtype, bias=False)
    yield f"depthwise-no_bias-{dtype}", partial(
        model_builder.depthwise, input_shape=(1, 6, 6, 8), dtype=dtype, bias=False)
    yield f"reshape-{dtype}", partial(
        model_builder.reshape, input_shape=(1, 2, 3, 4), output_shape=(2, 12), dtype=dtype)
    yield f"squeeze-{dtype}", partial(model_builder.squeeze, input_shape=(1, 1, 1, 40), dtype=dtype)


ALL = list(cases())
RUNTIMES = ("tflite", "litert")


@pytest.mark.parametrize(("name", "build"), ALL, ids=[name.replace(" ", "") for name, _ in ALL])
def test_equal_to_reference_kernels_and_to_the_oracle(name: str, build: Build) -> None:
    rng = np.random.default_rng(len(name) * 1000 + sum(map(ord, name)))
    model = build(rng)
    data, inputs = model.data, model.random_inputs(rng)
    subgraph = read_tflite(data)
    operation = subgraph.operations[0]
    assert op_problem(subgraph, operation) is None
    values = dict(zip(subgraph.inputs, inputs, strict=True))

    oracle = exact.run(model, inputs)[-1]
    np.testing.assert_array_equal(evaluate(subgraph, operation, values, "exact"), oracle.quantised)

    mine = evaluate(subgraph, operation, values, "tflite")
    for runtime in RUNTIMES:
        pytest.importorskip(interpreter.MODULES[runtime])
        theirs = interpreter.run(data, inputs, runtime=runtime)[0]
        # LiteRT 2.3's FULLY_CONNECTED rounds once: "exact" is its rule
        expected = oracle.quantised if (runtime, operation.name) == ("litert", "FULLY_CONNECTED") else mine
        different = int((expected != theirs).sum())
        assert different == 0, f"{runtime}: {different} of {mine.size} differ"
    # two roundings, a rounded multiplier and the operands' rounding in ADD: each below half a step
    assert np.abs(mine.astype(int) - oracle.quantised.astype(int)).max() <= 1


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_add_broadcasts_lower_ranks(rank: int) -> None:
    rng = np.random.default_rng(rank)
    model = model_builder.add(rng, (2, 3, 4, 5), (2, 3, 4, 5)[-rank:], constant=True)
    subgraph, inputs = read_tflite(model.data), model.random_inputs(rng)
    mine = evaluate(subgraph, subgraph.operations[0], dict(zip(subgraph.inputs, inputs, strict=True)))
    np.testing.assert_array_equal(mine, interpreter.run(model.data, inputs)[0])


def test_outputs_of_generated_models_are_spread() -> None:
    """A grid whose outputs saturate or sit on one value would prove nothing."""
    spreads = []
    for name, build in ALL:
        if name.startswith(("conv", "depthwise", "fully", "add")):
            rng = np.random.default_rng(sum(map(ord, name)))
            model = build(rng)
            result = exact.run(model, model.random_inputs(rng))[-1]
            spreads.append(np.ptp(result.quantised.astype(int)))
    assert np.median(spreads) > 150


def test_an_unknown_match_is_refused() -> None:
    model = model_builder.squeeze(np.random.default_rng(0), (1, 1, 1, 4))
    subgraph = read_tflite(model.data)
    with pytest.raises(ValueError, match="match: nearest, must be tflite or exact"):
        evaluate(subgraph, subgraph.operations[0], {}, "nearest")
