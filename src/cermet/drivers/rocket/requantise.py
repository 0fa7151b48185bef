"""From accumulators to output bytes: multipliers, shifts and clamps of BS, BN and OUT_CVT.

An accumulator t holds bias and zero-point terms; M is the real multiplier from t to output steps, M = q * 2**-R with q
in [0.5, 1). TFLite's kernels round twice: u = round(t * q), then round(u >> R).

One multiplier for all channels: two factors C1 * C2 of up to 15 bits each, of which the first is multiplied without any
shift, so that nothing is rounded in between.

    match "tflite"   BS t * C1,  BN u = clamp(rne(.. * C2 >> s)),  OUT_CVT y = saturate8(round(u >> R) + offset)
    match "exact"    BS t * C1,  BN clamp,                         OUT_CVT y = saturate8(round(.. * C2 >> S) + offset)

One multiplier per channel: requantise_channels.py, or, where that does not fit and for match "exact": C =
round(q * 2**15) in BS, and in BN powers of two that bring all channels to one unit.

    BS        v = rne(t * C >> s)              C int16 per channel
    BN        v = clamp(v * 2**k[c] - low)     only where channels differ in magnitude, or a clamp acts
    OUT_CVT   y = saturate8(round(v >> S) + offset)

After BS, v has the unit 2**-(R - base) of an output step, with one `base` <= min(0, R) for all channels: s = 15 + base.
match "tflite": base = min(0, smallest R). BS then rounds where TFLite's first rounding does and OUT_CVT where its
second does (numerics document §9.2). match "exact": base leaves GUARD_BITS or more between the two, so that the first
rounding does not show.
"""
from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from cermet.drivers.rocket.dpu import OutputConverter
from cermet.drivers.rocket.equal_multipliers import equal_range, inside
from cermet.drivers.rocket.limits import MAX_SHIFT

MULTIPLIER_BITS = 15        # C is below 2**15
GUARD_BITS = 10
# Beyond this shift of OUT_CVT the 32-bit saturation of v could bite: saturated at 2**31, v >> S would be less than 512,
# and an output of 255 plus a zero point of 255 could be cut. At 22 or less a saturated v saturates y as well.
MAX_COMMON_SHIFT = 22
MAX_POWER = 14              # 2**14 is the largest power of two in BN's int16 operand
# The most that rounding C may move an output, in output steps. The final rounding adds 0.5, BS's at most 0.25
# (R - base >= 1; with R - base = 0 the final one rounds nothing), and 0.25 + 0.25 + 0.5 <= 1 keeps y within one step.
MAX_MULTIPLIER_ERROR = 0.24
MAX_ROUNDED_ONCE_ERROR = 0.49   # with GUARD_BITS between the roundings BS's is 2**-11 at most
INT32_MAX = (1 << 31) - 1
MARGIN = 2                  # output steps beyond the last one: the last limit is half a step away, and M a little off
HIGHEST_BYTE = 127


class ScaleError(ValueError):
    """Scales that the converters cannot hold; the text is the reason for the user."""


@dataclass(frozen=True)
class Clamp:
    """Lowest and highest output byte in the signed domain, both inclusive."""

    lowest: int = -128
    highest: int = 127

    @property
    def is_trivial(self) -> bool:
        return (self.lowest, self.highest) == (-128, 127)


@dataclass(frozen=True, eq=False)
class Requantisation:
    """Register values.

    multipliers   C1 or C: int16, one for all channels, or one per channel
    bs_shift      s of BS
    powers        k: uint8 per channel; None when all are 0
    low, high     clamp in BN in v's unit: low is subtracted, then ReLU, then RELUX at `high`; high None: no clamp
    out           OUT_CVT
    second, second_shift   C2 and s when BN multiplies all channels alike; None: it does not
    seconds                C2 per channel (int16), with second_shift
    second_shift_negative  s of the products below zero; None: as the others
    gains                  EW's factor per channel (int16): a power of two, negative where C2 is; None: it does nothing
    """

    multipliers: np.ndarray
    bs_shift: int
    powers: np.ndarray | None
    low: int
    high: int | None
    out: OutputConverter
    second: int | None = None
    second_shift: int = 0
    seconds: np.ndarray | None = None
    second_shift_negative: int | None = None
    gains: np.ndarray | None = None


