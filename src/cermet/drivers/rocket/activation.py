"""Fused activations as limits of the output's integers."""
from __future__ import annotations

import numpy as np

from cermet.drivers.rocket.context import signed_zero_point
from cermet.drivers.rocket.requantise import Clamp
from cermet.ir.operation import Activation
from cermet.ir.tensor import Tensor


def clamp_of(activation: Activation, output: Tensor) -> Clamp:
    """The output bytes that an activation lets through, in the signed domain.

    A limit is quantised as TFLite does (CalculateActivationRangeQuantized, kernels/kernel_util.cc): divided in float32,
    rounded half away from zero.
    """
    lowest, highest = activation.real_range
    return Clamp(-128 if lowest is None else _quantised(output, lowest),
                 127 if highest is None else _quantised(output, highest))


def _quantised(output: Tensor, real: float) -> int:
    assert output.quantisation is not None
    steps = np.float32(real) / np.float32(output.quantisation.scale)
    rounded = np.copysign(np.floor(np.abs(steps) + np.float32(0.5)), steps)
    return int(np.clip(rounded + signed_zero_point(output), -128, 127))
