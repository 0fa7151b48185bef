"""Support rules: each refuses in words, with the value seen and what is allowed."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.operations import OPERATIONS
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import subgraph_of
from tests.support import model_builder
from tests.support.model_builder import Model


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def refusal_of(model: Model, operation: int = 0) -> tuple[str, str] | None:
    subgraph = subgraph_of(model)
    refusal = RocketDriver(RK3588).refuse(subgraph, subgraph.operations[operation], CompileOptions())
    return None if refusal is None else (refusal.rule, refusal.reason)


def _conv(shape: tuple[int, ...] = (1, 8, 8, 4), outputs: int = 4, kernel: tuple[int, int] = (1, 1),
          **options: object) -> Model:
    return model_builder.conv2d(_rng(), shape, outputs, kernel, **options)


def _with(model: Model, tensor: int, **changes: object) -> Model:
    tensors = list(model.tensors)
    tensors[tensor] = replace(tensors[tensor], **changes)
    return replace(model, tensors=tuple(tensors))


def _two_scales(*scales: float) -> Model:
    """Multipliers as given, and sums so large that the smaller one matters."""
    model = _with(_with(_conv(outputs=2, per_channel=True), 0, scales=(1.0,)), 3, scales=(1.0,))
    return _with(_with(model, 1, scales=scales), 2, scales=scales, data=np.array([0, 1 << 30], np.int32))


CASES = {
    "batch": (lambda: _conv((65, 8, 8, 4), kernel=(3, 3)), "batch_is_one", "batch is 65, must be 1..64 images"),
    "kernel": (lambda: _conv((1, 40, 40, 1), 1, (33, 1)), "kernel_fits", "kernel is 33x1, must be 1..31"),
    "stride": (lambda: _conv(stride=(11, 1)), "stride_fits", "stride is 11x1, must be 1..7"),
    "dilation": (lambda: _conv((1, 80, 4, 1), 1, (2, 1), dilation=(33, 1), padding="VALID"), "dilation_fits",
                 "dilation is 33x1, must be 1..32"),
    "padding": (lambda: _conv((1, 8180, 4, 1), 1, (3, 1), dilation=(16, 1)), "padded_map_fits",
                "with its padding the input is 8196x4, must be at most 8192x2047"),
    "width": (lambda: _conv((1, 2, 2048, 1), 1), "width_fits", "width 2048 must be 1..2047 where there are several"),
    "kernel bytes": (lambda: _conv((1, 31, 31, 560), 1, (31, 31), padding="VALID"), "kernel_bytes_fit",
                     "one kernel has 538160 bytes, at most 524287 are possible"),
    "window rows": (lambda: _conv((1, 7, 2000, 64), 1, (7, 1), padding="VALID"), "window_rows_fit_the_cbuf",
                    "7 rows of 2000x64 do not fit the convolution buffer of 384 KiB"),
    "grouped": (lambda: _with(_conv((1, 4, 4, 4)), 0, shape=(1, 4, 4, 12)), "shapes_agree",
                "weights are 4 kernels of 4 channels, which cannot share out the input's 12 channels in groups"),
    "activation": (lambda: _conv(activation="TANH"), "activation_is_known", "the fused activation is neither RELU"),
    "float": (lambda: _with(_conv(), 0, dtype="float32", scales=(), zero_points=()), "activations_are_8_bit",
              "tensor 0 is float32, must be int8 or uint8"),
    "int16": (lambda: _with(_conv(), 0, dtype="int16"), "activations_are_8_bit", "is int16, must be int8 or uint8"),
    "mixed": (lambda: _with(_conv(), 0, dtype="uint8"), "activations_have_one_type", "activations are int8 and uint8"),
    "no scale": (lambda: _with(_conv(), 0, scales=(), zero_points=()), "activations_are_quantised_per_tensor",
                 "tensor 0 has no quantisation"),
    "weights at run time": (lambda: _with(_conv(), 1, data=None), "weights_are_constant", "computed at run time"),
    "bias type": (lambda: _with(_conv(), 2, dtype="int64", data=np.zeros(4, np.int64)), "bias_fits",
                  "bias is int64, must be int32"),
    "bias length": (lambda: _with(_conv(), 2, shape=(3,), data=np.zeros(3, np.int32)), "bias_fits",
                    "bias has 3 values, must have 4"),
    "overflow": (lambda: _with(_conv(), 2, data=np.full(4, 2**31 - 1, np.int32)), "numbers_fit",
                 "accumulators hold 2147483647"),
    "axis": (lambda: _with(_conv(per_channel=True), 1, axis=3), "weight_quantisation_fits",
             "weights have 4 scales along axis 3, must have 1 or 4 along 0"),
    "span": (lambda: _two_scales(0.7, 0.7 * 2.0 ** -22), "numbers_fit",
             "scales of the output channels span too much: channel 1"),
    "bias at run time": (lambda: _with(_conv(), 2, data=None), "bias_fits", "computed at run time"),
    "multiplier": (lambda: model_builder.depthwise(_rng(), (1, 4, 4, 1023), (3, 3), multiplier=2),
                   "spread_weights_are_small",
                   "1023 groups: weights as full convolutions of 1023 groups take 18855936 bytes"),
    "deep": (lambda: _conv((1, 1, 1, 20000), 2), "channels_fit",
             "has 20000 input channels, at most 16352 are possible"),
    "deeper": (lambda: model_builder.fully_connected(_rng(), (1, 528000), 2), "inputs_fit_the_cbuf",
               "one output has 528000 bytes of weights, at most 524287 are possible"),
    "deepest": (lambda: model_builder.fully_connected(_rng(), (1, 400000), 2), "inputs_fit_the_cbuf",
                "400000 inputs do not fit the convolution buffer of 384 KiB beside weights"),
    "no layout": (lambda: model_builder.reshape(_rng(), (1, 4, 4, 8), (1, 128)), "neighbours_run_here",
                  "not worth a task"),
}


@pytest.mark.parametrize("name", CASES)
def test_reason_in_words(name: str) -> None:
    build, rule, text = CASES[name]
    refusal = refusal_of(build())
    assert refusal is not None and refusal[0] == rule, refusal
    assert text in refusal[1]


def test_what_keeps_all_rules_is_taken() -> None:
    assert refusal_of(_conv()) is None
    assert refusal_of(model_builder.depthwise(_rng(), (1, 4, 4, 3))) is None
    assert refusal_of(model_builder.fully_connected(_rng(), (1, 40), 3)) is None


def test_an_unknown_operation_is_named() -> None:
    assert refusal_of(model_builder.unary(_rng(), "ZEROS_LIKE", (1, 4, 4, 3))) == (
        "operation_is_known", "no NPU program for ZEROS_LIKE")


def test_why_there_is_no_program_for_a_softmax() -> None:
    rule, reason = refusal_of(model_builder.unary(_rng(), "SOFTMAX", (1, 12)))  # type: ignore[misc]
    assert rule == "operation_is_known"
    assert reason.startswith("no NPU program for SOFTMAX: results within one step need exponentials of 15 bits")


def test_every_rule_states_its_constraint() -> None:
    """The first line of the docstring is the public rule: a sentence. The name is unique."""
    rules = {rule for entry in OPERATIONS.values() for rule in entry.rules}
    for rule in rules:
        first = (rule.__doc__ or "").splitlines()[0]
        assert first.endswith(".") and first[0].isupper(), rule.__name__
    assert len({rule.__name__ for rule in rules}) == len(rules)
