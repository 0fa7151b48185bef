"""Which real multipliers give TFLite's bytes: how a product is rounded only shows where the output byte changes.

TFLite's output reaches b (relative to its zero point) from one accumulator T on, the smallest t whose first rounding
reaches h = b * 2**R - 2**(R - 1), and one more where b <= 0: the second rounding takes halves away from zero. The NPU
computes rne(t * p), then that >> U the same way. Its output changes at the same T when

    T * p > h' - 1/2  and  (T - 1) * p < h' - 1/2        h' as h, with U instead of R

which limits p from below and from above. Both limits over all b that accumulators can reach are the range of all p that
give TFLite's byte for every accumulator. It is some 2**-23 of p wide, so that the numerically nearest product of two
15-bit factors often lies outside, and another one inside.
"""
from __future__ import annotations

import numpy as np

Q31 = 31
MAX_SUM = 2.0 ** 31         # accumulators have 32 bits
LARGEST_SHIFT = 22          # h * 2**31 stays inside 64 bits
DISTANCE = 0.25             # of the range's width: as far as that from its ends is as good as the middle


def equal_range(multipliers: np.ndarray, units: np.ndarray, bounds: np.ndarray, lowest: int,
                highest: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the range, both exclusive, for each real multiplier M; empty (low >= high) where no p gives all bytes.

    units            U, one per multiplier
    bounds           largest |t| of each
    lowest, highest  outputs, relative to the zero point
    """
    lows, highs = _limits(multipliers, units, bounds, np.arange(lowest + 1, highest + 1))
    is_known = _is_known(multipliers)
    return (np.where(is_known, lows.max(axis=1, initial=-np.inf), np.inf),
            np.where(is_known, highs.min(axis=1, initial=np.inf), -np.inf))


def unlikeness(multipliers: np.ndarray, units: np.ndarray, bounds: np.ndarray, lowest: int, highest: int,
               held: np.ndarray) -> np.ndarray:
    """How often multipliers `held` will miss TFLite's byte: one for each output that begins elsewhere, less the farther
    it is from the zero point."""
    reached = np.arange(lowest + 1, highest + 1)
    lows, highs = _limits(multipliers, units, bounds, reached)
    is_wrong = (held[:, None] <= lows) | (held[:, None] >= highs)
    return np.where(is_wrong, 1 / np.maximum(np.abs(reached), 1), 0).sum(axis=1)


def _is_known(multipliers: np.ndarray) -> np.ndarray:
    fraction, exponent = np.frexp(multipliers)
    return (fraction > 0) & (np.abs(exponent) <= LARGEST_SHIFT)


def _limits(multipliers: np.ndarray, units: np.ndarray, bounds: np.ndarray,
            reached: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What p must be above and below for each multiplier (rows) and output (columns) that is reached."""
    fraction, exponent = np.frexp(multipliers)
    rounds = -exponent.astype(np.int64)
    q31 = np.floor(fraction * 2.0 ** Q31 + 0.5).astype(np.int64)
    left, right = np.clip(-rounds, 0, LARGEST_SHIFT)[:, None], np.clip(rounds, 0, LARGEST_SHIFT)[:, None]
    wanted = (_threshold(reached, right) << Q31) - (1 << Q31 - 1)
    first = -(-wanted // np.maximum(q31[:, None] << left, 1))
    limit = _threshold(reached, np.minimum(units, LARGEST_SHIFT)[:, None]) - 0.5
    lows, highs = np.full(first.shape, -np.inf), np.full(first.shape, np.inf)
    # At T the output has changed, at T - 1 it has not; for negative t both say the opposite about p. Where T is out of
    # reach, the nearest t that can occur tells as much.
    reach = np.minimum(bounds, MAX_SUM).astype(np.int64)[:, None]
    for t, sign in ((np.maximum(first, -reach), 1), (np.minimum(first - 1, reach), -1)):
        ratio = limit / np.where(t == 0, 1, t)
        can_occur = np.abs(t) <= reach
        lows = np.maximum(lows, np.where(can_occur & (sign * t > 0), ratio, -np.inf))
        highs = np.minimum(highs, np.where(can_occur & (sign * t < 0), ratio, np.inf))
    return lows, highs


def _threshold(reached: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The smallest u with (u >> shift, halves away from zero) >= reached."""
    half = (1 << shift) >> 1
    return (reached << shift) - half + ((reached <= 0) & (half > 0))


def inside(real: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The real numbers, those near or beyond an end of their range moved into it."""
    with np.errstate(invalid="ignore"):
        margin = np.where(np.isfinite(high - low), (high - low) * DISTANCE, 0.0)
    return np.where(low < high, np.clip(real, low + margin, high - margin), real)
