"""What each operation computes, written once: quantised tensors in, quantised tensors out.

Every function has the signature (subgraph, operation, values, match) -> array. values maps tensor numbers to arrays of
the tensors' shapes and dtypes and must hold the operation's inputs that are not constant. match:

  "tflite"   TFLite's reference kernels (tflite-runtime 2.14, BUILTIN_REF), bit for bit
  "exact"    the real-valued result, rounded once, half away from zero

Operands are int8 or uint8, per tensor except where a docstring says per channel; op_problem() says what is allowed.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
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
from cermet.ir.numerics_move import moved, resize_bilinear
from cermet.ir.numerics_prelu import prelu
from cermet.ir.numerics_unary import UNARY_KINDS, evaluate_unary
from cermet.ir.operands import Values, centred, finish, operand, quantisation
from cermet.ir.operation import Kind, Operation, Window
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor
from cermet.ir.transposed import transposed_accumulators

__all__ = ["EVALUATE", "activation_range", "add", "average_pool", "conv", "conv_accumulators", "depthwise_accumulators",
           "depthwise_conv", "effective_multipliers", "evaluate", "fully_connected", "max_pool", "mean",
           "multiply_by_quantised_multiplier", "quantize_multiplier", "reshape", "rounding_right_shift"]

EXACT_FLOAT32_TAPS = 256        # 256 * 255 * 255 < 2**24: sums of so many products are exact in float32
ADD_LEFT_SHIFT = 20             # bits that TFLite's ADD gains before it scales its operands


def evaluate(subgraph: Subgraph, operation: Operation, values: Values, match: str = "tflite") -> np.ndarray:
    """The operation's only output. KeyError for a kind that has no numerics here."""
    if match not in ("tflite", "exact"):
        raise ValueError(f"match: {match}, must be tflite or exact")
    if operation.kind in LAYOUTS:
        (only,) = moved(subgraph, operation, values, match)
        return only
    return EVALUATE[operation.kind](subgraph, operation, values, match)


def evaluate_all(subgraph: Subgraph, operation: Operation, values: Values, match: str = "tflite") -> list[np.ndarray]:
    """All outputs of an operation, in their order."""
    if operation.kind in LAYOUTS:
        return moved(subgraph, operation, values, match)
    return [evaluate(subgraph, operation, values, match)]


def _bias(subgraph: Subgraph, operation: Operation, values: Values) -> np.ndarray | int:
    if len(operation.inputs) < 3 or operation.inputs[2] is None:
        return 0
    return operand(subgraph, values, operation.inputs[2])[1].astype(np.int64)


# ---- convolutions --------------------------------------------------------------------------------------------------

def conv_accumulators(data: np.ndarray, weights: np.ndarray, window: Window) -> np.ndarray:
    """int32 sums of products of a convolution, exact (they wrap around like TFLite's).

    data        int32 [N, H, W, I], zero point already subtracted, so that padding is 0; |data| <= 255
    weights     int32 [O, KH, KW, I], likewise
    returns     [N, OH, OW, O]
    """
    taps = _Taps(data, window)
    total = np.zeros((*taps.shape, weights.shape[0]), np.int32)
    for y, x, pixels in taps:
        matrix = weights[:, y, x, :].T.astype(np.float32)
        flat = pixels.reshape(-1, matrix.shape[0]).astype(np.float32)
        for start in range(0, matrix.shape[0], EXACT_FLOAT32_TAPS):
            part = slice(start, start + EXACT_FLOAT32_TAPS)
            total += (flat[:, part] @ matrix[part]).astype(np.int32).reshape(total.shape)
    return total


def depthwise_accumulators(data: np.ndarray, weights: np.ndarray, window: Window) -> np.ndarray:
    """int32 sums of a depthwise convolution: output channel c reads input channel c // multiplier.

    data        int32 [N, H, W, C], zero point subtracted
    weights     int32 [1, KH, KW, C * multiplier], likewise
    returns     [N, OH, OW, C * multiplier]
    """
    multiplier = weights.shape[3] // data.shape[3]
    taps = _Taps(data, window)
    total = np.zeros((*taps.shape, weights.shape[3]), np.int32)
    for y, x, pixels in taps:
        total += (np.repeat(pixels, multiplier, axis=3) if multiplier > 1 else pixels) * weights[0, y, x]
    return total


