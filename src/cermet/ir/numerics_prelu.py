"""PRELU: y = x where x >= 0, else slope * x; slopes are a quantised tensor that broadcasts."""
from __future__ import annotations

from fractions import Fraction

import numpy as np

from cermet.ir.fixed_point import multiply_by_quantised_multiplier, quantize_multiplier, scale_exactly
from cermet.ir.operands import Values, centred, finish, operand, quantisation
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph


def prelu(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """PRELU on int8 or uint8. Source: TFLite's kernels/activations.cc (PreluPrepare) and reference/prelu.h."""
    source, slopes = (operand(subgraph, values, t) for t in operation.inputs)
    out = subgraph.tensor(operation.output)
    x = centred(*source).astype(np.int64)
    product = x * centred(*slopes)
    scales = [quantisation(tensor).scale for tensor in (source[0], slopes[0], out)]
    if match == "exact":
        ratio = Fraction(scales[0]) / Fraction(scales[2])
        kept, scaled = scale_exactly([(x, [ratio])]), scale_exactly([(product, [ratio * Fraction(scales[1])])])
    else:
        given, slope, made = (np.float32(s) for s in scales)
        kept = multiply_by_quantised_multiplier(x, *quantize_multiplier(float(given / made)))
        scaled = multiply_by_quantised_multiplier(product, *quantize_multiplier(float(given * slope / made)))
    return finish(operation, out, np.where(x >= 0, kept, scaled))
