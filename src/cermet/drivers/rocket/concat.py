"""CONCATENATION of tensors with different scales: a copy that requantises (recipes §6, "requantising copy").

BS subtracts the zero point and multiplies, OUT_CVT multiplies, shifts, rounds ties away from zero as TFLite does, and
adds the output's zero point. The two multipliers hold the quotient of the scales in about 29 bits, so that only inputs
whose result lies within 2**-20 of a tie could differ from exact arithmetic, by one step.
"""
from __future__ import annotations

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.context import signed_zero_point
from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.flying import copy_stages
from cermet.drivers.rocket.requantise import factors
from cermet.ir.tensor import Tensor

LARGEST_DISTANCE = 255      # of a byte from a zero point


def can_requantise(source: Tensor, output: Tensor) -> bool:
    """Whether two multipliers hold the quotient of the scales."""
    return _ratio(source, output) == 1.0 or factors(_ratio(source, output), LARGEST_DISTANCE) is not None


def _ratio(source: Tensor, output: Tensor) -> float:
    assert source.quantisation is not None and output.quantisation is not None
    return source.quantisation.scale / output.quantisation.scale


def requantising_stages(source: Tensor, output: Tensor) -> Stages:
    """A plain copy when both tensors are quantised alike."""
    if source.quantisation == output.quantisation:
        return copy_stages()
    made = factors(_ratio(source, output), LARGEST_DISTANCE)
    if made is None:
        raise CompileError(f"tensors {source.index} and {output.index}: no multipliers for their scales")
    first, second, shift = made
    return Stages(bs=Stage(add=-signed_zero_point(source), multiplier=first),
                  out=OutputConverter(signed_zero_point(output), second, shift))
