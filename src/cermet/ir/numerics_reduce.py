"""Numerics of MEAN, SUM, REDUCE_MAX and REDUCE_MIN; signature and `match` as in numerics.py."""
from __future__ import annotations

from fractions import Fraction

import numpy as np

from cermet.ir.fixed_point import (
    multiply_by_quantised_multiplier,
    quantize_multiplier,
    scale_exactly,
    wrap_int32,
)
from cermet.ir.operands import Values, centred, finish, operand, quantisation
from cermet.ir.operation import Kind, Operation
from cermet.ir.reductions import reduced_axes
from cermet.ir.subgraph import Subgraph


def mean_or_sum(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """MEAN and SUM over the axes of the second operand: y = clamp(round(sum(x - zx) / n * sx / sy) + zy), SUM: n = 1.

    TFLite divides the 31-bit multiplier by n (truncating) after shifting it left as far as n has bits.
    Source: TFLite's reference/reduce.h, QuantizedMeanOrSum.
    """
    source, data = operand(subgraph, values, operation.inputs[0])
    out, axes = subgraph.tensor(operation.output), _axes(subgraph, operation)
    total = np.sum(centred(source, data), axis=axes, dtype=np.int64).reshape(out.shape)
    count = int(np.prod([source.shape[a] for a in axes], dtype=np.int64)) if operation.kind is Kind.MEAN else 1
    if match == "exact":
        factor = Fraction(quantisation(source).scale) / Fraction(quantisation(out).scale) / count
        return finish(operation, out, scale_exactly([(total.reshape(-1), [factor])]))
    q31, shift = quantize_multiplier(quantisation(source).scale / quantisation(out).scale)
    if operation.kind is Kind.MEAN:
        gained = min(count.bit_length() - 1, 32, 31 + shift)
        q31, shift = (q31 << gained) // count, shift - gained
    return finish(operation, out, multiply_by_quantised_multiplier(wrap_int32(total), q31, shift))


def extreme(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """REDUCE_MAX and REDUCE_MIN over the axes of the second operand; no rounding: match changes nothing.

    Source: TFLite's kernels/reduce.cc (8-bit: input and output quantised alike).
    """
    _, data = operand(subgraph, values, operation.inputs[0])
    choose = np.max if operation.kind is Kind.REDUCE_MAX else np.min
    return choose(data, axis=_axes(subgraph, operation)).reshape(subgraph.tensor(operation.output).shape)


def _axes(subgraph: Subgraph, operation: Operation) -> tuple[int, ...]:
    axes = reduced_axes(subgraph, operation)
    assert axes is not None
    return axes


REDUCE = {Kind.MEAN: mean_or_sum, Kind.SUM: mean_or_sum, Kind.REDUCE_MAX: extreme, Kind.REDUCE_MIN: extreme}
