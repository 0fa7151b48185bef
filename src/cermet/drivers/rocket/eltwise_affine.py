"""A feature map and one constant per channel: ADD, SUB and MUL as an affine function of each channel.

    BS        t = (a - z1) * F[c]                   exact; F int16, one or one per channel
    ADD, SUB  BN  v = clamp(t + A[c])               A int32; OUT_CVT  y = saturate8(away(v * M >> S) + offset)
    MUL       match "tflite": BN u = clamp(rne(t * C >> s)), OUT_CVT y = saturate8(away(u >> R) + offset), which rounds
              where TFLite's two roundings are; match "exact": BN clamps, OUT_CVT multiplies and rounds once

A byte has 256 values and so has a constant, so nothing is estimated here: the device's result is computed for every
pair of them and compared with the exact one. What would be off by more than one step is not chosen.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.context import UINT8_FLIP, signed_zero_point
from cermet.drivers.rocket.dpu import OutputConverter
from cermet.drivers.rocket.limits import MAX_SHIFT
from cermet.drivers.rocket.requantise import INT32_MAX, Clamp, factors, split
from cermet.drivers.rocket.rounding import rounded
from cermet.ir.numerics import evaluate
from cermet.ir.numerics_binary import product_multiplier
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Quantisation, Tensor

LARGEST_FACTOR = 32767          # BS_MUL operand: signed 16 bits
LARGEST_ADDEND = 1 << 30        # with the product, which stays below 2**23, inside 32 bits
SMALLEST_UNIT = 2.0 ** -20      # output steps per unit of v: LARGEST_ADDEND is then beyond any output
LARGEST_PRODUCT = 255 * 255
NUDGES = (0, -1, 1, -2, 2, -4, 4, -8, 8)    # units of v that an addend may move to meet TFLite's result


@dataclass(frozen=True, eq=False)
class Affine:
    """Register values; factors and addends have one entry, or one for each constant asked about.

    second, second_shift   BN's multiplier; None: it has none
    relu, relux            clamps of BN
    first_shift, first_relu, first_relux   of BS: a byte of its own, behind a MUL that an ADD follows
                                           (normalisation.py)
    """

    factors: np.ndarray
    addends: np.ndarray
    out: OutputConverter
    second: int | None = None
    second_shift: int = 0
    relu: bool = False
    relux: int | None = None
    first_shift: int = 0
    first_relu: bool = False
    first_relux: int | None = None

    def of(self, index: np.ndarray) -> Affine:
        """The same for other channels: index[c] is the constant of channel c."""
        return replace(self, factors=picked(self.factors, index), addends=picked(self.addends, index))


def picked(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """values[index], or the one value that all of them are."""
    found = values[index] if len(values) > 1 else values
    return found[:1] if (found == found[0]).all() else found


@dataclass(frozen=True)
class AffineQuestion:
    """Everything that the numbers depend on.

    quantisations   of both operands and of the output
    constant        position of the constant among the operands
    values          its distinct values, bytes of dtype
    """

    operation: Operation
    dtype: DType
    quantisations: tuple[Quantisation, Quantisation, Quantisation]
    constant: int
    values: bytes

    def subgraph(self) -> Subgraph:
        """All pairs of a byte (rows) and one of the constants (columns)."""
        numbers = np.frombuffer(self.values, self.dtype.numpy)
        shapes: list[tuple[int, ...]] = [(256, len(numbers))] * 3
        shapes[self.constant] = (len(numbers),)
        tensors = [Tensor(i, "", shape, self.dtype, q) for i, (shape, q) in enumerate(zip(shapes, self.quantisations,
                                                                                   strict=True))]
        tensors[self.constant] = replace(tensors[self.constant], data=numbers)
        operation = replace(self.operation, inputs=(0, 1), outputs=(2,))
        return Subgraph(dict(enumerate(tensors)), (operation,), (1 - self.constant,), (2,))


def question_of(subgraph: Subgraph, operation: Operation, constant: int, values: np.ndarray) -> AffineQuestion:
    """The question of an operation whose operand number `constant` holds `values`, distinct ones."""
    tensors = [subgraph.tensor(t) for t in (*operation.inputs, operation.output)]
    quantisations = tuple(t.quantisation for t in tensors)
    bare = replace(operation, index=0, inputs=(0, 1), outputs=(2,), fused=())
    return AffineQuestion(bare, tensors[2].dtype, quantisations, constant,      # type: ignore[arg-type]
                          values.astype(tensors[2].dtype.numpy).tobytes())


@lru_cache(maxsize=64)
def affine(question: AffineQuestion, match: str) -> Affine | None:
    """Register values for all constants asked about; None when some result would be off by more than one step."""
    subgraph = question.subgraph()
    zero_point = signed_zero_point(subgraph.tensor(1 - question.constant))
    centred = signed_bytes(question.dtype, all_bytes(question)) - zero_point
    if question.operation.kind is Kind.MUL:
        made = _product(question, subgraph, match)
    else:
        made = _nudged(_sum(question, subgraph), centred, wanted(question, match))
    if made is None or np.abs(results(made, centred) - wanted(question, "exact")).max() > 1:
        return None
    return made


def changes_no_byte(question: AffineQuestion) -> bool:
    """Whether TFLite's result of every byte is that byte, whatever the channel."""
    return bool((wanted(question, "tflite") == signed_bytes(question.dtype, all_bytes(question))[:, None]).all())