class _Taps:
    """Iterates over the taps of a window: (y, x, the pixel under that tap for every output pixel)."""

    def __init__(self, data: np.ndarray, window: Window, fill: int = 0) -> None:
        batch, height, width, _ = data.shape
        self.window = window
        self.out = window.output_size(height, width)
        self.shape = (batch, self.out.y, self.out.x)
        top, bottom, left, right = window.pads(height, width)
        self.padded = data
        if top or bottom or left or right:
            self.padded = np.pad(data, [(0, 0), (top, bottom), (left, right), (0, 0)], constant_values=fill)

    def __iter__(self):  # type: ignore[no-untyped-def]
        stride, dilation = self.window.stride, self.window.dilation
        for y in range(self.window.kernel.y):
            rows = slice(y * dilation.y, y * dilation.y + (self.out.y - 1) * stride.y + 1, stride.y)
            for x in range(self.window.kernel.x):
                columns = slice(x * dilation.x, x * dilation.x + (self.out.x - 1) * stride.x + 1, stride.x)
                yield y, x, self.padded[:, rows, columns, :]


def effective_multipliers(source: Tensor, weights: Tensor, out: Tensor, kind: Kind) -> list[float]:
    """s_in * s_w / s_out, one or one per output channel, in the precision that TFLite's kernels use.

    int8 convolutions multiply the scales in float64; uint8 ones and matrices with a single scale in float32
    (kernel_util.cc: PopulateConvolutionQuantizationParams, GetQuantizedConvolutionMultipler).
    """
    return scale_ratios(source, quantisation(weights).scales, out, kind)


def scale_ratios(source: Tensor, weight_scales: Iterable[float], out: Tensor, kind: Kind) -> list[float]:
    """As effective_multipliers, for the weights' scales alone."""
    s_in, s_out = np.float32(quantisation(source).scale), np.float64(quantisation(out).scale)
    scales = [np.float32(s) for s in weight_scales]
    is_matrix = kind in (Kind.FULLY_CONNECTED, Kind.BATCH_MATMUL)
    in_float32 = source.dtype is DType.UINT8 or (is_matrix and len(scales) == 1)
    if in_float32:
        return [float(np.float64(s_in * s) / s_out) for s in scales]
    return [float(np.float64(s_in) * np.float64(s) / s_out) for s in scales]


def _exact_multipliers(source: Tensor, weights: Tensor, out: Tensor) -> list[Fraction]:
    factor = Fraction(quantisation(source).scale) / Fraction(quantisation(out).scale)
    return [factor * Fraction(s) for s in quantisation(weights).scales]


def _requantised(subgraph: Subgraph, operation: Operation, accumulators: np.ndarray, match: str) -> np.ndarray:
    """int32 accumulators [..., O] to the output tensor, with one multiplier or one per channel."""
    source, weights, out = (subgraph.tensor(t) for t in (*operation.inputs[:2], operation.output))
    acc = wrap_int32(accumulators)
    if match == "exact":
        return finish(operation, out, scale_exactly([(acc, _exact_multipliers(source, weights, out))]))
    pairs = [quantize_multiplier(m) for m in effective_multipliers(source, weights, out, operation.kind)]
    q31, shift = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    return finish(operation, out, multiply_by_quantised_multiplier(acc, q31, shift))


