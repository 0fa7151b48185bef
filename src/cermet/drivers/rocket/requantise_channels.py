"""One multiplier per channel, with both roundings of TFLite's kernels for every channel.

Channel c has M = q * 2**-R, q in [0.5, 1), and its own R; TFLite rounds t * q, then that >> R (half away).

    BS        w = t * C1[c]                       no shift: nothing is rounded
    BN        u = clamp(rne(w * C2[c] >> s))      C1 * C2 / 2**s = q, to 23 bits or more: TFLite's first rounding
    EW        v = u * 2**(S - R[c])               one operand per channel; only where R differs between channels
    OUT_CVT   y = saturate8(away(v >> S) + zo)    TFLite's second rounding

A first rounding to the unit 2**-R only matters for what the second one sees: it moves every result's limit by half a
unit, towards zero. EW's operand is a byte, 2**0 .. 2**8, so R may span 8; a channel outside of [S - 8, S] takes the
unit inside that is nearest, and S is chosen to make this cost least.

With M of 1/2 and more (R <= 0) TFLite rounds once and nothing moves. Such a channel rounds to whole output steps, or,
where that is beyond EW's reach (S > 8), to the finest unit, 2**-S. Its product C1 * C2 / 2**s is then 2**S times that
of others, and with one s for all they would lose S of their bits. BN has a shift of its own for negative products:
where no output is below the zero point, such channels get a negative C2 and, in EW, a factor of -1. What the shifts
then make of sums below zero stays at or below zero, and hidden.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from cermet.drivers.rocket.dpu import OutputConverter
from cermet.drivers.rocket.equal_multipliers import equal_range, inside, unlikeness
from cermet.drivers.rocket.limits import MAX_SHIFT
from cermet.drivers.rocket.requantise import (
    INT32_MAX,
    MAX_MULTIPLIER_ERROR,
    MULTIPLIER_BITS,
    Clamp,
    Requantisation,
    multiplier_error,
    relevant_bounds,
    split,
)

LARGEST_MULTIPLIER = (1 << MULTIPLIER_BITS) - 1
LARGEST_GAIN_BITS = 8
LARGEST_SHIFT = 22          # 258 output steps * 2**S stay inside 32 bits
# Values of C1 that are tried: so many together, at most, and where there is no range: to about 2**-26 of the product.
BLOCK, MOST, NEAR_ENOUGH = 256, 8192, 1024
MEAN_ERROR = 2.0 ** -8      # output steps that C1 * C2 may be off, over all channels; the other form is as good


def requantise_channels(multipliers: np.ndarray, bounds: np.ndarray, zero_point: int,
                        clamp: Clamp) -> Requantisation | None:
    """Register values for real multipliers, one per channel; None where 32 bits do not suffice, or for a clamp that
    begins below the zero point.

    bounds   largest |t| that can occur in each channel
    """
    return _made(*(np.asarray(values, np.float64).tobytes() for values in (multipliers, bounds)), zero_point, clamp)


@lru_cache(maxsize=256)
def _made(multipliers: bytes, sums: bytes, zero_point: int, clamp: Clamp) -> Requantisation | None:
    """Kept, because a rule asks before the lowering does."""
    m, bounds = np.frombuffer(multipliers), np.frombuffer(sums)
    if not (clamp.is_trivial or clamp.lowest == zero_point) or not np.any(m > 0):
        return None
    rounds = np.maximum(split(m)[1], 0)
    is_hidden = clamp.is_trivial and zero_point == clamp.lowest
    top = _common_shift(rounds[m > 0], is_hidden)
    units = np.where(m > 0, _units(rounds, top), top)
    flips = (m > 0) & (rounds == 0) & (units > 0) & is_hidden
    channels = _channels(m, units, bounds, zero_point, clamp)
    first, second, shifts = np.zeros((3, len(m)))
    for group in (~flips, flips):
        if group.any():
            found = _factors(channels.part(group))
            if found is None:
                return None
            first[group], second[group], shifts[group] = found
    held = first * second * np.exp2(-shifts)
    error = multiplier_error(channels.wanted * np.exp2(-units), bounds, held * np.exp2(-units))
    error[(held > channels.low) & (held < channels.high)] = 0
    if error.max() > MAX_MULTIPLIER_ERROR or error.mean() > MEAN_ERROR:
        return None
    signs = np.where(flips, -1, 1)
    gains = None if np.all(units == top) and not flips.any() else (signs << top - units).astype(np.int16)
    limit = None if clamp.is_trivial else INT32_MAX
    if clamp.highest < 127:
        if gains is not None:
            return None         # the limit differs between channels in BN, and behind EW clamps are less well known
        limit = min((clamp.highest - zero_point) << top, INT32_MAX)
    return Requantisation(first.astype(np.int16), 0, None, 0, limit, OutputConverter(zero_point, 1, top),
                          second_shift=int(shifts[~flips][0]),
                          second_shift_negative=int(shifts[flips][0]) if flips.any() else None,
                          seconds=(signs * second).astype(np.int16), gains=gains)


def _common_shift(rounds: np.ndarray, is_hidden: bool) -> int:
    """S: the smallest shift with which the fewest results are expected to differ."""
    candidates = range(min(int(rounds.min()), LARGEST_SHIFT), min(int(rounds.max()), LARGEST_SHIFT) + 1)
    cost = []
    for top in candidates:
        off = np.abs(_moves(rounds) - _moves(_units(rounds, top)))
        cost.append(off[rounds > 0].sum() if is_hidden else off.sum())
    return candidates[int(np.argmin(cost))]


def _units(rounds: np.ndarray, top: int) -> np.ndarray:
    """U of each channel: R where EW's factors reach; of R <= 0 the output's own unit, or else the finest."""
    once = 0 if top <= LARGEST_GAIN_BITS else top
    return np.where(rounds > 0, np.clip(rounds, top - LARGEST_GAIN_BITS, top), once)


def _moves(units: np.ndarray) -> np.ndarray:
    """How far a first rounding to 2**-unit moves the limits, in output steps."""
    return np.where(units > 0, 0.5 * np.exp2(-units), 0.0)


@dataclass(frozen=True, eq=False)
class _Channels:
    """What C1 * C2 / 2**s are to be, by channel.

    low, high       the range that gives all of TFLite's bytes
    wanted          a number inside, or the multiplier where there is no such range
    largest         C1 may be, so that |t| * C1 stays inside 32 bits
    """

    multipliers: np.ndarray
    units: np.ndarray
    bounds: np.ndarray
    low: np.ndarray
    high: np.ndarray
    wanted: np.ndarray
    largest: np.ndarray
    lowest_step: int
    highest_step: int

    def part(self, chosen: np.ndarray) -> _Channels:
        return replace(self, **{name: values[chosen] for name, values in vars(self).items()
                                if isinstance(values, np.ndarray)})

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Middle and half the width of each range; the wanted number and 0 where there is none."""
        is_range = np.isfinite(self.low) & np.isfinite(self.high) & (self.low < self.high) & (self.wanted > 0)
        low, high = np.where(is_range, self.low, self.wanted), np.where(is_range, self.high, self.wanted)
        return (low + high) / 2, (high - low) / 2

    def unlikeness(self, held: np.ndarray) -> np.ndarray:
        return unlikeness(self.multipliers, self.units, self.bounds, self.lowest_step, self.highest_step, held)