def is_exact(question: AffineQuestion, match: str) -> bool:
    """Whether the device's results are the numerics' for every byte."""
    made = affine(question, match)
    if made is None:
        return False
    zero_point = signed_zero_point(question.subgraph().tensor(1 - question.constant))
    computed = results(made, signed_bytes(question.dtype, all_bytes(question)) - zero_point)
    return bool((computed == wanted(question, match)).all())


def all_bytes(question: AffineQuestion) -> np.ndarray:
    """Every value of the type, in the order of their bits."""
    return np.arange(256).astype(np.uint8).view(question.dtype.numpy)


@lru_cache(maxsize=64)
def wanted(question: AffineQuestion, match: str) -> np.ndarray:
    """The numerics' results in the signed domain: [one row per byte][one column per constant]."""
    data = np.broadcast_to(all_bytes(question)[:, None], (256, len(question.values)))
    values = {1 - question.constant: data}
    return signed_bytes(question.dtype, evaluate(question.subgraph(), question.operation, values, match))


def signed_bytes(dtype: DType, values: np.ndarray) -> np.ndarray:
    """int64 of what the NPU sees."""
    flip = UINT8_FLIP if dtype is DType.UINT8 else 0
    return (values.view(np.uint8) ^ np.uint8(flip)).view(np.int8).astype(np.int64)


def first_stage(made: Affine, centred: np.ndarray) -> np.ndarray:
    """What BS makes of each a - z1."""
    v = rounded(centred[:, None] * made.factors.astype(np.int64), made.first_shift, ties_away=False)
    if made.first_relu:
        v = np.maximum(v, 0)
    return v if made.first_relux is None else np.minimum(v, made.first_relux)


def results(made: Affine, centred: np.ndarray) -> np.ndarray:
    """The device's output bytes in the signed domain: [one row per a - z1][one column per constant]."""
    v = first_stage(made, centred)
    if made.second is None:
        v = v + made.addends
    else:
        v = rounded(v * made.second + made.addends, made.second_shift, ties_away=False)
    v = np.clip(v, -INT32_MAX - 1, INT32_MAX)
    if made.relu:
        v = np.maximum(v, 0)
    if made.relux is not None:
        v = np.minimum(v, made.relux)
    return np.clip(rounded(v * made.out.scale, made.out.shift, ties_away=True) + made.out.offset, -128, 127)


# ---- ADD and SUB ---------------------------------------------------------------------------------------------------

def _sum(question: AffineQuestion, subgraph: Subgraph) -> Affine | None:
    """alpha * (a - z1) + beta[c] in output steps, alpha < 0 where the data is subtracted."""
    data, constant, output = (subgraph.tensor(t) for t in (1 - question.constant, question.constant, 2))
    assert constant.data is not None
    scale = _scale(output)
    alpha = _scale(data) / scale
    beta = (constant.data.astype(np.int64) - _point(constant)) * (_scale(constant) / scale)
    sign = 1
    if question.operation.kind is Kind.SUB:
        beta, sign = (-beta, 1) if question.constant == 1 else (beta, -1)
    factor, multiplier, shift = _additive_factors(alpha)
    unit = multiplier * 2.0 ** -shift
    clamp, zero_point = clamp_of(question.operation.activation, output), signed_zero_point(output)
    lowest = clamp.lowest if clamp.lowest > -128 else zero_point        # where v = 0
    addends = np.rint(np.clip((beta - (lowest - zero_point)) / unit, -LARGEST_ADDEND, LARGEST_ADDEND))
    relux = _largest_input(clamp.highest - lowest, multiplier, shift) if clamp.highest < 127 else None
    if relux is not None and relux < 0:
        return None
    return Affine(np.array([sign * factor], np.int16), addends.astype(np.int64), OutputConverter(lowest, multiplier,
                  shift), relu=clamp.lowest > -128, relux=relux)