def conv(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """CONV_2D: y = clamp(round((sum (x - zx)(w - zw) + b) * sx * sw / sy) + zy).

    x [N, H, W, I], w [O, KH, KW, I], b int32 [O] or absent, y [N, OH, OW, O]; any stride, dilation and padding
    w       uint8 per tensor; int8 per tensor or per channel (axis 0) with zero points 0; where it has I / g channels,
            input and output channels form g groups, each convolved for itself
    Source: TFLite's reference/conv.h and reference/integer_ops/conv.h.
    """
    assert operation.window is not None
    x, w = (centred(*operand(subgraph, values, t)) for t in operation.inputs[:2])
    groups = x.shape[3] // w.shape[3]
    parts = [conv_accumulators(a, b, operation.window) for a, b in zip(
        np.split(x, groups, 3), np.split(w, groups), strict=True)]
    acc = np.concatenate(parts, 3).astype(np.int64) + _bias(subgraph, operation, values)
    return _requantised(subgraph, operation, acc, match)


def depthwise_conv(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """DEPTHWISE_CONV_2D: as conv, but output channel c reads only input channel c // multiplier.

    x [N, H, W, C], w [1, KH, KW, C * multiplier]; w per channel: axis 3
    Source: TFLite's reference/depthwiseconv_uint8.h and reference/integer_ops/depthwise_conv.h.
    """
    assert operation.window is not None
    x, w = (centred(*operand(subgraph, values, t)) for t in operation.inputs[:2])
    acc = depthwise_accumulators(x, w, operation.window).astype(np.int64) + _bias(subgraph, operation, values)
    return _requantised(subgraph, operation, acc, match)


def transpose_conv(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """TRANSPOSE_CONV: each input pixel, times the weights, is added to the output around stride times its place.

    x [N, H, W, I], w [O, KH, KW, I], b as in conv; the output's size is the output tensor's
    Source: TFLite's reference/transpose_conv.h and reference/integer_ops/transpose_conv.h.
    """
    assert operation.window is not None
    x, w = (centred(*operand(subgraph, values, t)) for t in operation.inputs[:2])
    out = subgraph.tensor(operation.output)
    acc = transposed_accumulators(x, w, operation.window, out.shape[1:3])  # type: ignore[arg-type]
    return _requantised(subgraph, operation, acc + _bias(subgraph, operation, values), match)


def fully_connected(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """FULLY_CONNECTED: x reshaped to [batch, I], w [O, I], y [batch, O] in the output tensor's shape.

    w per tensor with any zero point, or per channel (axis 0) with zero points 0 (ai-edge-litert only)
    Source: TFLite's reference/fully_connected.h and reference/integer_ops/fully_connected.h. ai-edge-litert 2.3 rounds
    once here: it equals "exact" (76 800 random outputs without a difference, 70 differ from "tflite").
    """
    x, w = (centred(*operand(subgraph, values, t)) for t in operation.inputs[:2])
    flat = x.reshape(-1, w.shape[1]).astype(np.float64)     # exact: sums stay far below 2**53
    acc = (flat @ w.T.astype(np.float64)).astype(np.int64) + _bias(subgraph, operation, values)
    return _requantised(subgraph, operation, acc, match)


def batch_matmul(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """BATCH_MATMUL of int8: x [.., M, K] times w [.., K, N], either transposed first; leading dimensions broadcast.

    Both per tensor with any zero point. Source: TFLite's kernels/batch_matmul.cc and reference/batch_matmul.h.
    """
    factors = [centred(*operand(subgraph, values, t)).astype(np.float64) for t in operation.inputs]
    x, w = (np.swapaxes(f, -1, -2) if turned else f for f, turned in zip(factors, operation.adjoint, strict=True))
    return _requantised(subgraph, operation, np.matmul(x, w).astype(np.int64), match)


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


# ---- pooling and reduction -----------------------------------------------------------------------------------------

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
    taps, inside = _Taps(data.astype(np.int32) - centre, operation.window), _Taps(np.ones_like(data), operation.window)
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
    largest = np.maximum.reduce([pixels for _, _, pixels in _Taps(data, operation.window, lowest)])
    low, high = activation_range(operation, out)
    return np.clip(largest, low, high).astype(out.dtype.numpy).reshape(out.shape)


def mean(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """MEAN over the axes of the second operand: y = clamp(round(sum(x - zx) / n * sx / sy) + zy).

    TFLite divides the 31-bit multiplier by n (truncating) after shifting it left as far as n has bits.
    Source: TFLite's reference/reduce.h, QuantizedMeanOrSum.
    """
    source, data = operand(subgraph, values, operation.inputs[0])
    out = subgraph.tensor(operation.output)
    axes = mean_axes(operand(subgraph, values, operation.inputs[1])[1], len(source.shape))
    total = np.sum(centred(source, data), axis=axes, dtype=np.int64).reshape(out.shape)
    count = int(np.prod([source.shape[a] for a in axes], dtype=np.int64))
    if match == "exact":
        factor = Fraction(quantisation(source).scale) / Fraction(quantisation(out).scale) / count
        return finish(operation, out, scale_exactly([(total.reshape(-1), [factor])]))
    q31, shift = quantize_multiplier(quantisation(source).scale / quantisation(out).scale)
    gained = min(count.bit_length() - 1, 32, 31 + shift)
    return finish(operation, out, multiply_by_quantised_multiplier(wrap_int32(total), (q31 << gained) // count,
                                                                    shift - gained))


def mean_axes(axes: np.ndarray, rank: int) -> tuple[int, ...]:
    """Reduced axes, ascending, each once, counted from the front."""
    return tuple(sorted({int(a) % rank for a in axes.reshape(-1)}))


# ---- layout --------------------------------------------------------------------------------------------------------

def reshape(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the same integers in the output tensor's shape; match changes nothing."""
    _, data = operand(subgraph, values, operation.inputs[0])
    return data.reshape(subgraph.tensor(operation.output).shape)


Evaluate = Callable[[Subgraph, Operation, Values, str], np.ndarray]

EVALUATE: dict[Kind, Evaluate] = {
    Kind.CONV: conv, Kind.DEPTHWISE_CONV: depthwise_conv, Kind.FULLY_CONNECTED: fully_connected,
    Kind.TRANSPOSE_CONV: transpose_conv, Kind.BATCH_MATMUL: batch_matmul, Kind.ADD: add,
    Kind.AVERAGE_POOL: average_pool, Kind.MAX_POOL: max_pool, Kind.MEAN: mean, Kind.RESHAPE: reshape,
    Kind.SQUEEZE: reshape, Kind.EXPAND_DIMS: reshape, Kind.RESIZE_BILINEAR: resize_bilinear, **BINARY,
    **dict.fromkeys(UNARY_KINDS, evaluate_unary), Kind.PRELU: prelu,
}
