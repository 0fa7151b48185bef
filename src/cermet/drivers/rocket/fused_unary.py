"""Stages of a convolution with a unary function behind it.

The function's table counts in whole steps of the convolution's output, so that both of the convolution's roundings
happen before it: BS rounds where it always does, BN where OUT_CVT would.

    BS    u = rne(t * C >> s)                    as without the function (requantise.py)
    BN    v = rne((2 * u * 2**k + 1) >> S + 1)   whole steps; the 1 makes ties go up, as TFLite's do above zero
    LUT   T[v]                                   its ends hold what saturated values give
    OUT   T - 129

Below zero TFLite rounds exact ties down: v is one step higher there in one of 2**S cases.
"""
from __future__ import annotations

import numpy as np

from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.context import Context, signed_zero_point
from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.lut import ENTRY_OFFSET, make_lut
from cermet.drivers.rocket.passes.fuse_unary import FusedUnary
from cermet.drivers.rocket.requantise import MAX_POWER, Requantisation
from cermet.drivers.rocket.weights import pack_powers


def looked_up(context: Context, fused: FusedUnary, bs: Stage, numbers: Requantisation, channels: int) -> Stages:
    """Stages from an accumulator to the function's output.

    numbers    two_stages() for the convolution's scales, without clamp and zero point
    channels   that the operands of BN cover
    """
    output = context.tensor(fused.convolution.output)
    clamp, zero_point = clamp_of(fused.convolution.activation, output), signed_zero_point(output)
    clamped = np.clip(np.arange(-128, 128), clamp.lowest, clamp.highest)
    lut = make_lut(fused.table.outputs[clamped + 128], zero_point, step_bits=0)
    return Stages(bs, _whole_steps(context, fused, numbers, channels), None, OutputConverter(-ENTRY_OFFSET), lut, lut)


def _whole_steps(context: Context, fused: FusedUnary, numbers: Requantisation, channels: int) -> Stage:
    shift = numbers.out.shift
    if numbers.powers is None:
        return Stage(add=1, multiplier=2, shift=shift + 1) if shift else Stage()
    breaks_ties = shift > 0 and int(numbers.powers.max()) < MAX_POWER
    powers = numbers.powers + int(breaks_ties)
    address = context.constant(f"powers {fused.convolution.index}", pack_powers(powers, channels))
    return Stage(add=1 if breaks_ties else None, multiplier_from_memory=True, shift=shift + int(breaks_ties),
                 operands=address, data_use=dpu.USE_MULTIPLIER)
