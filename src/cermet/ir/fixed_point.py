"""Fixed-point helpers that the quantised operations share.

Two ways to scale an integer by a real number: TFLite's (31-bit multiplier, two roundings) and the exact one (the scales
are float32 values, hence rational numbers; one rounding, half away from zero). Written from the published algorithms:
gemmlowp's fixedpoint.h and TFLite's kernels/internal/{common.h, quantization_util.cc}, kernels/kernel_util.cc.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from cermet.ir.operation import Activation, Operation
from cermet.ir.tensor import Tensor

Q31 = 31


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(q31, shift) with real ~ q31 * 2**(shift - 31), as TFLite's QuantizeMultiplier.

    q31 is 0 or 2**30 .. 2**31 - 1, rounded half away from zero; a real below 2**-32 or so becomes 0.
    """
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    q31 = math.floor(mantissa * (1 << Q31) + 0.5)       # mantissa is positive here
    if q31 == 1 << Q31:
        q31, shift = q31 >> 1, shift + 1
    return (0, 0) if shift < -Q31 else (q31, shift)


def multiply_by_quantised_multiplier(values: np.ndarray, q31: np.ndarray | int, shift: np.ndarray | int) -> np.ndarray:
    """TFLite's MultiplyByQuantizedMultiplier: int32 * q31 * 2**(shift - 31), rounded twice.

    values      int32 range, any integer dtype; q31, shift: broadcast against it (per channel: the last axis)
    returns     int64 that holds int32 values
    Rounding: first the high half of the doubled product (ties up), then the right shift (ties away from zero). A
    positive shift is applied before, and wraps around like TFLite's int32.
    """
    left, right = np.maximum(shift, 0), np.maximum(np.negative(shift), 0)
    widened = wrap_int32(values.astype(np.int64) << left)
    return rounding_right_shift((widened * np.asarray(q31, np.int64) + (1 << 30)) >> Q31, right)


def rounding_right_shift(values: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """values / 2**shift, half away from zero (gemmlowp's RoundingDivideByPOT)."""
    mask = (np.int64(1) << np.asarray(shift, np.int64)) - 1
    threshold = (mask >> 1) + (values < 0)
    return (values >> shift) + ((values & mask) > threshold)


def wrap_int32(values: np.ndarray) -> np.ndarray:
    """int64 reduced modulo 2**32 to -2**31 .. 2**31 - 1."""
    return values.astype(np.int32).astype(np.int64)


def divide_half_away(numerator: np.ndarray, denominator: np.ndarray | int) -> np.ndarray:
    """numerator / denominator (> 0) in integers, half away from zero."""
    magnitude = (2 * np.abs(numerator) + denominator) // (2 * np.asarray(denominator))
    return np.sign(numerator) * magnitude


def scale_exactly(terms: Sequence[tuple[np.ndarray, Sequence[Fraction]]]) -> np.ndarray:
    """round(sum of values * factor), once, half away from zero; int64, equal to rational arithmetic.

    terms   (int64 values below 2**40, factors): one factor, or one per index of the last axis; values broadcast

    float64 decides except within its own error of a tie; those few are decided with integers.
    """
    estimate: np.ndarray = np.float64(0.0)      # type: ignore[assignment]
    magnitude: np.ndarray = np.float64(0.0)     # type: ignore[assignment]
    for values, factors in terms:
        term = values * np.array([float(f) for f in factors])
        estimate, magnitude = estimate + term, magnitude + np.abs(term)
    rounded = np.copysign(np.floor(np.abs(estimate) + 0.5), estimate).astype(np.int64)
    fraction = np.abs(estimate) - np.floor(np.abs(estimate))
    doubtful = np.abs(fraction - 0.5) <= magnitude * 2.0**-48 + 2.0**-60    # a product and a sum: 3 units of 2**-53
    if doubtful.any():
        _decide_ties(rounded, np.nonzero(doubtful), terms)
    return rounded


def _decide_ties(rounded: np.ndarray, where: tuple[np.ndarray, ...],
                 terms: Sequence[tuple[np.ndarray, Sequence[Fraction]]]) -> None:
    """Overwrite rounded[where] with the rational result, computed once for each distinct set of values."""
    channel = where[-1]
    columns = [np.broadcast_to(values, rounded.shape)[where] for values, _ in terms]
    columns += [channel * (len(factors) > 1) for _, factors in terms]
    distinct, inverse = np.unique(np.stack(columns), axis=1, return_inverse=True)
    results = []
    for column in distinct.T.tolist():
        total = Fraction(0)
        for value, index, (_, factors) in zip(column, column[len(terms):], terms, strict=False):
            total += value * factors[index]
        results.append(_half_away(total))
    rounded[where] = np.array(results, np.int64)[inverse.reshape(-1)]


def _half_away(value: Fraction) -> int:
    magnitude = (2 * abs(value.numerator) + value.denominator) // (2 * value.denominator)
    return magnitude if value >= 0 else -magnitude


def activation_range(operation: Operation, out: Tensor) -> tuple[int, int]:
    """(lowest, highest) integer that the fused activation lets through, as TFLite's CalculateActivationRangeQuantized.

    The activation's real limits are quantised in float32 (half away from zero) and clipped to the dtype's range.
    """
    info = np.iinfo(out.dtype.numpy)
    low, high = int(info.min), int(info.max)
    if operation.activation is Activation.NONE:
        return low, high
    assert out.quantisation is not None
    bottom, top = operation.activation.real_range
    if bottom is not None:
        low = max(low, _quantised_limit(bottom, out))
    if top is not None:
        high = min(high, _quantised_limit(top, out))
    return low, high


def _quantised_limit(real: float, out: Tensor) -> int:
    assert out.quantisation is not None
    ratio = float(np.float32(real) / np.float32(out.quantisation.scale))
    return out.quantisation.zero_point + int(math.copysign(math.floor(abs(ratio) + 0.5), ratio))
