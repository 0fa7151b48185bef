"""Multipliers that turn a sum over a window into an average, with one weight and one output converter.

A depthwise convolution with all weights w gives w times the sum; OUT_CVT multiplies by M / 2**S and rounds once, ties
away from zero. So the sum is multiplied by m / 2**S with m = w * M: up to 22 significant bits instead of 15 (the
vendor's compiler uses w = 127 for its global averages).
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LARGEST_MULTIPLIER = 32767      # OUT_CVT_SCALE is signed, 16 bits
SMALLEST_NORMAL = 16384
LARGEST_WEIGHT = 127
LARGEST_SHIFT = 63


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
def division_gain(count: int, largest_average: int) -> Gain | None:
    """Gain that divides sums by `count` exactly as TFLite's AVERAGE_POOL_2D does, half away from zero.

    Holds for every sum with |sum| <= largest_average * count. None if no weight gives it (a test shows that each
    count that a window of up to 31 by 31 can have has one, averages up to 255).

    Why it is equal: let e be the relative error of m / 2**S against 1 / count. The product is right when it lies on the
    same side of each n + 1/2 as sum / count. The sums next to n + 1/2 keep the same distance from it for every n, and
    the error e * (n + 1/2) grows with n; so it is enough to look at the two sums around largest_average - 1/2.
    """
    last_tie_twice = 2 * largest_average - 1
    first_above = (last_tie_twice * count + 1) // 2
    for weight in range(1, LARGEST_WEIGHT + 1):
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


def scaling_gain(real: float) -> Gain:
    """The gain nearest to a real factor > 0; of equally near ones the one with the smallest weight.

    Relative error: at most 2**-15 with any weight, typically 2**-21 with the best of 127. A factor above 32767 or far
    below 2**-48 cannot be reached; the caller looks at Gain.real.
    """
    weights = np.arange(1, LARGEST_WEIGHT + 1, dtype=np.float64)
    wanted = real / weights
    shifts = np.clip(14 - np.floor(np.log2(wanted)), 0, LARGEST_SHIFT)
    multipliers = np.rint(wanted * 2.0 ** shifts)
    too_large = multipliers > LARGEST_MULTIPLIER
    shifts = np.where(too_large & (shifts > 0), shifts - 1, shifts)
    multipliers = np.minimum(np.rint(wanted * 2.0 ** shifts), LARGEST_MULTIPLIER)
    best = int(np.argmin(np.abs(weights * multipliers * 2.0 ** -shifts - real)))
    return Gain(int(weights[best]), int(multipliers[best]), int(shifts[best]))
