"""Register values for the product of two computed tensors.

    BS  a - z1      EW  p = (a - z1) * (b - z2), exact, |p| <= 255 * 255      OUT_CVT  y = sat8(away(p * M >> S) + zo)

M has 15 significant bits, so that p * M / 2**S is off by 2**-15 of itself at most: by 256 * 2**-15 < 0.01 output steps
for results that do not saturate. TFLite rounds to 31 bits first, which one converter cannot imitate: some results that
lie 2**-(R + 1) from a tie differ by 1, where 2**-R is about the real multiplier (numerics document §9.2).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.drivers.rocket.dpu import Elementwise, OutputConverter, Stage, Stages
from cermet.drivers.rocket.limits import LARGEST_MULTIPLIER, MAX_SHIFT
from cermet.drivers.rocket.requantise import INT32_MAX, Clamp

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


def _normalised(real: float) -> tuple[int, int]:
    """(M, S). A product of 1 or more saturates beyond STEPS; below 2**-49 even the largest product rounds to 0."""
    if real >= STEPS:
        return 2 * STEPS, 0
    fraction, exponent = np.frexp(real)
    multiplier, shift = round(float(fraction) * (1 << 15)), 15 - int(exponent)
    if multiplier > LARGEST_MULTIPLIER:
        multiplier, shift = multiplier >> 1, shift - 1
    return (multiplier, shift) if shift <= MAX_SHIFT else (0, MAX_SHIFT)
