"""Requantisation: register values evaluated by the stage formulas of the hardware document, against exact fractions."""
from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cermet.drivers.rocket.requantise import Clamp, Requantisation, ScaleError, factors, requantise

INT32 = 1 << 31


def _rne(value: int, shift: int) -> int:
    """value / 2**shift to nearest, ties to even."""
    return round(Fraction(value, 1 << shift))


def _away(value: int, shift: int) -> int:
    """value / 2**shift to nearest, ties away from zero."""
    magnitude = (2 * abs(value) + (1 << shift)) // (2 << shift)
    return magnitude if value >= 0 else -magnitude


def _sat(value: int) -> int:
    return max(-INT32, min(INT32 - 1, value))


def device(numbers: Requantisation, channel: int, t: int) -> int:
    """One output: BS (numerics §6.2), BN (§7: multiply, add, shift, clamp), OUT_CVT (§9), in Python integers."""
    c = int(numbers.multipliers[channel if len(numbers.multipliers) > 1 else 0])
    v = _sat(_rne(t * c, numbers.bs_shift))
    m = 1
    if numbers.powers is not None:
        m = 1 << int(numbers.powers[channel])
    elif numbers.second is not None:
        m = numbers.second
    v = _sat(_rne(v * m - numbers.low, numbers.second_shift))
    if numbers.high is not None:
        v = min(max(v, 0), numbers.high)
    y = _away(v * numbers.out.scale, numbers.out.shift) + numbers.out.offset
    return max(-128, min(127, y))


def exact(m: float, t: int, zero_point: int, clamp: Clamp) -> int:
    """Round half away, add the zero point, clamp: in fractions."""
    real = Fraction(m) * t
    y = int(abs(real) + Fraction(1, 2)) * (1 if real >= 0 else -1) + zero_point
    return max(clamp.lowest, min(clamp.highest, y))


CLAMPS = [(0, Clamp()), (-128, Clamp(-128, 60)), (-20, Clamp(-20, 70)), (5, Clamp(-40, 50)), (90, Clamp(-128, 100))]


@pytest.mark.parametrize("match", ["tflite", "exact"])
@pytest.mark.parametrize("zero_point, clamp", CLAMPS, ids=str)
@pytest.mark.parametrize("span_octaves", [0, 1, 4, 12], ids=lambda octaves: f"span{octaves}")
@pytest.mark.parametrize("count", [1, 8])
def test_every_output_is_within_one_step(match: str, zero_point: int, clamp: Clamp, span_octaves: int,
                                         count: int) -> None:
    """Random multipliers from 2**-18 to 1; accumulators around the output's range, around 0 and at the bounds."""
    rng = np.random.default_rng(span_octaves * 10 + count)
    for _ in range(25):
        largest = 2.0 ** -rng.uniform(0, 18 - span_octaves)
        multipliers = largest * 2.0 ** -rng.uniform(0, max(span_octaves, 1e-9), count)
        bounds = np.minimum(600 / multipliers, INT32 / 2).astype(np.int64)
        numbers = requantise(multipliers, bounds, zero_point, clamp, match)
        for channel, (m, bound) in enumerate(zip(multipliers, bounds, strict=True)):
            ts = [0, 1, -1, int(bound), -int(bound), *rng.integers(-bound, bound, 12)]
            for t in map(int, ts):
                got, wanted = device(numbers, channel, t), exact(float(m), t, zero_point, clamp)
                assert abs(got - wanted) <= 1, (m, t, got, wanted)
                assert clamp.lowest <= got <= clamp.highest


def test_two_factors_imitate_both_roundings_of_tflite() -> None:
    """One multiplier: as MultiplyByQuantizedMultiplier, but for its ties and the last of its 31 bits."""
    rng = np.random.default_rng(0)
    differ = total = 0
    for _ in range(200):
        m = float(2.0 ** -rng.uniform(2, 14))
        numbers = requantise(np.array([m]), np.array([int(120 / m)]), 3, Clamp(), "tflite")
        fraction, exponent = np.frexp(m)
        q31 = round(float(fraction) * INT32)
        for t in map(int, rng.integers(-120 / m, 120 / m, 50)):
            high = (t * q31 + (1 << 30)) >> 31
            differ += device(numbers, 0, t) != max(-128, min(127, _away(high, -int(exponent)) + 3))
            total += 1
    assert differ <= total / 1000, f"{differ} of {total}"


@pytest.mark.parametrize("bound", [1, 1000, 1 << 17, 1 << 24, (1 << 31) - 1])
def test_the_first_factor_never_leaves_32_bits(bound: int) -> None:
    for real in (0.9999, 0.5, 0.7071, 0.013, 3.7):
        first, second, shift = factors(real, bound)
        assert first * bound < INT32 and 1 << 14 <= second < 1 << 15
        assert abs(first * second / 2 ** shift / real - 1) < 2 ** -14


def test_channels_that_span_too_much_are_refused_in_words() -> None:
    multipliers = np.array([0.25, 0.25 * 2.0 ** -30])
    with pytest.raises(ScaleError, match="span too much: channel 1"):
        requantise(multipliers, np.array([1000, 1 << 30]) * 2, 0, Clamp(), "tflite")


def test_a_channel_whose_sums_are_small_may_have_any_scale() -> None:
    """Its outputs stay at the zero point, whatever the multiplier's bits."""
    numbers = requantise(np.array([0.25, 0.25 * 2.0 ** -40]), np.array([2000, 1 << 30]), 7, Clamp(), "tflite")
    assert device(numbers, 1, 1 << 30) == 7


def test_a_gain_above_32_bits_is_refused_in_words() -> None:
    with pytest.raises(ScaleError, match="must be below"):
        requantise(np.array([2.0 ** 17, 1.0]), np.array([100, 100]), 0, Clamp(), "tflite")


@pytest.mark.parametrize("match", ["tflite", "exact"])
@pytest.mark.parametrize("clamp", [Clamp(-125, 127), Clamp(-125, 60)], ids=str)
@pytest.mark.parametrize("multiplier", [784.3, 20.7, 3.3, 0.9], ids=str)
def test_one_step_of_a_large_accumulator_may_pass_the_whole_range(match: str, clamp: Clamp, multiplier: float) -> None:
    """Huge sums leave the first factor no bits, so that neighbouring accumulators are many output steps apart."""
    try:
        numbers = requantise(np.array([multiplier]), np.array([2_000_000_000]), -125, clamp, match)
    except ScaleError:
        return      # an upper limit between two steps: refused
    for t in (0, 1, -1, 2, 100, -100, 2_000_000_000, -2_000_000_000):
        assert abs(device(numbers, 0, t) - exact(multiplier, t, -125, clamp)) <= 1
