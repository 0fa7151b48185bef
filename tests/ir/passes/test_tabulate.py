"""Chains of element-wise operations in one look-up: the same results for all 256 values."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.ir.operation import Kind
from cermet.ir.passes import run_passes
from cermet.ir.passes.tabulate import tabulate
from tests.support import interpreter
from tests.support.model_builder import Model
from tests.support.sketch import FLOAT, Sketch, all_bytes


def hard_swish(made: Sketch, x: int) -> int:
    """x * relu6(x + 3) / 6 in single steps."""
    moved = made.op("ADD", (x, made.constant(127, 3 / 127)), 0.06, -60)
    gate = made.op("RELU6", (moved,), 6 / 255, -128)
    product = made.op("MUL", (x, gate), 0.15, -40)
    return made.op("MUL", (product, made.constant(127, 1 / 6 / 127)), 0.026, -110)


def swish(made: Sketch, x: int) -> int:
    return made.op("MUL", (x, made.op("LOGISTIC", (x,), 1 / 256, -128)), 0.028, -118)


def leaky(made: Sketch, x: int) -> int:
    scaled = made.op("MUL", (x, made.constant(51, 1 / 510)))
    return made.op("MAXIMUM", (x, scaled))


def root(made: Sketch, x: int) -> int:
    real = made.real("SQRT", made.real("SQUARE", made.real("DEQUANTIZE", x, version=2)))
    return made.op("QUANTIZE", (real,), 0.025, -128, dtype="int8", version=1)


def softplus(made: Sketch, x: int) -> int:
    """log(exp(x) + 1), the constant first; then the mish activation's product with x, all in float."""
    real = made.real("DEQUANTIZE", x, version=2)
    plus = made.op("ADD", (made.constant(1.0), made.real("EXP", real)), dtype=FLOAT, shape=(1, 16, 16, 1), version=1)
    gate = made.real("TANH", made.real("LOG", plus))
    return made.op("QUANTIZE", (made.real("MUL", real, gate),), 0.03, -118, dtype="int8", version=1)


def requantised(made: Sketch, x: int) -> int:
    return made.op("QUANTIZE", (made.op("QUANTIZE", (x,), 0.05, 131, dtype="uint8"),), 0.1, -2, dtype="int8")


CHAINS = {one.__name__: one for one in (hard_swish, swish, leaky, root, softplus, requantised)}


def drawn(chain: Callable[[Sketch, int], int]) -> Model:
    made = Sketch()
    return made.model(chain(made, made.input()))


@pytest.mark.parametrize("match", ["tflite", "exact"])
@pytest.mark.parametrize("name", CHAINS)
def test_all_values_are_the_chains(name: str, match: str) -> None:
    model = drawn(CHAINS[name])
    before, inputs = read_tflite(model.data), all_bytes(model)
    after = run_passes(before, (partial(tabulate, match=match),))
    (made,) = after.operations
    assert made.fused == tuple(range(len(before.operations) - 1))
    named = dict(zip(before.inputs, inputs, strict=True))
    results = [next(iter(SoftDriver(match).execute(g, named).values())) for g in (before, after)]
    assert np.array_equal(*results)
    if match == "tflite":
        assert np.array_equal(results[1], interpreter.run(model.data, inputs)[0])


def test_what_a_simple_operation_computes_gets_its_name() -> None:
    before = read_tflite(drawn(requantised).data)
    assert [op.kind for op in run_passes(before, (tabulate,)).operations] == [Kind.QUANTIZE]


def test_a_cast_gives_its_input_a_quantisation() -> None:
    made = Sketch()
    x = made.input(scale=None, dtype="uint8")
    model = made.model(made.op("QUANTIZE", (made.real("CAST", x),), 1.0, -128, dtype="int8", version=1))
    after = run_passes(read_tflite(model.data), (tabulate,))
    (inputs,) = all_bytes(model)
    (result,) = SoftDriver().execute(after, {0: inputs}).values()
    assert np.array_equal(result, interpreter.run(model.data, [inputs])[0])
    assert np.array_equal(result, (inputs.astype(int) - 128))


def test_a_tensor_that_others_read_ends_a_chain() -> None:
    made = Sketch()
    middle = hard_swish(made, made.input())
    end = swish(made, middle)
    after = run_passes(read_tflite(made.model(middle, end).data), (tabulate,))
    assert [op.fused for op in after.operations] == [(0, 1, 2), (4,)]


def untouched(model: Model) -> bool:
    before = read_tflite(model.data)
    return run_passes(before, (tabulate,)) is before


def test_a_float_tensor_that_others_read_stays() -> None:
    made = Sketch()
    real = made.real("DEQUANTIZE", made.input(), version=2)
    root = made.real("ABS", real)
    end = made.op("QUANTIZE", (root,), 0.03, dtype="int8", version=1)
    assert untouched(made.model(root, end))


def test_chains_that_share_float_operations_go_together_or_not_at_all() -> None:
    def both(ends_float: bool) -> Model:
        made = Sketch()
        real = made.real("DEQUANTIZE", made.input(), version=2)
        first = made.op("QUANTIZE", (made.real("ABS", real),), 0.03, dtype="int8", version=1)
        square = made.real("SQUARE", real)
        second = square if ends_float else made.op("QUANTIZE", (square,), 0.2, -128, dtype="int8", version=1)
        return made.model(first, second)
    after = run_passes(read_tflite(both(ends_float=False).data), (tabulate,))
    assert [op.fused for op in after.operations] == [(0, 1), (0, 3)]
    assert untouched(both(ends_float=True))


def test_two_tensors_make_no_chain() -> None:
    made = Sketch()
    a, b = (made.real("DEQUANTIZE", made.input(), version=2) for _ in range(2))
    assert untouched(made.model(made.op("QUANTIZE", (made.real("MUL", a, b),), 0.1, dtype="int8", version=1)))


def test_a_constant_per_channel_makes_no_chain() -> None:
    made = Sketch()
    x = made.input((1, 4, 4, 2))
    scaled = made.op("MUL", (x, made.constant([3, 5], 0.01)))
    assert untouched(made.model(made.op("LOGISTIC", (scaled,), 1 / 256, -128)))


@pytest.mark.parametrize("name", ["LOG", "SQRT", "RSQRT"])
def test_a_function_that_is_not_defined_everywhere_stays(name: str) -> None:
    """What TFLite makes of a NaN or an infinity depends on the processor."""
    made = Sketch()
    real = made.real(name, made.real("DEQUANTIZE", made.input(), version=2))
    assert untouched(made.model(made.op("QUANTIZE", (real,), 0.03, dtype="int8", version=1)))


def test_a_difference_of_large_numbers_stays() -> None:
    """(exp(x) - 1) * 1e6: a unit in the last place of another libm's exp(0) is 0.1 there, 10 steps of 0.01."""
    def cancelled(scale: float) -> Model:
        made = Sketch()
        large = made.constant(1e6)
        power = made.real("EXP", made.real("DEQUANTIZE", made.input(scale=0.002), version=2))
        difference = made.real("SUB", made.real("MUL", power, large), large)
        return made.model(made.op("QUANTIZE", (difference,), scale, -128, dtype="int8", version=1))
    assert untouched(cancelled(0.01)) and not untouched(cancelled(10.0))
