"""Ranges of multipliers that give TFLite's bytes, for every accumulator there is."""
from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from cermet.drivers.rocket.equal_multipliers import equal_range, inside
from cermet.drivers.rocket.requantise import Clamp, requantise

PRECISION = 36      # bits behind the point of the multipliers tried here: |t| * p * 2**36 stays inside 64 bits
OUTPUTS = [(-128, 127), (0, 255), (-255, 0), (0, 60)]       # relative to the zero point


def halves_away(values: np.ndarray, shift: int) -> np.ndarray:
    return np.sign(values) * (np.abs(values) + (1 << shift >> 1) >> shift)


def tflite(m: float, t: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """MultiplyByQuantizedMultiplier as published, then the output's limits."""
    fraction, exponent = math.frexp(m)
    q31 = math.floor(fraction * 2**31 + 0.5)
    high = (t << max(exponent, 0)) * q31 + (1 << 30) >> 31
    return np.clip(halves_away(high, max(-exponent, 0)), lowest, highest)


def device(numerator: int, shift: int, unit: int, t: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """t * numerator / 2**shift, ties to even; then >> unit, halves away from zero."""
    product = t * numerator
    floor, rest, half = product >> shift, product & ((1 << shift) - 1), 1 << shift >> 1
    u = floor + ((rest > half) | (rest == half) & (floor & 1 == 1)) if shift else product
    return np.clip(halves_away(u, unit), lowest, highest)


def cases() -> list[tuple[float, int, int, int]]:
    """(M, largest |t|, lowest, highest)."""
    rng = np.random.default_rng(5)
    return [(2.0 ** rng.uniform(-11, 1.5), int(2.0 ** rng.uniform(2, 20)), *OUTPUTS[i % 4]) for i in range(60)]


@pytest.mark.parametrize(("m", "bound", "lowest", "highest"), cases())
def test_inside_the_range_all_bytes_are_tflites_and_outside_they_are_not(m: float, bound: int, lowest: int,
                                                                         highest: int) -> None:
    unit = max(-math.frexp(m)[1], 0)
    (low,), (high,) = equal_range(np.array([m]), np.array([unit]), np.array([bound]), lowest, highest)
    t = np.arange(-bound, bound + 1)
    wanted = tflite(m, t, lowest, highest)
    low, high = max(low, 2.0**-8), min(high, 8.0)       # without limits where no accumulator changes an output
    assert low < high
    for share in (0.01, 0.5, 0.99):
        numerator = round(Fraction(low + (high - low) * share) * 2**PRECISION)
        if low < numerator / 2**PRECISION < high:
            assert np.array_equal(device(numerator, PRECISION, unit, t, lowest, highest), wanted)
    for end, step in ((low, -1), (high, 1)):
        numerator = round(Fraction(end) * 2**PRECISION) + 2 * step
        if end not in (2.0**-8, 8.0):
            assert not np.array_equal(device(numerator, PRECISION, unit, t, lowest, highest), wanted)


def test_a_multiplier_near_an_end_is_moved_off_it() -> None:
    low, high = np.array([1.0, 1.0, -np.inf, 3.0]), np.array([2.0, 2.0, np.inf, 2.0])
    assert np.array_equal(inside(np.array([1.01, 1.5, 7.0, 4.0]), low, high), [1.25, 1.5, 7.0, 4.0])


def test_a_coarser_unit_than_tflites_leaves_no_range() -> None:
    (low,), (high,) = equal_range(np.array([0.01]), np.array([2]), np.array([20000]), -128, 127)
    assert low >= high


@pytest.mark.parametrize("m", [0.0, 1e-30, 2.0**40])
def test_what_is_too_small_or_large_has_no_range(m: float) -> None:
    (low,), (high,) = equal_range(np.array([m]), np.array([0]), np.array([1000]), -128, 127)
    assert low >= high


def test_most_layers_with_one_scale_are_equal_to_tflite_in_every_byte() -> None:
    """Two factors of 15 bits hit most of the ranges; without looking for them 13 of these 60 layers are not equal."""
    rng, equal = np.random.default_rng(1), 0
    for _ in range(60):
        m, bound = 2.0 ** rng.uniform(-12, 0), int(rng.integers(1000, 1 << 22))
        zero_point = int(rng.integers(-128, 128))
        numbers = requantise(np.array([m]), np.array([bound]), zero_point, Clamp(), "tflite")
        assert numbers.second is not None
        t = np.arange(-min(bound, int(300 / m)), min(bound, int(300 / m)) + 1)
        limits = -128 - zero_point, 127 - zero_point
        got = device(int(numbers.multipliers[0]) * numbers.second, numbers.second_shift, numbers.out.shift, t, *limits)
        equal += np.array_equal(got, tflite(m, t, *limits))
    assert equal >= 55
