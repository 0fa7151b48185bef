"""Fixed-point helpers against integer arithmetic in Python."""
from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from cermet.ir.fixed_point import (
    activation_range,
    divide_half_away,
    multiply_by_quantised_multiplier,
    quantize_multiplier,
    rounding_right_shift,
    scale_exactly,
)
from cermet.ir.operation import Activation, Kind, Operation
from cermet.ir.tensor import DType, Quantisation, Tensor


def half_away(value: Fraction) -> int:
    magnitude = int(abs(value) + Fraction(1, 2))
    return magnitude if value >= 0 else -magnitude


@pytest.mark.parametrize("real", [0.5, 0.25, 1.0, 0.999999999999, 0.0003, 1.7, 3e-10, 2.0**-31])
def test_quantized_multiplier_is_within_half_a_step(real: float) -> None:
    q31, shift = quantize_multiplier(real)
    assert 1 << 30 <= q31 < 1 << 31
    assert abs(Fraction(q31) * Fraction(2)**(shift - 31) - Fraction(real)) <= Fraction(2)**(shift - 32)


def test_quantized_multiplier_of_tiny_numbers_is_zero() -> None:
    assert quantize_multiplier(2.0**-33) == quantize_multiplier(0.0) == (0, 0)


def test_multiplication_rounds_the_doubled_high_half_first_then_the_shift() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(-2**27, 2**27, 4000)
    for real in (0.9, 0.3, 0.01, 0.0007, 1.9, 3.0):
        q31, shift = quantize_multiplier(real)
        expected = []
        for v in values.tolist():
            product = (v << max(shift, 0)) * q31
            high = (product + (1 << 30)) >> 31              # ties up
            expected.append(half_away(Fraction(high, 1 << max(-shift, 0))))
        assert multiply_by_quantised_multiplier(values, q31, shift).tolist() == expected


def test_two_roundings_can_differ_from_one() -> None:
    q31, shift = quantize_multiplier(0.25)
    values = np.arange(-64, 65)
    once = np.array([half_away(Fraction(int(v), 4)) for v in values])
    assert (multiply_by_quantised_multiplier(values, q31, shift) != once).any()


def test_right_shift_takes_ties_away_from_zero() -> None:
    assert rounding_right_shift(np.array([-6, -5, -3, -2, -1, 1, 2, 3, 5, 6]), 2).tolist() == [
        -2, -1, -1, -1, 0, 0, 1, 1, 1, 2]


def test_division_takes_ties_away_from_zero() -> None:
    assert divide_half_away(np.array([-7, -5, -1, 0, 1, 5, 7]), 2).tolist() == [-4, -3, -1, 0, 1, 3, 4]


def test_exact_scaling_equals_rational_arithmetic() -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(-2**31, 2**31, (300, 4))
    scales = [np.float32(s) for s in rng.uniform(1e-4, 1.5, 4)]
    factors = [Fraction(float(s)) for s in scales[:2]] + [Fraction(1, 2), Fraction(3, 1 << 20)]
    expected = [[half_away(v * f) for v, f in zip(row, factors, strict=True)] for row in values.tolist()]
    assert scale_exactly([(values, factors)]).tolist() == expected


def test_exact_scaling_decides_ties_that_float64_cannot() -> None:
    """0.5 +- 2**-60 of the unit: all three are 0.5 in float64."""
    nudge = Fraction(1, 1 << 60)
    for factor, expected in ((Fraction(1, 2), 1), (Fraction(1, 2) - nudge, 0), (Fraction(1, 2) + nudge, 1)):
        assert scale_exactly([(np.array([1, -1]), [factor])]).tolist() == [expected, -expected]


def test_sum_of_two_exact_terms() -> None:
    a, b = np.meshgrid(np.arange(-255, 256), np.arange(-255, 256))
    factors = (Fraction(3, 8), Fraction(5, 16))
    result = scale_exactly([(a, factors[:1]), (b, factors[1:])])
    assert result.tolist() == np.vectorize(lambda x, y: half_away(Fraction(6 * x + 5 * y, 16)))(a, b).tolist()


OUT = Tensor(0, "y", (1,), DType.INT8, Quantisation((0.05,), (-100,)))


@pytest.mark.parametrize(("activation", "expected"), [
    (Activation.NONE, (-128, 127)), (Activation.RELU, (-100, 127)), (Activation.RELU6, (-100, 20)),
    (Activation.RELU_N1_TO_1, (-120, -80))])
def test_activation_limits_are_quantised(activation: Activation, expected: tuple[int, int]) -> None:
    operation = Operation(0, Kind.CONV, "CONV_2D", (), (), activation=activation)
    assert activation_range(operation, OUT) == expected


def test_activation_limits_stay_inside_the_dtype() -> None:
    operation = Operation(0, Kind.CONV, "CONV_2D", (), (), activation=Activation.RELU6)
    coarse = replace(OUT, dtype=DType.UINT8, quantisation=Quantisation((0.001,), (3,)))
    assert activation_range(operation, coarse) == (3, 255)
