"""Which multipliers of an ADD or SUB give the wanted result for most of the 65536 pairs of bytes: mostly all of them.

The choices of eltwise_arithmetic.py differ from exact arithmetic by some 1e-5 output steps. That decides only sums that
lie so near to a tie, and each choice decides other ones wrongly, so that trying a few usually finds one without any.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from cermet.drivers.rocket.context import UINT8_FLIP
from cermet.drivers.rocket.eltwise_arithmetic import AddArithmetic, AddRange
from cermet.drivers.rocket.rounding import rounded
from cermet.ir.numerics import evaluate
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Quantisation, Tensor

BYTES = np.arange(-128, 128, dtype=np.int64)


@dataclass(frozen=True)
class PairQuestion:
    """Everything that the results for pairs of bytes depend on; quantisations: of both operands and of the output."""

    operation: Operation
    dtype: DType
    quantisations: tuple[Quantisation, Quantisation, Quantisation]
    limits: AddRange

    @staticmethod
    def of(subgraph: Subgraph, operation: Operation, limits: AddRange) -> PairQuestion:
        tensors = [subgraph.tensor(t) for t in (*operation.inputs[:2], operation.output)]
        bare = replace(operation, index=0, inputs=(0, 1), outputs=(2,), fused=())
        return PairQuestion(bare, tensors[2].dtype, tuple(t.quantisation for t in tensors), limits)   # type: ignore


@lru_cache(maxsize=64)
def closest(question: PairQuestion, choices: tuple[AddArithmetic, ...], match: str) -> AddArithmetic:
    """The choice with the fewest results that differ from the numerics'."""
    wanted = wanted_results(question, match)
    best, fewest = choices[0], wanted.size + 1
    for choice in choices:
        differing = int((results(question, choice) != wanted).sum())
        if differing < fewest:
            best, fewest = choice, differing
        if fewest == 0:
            break
    return best


def results(question: PairQuestion, made: AddArithmetic) -> np.ndarray:
    """The device's output bytes in the signed domain: [first operand][second operand]."""
    z1, z2, zero_point = question.limits.zero_points
    first, second = (BYTES - z1)[:, None], (BYTES - z2)[None, :]
    signs = (1, -1) if question.operation.kind is Kind.SUB else (1, 1)
    main, other = (second * signs[1], first * signs[0]) if made.swapped else (first * signs[0], second * signs[1])
    v = rounded(main * made.first_multiplier, made.first_shift, ties_away=False)
    if made.lower is None:
        v = v + other * made.second_multiplier
        offset = zero_point
    else:
        v = np.maximum(v - made.lower + other * made.second_multiplier, 0)
        offset = question.limits.lowest
    if made.upper is not None:
        v = np.minimum(v, made.upper)
    return np.clip(rounded(v * made.out_multiplier, made.out_shift, ties_away=True) + offset, -128, 127)


def wanted_results(question: PairQuestion, match: str) -> np.ndarray:
    """The numerics' output bytes, as of results()."""
    flip = UINT8_FLIP if question.dtype is DType.UINT8 else 0
    data = (BYTES.astype(np.int8).view(np.uint8) ^ np.uint8(flip)).view(question.dtype.numpy)
    tensors = [Tensor(i, "", (256, 256), question.dtype, q) for i, q in enumerate(question.quantisations)]
    subgraph = Subgraph(dict(enumerate(tensors)), (question.operation,), (0, 1), (2,))
    values = {0: np.broadcast_to(data[:, None], (256, 256)), 1: np.broadcast_to(data, (256, 256))}
    made = np.ascontiguousarray(evaluate(subgraph, question.operation, values, match))
    return (made.view(np.uint8) ^ np.uint8(flip)).view(np.int8).astype(np.int64)
