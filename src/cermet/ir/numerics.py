"""What each operation computes, written once: quantised tensors in, quantised tensors out.

Every function has the signature (subgraph, operation, values, match) -> array. values maps tensor numbers to arrays of
the tensors' shapes and dtypes and must hold the operation's inputs that are not constant. match:

  "tflite"   TFLite's reference kernels (tflite-runtime 2.14, BUILTIN_REF), bit for bit
  "exact"    the real-valued result, rounded once, half away from zero

Operands are int8 or uint8, per tensor except where a docstring says per channel; op_problem() says what is allowed.
"""
from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from cermet.ir.fixed_point import (
    activation_range,
    divide_half_away,
    multiply_by_quantised_multiplier,
    quantize_multiplier,
    rounding_right_shift,
    scale_exactly,
    wrap_int32,
)
from cermet.ir.moves import LAYOUTS
from cermet.ir.numerics_binary import BINARY
from cermet.ir.numerics_conv import WEIGHTED
from cermet.ir.numerics_float import evaluate_float, is_float
from cermet.ir.numerics_move import moved, resize_bilinear
from cermet.ir.numerics_prelu import prelu
from cermet.ir.numerics_reduce import REDUCE
from cermet.ir.numerics_unary import UNARY_KINDS, evaluate_unary
from cermet.ir.operands import Values, centred, finish, operand, quantisation
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.taps import Taps

__all__ = ["EVALUATE", "activation_range", "add", "average_pool", "evaluate", "evaluate_all", "max_pool",
           "multiply_by_quantised_multiplier", "quantize_multiplier", "reshape", "rounding_right_shift"]

ADD_LEFT_SHIFT = 20             # bits that TFLite's ADD gains before it scales its operands


def evaluate(subgraph: Subgraph, operation: Operation, values: Values, match: str = "tflite") -> np.ndarray:
    """The operation's only output. KeyError for a kind that has no numerics here."""
    if match not in ("tflite", "exact"):
        raise ValueError(f"match: {match}, must be tflite or exact")
    if is_float(subgraph, operation):
        return evaluate_float(subgraph, operation, values)
    if operation.kind in LAYOUTS:
        (only,) = moved(subgraph, operation, values, match)
        return only
    return EVALUATE[operation.kind](subgraph, operation, values, match)


def evaluate_all(subgraph: Subgraph, operation: Operation, values: Values, match: str = "tflite") -> list[np.ndarray]:
    """All outputs of an operation, in their order."""
    if operation.kind in LAYOUTS:
        return moved(subgraph, operation, values, match)
    return [evaluate(subgraph, operation, values, match)]


# ---- element-wise --------------------------------------------------------------------------------------------------

def add(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """ADD with broadcasting: y = clamp(round(((a - za) * sa + (b - zb) * sb) / sy) + zy).

    TFLite scales both operands to the unit 2 * max(sa, sb) / 2**20 (each rounded twice), adds, and scales the sum.
    Source: TFLite's kernels/add.cc and reference/add.h (8-bit).
    """
    first, second = (operand(subgraph, values, t) for t in operation.inputs)
    out = subgraph.tensor(operation.output)
    a, b = (centred(*pair).astype(np.int64) for pair in (first, second))
    scales = [quantisation(tensor).scale for tensor in (first[0], second[0], out)]
    if match == "exact":
        factors = [[Fraction(s) / Fraction(scales[2])] for s in scales[:2]]
        return finish(operation, out, scale_exactly([(a, factors[0]), (b, factors[1])]))
    twice_max = 2.0 * max(scales[:2])
    operands = [_scaled(v << ADD_LEFT_SHIFT, s / twice_max) for v, s in zip((a, b), scales, strict=False)]
    total = wrap_int32(operands[0] + operands[1])
    return finish(operation, out, _scaled(total, twice_max / ((1 << ADD_LEFT_SHIFT) * scales[2])))


def _scaled(values: np.ndarray, real: float) -> np.ndarray:
    return multiply_by_quantised_multiplier(values, *quantize_multiplier(real))


# ---- pooling -----------------------------------------------------------------------------------------------------

def average_pool(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """AVERAGE_POOL_2D: the mean of the taps inside the plane; input and output share their quantisation.

    TFLite divides the sum of the raw values, half away from zero (which for uint8 is half up); "exact" divides the
    sum of the centred values half away from zero, so the two differ in exact ties only.
    Source: TFLite's reference/pooling.h and reference/integer_ops/pooling.h.
    """
    assert operation.window is not None
    _, data = operand(subgraph, values, operation.inputs[0])
    out = subgraph.tensor(operation.output)
    centre = quantisation(out).zero_point if match == "exact" else 0
    taps, inside = Taps(data.astype(np.int32) - centre, operation.window), Taps(np.ones_like(data), operation.window)
    total = sum(pixels.astype(np.int64) for _, _, pixels in taps)
    count = sum(pixels.astype(np.int64) for _, _, pixels in inside)
    low, high = activation_range(operation, out)
    return np.clip(divide_half_away(total, count) + centre, low, high).astype(out.dtype.numpy).reshape(out.shape)


def max_pool(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """MAX_POOL_2D: the largest tap inside the plane, clamped; input and output share their quantisation.

    Source: TFLite's reference/pooling.h. No rounding: match changes nothing.
    """
    assert operation.window is not None
    source, data = operand(subgraph, values, operation.inputs[0])
    out = subgraph.tensor(operation.output)
    lowest = int(np.iinfo(source.dtype.numpy).min)
    largest = np.maximum.reduce([pixels for _, _, pixels in Taps(data, operation.window, lowest)])
    low, high = activation_range(operation, out)
    return np.clip(largest, low, high).astype(out.dtype.numpy).reshape(out.shape)


# ---- layout --------------------------------------------------------------------------------------------------------

def reshape(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the same integers in the output tensor's shape; match changes nothing."""
    _, data = operand(subgraph, values, operation.inputs[0])
    return data.reshape(subgraph.tensor(operation.output).shape)


Evaluate = Callable[[Subgraph, Operation, Values, str], np.ndarray]

EVALUATE: dict[Kind, Evaluate] = {
    **WEIGHTED, Kind.ADD: add,
    Kind.AVERAGE_POOL: average_pool, Kind.MAX_POOL: max_pool, Kind.RESHAPE: reshape,
    Kind.SQUEEZE: reshape, Kind.EXPAND_DIMS: reshape, Kind.RESIZE_BILINEAR: resize_bilinear, **BINARY, **REDUCE,
    **dict.fromkeys(UNARY_KINDS, evaluate_unary), Kind.PRELU: prelu,
}
