"""Numerics of operations with weights. Signature and match: see numerics.py."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np

from cermet.ir.fixed_point import multiply_by_quantised_multiplier, quantize_multiplier, scale_exactly, wrap_int32
from cermet.ir.operands import Values, centred, finish, operand, quantisation
from cermet.ir.operation import Kind, Operation, Window
from cermet.ir.subgraph import Subgraph
from cermet.ir.taps import Taps
from cermet.ir.tensor import DType, Tensor
from cermet.ir.transposed import transposed_accumulators

EXACT_FLOAT32_TAPS = 256        # 256 * 255 * 255 < 2**24: sums of so many products are exact in float32


def conv_accumulators(data: np.ndarray, weights: np.ndarray, window: Window) -> np.ndarray:
    """int32 sums of products of a convolution, exact (they wrap around like TFLite's).

    data        int32 [N, H, W, I], zero point already subtracted, so that padding is 0; |data| <= 255
    weights     int32 [O, KH, KW, I], likewise
    returns     [N, OH, OW, O]
    """
    taps = Taps(data, window)
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
    taps = Taps(data, window)
    total = np.zeros((*taps.shape, weights.shape[3]), np.int32)
    for y, x, pixels in taps:
        total += (np.repeat(pixels, multiplier, axis=3) if multiplier > 1 else pixels) * weights[0, y, x]
    return total


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


def _bias(subgraph: Subgraph, operation: Operation, values: Values) -> np.ndarray | int:
    if len(operation.inputs) < 3 or operation.inputs[2] is None:
        return 0
    return operand(subgraph, values, operation.inputs[2])[1].astype(np.int64)


WEIGHTED: dict[Kind, Callable[[Subgraph, Operation, Values, str], np.ndarray]] = {
    Kind.CONV: conv, Kind.DEPTHWISE_CONV: depthwise_conv, Kind.FULLY_CONNECTED: fully_connected,
    Kind.TRANSPOSE_CONV: transpose_conv, Kind.BATCH_MATMUL: batch_matmul}
