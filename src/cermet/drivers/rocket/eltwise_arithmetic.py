"""Register values for a quantised ADD or SUB of two tensors, with a bound on their error.

What follows speaks of ADD; SUB is the same with C1 or C2 negative, and so is its bound.

The device computes, with integers only (numerics document §6, §8, §9; stage order BS, BN, EW, OUT_CVT):

    v = rne((a - z1) * C1 >> k)        BS, operand a; k = 0: exact
      + (b - z2) * C2                  EW operand converter without shift (its tie rule is the one not measured)
    y = sat8(away(v * M >> S) + zo)    OUT_CVT, ties away from zero as TFLite's ADD rounds

With r1 = s1/so, r2 = s2/so the exact result is T = r1*(a - z1) + r2*(b - z2), rounded. Let g = M/2**S, the output steps
that one unit of v is worth, and e1 = g*C1/2**k - r1, e2 = g*C2 - r2. Before the last rounding the device is off by

    D = e1*(a - z1) + e2*(b - z2) + g*d,   |d| <= 1/2 if k > 0, else d = 0

With relative errors n1 = e1/r1 and n2 = e2/r2 the first two terms are n2*T + (n1 - n2)*r1*(a - z1), where |T| <= 256
for results that do not saturate. So |D| has three bounds: |e1|*A + |e2|*B, |n2|*256 + |n1 - n2|*r1*A and the same
with the operands exchanged (A, B: largest |a - z1|, |b - z2|); the smallest holds. Results that saturate exactly also
saturate here or lie within |D| of the limit, because both sides grow monotonically with T. With |D| < 1/2 the result is
within 1/2 + 1/2 output steps of the exact real-valued sum, so never more than 1 LSB from its rounded value.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cermet.drivers.rocket.limits import LARGEST_MULTIPLIER, MAX_SHIFT

SMALLEST_NORMAL = 16384         # multipliers are normalised to 15 significant bits
STEPS = 256.0                   # |T| of a result that does not saturate is smaller
ERROR_LIMIT = 0.5               # output steps before the last rounding, see above
MOST_CHOICES = 16               # to try on all pairs of bytes (eltwise_sum.py)


@dataclass(frozen=True)
class AddArithmetic:
    """Multipliers and shifts of an ADD; the operand that EW adds is the second one, or the first if swapped.

    first_multiplier, first_shift   BS: (a - z1) * multiplier >> shift
    second_multiplier               EW operand converter: (b - z2) * multiplier
    out_multiplier, out_shift       OUT_CVT
    lower, upper                    clamps of the sum v, None where saturation does it; see add_arithmetic
    error_steps                     bound of |D| above plus that of the clamps, in output steps
    """

    swapped: bool
    first_multiplier: int
    first_shift: int
    second_multiplier: int
    out_multiplier: int
    out_shift: int
    error_steps: float
    lower: int | None = None
    upper: int | None = None

    @property
    def unit(self) -> float:
        """Output steps per unit of v."""
        return self.out_multiplier / 2.0 ** self.out_shift


@dataclass(frozen=True)
class AddRange:
    """What an ADD's operands and result may be, in the signed domain.

    zero_points     of the two operands and of the output
    lowest, highest what the fused activation lets through, inside -128..127
    """

    zero_points: tuple[int, int, int]
    lowest: int = -128
    highest: int = 127

    def reach(self, operand: int) -> int:
        """Largest |q - zero point| of an operand."""
        return max(self.zero_points[operand] + 128, 127 - self.zero_points[operand])


def add_arithmetic(first_ratio: float, second_ratio: float, limits: AddRange,
                   main: int | None = None) -> AddArithmetic | None:
    """The choice with the smallest error bound, None when that is not below half an output step."""
    choices = add_choices(first_ratio, second_ratio, limits, main)
    return choices[0] if choices else None


@lru_cache(maxsize=256)
def add_choices(first_ratio: float, second_ratio: float, limits: AddRange,
                main: int | None = None) -> tuple[AddArithmetic, ...]:
    """Choices with error bounds below half an output step, the smallest first; all are nearly as good.

    first_ratio, second_ratio   input scale / output scale, > 0
    main    the operand that must be the main one, 0 or 1; None: the one with the smaller scale. The second operand is
            never shifted, so that a main operand with the larger scale is not either: both multipliers are integers
    All 16384 normalised multipliers of the larger operand are tried, each with the best partners: a pair whose quotient
    is close to the quotient of the scales makes n1 - n2 small, which is what matters when the scales are large.
    """
    swapped = first_ratio > second_ratio
    small, large = sorted((first_ratio, second_ratio))
    reach_small, reach_large = limits.reach(int(swapped)), limits.reach(int(not swapped))
    is_crossed = main is not None and main != int(swapped)
    found: list[Choice] = []
    for shift in (0,) if is_crossed else sorted({0, _normal_shift(small / large)}):
        found += _choices_for_shift(small, large, shift, reach_small, reach_large)
    made = []
    for error, c_small, shift, c_large, (out_multiplier, out_shift) in sorted(set(found)):
        if is_crossed:
            plain = AddArithmetic(not swapped, c_large, 0, c_small, out_multiplier, out_shift, error)
            made.append(_with_clamps(plain, limits, reach_large, reach_small))
        else:
            plain = AddArithmetic(swapped, c_small, shift, c_large, out_multiplier, out_shift, error)
            made.append(_with_clamps(plain, limits, reach_small, reach_large))
    return tuple(one for one in made if one is not None)[:MOST_CHOICES]


def _normal_shift(ratio: float) -> int:
    """The shift that gives the smaller operand's multiplier 15 significant bits."""
    return int(np.clip(-np.floor(np.log2(ratio)), 0, MAX_SHIFT))


