"""One multiplier per channel, with both roundings of TFLite's kernels for every channel.

Channel c has M = q * 2**-R, q in [0.5, 1), and its own R; TFLite rounds t * q, then that >> R (half away).

    BS        w = t * C1[c]                       no shift: nothing is rounded
    BN        u = clamp(rne(w * C2[c] >> s))      C1 * C2 / 2**s = q, to 23 bits or more: TFLite's first rounding
    EW        v = u * 2**(S - R[c])               one operand per channel; only where R differs between channels
    OUT_CVT   y = saturate8(away(v >> S) + zo)    TFLite's second rounding

A first rounding to the unit 2**-R only matters for what the second one sees: it moves every result's limit by half a
unit, towards zero. EW's operand is a byte, 2**0 .. 2**7, so R may span 7; a channel outside of [S - 7, S] takes the
unit inside that moves the limits most alike, and S is chosen to make this cost least. With M of 1/2 and more (R <= 0)
TFLite rounds once: nothing moves.
"""
from __future__ import annotations

import numpy as np

from cermet.drivers.rocket.dpu import OutputConverter
from cermet.drivers.rocket.equal_multipliers import equal_range, inside
from cermet.drivers.rocket.requantise import (
    INT32_MAX,
    MAX_MULTIPLIER_ERROR,
    MAX_SHIFT,
    MULTIPLIER_BITS,
    Clamp,
    Requantisation,
    multiplier_error,
    relevant_bounds,
    split,
)

LARGEST_MULTIPLIER = (1 << MULTIPLIER_BITS) - 1
LARGEST_GAIN_BITS = 7
LARGEST_SHIFT = 22          # 258 output steps * 2**S stay inside 32 bits
# Values of C1 that are tried: the product's error is about 2**-16 / CANDIDATES of itself.
CANDIDATES, FEWEST_CANDIDATES = 8192, 128
FEW_TRIALS, MANY_TRIALS = 1 << 15, 1 << 16      # of all channels together, about 1 ms each
MEAN_ERROR = 2.0 ** -8      # output steps that C1 * C2 may be off, over all channels; the other form is as good


def requantise_channels(multipliers: np.ndarray, bounds: np.ndarray, zero_point: int,
                        clamp: Clamp) -> Requantisation | None:
    """Register values for real multipliers, one per channel; None where 32 bits do not suffice, or for a clamp that
    begins below the zero point.

    bounds   largest |t| that can occur in each channel
    """
    m = np.asarray(multipliers, np.float64)
    if not (clamp.is_trivial or clamp.lowest == zero_point) or not np.any(m > 0):
        return None
    rounds = np.maximum(split(m)[1], 0)
    top = _common_shift(rounds[m > 0])
    units = np.where(m > 0, _units(top)[_nearest(rounds, top)], top)
    ends = equal_range(m, units, bounds, clamp.lowest - zero_point, clamp.highest - zero_point)
    wanted = inside(m * np.exp2(units), *ends)
    found = _factors(wanted, *ends, relevant_bounds(m, bounds, zero_point, clamp))
    if found is None:
        return None
    first, second, shift = found
    held = first * second * np.exp2(-(units + shift).astype(np.float64))
    error = multiplier_error(wanted * np.exp2(-units.astype(np.float64)), bounds, held)
    if error.max() > MAX_MULTIPLIER_ERROR or error.mean() > MEAN_ERROR:
        return None
    gains = None if np.all(units == top) else (top - units).astype(np.uint8)
    high = None if clamp.is_trivial else INT32_MAX
    if clamp.highest < 127:
        if gains is not None:
            return None         # the limit differs between channels in BN, and behind EW clamps are less well known
        high = min((clamp.highest - zero_point) << top, INT32_MAX)
    return Requantisation(first.astype(np.int16), 0, None, 0, high, OutputConverter(zero_point, 1, top),
                          second_shift=shift, seconds=second.astype(np.int16), gains=gains)


def _common_shift(rounds: np.ndarray) -> int:
    """S: the shift with which the fewest results are expected to differ."""
    candidates = range(min(int(rounds.min()), LARGEST_SHIFT), min(int(rounds.max()), LARGEST_SHIFT) + 1)
    cost = [np.abs(_moves(rounds) - _moves(_units(top)[_nearest(rounds, top)])).sum() for top in candidates]
    return candidates[int(np.argmin(cost))]


def _units(top: int) -> np.ndarray:
    return np.arange(max(top - LARGEST_GAIN_BITS, 0), top + 1)


def _nearest(rounds: np.ndarray, top: int) -> np.ndarray:
    """Index of the unit that moves the limits most like R does, for each R."""
    return np.abs(_moves(rounds)[:, None] - _moves(_units(top))).argmin(axis=1)


def _moves(rounds: np.ndarray) -> np.ndarray:
    """How far a first rounding to 2**-R moves the limits, in output steps."""
    return np.where(rounds > 0, 0.5 * np.exp2(-rounds.astype(np.float64)), 0.0)


def _factors(wanted: np.ndarray, low: np.ndarray, high: np.ndarray,
             bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray, int] | None:
    """(C1, C2, s) with C1 * C2 / 2**s closest to each wanted number and |t| * C1 inside 32 bits for |t| <= bound.

    Of the largest possible s and the one below it, the better: at the largest, some channel may have few C1 to choose
    from. Channels that then are not between low and high get more to choose from.
    """
    largest = np.minimum(np.floor(INT32_MAX / bounds), LARGEST_MULTIPLIER)
    if largest.min() < 1:
        return None
    live = wanted > 0
    reach = np.log2(LARGEST_MULTIPLIER * largest[live] / wanted[live])
    shift = int(min(np.floor(reach.min()), MAX_SHIFT))
    if shift < 0:
        return None
    tried = [(*_products(wanted * 2.0 ** s, largest, FEW_TRIALS), s) for s in range(max(shift - 1, 0), shift + 1)]
    errors = [np.abs(first * second * 2.0 ** -s - wanted).sum() for first, second, s in tried]
    first, second, shift = tried[int(np.argmin(errors))]
    held = first * second * 2.0 ** -shift
    missed = np.flatnonzero(live & ((held <= low) | (held >= high)) & (low < high))
    if len(missed):
        first[missed], second[missed] = _products(wanted[missed] * 2.0 ** shift, largest[missed], MANY_TRIALS)
    return first, second, shift


def _products(target: np.ndarray, largest: np.ndarray, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """(C1, C2) with the product closest to each target, C1 <= largest."""
    lowest = np.maximum(np.ceil(target / LARGEST_MULTIPLIER), 1)
    # C1 near the lowest, where C2 has all its bits.
    count = min(max(trials // len(target), FEWEST_CANDIDATES), CANDIDATES)
    first = np.minimum(lowest[:, None] + np.arange(count), largest[:, None])
    second = np.minimum(np.rint(target[:, None] / first), LARGEST_MULTIPLIER)
    best = np.abs(first * second - target[:, None]).argmin(axis=1)
    each = np.arange(len(target))
    return first[each, best], second[each, best]
