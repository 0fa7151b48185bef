"""Numbers of a convolution with an ADD behind it, both rounded and saturated where TFLite does it.

    BS        x = clamp(rne((t + d) * C >> s))      x = q1 - lowest: the convolution's own output byte, from 0
    BN        v = x * 2**k + (lowest - z1) * 2**k   exact: (q1 - z1) * 2**k
    EW        v + e,  e = rne((q2 - z2) * SC >> SH), SC / 2**SH = s2 / s1 * 2**k, then the ADD's own clamp
    OUT_CVT   y = saturate8(round((v + e) * MUL >> SHIFT) + zo), MUL / 2**SHIFT = s1 / (so * 2**k)

t holds bias and zero points; d = (z1 - lowest) * 2**s / C moves the clamps of BS, which sit at 0 and RELUX, to where
the byte's range begins; d is rounded to an integer, an error of half of M = C / 2**s at most in steps of q1.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.context import signed_zero_point
from cermet.drivers.rocket.conv import Layer, RangeError, bias_values, conv_weights, make_layer
from cermet.drivers.rocket.dpu import Elementwise, OutputConverter
from cermet.drivers.rocket.limits import MAX_SHIFT
from cermet.drivers.rocket.requantise import INT32_MAX, MAX_MULTIPLIER_ERROR, MULTIPLIER_BITS, Clamp
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph

MAX_GUARD_BITS = 14
# e is off by 2**-(k+1) and by SC's rounding, the product by MUL's: together less than half a step keeps y within one.
MAX_SUM_ERROR = 0.4
LARGEST_DIFFERENCE = 255


@dataclass(frozen=True, eq=False)
class FusedNumbers:
    """Register values: layer holds the convolution's integers with d added to its bias.

    multipliers   C: int16, one or one per channel; shift: s; highest: BS RELUX
    guard_bits    k; add: BN's addend
    """

    layer: Layer
    multipliers: np.ndarray
    shift: int
    highest: int
    guard_bits: int
    add: int
    elementwise: Elementwise
    out: OutputConverter


def fused_numbers(subgraph: Subgraph, conv: Operation, add: Operation, addend: int) -> FusedNumbers | None:
    """None when they do not fit, or would cost more than one step of error."""
    inner, output, other = subgraph.tensor(conv.output), subgraph.tensor(add.output), subgraph.tensor(addend)
    try:
        layer = make_layer(subgraph.tensor(conv.inputs[0]), conv_weights(subgraph.tensor(conv.inputs[1])),
                           bias_values(subgraph, conv), inner, conv.kind)
    except RangeError:
        return None
    assert inner.quantisation is not None and output.quantisation is not None and other.quantisation is not None
    s1, s2, so = inner.quantisation.scale, other.quantisation.scale, output.quantisation.scale
    clamp, zero_point = clamp_of(conv.activation, inner), signed_zero_point(inner)
    moved = _moved(layer, clamp, zero_point)
    limits = clamp_of(add.activation, output)
    sum_stages = _sum(s1, s2, so, -signed_zero_point(other), limits, signed_zero_point(output))
    if moved is None or sum_stages is None:
        return None
    layer, multipliers, shift = moved
    guard_bits, elementwise, out = sum_stages
    return FusedNumbers(layer, multipliers, shift, clamp.highest - clamp.lowest, guard_bits,
                        (clamp.lowest - zero_point) << guard_bits, elementwise, out)


def _moved(layer: Layer, clamp: Clamp, zero_point: int) -> tuple[Layer, np.ndarray, int] | None:
    """(layer with d in its bias, C, s)."""
    largest = float(layer.multipliers.max())
    shift = MULTIPLIER_BITS - int(np.frexp(largest)[1])
    if not 0 <= shift <= MAX_SHIFT:
        return None
    held = np.minimum(np.rint(layer.multipliers * 2.0 ** shift), (1 << MULTIPLIER_BITS) - 1)
    if held.min() < 1:
        return None
    moved = np.rint((zero_point - clamp.lowest) * 2.0 ** shift / held)
    bounds = layer.bounds if len(held) > 1 else layer.bounds.max(keepdims=True)
    reach = np.minimum(bounds.astype(np.float64), 256.0 / layer.multipliers)
    error = (reach + np.abs(moved)) * np.abs(held * 2.0 ** -shift - layer.multipliers) + layer.multipliers / 2
    if error.max() > MAX_MULTIPLIER_ERROR or (bounds + np.abs(moved)).max() > INT32_MAX:
        return None
    bias = layer.bias + moved.astype(np.int64)
    if np.abs(bias).max() > INT32_MAX:
        return None
    return Layer(layer.weights, bias, layer.bounds, layer.multipliers), held.astype(np.int16), shift


def _sum(s1: float, s2: float, so: float, offset: int, clamp: Clamp,
         zero_point: int) -> tuple[int, Elementwise, OutputConverter] | None:
    """(k, operand converter, output converter)."""
    ratio_exponent = int(np.frexp(s2 / s1)[1])          # s2 / s1 < 2**ratio_exponent
    guard_bits = min(MAX_GUARD_BITS, MAX_GUARD_BITS - ratio_exponent)
    if guard_bits < 0:
        return None
    scale, shift = _normalised(s2 / s1 * 2.0 ** guard_bits)
    gain, gain_shift = _normalised(s1 / so * 2.0 ** -guard_bits)
    if not (0 <= shift <= MAX_SHIFT and 0 <= gain_shift <= MAX_SHIFT):
        return None
    step = gain * 2.0 ** -gain_shift                    # one unit of v in output steps
    error = step * (0.5 + LARGEST_DIFFERENCE * abs(scale * 2.0 ** -shift - s2 / s1 * 2.0 ** guard_bits)) \
        + 512 * 2.0 ** -(MULTIPLIER_BITS + 1)
    if error > MAX_SUM_ERROR:
        return None
    limits = _limits(clamp, zero_point, step)
    if limits is None:
        return None
    relu, relux = limits
    return guard_bits, Elementwise(offset, scale, shift, relu=relu, relux=relux), OutputConverter(zero_point, gain,
                                                                                             gain_shift)


def _normalised(real: float) -> tuple[int, int]:
    """(multiplier of 15 bits, shift) with multiplier / 2**shift closest to a real number above 0."""
    fraction, exponent = np.frexp(real)
    multiplier = min(round(float(fraction) * (1 << MULTIPLIER_BITS)), (1 << MULTIPLIER_BITS) - 1)
    return multiplier, MULTIPLIER_BITS - int(exponent)


def _limits(clamp: Clamp, zero_point: int, step: float) -> tuple[bool, int | None] | None:
    """(ReLU, RELUX) of EW for the ADD's activation; None when its lower limit is not the zero point.

    RELUX is the largest v that still rounds to the highest byte.
    """
    if clamp.is_trivial:
        return False, None
    if clamp.lowest not in (-128, zero_point):
        return None
    highest = int(np.floor((clamp.highest - zero_point + 0.499) / step))
    return clamp.lowest == zero_point, min(highest, INT32_MAX) if clamp.highest < 127 else None
