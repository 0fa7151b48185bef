"""Requantisation: register values evaluated by the stage formulas of the hardware document, against exact fractions."""
from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from cermet.drivers.rocket.requantise import Clamp, Requantisation, ScaleError, factors, requantise
from cermet.drivers.rocket.requantise_channels import requantise_channels

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
    elif numbers.seconds is not None:
        m = int(numbers.seconds[channel])
    elif numbers.second is not None:
        m = numbers.second
    product, shift = v * m - numbers.low, numbers.second_shift
    if product < 0 and numbers.second_shift_negative is not None:
        shift = numbers.second_shift_negative
    v = _sat(_rne(product, shift))
    if numbers.high is not None:
        v = min(max(v, 0), numbers.high)
    if numbers.gains is not None:       # EW (§8)
        v = _sat(v * int(numbers.gains[channel]))
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


# ---- one multiplier per channel, both roundings --------------------------------------------------------------------

def tflite(m: float, t: int, zero_point: int, clamp: Clamp) -> int:
    """gemmlowp's two roundings: of t times 31 bits of m, then of what is shifted away; both half away from zero."""
    fraction, exponent = math.frexp(m)
    mantissa = round(Fraction(fraction) * INT32)
    if mantissa == INT32:
        mantissa, exponent = mantissa // 2, exponent + 1
    high = (t << max(exponent, 0)) * mantissa
    high = (high + (1 << 30)) // INT32 if high >= 0 else -((-high + (1 << 30) - 1) // INT32)
    return max(clamp.lowest, min(clamp.highest, _away(high, max(-exponent, 0)) + zero_point))


SPREADS = {"one R": (0.51, 0.99), "4 octaves": (0.06, 0.9), "7 octaves": (0.008, 0.9), "above 1": (0.1, 40.0),
           "15 octaves": (2.0 ** -10, 40.0), "small": (2.0 ** -14, 2.0 ** -8)}


@pytest.mark.parametrize("zero_point, clamp", [(0, Clamp()), (-128, Clamp()), (-20, Clamp(-20, 127))], ids=str)
@pytest.mark.parametrize("spread", SPREADS)
def test_channels_round_where_tflite_does(spread: str, zero_point: int, clamp: Clamp) -> None:
    """All but 1 in 1000 random t: what C1 * C2 lacks of 31 bits decides fewer; one rounding would lose 1 in 100."""
    rng = np.random.default_rng(len(spread) - zero_point)
    low, high = SPREADS[spread]
    m = np.exp(rng.uniform(np.log(low), np.log(high), 24))
    numbers = requantise_channels(m, np.full(24, 1 << 22), zero_point, clamp)
    assert numbers is not None and (numbers.gains is None) == (spread == "one R")
    off = [abs(device(numbers, channel, t) - tflite(float(one), t, zero_point, clamp))
           for channel, one in enumerate(m) for t in np.rint(rng.normal(0, 60, 150) / one).astype(np.int64).tolist()]
    assert max(off) <= 1 and np.mean(off) < 0.001


def test_what_rounds_once_leaves_the_others_their_bits() -> None:
    """Products of multipliers from 1/2 on are negative, so that BN shifts them by a number of their own."""
    m = np.array([0.3, 0.004, 1.3, 2.0 ** -9.5, 0.6])
    numbers = requantise_channels(m, np.full(5, 1 << 20), -128, Clamp())
    assert numbers is not None and numbers.seconds is not None and numbers.gains is not None
    assert numbers.second_shift >= 26 and numbers.second_shift_negative is not None
    assert (numbers.seconds < 0).tolist() == (numbers.gains < 0).tolist() == (m >= 0.5).tolist()
    for zero_point in (-127, 12):
        plain = requantise_channels(m, np.full(5, 1 << 20), zero_point, Clamp())
        assert plain is not None and plain.second_shift_negative is None
    near = requantise_channels(m[[0, 2, 4]], np.full(3, 1 << 20), -128, Clamp())
    assert near is not None and near.second_shift_negative is None


def test_channels_far_apart_stay_within_one_step() -> None:
    rng = np.random.default_rng(5)
    m = np.array([0.7, 0.3, 2.0 ** -9, 2.0 ** -13, 2.0 ** -24, 2.0 ** -31, 0.0])
    numbers = requantise_channels(m, np.full(7, 1 << 24), 3, Clamp())
    assert numbers is not None
    for channel, one in enumerate(m):
        for t in rng.integers(-(1 << 24), 1 << 24, 100).tolist() + rng.integers(-300, 300, 100).tolist():
            assert abs(device(numbers, channel, t) - exact(float(one), t, 3, Clamp())) <= 1


def test_saturated_sums_saturate_the_output() -> None:
    numbers = requantise_channels(np.array([0.01, 0.3]), np.array([1 << 30, 1 << 30]), 0, Clamp())
    assert numbers is not None
    for t, wanted in (((1 << 30), 127), (-(1 << 30), -128)):
        assert [device(numbers, channel, t) for channel in (0, 1)] == [wanted] * 2


def test_what_does_not_fit_is_left_to_the_other_form() -> None:
    m, bounds = np.array([0.3, 0.01]), np.array([1000, 1000])
    assert requantise_channels(m, bounds, 0, Clamp(-50, 127)) is None           # begins below the zero point
    assert requantise_channels(m, bounds, 0, Clamp(0, 90)) is None              # limits in two units
    assert requantise_channels(m[:1], bounds[:1], 0, Clamp(0, 90)) is not None
    assert requantise_channels(np.array([2.0 ** 40]), bounds[:1], 0, Clamp()) is None
    assert requantise_channels(np.zeros(2), bounds, 0, Clamp()) is None
