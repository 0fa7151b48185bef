"""What SUB, MUL, MAXIMUM and MINIMUM compute; ADD, the oldest of them, is in numerics.py. Conventions: numerics.py.

Operands are int8 or uint8, quantised per tensor, and broadcast against each other.
"""
from __future__ import annotations

from fractions import Fraction

import numpy as np

from cermet.ir.fixed_point import multiply_by_quantised_multiplier, quantize_multiplier, scale_exactly, wrap_int32
from cermet.ir.operands import Values, centred, finish, operand, quantisation
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph

LEFT_SHIFT = 20         # bits that TFLite's SUB gains before it scales its operands


def sub(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """SUB with broadcasting: y = clamp(round(((a - za) * sa - (b - zb) * sb) / sy) + zy).

    TFLite adds with the second multiplier negated. Source: TFLite's kernels/sub.cc and reference/add.h (8-bit).
    """
    first, second = (operand(subgraph, values, t) for t in operation.inputs)
    out = subgraph.tensor(operation.output)
    a, b = (centred(*pair).astype(np.int64) for pair in (first, second))
    scales = [quantisation(tensor).scale for tensor in (first[0], second[0], out)]
    if match == "exact":
        ratios = [Fraction(s) / Fraction(scales[2]) for s in scales[:2]]
        return finish(operation, out, scale_exactly([(a, [ratios[0]]), (b, [-ratios[1]])]))
    twice_max = 2.0 * max(scales[:2])
    (q1, shift1), (q2, shift2) = (quantize_multiplier(s / twice_max) for s in scales[:2])
    total = wrap_int32(multiply_by_quantised_multiplier(a << LEFT_SHIFT, q1, shift1)
                       + multiply_by_quantised_multiplier(b << LEFT_SHIFT, -q2, shift2))
    real = twice_max / ((1 << LEFT_SHIFT) * scales[2])
    return finish(operation, out, multiply_by_quantised_multiplier(total, *quantize_multiplier(real)))


def product_multiplier(scales: tuple[float, float, float]) -> float:
    """sa * sb / sy in float32, as TFLite's kernels/mul.cc computes it."""
    first, second, out = (np.float32(s) for s in scales)
    with np.errstate(over="ignore", under="ignore"):
        return float(first * second / out)


def mul(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """MUL with broadcasting: y = clamp(round((a - za) * (b - zb) * sa * sb / sy) + zy).

    Source: TFLite's kernels/mul.cc and reference/integer_ops/mul.h.
    """
    first, second = (operand(subgraph, values, t) for t in operation.inputs)
    out = subgraph.tensor(operation.output)
    product = centred(*first).astype(np.int64) * centred(*second)
    scales = quantisation(first[0]).scale, quantisation(second[0]).scale, quantisation(out).scale
    if match == "exact":
        factor = Fraction(scales[0]) * Fraction(scales[1]) / Fraction(scales[2])
        return finish(operation, out, scale_exactly([(product, [factor])]))
    scaled = multiply_by_quantised_multiplier(product, *quantize_multiplier(product_multiplier(scales)))
    return finish(operation, out, scaled)


def maximum(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """MAXIMUM with broadcasting, all of one quantisation: the larger integer. match changes nothing."""
    (_, a), (_, b) = (operand(subgraph, values, t) for t in operation.inputs)
    return np.maximum(a, b).reshape(subgraph.tensor(operation.output).shape)


def minimum(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """MINIMUM: as maximum, the smaller integer."""
    (_, a), (_, b) = (operand(subgraph, values, t) for t in operation.inputs)
    return np.minimum(a, b).reshape(subgraph.tensor(operation.output).shape)


BINARY = {Kind.SUB: sub, Kind.MUL: mul, Kind.MAXIMUM: maximum, Kind.MINIMUM: minimum}