Choice = tuple[float, int, int, int, tuple[int, int]]


def _choices_for_shift(small: float, large: float, shift: int, reach_small: int, reach_large: int) -> list[Choice]:
    """(error, small multiplier, its shift, large multiplier, output converter) with the smallest errors."""
    c_large = np.arange(SMALLEST_NORMAL, LARGEST_MULTIPLIER + 1, dtype=np.float64)
    c_small = np.rint(c_large * (small / large) * 2.0 ** shift)
    c_small, halvings = _without_factors_of_two(c_small, shift)
    shifts = shift - halvings
    out_multiplier, out_shift = _normalised(large / c_large)
    unit = out_multiplier * 2.0 ** -out_shift
    error = _error(small, unit * c_small * 2.0 ** -shifts, reach_small, large, unit * c_large, reach_large)
    error = error + np.where(shifts > 0, 0.5 * unit, 0.0)
    usable = (c_small <= LARGEST_MULTIPLIER) & (out_shift >= 0) & (error < ERROR_LIMIT)
    order = np.argsort(np.where(usable, error, np.inf), kind="stable")[:MOST_CHOICES]
    return [(float(error[i]), int(c_small[i]), int(shifts[i]), int(c_large[i]),
             (int(out_multiplier[i]), int(out_shift[i]))) for i in order if usable[i]]


def _without_factors_of_two(multiplier: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """multiplier / 2**n and n, as large as divides evenly and at most `shift`: a smaller shift rounds less."""
    integers = multiplier.astype(np.int64)
    low_bit = integers & -integers
    halvings = np.minimum(np.log2(np.maximum(low_bit, 1)), shift)
    halvings = np.where(integers == 0, shift, halvings)
    return multiplier * 2.0 ** -halvings, halvings


def _normalised(real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, S): M / 2**S nearest to real, M in 16384..32767 unless S would pass 63."""
    shift = np.minimum(14 - np.floor(np.log2(real)), MAX_SHIFT)
    multiplier = np.rint(real * 2.0 ** shift)
    overflow = multiplier > LARGEST_MULTIPLIER
    return np.where(overflow, SMALLEST_NORMAL, multiplier), np.where(overflow, shift - 1, shift)


def _error(r1: float, got1: np.ndarray, reach1: int, r2: float, got2: np.ndarray, reach2: int) -> np.ndarray:
    """The bound of |e1*(a - z1) + e2*(b - z2)| of this module's docstring."""
    e1, e2 = got1 - r1, got2 - r2
    n1, n2 = e1 / r1, e2 / r2
    plain = np.abs(e1) * reach1 + np.abs(e2) * reach2
    by_second = np.abs(n2) * STEPS + np.abs(n1 - n2) * r1 * reach1
    by_first = np.abs(n1) * STEPS + np.abs(n1 - n2) * r2 * reach2
    return np.minimum(plain, np.minimum(by_first, by_second))


def _with_clamps(made: AddArithmetic, limits: AddRange, reach_small: int, reach_large: int) -> AddArithmetic | None:
    """Limits of v for a fused activation, None when they would cost the 1 LSB bound.

    lower: v where the output is `lowest`; the hardware clamps at 0, so -lower is added first and the output offset
    becomes `lowest`. lower * unit differs from the whole number of steps by at most unit/2 (by 0 for RELU, whose limit
    is the zero point), which counts as error. A limit beyond what v can reach is left out or, below, moved to the end
    of the range (then all results are `lowest`).
    """
    reach = (reach_small * made.first_multiplier >> made.first_shift) + 1 + reach_large * made.second_multiplier
    zero_point = limits.zero_points[2]
    lower = upper = None
    error = made.error_steps
    base = zero_point
    if limits.lowest > -128:
        exact = (limits.lowest - zero_point) / made.unit
        if exact > -reach:
            lower, base = int(np.rint(min(exact, reach))), limits.lowest
            error += abs(lower - exact) * made.unit if exact <= reach else 0.0
    if limits.highest < 127:
        exact = (limits.highest - base) / made.unit
        if exact < 2 * reach:
            upper = int(np.rint(exact))
            error += abs(upper - exact) * made.unit
    if error >= ERROR_LIMIT:
        return None
    return AddArithmetic(made.swapped, made.first_multiplier, made.first_shift, made.second_multiplier,
                         made.out_multiplier, made.out_shift, error, lower, upper)
