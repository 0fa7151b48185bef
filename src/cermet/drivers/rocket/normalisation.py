"""Register values for a MUL and the ADD behind it, both with constants per channel.

    BS        x = clamp(rne((a - za) * F[c] >> s))              the MUL's own byte less its zero point z1
    BN        v = clamp(x * B + A[c])                           the ADD of that byte (eltwise_affine.py)
    OUT_CVT   y = saturate8(away(v * M >> S) + offset)

Both of TFLite's roundings happen. What may be missing is the lower end of the MUL's byte: BS clamps at 0 only, which is
that end where z1 is -128 or the MUL has a RELU. It does not matter where no product is so low, or where the ADD's own
limit cuts all such sums off. A byte has 256 values: the result of each is computed for every pair of constants, and
what would be off by more than a step is not chosen.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.context import signed_zero_point
from cermet.drivers.rocket.dpu import OutputConverter
from cermet.drivers.rocket.eltwise_affine import (
    LARGEST_FACTOR,
    Affine,
    AffineQuestion,
    affine,
    all_bytes,
    first_stage,
    results,
    signed_bytes,
    wanted,
)
from cermet.drivers.rocket.limits import MAX_SHIFT
from cermet.drivers.rocket.rounding import rounded

# Share of bytes and pairs of constants whose result is not that of both operations one by one, by the option match. F
# has 15 bits for the largest constant only, so that some products fall on the other side of a tie. "exact": one in
# 1000, as for sums behind convolutions.
MAX_DIFFERING = {"tflite": 0.0, "exact": 1e-3}
NUDGES = (0, -1, 1, -2, 2, -3, 3)       # units of F, to meet TFLite's own rounding more often


@dataclass(frozen=True, eq=False)
class Step:
    """One of both operations: its question, and which of the question's constants each channel has."""

    question: AffineQuestion
    index: np.ndarray


def normalisation(product: Step, total: Step, match: str) -> Affine | None:
    """For each channel; None when a result would be farther off than each of the operations may be."""
    first, second = _product(product.question, match), affine(total.question, match)
    if first is None or second is None or second.second is not None or second.factors[0] < 0:
        return None
    pairs, index = np.unique(np.stack([product.index, total.index]), axis=1, return_inverse=True)
    addends = second.addends[pairs[1]] if len(second.addends) > 1 else np.repeat(second.addends, pairs.shape[1])
    made = replace(first, factors=first.factors[pairs[0]], addends=addends, out=second.out,
                   second=int(second.factors[0]), relu=second.relu, relux=second.relux)
    questions = product.question, total.question
    if _differing(made, questions, pairs, match) > MAX_DIFFERING[match] or not _is_near(made, questions, pairs):
        return None
    return made.of(index.reshape(-1)) if match == "tflite" or _is_flat(total.question) else None


def _product(question: AffineQuestion, match: str) -> Affine | None:
    """BS alone: of the factors near the real one, for each constant, that whose bytes are most often the MUL's."""
    subgraph = question.subgraph()
    constant, output = subgraph.tensor(question.constant), subgraph.tensor(2)
    assert constant.data is not None and constant.quantisation is not None
    scales = [q.scale for q in question.quantisations]
    real = (constant.data.astype(np.int64) - constant.quantisation.zero_point) * (scales[0] * scales[1] / scales[2])
    clamp, zero_point = clamp_of(question.operation.activation, output), signed_zero_point(output)
    lowest, highest = clamp.lowest - zero_point, clamp.highest - zero_point
    largest = float(np.abs(real).max())
    shift = int(np.log2((LARGEST_FACTOR - max(NUDGES)) / largest)) if 0 < largest < LARGEST_FACTOR / 2 else -1
    if not 0 <= shift <= MAX_SHIFT or highest < 0:
        return None
    near = np.rint(real * 2.0 ** shift).astype(np.int64) + np.array(NUDGES)[:, None]
    made = rounded(_centred(question)[:, None] * near[:, None, :], shift, ties_away=False)
    wrong = (np.clip(made, lowest, highest) != wanted(question, match) - zero_point).sum(axis=1)
    factors = np.take_along_axis(near, wrong.argmin(axis=0)[None], axis=0)[0]
    return Affine(factors.astype(np.int16), np.zeros(1, np.int64), OutputConverter(0), first_shift=shift,
                  first_relu=lowest == 0, first_relux=highest)


def _centred(question: AffineQuestion) -> np.ndarray:
    data = question.subgraph().tensor(1 - question.constant)
    return signed_bytes(question.dtype, all_bytes(question)) - signed_zero_point(data)


def _sums(total: AffineQuestion, match: str) -> np.ndarray:
    """The numerics' sums: [one row per byte of the product, from -128 on][one column per constant]."""
    return wanted(total, match)[np.argsort(signed_bytes(total.dtype, all_bytes(total)))]


def _is_flat(total: AffineQuestion) -> bool:
    """Whether a product one step off changes no sum by more than one."""
    return bool(np.abs(np.diff(_sums(total, "exact"), axis=0)).max() <= 1)


def _differing(made: Affine, questions: tuple[AffineQuestion, AffineQuestion], pairs: np.ndarray, match: str) -> float:
    """Share of bytes and pairs whose output is not that of the operations one by one."""
    product, total = questions
    one_by_one = _sums(total, match)[wanted(product, match)[:, pairs[0]] + 128, pairs[1]]
    return float((results(made, _centred(product)) != one_by_one).mean())


def _is_near(made: Affine, questions: tuple[AffineQuestion, AffineQuestion], pairs: np.ndarray) -> bool:
    """Whether the product's byte is within a step of exact, and the output of the exact sum of that byte."""
    product, total = questions
    between, centred = signed_zero_point(product.subgraph().tensor(2)), _centred(product)
    byte = np.clip(first_stage(made, centred) + between, -128, 127)
    if np.abs(byte - wanted(product, "exact")[:, pairs[0]]).max() > 1:
        return False
    return bool(np.abs(results(made, centred) - _sums(total, "exact")[byte + 128, pairs[1]]).max() <= 1)
