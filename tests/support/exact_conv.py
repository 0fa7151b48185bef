"""Exact real results of transposed convolutions: pixels are spread with zeros between them and convolved as usual."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.support.model_builder import Model, OperationSpec


def transpose_conv(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    from tests.support.exact import _centred
    source, weights, out = model.tensors[op.inputs[2]], model.tensors[op.inputs[1]], model.tensors[op.outputs[0]]
    x, w = _centred(source, values[op.inputs[2]]), _centred(weights, values[op.inputs[1]])
    n, height, width, channels = x.shape
    stride = (int(op.options["StrideH"]), int(op.options["StrideW"]))   # type: ignore[call-overload]
    spread = np.zeros((n, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1, channels))
    spread[:, ::stride[0], ::stride[1]] = x
    kernel = w.shape[1:3]
    before = [_before(op, *side) for side in zip(out.shape[1:3], kernel, stride, strict=True)]
    front = [(k - 1 - b) for k, b in zip(kernel, before, strict=True)]
    behind = [max(0, o + k - 1 - s - f) for o, k, s, f in zip(out.shape[1:3], kernel, spread.shape[1:3], front,
                                                             strict=True)]
    padded = np.pad(spread, [(0, 0), (front[0], behind[0]), (front[1], behind[1]), (0, 0)])
    taps = np.lib.stride_tricks.sliding_window_view(padded, kernel, (1, 2))[:, :out.shape[1], :out.shape[2]]
    acc = np.einsum("nyxckl,oklc->nyxo", taps, w[:, ::-1, ::-1], optimize=True)
    if len(op.inputs) > 3:
        acc = acc + values[op.inputs[3]]
    return acc * (source.scale * np.asarray(weights.scales, np.float64))


def _before(op: OperationSpec, size: int, kernel: int, stride: int) -> int:
    """Padding of the convolution that would lead from the output back to the input."""
    return max((-(-size // stride) - 1) * stride + kernel - size, 0) // 2 if op.options["Padding"] == 0 else 0


def batch_matmul(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    from tests.support.exact import _centred
    factors = [_centred(model.tensors[i], values[i]) for i in op.inputs]
    names = [letters[::-1] if op.options[name] else letters for letters, name in (("mk", "AdjX"), ("kn", "AdjY"))]
    acc = np.einsum(f"...{names[0]},...{names[1]}->...mn", *factors)
    return acc * (model.tensors[op.inputs[0]].scale * model.tensors[op.inputs[1]].scale)


REAL = {"TRANSPOSE_CONV": transpose_conv, "BATCH_MATMUL": batch_matmul}