def _channels(m: np.ndarray, units: np.ndarray, bounds: np.ndarray, zero_point: int, clamp: Clamp) -> _Channels:
    steps = clamp.lowest - zero_point, clamp.highest - zero_point
    low, high = equal_range(m, units, bounds, *steps)
    largest = np.minimum(np.floor(INT32_MAX / relevant_bounds(m, bounds, zero_point, clamp)), LARGEST_MULTIPLIER)
    return _Channels(m, units, bounds, low, high, inside(m * np.exp2(units), low, high), largest, *steps)


def _factors(channels: _Channels) -> tuple[np.ndarray, np.ndarray, int] | None:
    """(C1, C2, s) with C1 * C2 / 2**s in each channel's range, or near it; None where 32 bits do not suffice.

    Of the largest possible s and the one below it, the better: at the largest, some channel may have few C1 to choose
    from.
    """
    live = channels.wanted > 0
    if channels.largest.min() < 1:
        return None
    reach = np.log2(LARGEST_MULTIPLIER * channels.largest[live] / channels.wanted[live])
    shift = int(min(np.floor(reach.min()), MAX_SHIFT))
    if shift < 0:
        return None
    cost, first, second = _factors_of(channels, shift)
    if cost > 0 and shift > 0:
        cost_below, *factors = _factors_of(channels, shift - 1)
        if cost_below < cost:
            return factors[0], factors[1], shift - 1
    return first, second, shift


def _factors_of(channels: _Channels, s: int) -> tuple[float, np.ndarray, np.ndarray]:
    """(cost, C1, C2). Where no product is in the range, that on either side of it which misses the fewest bytes."""
    first, second, missed = nearest_products(*channels.interval, s, channels.largest)
    if not missed.any():
        return 0.0, first, second
    left = channels.part(missed)
    sides = [nearest_products(*left.interval, s, left.largest, rounding)[:2] for rounding in (np.floor, np.ceil)]
    below, above = (left.unlikeness(c1 * c2 * 2.0 ** -s) for c1, c2 in sides)
    first[missed], second[missed] = np.where(below <= above, *sides)
    return float(np.minimum(below, above).sum()), first, second


def nearest_products(middle: np.ndarray, width: np.ndarray, shift: int, largest: np.ndarray,
              rounding: np.ufunc = np.rint) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(C1, C2, missed): the first product / 2**shift less than `width` from each middle, or else the nearest.

    C1 <= largest grows from the smallest, where C2 has all its bits; where any product will do that is near, it soon
    stops. rounding: of C2, to products on either side or on one.
    """
    target, width = middle * 2.0 ** shift, width * 2.0 ** shift
    first, second = np.ones_like(target), np.zeros_like(target)
    nearest = np.full(len(target), np.inf)
    start = np.maximum(np.ceil((target - width) / LARGEST_MULTIPLIER), 1)
    last = np.minimum(largest, start + np.where(width > 0, MOST, NEAR_ENOUGH))
    left = np.arange(len(target))
    while len(left):
        c1 = np.minimum(start[left, None] + np.arange(BLOCK), largest[left, None])
        c2 = np.minimum(rounding(target[left, None] / c1), LARGEST_MULTIPLIER)
        off = np.abs(c1 * c2 - target[left, None])
        best = off.argmin(axis=1)
        each = np.arange(len(left))
        better = off[each, best] < nearest[left]
        at = left[better]
        nearest[at] = off[each, best][better]
        first[at], second[at] = c1[each, best][better], c2[each, best][better]
        start[left] += BLOCK
        left = left[(nearest[left] >= width[left]) & (nearest[left] > 0) & (start[left] <= last[left])]
    return first, second, (width > 0) & (nearest >= width)