def _additive_factors(alpha: float) -> tuple[int, int, int]:
    """(F, M, S) with F * M / 2**S closest to alpha, M / 2**S not below SMALLEST_UNIT."""
    largest = int(min(alpha / SMALLEST_UNIT, LARGEST_FACTOR))
    if largest < 1:         # 255 * alpha is nothing beside an output step
        return 0, 1 << 14, 34
    factor = np.arange(max(largest // 2, 1), largest + 1, dtype=np.float64)
    shift = np.clip(14 - np.floor(np.log2(alpha / factor)), 0, MAX_SHIFT)
    multiplier = np.minimum(np.rint(alpha / factor * 2.0 ** shift), LARGEST_FACTOR)
    best = int(np.abs(factor * multiplier * 2.0 ** -shift - alpha).argmin())
    return int(factor[best]), int(multiplier[best]), int(shift[best])


def _nudged(made: Affine | None, centred: np.ndarray, wanted: np.ndarray) -> Affine | None:
    """The addends moved by a few units to where most results are the wanted ones: TFLite's own rounding, and ties."""
    if made is None:
        return None
    wrong = np.stack([(results(replace(made, addends=made.addends + nudge), centred) != wanted).sum(axis=0)
                      for nudge in NUDGES])
    return replace(made, addends=made.addends + np.array(NUDGES)[wrong.argmin(axis=0)])


def _largest_input(highest: int, scale: int, shift: int) -> int:
    """Largest v for which v * scale / 2**shift, rounded with ties away from zero, is at most `highest`."""
    if highest < 0:
        return -1
    return min(-(-((2 * highest + 1) << shift) // (2 * scale)) - 1, INT32_MAX)


# ---- MUL -----------------------------------------------------------------------------------------------------------

def _product(question: AffineQuestion, subgraph: Subgraph, match: str) -> Affine | None:
    constant, output = subgraph.tensor(question.constant), subgraph.tensor(2)
    assert constant.data is not None
    weights = constant.data.astype(np.int64) - _point(constant)
    largest = LARGEST_FACTOR // max(int(np.abs(weights).max()), 1)
    scales = tuple(q.scale for q in question.quantisations)
    real = product_multiplier(scales) if match == "tflite" else scales[0] * scales[1] / scales[2]  # type: ignore[arg-type]
    clamp, zero_point = clamp_of(question.operation.activation, output), signed_zero_point(output)
    if real * LARGEST_PRODUCT < 0.25:       # every product rounds to 0
        return Affine(np.zeros(1, np.int16), np.zeros(1, np.int64), OutputConverter(zero_point))
    if match == "tflite" and clamp.lowest in (-128, zero_point):
        made = _rounded_twice(weights, largest, real, zero_point, clamp)
        if made is not None:
            return made
    return _rounded_once(weights, largest, real, zero_point, clamp)


def _rounded_twice(weights: np.ndarray, largest: int, real: float, zero_point: int, clamp: Clamp) -> Affine | None:
    rounds = max(int(split(np.array([real]))[1][0]), 0)
    found = factors(real * 2.0 ** rounds, INT32_MAX / largest) if rounds <= MAX_SHIFT else None
    if found is None:
        return None
    first, second, shift = found
    relux = min((clamp.highest - zero_point) << rounds, INT32_MAX) if clamp.highest < 127 else None
    if relux is not None and relux < 0:
        return None
    return Affine((weights * first).astype(np.int16), np.zeros(1, np.int64), OutputConverter(zero_point, 1, rounds),
                  second, shift, relu=clamp.lowest > -128, relux=relux)


def _rounded_once(weights: np.ndarray, largest: int, real: float, zero_point: int, clamp: Clamp) -> Affine | None:
    found = factors(real, INT32_MAX / largest)
    if found is None:
        return None
    first, multiplier, shift = found
    lowest = clamp.lowest if clamp.lowest > -128 else zero_point
    addend = np.rint(np.clip((zero_point - lowest) * 2.0 ** shift / multiplier, -LARGEST_ADDEND, LARGEST_ADDEND))
    relux = _largest_input(clamp.highest - lowest, multiplier, shift) if clamp.highest < 127 else None
    if relux is not None and relux < 0:
        return None
    return Affine((weights * first).astype(np.int16), np.array([addend], np.int64),
                  OutputConverter(lowest, multiplier, shift), relu=clamp.lowest > -128, relux=relux)


def _scale(tensor: Tensor) -> float:
    assert tensor.quantisation is not None
    return tensor.quantisation.scale


def _point(tensor: Tensor) -> int:
    assert tensor.quantisation is not None
    return tensor.quantisation.zero_point