def split(multiplier: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(q, R) with multiplier = q * 2**-R, q in [0.5, 1): float64 and int64. Zero gives q = 0, R = 0."""
    fraction, exponent = np.frexp(np.asarray(multiplier, np.float64))
    return fraction, -exponent.astype(np.int64)


def requantise(multipliers: np.ndarray, bounds: np.ndarray, zero_point: int, clamp: Clamp, match: str, *,
               avoid_powers: bool = False) -> Requantisation:
    """Register values for real multipliers M (one, or one per channel) from accumulator to output steps.

    bounds         largest |t| that can occur, same length as multipliers
    avoid_powers   rather one shift for all channels, rounding once, where that keeps outputs within one step
    Raises ScaleError when an output could be off by more than one step.
    """
    if len(multipliers) == 1 and (clamp.is_trivial or clamp.lowest == zero_point):
        made = _two_factors(float(multipliers[0]), float(bounds.max()), zero_point, clamp, match)
        if made is not None:
            return made
    made = _two_stages(multipliers, bounds, zero_point, clamp, GUARD_BITS if match == "exact" else 0)
    if avoid_powers and made.powers is not None:
        with contextlib.suppress(ScaleError):
            return _two_stages(multipliers, bounds, zero_point, clamp, GUARD_BITS, alike=True)
    return made


def whole_steps(multipliers: np.ndarray, bounds: np.ndarray, match: str) -> Requantisation:
    """As requantise(), always in two stages, without zero point and clamp: `out` only says the second shift."""
    return _two_stages(multipliers, bounds, 0, Clamp(), GUARD_BITS if match == "exact" else 0)


def _two_factors(multiplier: float, bound: float, zero_point: int, clamp: Clamp, match: str) -> Requantisation | None:
    """One multiplier, and no clamp or one from the zero point on; None when 32 bits leave no first factor."""
    rounds = int(max(split(np.array([multiplier]))[1][0], 0)) if match == "tflite" else 0
    if rounds > MAX_SHIFT:
        return None
    wanted = multiplier
    if match == "tflite":
        m = np.array([multiplier])
        bound = float(relevant_bounds(m, np.array([bound]), zero_point, clamp)[0])
        ends = equal_range(m, np.array([rounds]), np.array([bound]), clamp.lowest - zero_point,
                           clamp.highest - zero_point)
        wanted = float(inside(m * 2.0 ** rounds, *ends)[0])
    made = factors(wanted, bound)
    if made is None:
        return None
    first, second, shift = made
    c = np.array([first], np.int16)
    if match == "tflite":
        high = None if clamp.is_trivial else min((clamp.highest - zero_point) << rounds, INT32_MAX)
        return Requantisation(c, 0, None, 0, high, OutputConverter(zero_point, 1, rounds), second, shift)
    out = OutputConverter(zero_point, second, shift)
    if clamp.is_trivial:
        return Requantisation(c, 0, None, 0, None, out)
    if clamp.highest == HIGHEST_BYTE:       # saturation clamps
        return Requantisation(c, 0, None, 0, INT32_MAX, out)
    if second > 1 << shift:                 # steps of v are larger than the output's: none may lie at the limit
        return None
    return Requantisation(c, 0, None, 0, _largest_input(clamp.highest - zero_point, second, shift), out)


def relevant_bounds(m: np.ndarray, bounds: np.ndarray, zero_point: int, clamp: Clamp) -> np.ndarray:
    """The largest |t| that must fit into 32 bits: beyond, outputs are at their limits, wherever the sums saturate."""
    farthest = max(clamp.highest - zero_point, zero_point - clamp.lowest) + MARGIN
    return np.ceil(np.minimum(np.maximum(bounds, 1), farthest / np.where(m > 0, m, 1e-300)))


def factors(real: float, bound: float) -> tuple[int, int, int] | None:
    """(C1, C2, shift) with C1 * C2 / 2**shift closest to a real number, t * C1 inside 32 bits for |t| <= bound.

    C1 < 2**15, 2**14 <= C2 < 2**15. The error is about 2**-(14 + bits of C1) of the number.
    """
    largest = int(min(INT32_MAX // max(bound, 1.0), (1 << MULTIPLIER_BITS) - 1))
    if largest < 1 or real <= 0:
        return None
    first = np.arange(max(largest // 2, 1), largest + 1, dtype=np.float64)
    fraction, exponent = np.frexp(real / first)
    second = np.minimum(np.rint(fraction * (1 << MULTIPLIER_BITS)), (1 << MULTIPLIER_BITS) - 1)
    shift = MULTIPLIER_BITS - exponent
    error = np.abs(first * second * np.exp2(-shift.astype(np.float64)) - real)
    error[(shift < 0) | (shift > MAX_SHIFT)] = np.inf
    best = int(error.argmin())
    if not np.isfinite(error[best]):
        return None
    return int(first[best]), int(second[best]), int(shift[best])


def _largest_input(highest: int, scale: int, shift: int) -> int:
    """Largest v for which v * scale / 2**shift, rounded with ties away from zero, is at most `highest` >= 0."""
    return min(-(-((2 * highest + 1) << shift) // (2 * scale)) - 1, INT32_MAX)


def _two_stages(multipliers: np.ndarray, bounds: np.ndarray, zero_point: int, clamp: Clamp,
                guard_bits: int, *, alike: bool = False) -> Requantisation:
    """alike: all channels get the shift of the one with the largest multiplier; the others' C has fewer bits."""
    fractions, exponents = split(multipliers)
    live = fractions > 0
    smallest = int(exponents[live].min(initial=0 if not live.any() else MAX_SHIFT))
    base = min(0, smallest - guard_bits)
    if base < -MULTIPLIER_BITS:
        raise ScaleError(f"the accumulator's scale is 2**{-smallest} times the output's, "
                         f"must be below 2**{MULTIPLIER_BITS - guard_bits}")
    common = smallest if alike else _common_exponent(exponents[live], base)
    used = np.where(live, np.minimum(exponents, common), common)
    raw = np.rint(np.asarray(multipliers, np.float64) * np.exp2(MULTIPLIER_BITS + used.astype(np.float64)))
    c = np.minimum(raw, (1 << MULTIPLIER_BITS) - 1).astype(np.int16)
    _check_error(multipliers, bounds, c, used, MAX_ROUNDED_ONCE_ERROR if alike else MAX_MULTIPLIER_ERROR)
    powers = None if np.all(used == common) else (common - used).astype(np.uint8)
    shift = common - base
    low, high, offset = _clamp_values(clamp, zero_point, shift)
    return Requantisation(c, MULTIPLIER_BITS + base, powers, low, high, OutputConverter(offset, 1, shift))


def _common_exponent(exponents: np.ndarray, base: int) -> int:
    """R of OUT_CVT for all channels: the largest, as far as BN's powers of two and 32 bits reach."""
    if exponents.size == 0:
        return 0
    largest, smallest = int(exponents.max()), int(exponents.min())
    if largest == smallest:
        # One shift for all: v is never multiplied, nothing saturates. Above 40 every output is the zero point.
        return min(largest, 40)
    return min(largest, smallest + MAX_POWER, MAX_COMMON_SHIFT + base)


def multiplier_error(m: np.ndarray, bounds: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Output steps that multipliers `held` instead of m are off, at most.

    Outputs beyond 256 steps saturate either way, so an accumulator matters up to 256 / M at most.
    """
    reach = np.minimum(np.asarray(bounds, np.float64), 256.0 / np.maximum(m, 1e-300))
    return reach * np.abs(held - m)


def _check_error(multipliers: np.ndarray, bounds: np.ndarray, c: np.ndarray, exponents: np.ndarray,
                 limit: float) -> None:
    """Raises ScaleError when a channel would be off by too much."""
    m = np.asarray(multipliers, np.float64)
    held = c.astype(np.float64) * np.exp2(-(MULTIPLIER_BITS + exponents.astype(np.float64)))
    error = multiplier_error(m, bounds, held)
    worst = int(error.argmax())
    if error[worst] > limit:
        raise ScaleError(f"scales of the output channels span too much: channel {worst} (multiplier {m[worst]:.3g}, "
                         f"the largest is {m.max():.3g}) would be off by {error[worst]:.2f} steps, "
                         f"{limit} are allowed")


def _clamp_values(clamp: Clamp, zero_point: int, shift: int) -> tuple[int, int | None, int]:
    """(low, high, OUT_CVT offset). Both limits are whole output steps, so they are exact in v's unit.

    A limit beyond 32 bits is never reached by v, which has 32 bits.
    """
    if clamp.is_trivial:
        return 0, None, zero_point
    low = (clamp.lowest - zero_point) << shift
    high = (clamp.highest - clamp.lowest) << shift
    if abs(low) > INT32_MAX:
        raise ScaleError(f"the activation's lower limit needs more than 32 bits behind a shift of {shift}")
    return low, min(high, INT32_MAX), clamp.lowest
