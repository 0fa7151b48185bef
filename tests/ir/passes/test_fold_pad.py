"""PAD folded into convolutions: the numbers of TFLite's reference kernels."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.operation import Kind
from cermet.ir.passes import run_passes
from cermet.ir.passes.fold_pad import fold_pad
from tests.support import builders_move, interpreter, model_builder
from tests.support.model_builder import Model

AMOUNTS = [(1, 1, 1, 1), (1, 0, 1, 0), (0, 1, 0, 1), (2, 2, 2, 1), (0, 2, 1, 0)]


def padded_conv(amounts: tuple[int, ...], *, shape: tuple[int, ...] = (1, 7, 6, 5), depthwise: bool = False,
                value: int | None = None, **options: object) -> Model:
    """PAD, then a convolution. amounts: top, bottom, left, right."""
    top, bottom, left, right = amounts
    dtype = str(options.get("dtype", "int8"))
    pad = builders_move.pad(shape, [(0, 0), (top, bottom), (left, right), (0, 0)], dtype=dtype, value=value)

    def step(made: model_builder.TensorSpec) -> Model:
        rng = np.random.default_rng(sum(amounts))
        build = model_builder.depthwise if depthwise else model_builder.conv2d
        sizes = () if depthwise else (9,)
        return build(rng, made.shape, *sizes, input_zero_point=made.zero_point, **options)  # type: ignore[operator]
    return model_builder.chain(pad, step)


@pytest.mark.parametrize("amounts", AMOUNTS, ids=str)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "multiplier"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_folded_pad_computes_the_same(amounts: tuple, padding: str, kind: str, dtype: str) -> None:
    options = {"multiplier": 2} if kind == "multiplier" else {}
    model = padded_conv(amounts, depthwise=kind != "conv", padding=padding, stride=(2, 1), dtype=dtype, **options)
    before, inputs = read_tflite(model.data), model.random_inputs(np.random.default_rng(1))
    after = run_passes(before, (fold_pad,))
    assert len(after.operations) == 1 or padding == "SAME"     # SAME adds to the border: too much for the kernel
    named = dict(zip(before.inputs, inputs, strict=True))
    expected = interpreter.run(model.data, inputs)[0]
    (soft,) = SoftDriver().execute(after, named).values()
    np.testing.assert_array_equal(soft, expected)
    (npu,) = RocketDriver(RK3588).execute(before, named).values()
    assert np.abs(npu.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("amounts,options", [
    ((3, 0, 0, 0), {}), ((1, 1, 1, 1), {"value": 5}), ((1, 1, 1, 16), {}),
    ((16, 16, 16, 16), {"kernel": (18, 18)})], ids=str)
def test_what_a_window_cannot_take_stays(amounts: tuple, options: dict) -> None:
    before = read_tflite(padded_conv(amounts, padding="VALID", **options).data)
    assert run_passes(before, (fold_pad,)) is before


def test_a_pad_that_others_read_stays() -> None:
    model = padded_conv((1, 1, 1, 1), padding="VALID")
    before = read_tflite(replace(model, outputs=(2, *model.outputs)).data)
    assert run_passes(before, (fold_pad,)) is before


def test_a_folded_pad_costs_no_task() -> None:
    model = padded_conv((3, 3, 3, 3), kernel=(7, 7), padding="VALID", shape=(1, 30, 30, 16))
    assert len(RocketDriver(RK3588).compile(read_tflite(model.data), CompileOptions()).tasks) == 1


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("window,stride,padding", [((3, 3), (2, 2), "VALID"), ((2, 2), (2, 2), "SAME"),
                                                  ((5, 3), (1, 1), "VALID")], ids=str)
@pytest.mark.parametrize("amounts", [*AMOUNTS, (3, 3, 3, 3)], ids=str)
def test_a_border_of_the_lowest_number_is_folded_into_a_maximum(amounts: tuple, window: tuple, stride: tuple,
                                                                padding: str, dtype: str) -> None:
    model = padded_maximum(amounts, {"int8": -128, "uint8": 0}[dtype], window, stride, padding, dtype)
    before, inputs = read_tflite(model.data), model.random_inputs(np.random.default_rng(1))
    after = run_passes(before, (fold_pad,))
    assert [op.kind for op in after.operations] == [Kind.MAX_POOL]
    named = dict(zip(before.inputs, inputs, strict=True))
    expected = interpreter.run(model.data, inputs)[0]
    (soft,) = SoftDriver().execute(after, named).values()
    (npu,) = RocketDriver(RK3588).execute(before, named).values()
    np.testing.assert_array_equal(soft, expected)
    np.testing.assert_array_equal(npu, expected)


def test_a_border_that_could_win_stays() -> None:
    before = read_tflite(padded_maximum((1, 1, 1, 1), -127, (3, 3), (2, 2), "VALID", "int8").data)
    assert run_passes(before, (fold_pad,)) is before


def padded_maximum(amounts: tuple[int, ...], value: int, window: tuple, stride: tuple, padding: str,
                   dtype: str) -> Model:
    """PADV2 with a value, then MAX_POOL_2D."""
    top, bottom, left, right = amounts
    pad = builders_move.pad((1, 9, 8, 20), [(0, 0), (top, bottom), (left, right), (0, 0)], dtype=dtype, value=value)
    return model_builder.chain(pad, lambda made: model_builder.pool(
        np.random.default_rng(0), made.shape, "MAX", window, stride=stride, padding=padding, dtype=dtype,
        zero_point=made.zero_point))
