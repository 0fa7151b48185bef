"""Multipliers that turn a sum over a window into an average, with one weight and one output converter.

A depthwise convolution with all weights w gives w times the sum; OUT_CVT multiplies by M / 2**S and rounds once, ties
away from zero. So the sum is multiplied by m / 2**S with m = w * M: up to 22 significant bits instead of 15 (the
vendor's compiler uses w = 127 for its global averages).
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cermet.drivers.rocket.limits import LARGEST_MULTIPLIER, MAX_SHIFT
from cermet.ir.fixed_point import quantize_multiplier

SMALLEST_NORMAL = 16384
LARGEST_WEIGHT = 127
STEPS = 256.0
INT32_MAX = (1 << 31) - 1
TIE_WEIGHT, TIE_SHIFT = 64, 15
MAX_MULTIPLIER_ERROR = 0.25     # output steps, see sum_gain


@dataclass(frozen=True)
class Gain:
    """weight: of every tap; multiplier, shift: OUT_CVT."""

    weight: int
    multiplier: int
    shift: int

    @property
    def real(self) -> float:
        """What a sum of inputs is multiplied by."""
        return self.weight * self.multiplier / 2.0 ** self.shift


@lru_cache
def division_gain(count: int, largest_average: int, largest_weight: int = LARGEST_WEIGHT) -> Gain | None:
    """Gain that divides sums by `count` exactly as TFLite's AVERAGE_POOL_2D does, half away from zero.

    Holds for every sum with |sum| <= largest_average * count. None if no weight gives it (a test shows that each
    count that a window of up to 31 by 31 can have has one, averages up to 255).

    Why it is equal: let e be the relative error of m / 2**S against 1 / count. The product is right when it lies on the
    same side of each n + 1/2 as sum / count. The sums next to n + 1/2 keep the same distance from it for every n, and
    the error e * (n + 1/2) grows with n; so it is enough to look at the two sums around largest_average - 1/2.
    """
    last_tie_twice = 2 * largest_average - 1
    first_above = (last_tie_twice * count + 1) // 2
    for weight in range(1, largest_weight + 1):
        for multiplier, shift in _around(count * weight):
            tie = last_tie_twice << shift
            if 2 * (first_above - 1) * weight * multiplier < tie <= 2 * first_above * weight * multiplier:
                return Gain(weight, multiplier, shift)
    return None


def _around(divisor: int) -> list[tuple[int, int]]:
    """Two (multiplier, shift): 1 / divisor rounded up and rounded down to a normalised multiplier."""
    shift = (LARGEST_MULTIPLIER * divisor).bit_length() - 1
    up, down = -(-(1 << shift) // divisor), (1 << shift) // divisor
    return [(up, shift) if up <= LARGEST_MULTIPLIER else (SMALLEST_NORMAL, shift - 1), (down, shift)]


def scaling_gain(real: float, largest_weight: int = LARGEST_WEIGHT) -> Gain:
    """The gain nearest to a real factor > 0; of equally near ones the one with the smallest weight.

    Relative error: at most 2**-15 with any weight, typically 2**-21 with the best of 127. A factor above 32767 or far
    below 2**-48 cannot be reached; the caller looks at Gain.real.
    """
    weights = np.arange(1, largest_weight + 1, dtype=np.float64)
    wanted = real / weights
    shifts = np.clip(14 - np.floor(np.log2(wanted)), 0, MAX_SHIFT)
    multipliers = np.rint(wanted * 2.0 ** shifts)
    too_large = multipliers > LARGEST_MULTIPLIER
    shifts = np.where(too_large & (shifts > 0), shifts - 1, shifts)
    multipliers = np.minimum(np.rint(wanted * 2.0 ** shifts), LARGEST_MULTIPLIER)
    best = int(np.argmin(np.abs(weights * multipliers * 2.0 ** -shifts - real)))
    return Gain(int(weights[best]), int(multipliers[best]), int(shifts[best]))


@dataclass(frozen=True)
class SumGain:
    """Register values of a MEAN or a SUM.

    gain          of BS when second_shift (OUT_CVT's right shift) is given, else of OUT_CVT
    extra_bias    added to weight * sum so that BS's ties go up as TFLite's do, too little to move anything else
    """

    gain: Gain
    second_shift: int | None = None
    extra_bias: int = 0

    @property
    def weight(self) -> int:
        return self.gain.weight


@dataclass(frozen=True)
class Scaling:
    """What a MEAN or a SUM asks for.

    ratio       input scale / output scale
    elements    that are added, each of them at most 255 steps from the zero point
    divides     by their number: a MEAN
    """

    ratio: float
    elements: int
    divides: bool

    @property
    def factor(self) -> float:
        """What the sum of (q - zero point) is worth in output steps."""
        return self.ratio / self.elements if self.divides else self.ratio

    @property
    def tflite_shift(self) -> int:
        """By which TFLite shifts right behind its first rounding; below 1: not at all."""
        return _tflite_multiplier(self)[1]


def sum_gain(scaling: Scaling, match: str, largest_weight: int = LARGEST_WEIGHT) -> SumGain | None:
    """Values that multiply sums by scaling.factor.

    match "exact": rounded once. match "tflite": TFLite multiplies by a fraction q of 31 bits, rounds, then shifts right
    by R and rounds again; BS and OUT_CVT do the same, BS with up to 22 significant bits of q. Where R < 1 there is one
    rounding only. None when the multiplier's error alone could move a result by MAX_MULTIPLIER_ERROR steps.
    Bound: 1/4 for the multiplier, 1/2 * 2**-R <= 1/4 for BS's rounding, 1/2 for the last one: at most one step.
    """
    fraction, right = _tflite_multiplier(scaling)
    if match == "tflite" and 1 <= right <= MAX_SHIFT and fraction > 0:
        wanted, steps = fraction, 2.0 ** -right
        chosen = _first_of_two(fraction, right, largest_weight)
    else:
        wanted, steps = scaling.factor, 1.0
        chosen = SumGain(scaling_gain(wanted, largest_weight))
    # A result is fewer than 256 steps from the zero point, or saturates.
    reach = min(STEPS, 255 * scaling.elements * scaling.factor)
    error = abs(chosen.gain.real - wanted) * steps / scaling.factor * reach
    return chosen if error < MAX_MULTIPLIER_ERROR else None


def _first_of_two(fraction: float, right: int, largest_weight: int) -> SumGain:
    """BS's part. A fraction m / 2**k makes ties of the first rounding common: BS would round them to even, TFLite up.

    With weight 64 and m below 64, a bias of 1 adds less than 2**-k: ties go up, whatever is 2**-k away stays there.
    """
    if (fraction * TIE_WEIGHT).is_integer() and largest_weight >= TIE_WEIGHT:
        gain = Gain(TIE_WEIGHT, round(fraction * 2 ** TIE_SHIFT), TIE_SHIFT + TIE_WEIGHT.bit_length() - 1)
        return SumGain(gain, right, extra_bias=1)
    return SumGain(scaling_gain(fraction, largest_weight), right)


def _tflite_multiplier(scaling: Scaling) -> tuple[float, int]:
    """(q, R) with factor ~ q * 2**-R; a MEAN's as QuantizedMeanOrSum (reference/reduce.h) divides its multiplier."""
    q31, shift = quantize_multiplier(scaling.ratio)
    if not scaling.divides:
        return q31 / 2.0 ** 31, -shift
    gained = min(scaling.elements.bit_length() - 1, 32, 31 + shift)
    if gained < 0:
        return 0.0, 0
    return ((q31 << gained) // scaling.elements) / 2.0 ** 31, gained - shift
