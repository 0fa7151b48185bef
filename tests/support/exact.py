"""The exact result of quantised operations, straight from real numbers: the oracle of the shape grids.

Independent of cermet.ir.numerics: operands are dequantised to float64 integers (exact, below 2**53), the operation is
done on them, and y = clip(round_half_away(real / s_out) + z_out). float64 is exact in the sums; the scales are float32
values, so the quotient has a relative error below 2**-50: a tie is recognised by `distance_from_tie`.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tests.support import exact_binary, exact_conv

if TYPE_CHECKING:
    from tests.support.model_builder import Model, OperationSpec, TensorSpec

ACTIVATION_LIMITS = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}


@dataclass(frozen=True, eq=False)
class Exact:
    """Result of one operation.

    quantised   integers of the output's dtype
    unrounded   float64, real / s_out + z_out before rounding and clipping
    """

    quantised: np.ndarray
    unrounded: np.ndarray

    @property
    def distance_from_tie(self) -> np.ndarray:
        """How far `unrounded` is from the nearest n + 1/2, in output steps."""
        return np.abs(np.abs(self.unrounded - np.floor(self.unrounded)) - 0.5)


def run(model: Model, inputs: Sequence[np.ndarray], *, clip: bool = True) -> list[Exact]:
    """Exact result of each operation of a model, each fed with the quantised results before it.

    clip False leaves integers outside the dtype's range in the last result (as int64), for calibration.
    """
    values = {i: t.data for i, t in enumerate(model.tensors) if t.data is not None}
    values |= dict(zip(model.inputs, inputs, strict=True))
    results = []
    for op in model.operations:
        results.append(operation(model, op, values, clip=clip))
        values[op.outputs[0]] = results[-1].quantised
    return results


def operation(model: Model, op: OperationSpec, values: dict[int, np.ndarray], *, clip: bool = True) -> Exact:
    """Exact result of one operation; values: contents of its inputs by tensor number."""
    out = model.tensors[op.outputs[0]]
    real = REAL[op.name](model, op, values)
    unrounded = real / out.scale + out.zero_point
    unrounded = unrounded.reshape(out.shape)
    if not clip:
        return Exact(_half_away(unrounded, out.zero_point).astype(np.int64), unrounded)
    info = np.iinfo(out.dtype)
    low, high = _clamp(op, out, int(info.min), int(info.max))
    return Exact(np.clip(_half_away(unrounded, out.zero_point), low, high).astype(out.dtype), unrounded)


def _half_away(unrounded: np.ndarray, zero_point: int) -> np.ndarray:
    """Rounded so that ties of real / s_out go away from zero (the zero point is added afterwards)."""
    v = unrounded - zero_point
    return np.copysign(np.floor(np.abs(v) + 0.5), v) + zero_point


def _clamp(op: OperationSpec, out: TensorSpec, low: int, high: int) -> tuple[int, int]:
    """Integer limits: the fused activation's real limits, quantised like any value, inside the dtype's."""
    bottom, top = ACTIVATION_LIMITS[int(op.options.get("FusedActivationFunction", 0))]  # type: ignore[call-overload]
    first = low if bottom == -np.inf else int(_half_away(np.float64(bottom / out.scale), 0)) + out.zero_point
    last = high if top == np.inf else int(_half_away(np.float64(top / out.scale), 0)) + out.zero_point
    return max(low, min(first, high)), min(high, max(last, low))


def _centred(tensor: TensorSpec, value: np.ndarray) -> np.ndarray:
    """value - zero_point as float64 integers."""
    points = np.asarray(tensor.zero_points or (0,), np.float64)
    if len(points) > 1:
        shape = [1] * value.ndim
        shape[tensor.axis] = len(points)
        points = points.reshape(shape)
    return value.astype(np.float64) - points


def _pads(op: OperationSpec, size: Sequence[int], extent: Sequence[int],
          stride: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) of both axes. SAME: out = ceil(in / stride), the odd pixel behind."""
    if op.options["Padding"] != 0:
        return [(0, 0), (0, 0)]
    total = [max((-(-s // t) - 1) * t + e - s, 0) for s, e, t in zip(size, extent, stride, strict=True)]
    return [(t // 2, t - t // 2) for t in total]


def windows(op: OperationSpec, x: np.ndarray, kernel: Sequence[int], fill: float) -> np.ndarray:
    """[n, oy, ox, ky, kx, c]: the taps of each output pixel, `fill` outside the plane."""
    get = op.options.get
    stride = [int(get("StrideH", 1)), int(get("StrideW", 1))]  # type: ignore[call-overload]
    dilation = [int(get("DilationHFactor", 1)), int(get("DilationWFactor", 1))]  # type: ignore[call-overload]
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = _pads(op, x.shape[1:3], extent, stride)
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, extent, (1, 2))     # type: ignore[call-overload]
    view = view[:, ::stride[0], ::stride[1], :, ::dilation[0], ::dilation[1]]
    return view.transpose(0, 1, 2, 4, 5, 3)


def _bias(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray | float:
    has_bias = len(op.inputs) > 2 and op.inputs[2] >= 0
    return values[op.inputs[2]].astype(np.float64) if has_bias else 0.0


def _conv(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    source, weights = model.tensors[op.inputs[0]], model.tensors[op.inputs[1]]
    x, w = _centred(source, values[op.inputs[0]]), _centred(weights, values[op.inputs[1]])
    taps = windows(op, x, w.shape[1:3], 0.0)
    depth, groups = w.shape[3], x.shape[3] // w.shape[3]
    kernels = w.shape[0] // groups
    sums = [np.tensordot(taps[..., g * depth:(g + 1) * depth], w[g * kernels:(g + 1) * kernels], ((3, 4, 5), (1, 2, 3)))
            for g in range(groups)]
    acc = np.concatenate(sums, 3) + _bias(model, op, values)
    return acc * (source.scale * np.asarray(weights.scales, np.float64))


def _depthwise(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    source, weights = model.tensors[op.inputs[0]], model.tensors[op.inputs[1]]
    x, w = _centred(source, values[op.inputs[0]]), _centred(weights, values[op.inputs[1]])
    repeated = np.repeat(x, w.shape[3] // x.shape[3], axis=3)
    acc = np.einsum("nyxklc,klc->nyxc", windows(op, repeated, w.shape[1:3], 0.0), w[0]) + _bias(model, op, values)
    return acc * (source.scale * np.asarray(weights.scales, np.float64))


def _fully_connected(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    source, weights = model.tensors[op.inputs[0]], model.tensors[op.inputs[1]]
    x, w = _centred(source, values[op.inputs[0]]), _centred(weights, values[op.inputs[1]])
    acc = x.reshape(-1, w.shape[1]) @ w.T + _bias(model, op, values)
    return acc * (source.scale * np.asarray(weights.scales, np.float64))


def _add(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    first, second = (model.tensors[i] for i in op.inputs)
    return (_centred(first, values[op.inputs[0]]) * first.scale
            + _centred(second, values[op.inputs[1]]) * second.scale)


def _average_pool(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    """Sum over the taps inside the plane, divided by their number."""
    source = model.tensors[op.inputs[0]]
    kernel = [int(op.options["FilterHeight"]), int(op.options["FilterWidth"])]  # type: ignore[call-overload]
    taps = windows(op, _centred(source, values[op.inputs[0]]), kernel, np.nan)
    count = np.sum(~np.isnan(taps), axis=(3, 4))
    return np.nansum(taps, axis=(3, 4)) / count * source.scale


def _max_pool(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    source = model.tensors[op.inputs[0]]
    kernel = [int(op.options["FilterHeight"]), int(op.options["FilterWidth"])]  # type: ignore[call-overload]
    return windows(op, _centred(source, values[op.inputs[0]]), kernel, -np.inf).max(axis=(3, 4)) * source.scale


def _mean(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    source = model.tensors[op.inputs[0]]
    axes = tuple(int(a) for a in values[op.inputs[1]].reshape(-1))
    x = _centred(source, values[op.inputs[0]])
    count = np.prod([x.shape[a] for a in axes])
    return x.sum(axis=axes) / count * source.scale


def _same(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    source = model.tensors[op.inputs[0]]
    return _centred(source, values[op.inputs[0]]) * source.scale


REAL = {
    "CONV_2D": _conv, "DEPTHWISE_CONV_2D": _depthwise, "FULLY_CONNECTED": _fully_connected, "ADD": _add,
    "AVERAGE_POOL_2D": _average_pool, "MAX_POOL_2D": _max_pool, "MEAN": _mean, "RESHAPE": _same, "SQUEEZE": _same,
    **exact_binary.REAL, **exact_conv.REAL,
}
