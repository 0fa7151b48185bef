"""From accumulators to output bytes: multipliers, shifts and clamps of BS, BN and OUT_CVT.

The pipe (numerics document §6, §7, §9), for an accumulator t that already holds bias and zero-point terms:

    BS        v = rne(t * C >> s)              C int16, one for all channels or one each
    BN        v = clamp(v * 2**k[c] - low)     only where channels differ in magnitude, or a clamp acts
    OUT_CVT   y = saturate8(round(v >> S) + offset)

Every real multiplier is M = q * 2**-R with q in [0.5, 1) and C = round(q * 2**15). After BS, v has the unit
2**-(R - base) of an output step, with one `base` <= min(0, R) for all channels: s = 15 + base.
match "tflite": base = min(0, smallest R). BS then rounds where TFLite's first rounding does and OUT_CVT where its
second does (numerics document §9.2).
match "exact": base leaves GUARD_BITS or more between the two, so that the first rounding does not show.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.drivers.rocket.dpu import OutputConverter

MULTIPLIER_BITS = 15        # C is below 2**15
GUARD_BITS = 10
# Beyond this shift of OUT_CVT the 32-bit saturation of v could bite: saturated at 2**31, v >> S would be less than 512,
# and an output of 255 plus a zero point of 255 could be cut. At 22 or less a saturated v saturates y as well.
MAX_COMMON_SHIFT = 22
MAX_POWER = 14              # 2**14 is the largest power of two in BN's int16 operand
MAX_SHIFT = 63
# The most that rounding C may move an output, in output steps. The final rounding adds 0.5, BS's at most 0.25
# (R - base >= 1; with R - base = 0 the final one rounds nothing), and 0.25 + 0.25 + 0.5 <= 1 keeps y within one step.
MAX_MULTIPLIER_ERROR = 0.24
INT32_MAX = (1 << 31) - 1


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

    multipliers   C: int16, one per channel, or a single one; None: BS does not multiply
    bs_shift      s
    powers        k: uint8 per channel; None when all are 0
    low, high     clamp in BN in v's unit: low is subtracted, then ReLU, then RELUX at `high`; high None: no clamp
    out           OUT_CVT
    """

    multipliers: np.ndarray | None
    bs_shift: int
    powers: np.ndarray | None
    low: int
    high: int | None
    out: OutputConverter


def split(multiplier: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(q, R) with multiplier = q * 2**-R, q in [0.5, 1): float64 and int64. Zero gives q = 0, R = 0."""
    fraction, exponent = np.frexp(np.asarray(multiplier, np.float64))
    return fraction, -exponent.astype(np.int64)


def requantise(multipliers: np.ndarray, bounds: np.ndarray, zero_point: int, clamp: Clamp,
               match: str) -> Requantisation:
    """Register values for real multipliers M (one, or one per channel) from accumulator to output steps.

    bounds   largest |t| that can occur, same length as multipliers
    Raises ScaleError when an output could be off by more than one step.
    """
    if len(multipliers) == 1 and match == "exact" and clamp.is_trivial:
        return _single_rounding(float(multipliers[0]), zero_point)
    return _two_stages(multipliers, bounds, zero_point, clamp, GUARD_BITS if match == "exact" else 0)


def _single_rounding(multiplier: float, zero_point: int) -> Requantisation:
    """One multiplier and no clamp: OUT_CVT alone, 16384 <= SCALE <= 32767."""
    fraction, exponent = split(np.array([multiplier]))
    scale = min(round(float(fraction[0]) * (1 << MULTIPLIER_BITS)), (1 << MULTIPLIER_BITS) - 1)
    shift = int(exponent[0]) + MULTIPLIER_BITS
    if not 0 <= shift <= MAX_SHIFT:
        raise ScaleError(f"the accumulator's scale is 2**{-int(exponent[0])} times the output's, "
                         f"must be 2**{-(MAX_SHIFT - MULTIPLIER_BITS)}..2**{MULTIPLIER_BITS}")
    return Requantisation(None, 0, None, 0, None, OutputConverter(zero_point, scale, shift))


def _two_stages(multipliers: np.ndarray, bounds: np.ndarray, zero_point: int, clamp: Clamp,
                guard_bits: int) -> Requantisation:
    fractions, exponents = split(multipliers)
    live = fractions > 0
    smallest = int(exponents[live].min(initial=0 if not live.any() else MAX_SHIFT))
    base = min(0, smallest - guard_bits)
    if base < -MULTIPLIER_BITS:
        raise ScaleError(f"the accumulator's scale is 2**{-smallest} times the output's, "
                         f"must be below 2**{MULTIPLIER_BITS}")
    common = _common_exponent(exponents[live], base)
    used = np.where(live, np.minimum(exponents, common), common)
    raw = np.rint(np.asarray(multipliers, np.float64) * np.exp2(MULTIPLIER_BITS + used.astype(np.float64)))
    c = np.minimum(raw, (1 << MULTIPLIER_BITS) - 1).astype(np.int16)
    _check_error(multipliers, bounds, c, used)
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


def _check_error(multipliers: np.ndarray, bounds: np.ndarray, c: np.ndarray, exponents: np.ndarray) -> None:
    """Outputs beyond 256 steps saturate either way, so an accumulator matters up to 256 / M at most."""
    m = np.asarray(multipliers, np.float64)
    held = c.astype(np.float64) * np.exp2(-(MULTIPLIER_BITS + exponents.astype(np.float64)))
    reach = np.minimum(np.asarray(bounds, np.float64), 256.0 / np.maximum(m, 1e-300))
    error = reach * np.abs(held - m)
    worst = int(error.argmax())
    if error[worst] > MAX_MULTIPLIER_ERROR:
        raise ScaleError(f"scales of the output channels span too much: channel {worst} (multiplier {m[worst]:.3g}, "
                         f"the largest is {m.max():.3g}) would be off by {error[worst]:.2f} steps, "
                         f"{MAX_MULTIPLIER_ERROR} are allowed")


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
