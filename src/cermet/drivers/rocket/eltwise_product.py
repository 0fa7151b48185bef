"""Register values for the product of two computed tensors.

    BS  a - z1      EW  p = (a - z1) * (b - z2), exact, |p| <= 255 * 255      OUT_CVT  y = sat8(away(p * M >> S) + zo)

M has 15 significant bits, so that p * M / 2**S is off by 2**-15 of itself at most: by 256 * 2**-15 < 0.01 output steps
for results that do not saturate. TFLite rounds to 31 bits first, which one converter cannot imitate: some results that
lie 2**-(R + 1) from a tie differ by 1, where the real multiplier is q * 2**-R, q in [0.5, 1) (numerics document §9.2).

Both roundings, where some factors give all of TFLite's bytes (equal_multipliers.py):

    BS  (a - z1) * C1    BN  .. * C2    EW  u = rne(.. * ((b - z2) * C3) >> s)    OUT_CVT  y = sat8(away(u >> R) + zo)

with C1 * C2 * C3 / 2**s = q, 32 bits before EW and 16 bits for its operand.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.drivers.rocket.dpu import Elementwise, OutputConverter, Stage, Stages
from cermet.drivers.rocket.equal_multipliers import equal_range
from cermet.drivers.rocket.limits import LARGEST_MULTIPLIER, MAX_SHIFT
from cermet.drivers.rocket.requantise import INT32_MAX, Clamp, split
from cermet.drivers.rocket.requantise_channels import nearest_products

STEPS = 256


@dataclass(frozen=True)
class ProductLimits:
    """Zero points of both operands and the output, and the fused activation's clamp, in the signed domain."""

    zero_points: tuple[int, int, int]
    clamp: Clamp

    @property
    def is_expressible(self) -> bool:
        """EW clamps at 0, the zero point, and above; nothing can be added before the product's lower clamp."""
        return self.clamp.lowest in (-128, self.zero_points[2])


def product_stages(real: float, limits: ProductLimits) -> Stages:
    """Stages for the real multiplier s1 * s2 / so. limits must be expressible."""
    z1, z2, zero_point = limits.zero_points
    multiplier, shift = _normalised(real)
    relux = None
    if limits.clamp.highest < 127:
        # the largest product that still rounds to the highest byte
        doubled = (2 * (limits.clamp.highest - zero_point) + 1) << shift
        relux = min(-(-doubled // (2 * multiplier)) - 1, INT32_MAX) if multiplier else INT32_MAX
    elementwise = Elementwise(-z2, 1, 0, multiplies=True, relu=limits.clamp.lowest > -128, relux=relux)
    return Stages(bs=Stage(add=-z1), ew=elementwise, out=OutputConverter(zero_point, multiplier, shift))


def twice_rounded_stages(real: float, limits: ProductLimits) -> Stages | None:
    """Stages that give TFLite's byte for all products; None where no factors do. limits must be expressible."""
    z1, z2, zero_point = limits.zero_points
    m, rounds = np.array([real]), np.maximum(split(np.array([real]))[1], 0)
    reaches = [max(z + 128, 127 - z) for z in (z1, z2)]
    low, high = equal_range(m, rounds, np.array([reaches[0] * reaches[1]]), limits.clamp.lowest - zero_point,
                            limits.clamp.highest - zero_point)
    if not (np.isfinite(low[0]) and np.isfinite(high[0]) and 0 < low[0] < high[0]):
        return None
    # EW's operand is read as signed 16 bits (numerics §8.3).
    third = np.arange(1, LARGEST_MULTIPLIER // reaches[1] + 1)
    middle, width = (low + high) / 2 / third, (high - low) / 2 / third
    largest = np.full(len(third), LARGEST_MULTIPLIER)
    shift = max(int(np.floor(np.log2(INT32_MAX / reaches[0] / high[0]))), 0)
    for s in range(shift, MAX_SHIFT):
        first, second, missed = nearest_products(middle, width, s, largest)
        fits = np.flatnonzero(~missed & (reaches[0] * first * second <= INT32_MAX))
        if len(fits):
            i = fits[0]
            return _twice_rounded(limits, (int(first[i]), int(second[i]), int(third[i])), s, int(rounds[0]))
        if reaches[0] * first.min() * second.min() > INT32_MAX:
            break
    return None


def _twice_rounded(limits: ProductLimits, factors: tuple[int, int, int], shift: int, rounds: int) -> Stages:
    z1, z2, zero_point = limits.zero_points
    highest = limits.clamp.highest
    relux = min((highest - zero_point) << rounds, INT32_MAX) if highest < 127 else None
    elementwise = Elementwise(-z2, factors[2], 0, multiplies=True, product_shift=shift,
                              relu=limits.clamp.lowest > -128, relux=relux)
    return Stages(Stage(add=-z1, multiplier=factors[0]), Stage(multiplier=factors[1]), elementwise,
                  OutputConverter(zero_point, 1, rounds))


def _normalised(real: float) -> tuple[int, int]:
    """(M, S). A product of 1 or more saturates beyond STEPS; below 2**-49 even the largest product rounds to 0."""
    if real >= STEPS:
        return 2 * STEPS, 0
    fraction, exponent = np.frexp(real)
    multiplier, shift = round(float(fraction) * (1 << 15)), 15 - int(exponent)
    if multiplier > LARGEST_MULTIPLIER:
        multiplier, shift = multiplier >> 1, shift - 1
    return (multiplier, shift) if shift <= MAX_SHIFT else (0, MAX_SHIFT)
