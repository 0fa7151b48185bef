"""Models of transposed convolutions and of dilation written as SPACE_TO_BATCH_ND, convolution, BATCH_TO_SPACE_ND."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.support import model_builder as mb
from tests.support.model_builder import Model, OperationSpec, TensorSpec

mb.OPTIONS.update({"TRANSPOSE_CONV": ("TransposeConvOptions", 3), "SPACE_TO_BATCH_ND": ("SpaceToBatchNDOptions", 2),
                   "BATCH_TO_SPACE_ND": ("BatchToSpaceNDOptions", 2), "BATCH_MATMUL": ("BatchMatMulOptions", 2)})


def transpose_conv(rng: np.random.Generator, input_shape: Sequence[int], out_channels: int,
                   kernel: tuple[int, int] = (3, 3), *, stride: tuple[int, int] = (2, 2), padding: str = "SAME",
                   extra: tuple[int, int] = (0, 0), activation: str = "NONE", dtype: str = "int8",
                   per_channel: bool = False, bias: bool = True, input_zero_point: int | None = None) -> Model:
    """TRANSPOSE_CONV. extra: pixels fewer (SAME) or more (VALID) than the smallest output that the input fills.

    Pairs are (y, x).
    """
    n, height, width, channels = input_shape
    source = mb._activation_tensor(rng, "input", input_shape, dtype, input_zero_point)
    weights = mb._weights(rng, (out_channels, *kernel, channels), dtype, 0, per_channel=per_channel, zero_point=None)
    size = [s * t - e if padding == "SAME" else (s - 1) * t + k + e
            for s, t, k, e in zip((height, width), stride, kernel, extra, strict=True)]
    shape = TensorSpec("shape", (4,), "int32", data=np.array([n, *size, out_channels], np.int32))
    options = {"Padding": mb.PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1],
               "FusedActivationFunction": mb.ACTIVATIONS[activation]}
    taps = -(-kernel[0] // stride[0]) * -(-kernel[1] // stride[1]) * channels
    constants = [shape, weights] + ([mb._bias(rng, source, weights, out_channels, taps)] if bias else [])
    output = TensorSpec("output", (n, *size, out_channels), dtype, (1.0,), (0,))
    tensors = (source, *constants, output)
    inputs = (1, 2, 0, 3) if bias else (1, 2, 0)
    op = OperationSpec("TRANSPOSE_CONV", inputs, (len(tensors) - 1,), options)
    return mb._calibrated(rng, output, Model(tensors, (op,), (0,), op.outputs), None)


def batch_matmul(rng: np.random.Generator, shape: Sequence[int], other: Sequence[int], *,
                 adjoint: tuple[bool, bool] = (False, False), constant: bool = True) -> Model:
    """BATCH_MATMUL of int8; shapes as the operation sees them after transposing; zero points anywhere."""
    def given(size: Sequence[int], turned: bool) -> tuple[int, ...]:
        return (*size[:-2], size[-1], size[-2]) if turned else tuple(size)
    source = mb._activation_tensor(rng, "first", given(shape, adjoint[0]), "int8", None)
    second = mb._activation_tensor(rng, "second", given(other, adjoint[1]), "int8", None)
    if constant:
        second = mb._weights(rng, second.shape, "int8", 0, per_channel=False, zero_point=int(rng.integers(-9, 10)))
    out = (*np.broadcast_shapes(tuple(shape[:-2]), tuple(other[:-2])), shape[-2], other[-1])
    output = TensorSpec("output", out, "int8", (1.0,), (0,))
    op = OperationSpec("BATCH_MATMUL", (0, 1), (2,), {"AdjX": adjoint[0], "AdjY": adjoint[1]})
    model = Model((source, second, output), (op,), (0,) if constant else (0, 1), (2,))
    return mb._calibrated(rng, output, model, None)


def dilated(rng: np.random.Generator, shape: Sequence[int], block: tuple[int, int], kernel: tuple[int, int] = (3, 3), *,
            same: bool = True, depthwise: bool = False, channels: int = 9, extra: tuple[int, int] = (0, 0),
            **options: object) -> Model:
    """SPACE_TO_BATCH_ND, CONV_2D or DEPTHWISE_CONV_2D, BATCH_TO_SPACE_ND, as TensorFlow writes a dilated convolution.

    same: padded as SAME, else VALID; extra: rows and columns that are padded above and left, and cut off again
    """
    n, height, width, inputs = shape
    paddings, crops = [], []
    for size, step, taps, more in zip((height, width), block, kernel, extra, strict=True):
        total = (taps - 1) * step if same else 0
        before, after = total // 2 + more, total - total // 2
        rest = -(size + before + after) % step
        paddings.append((before, after + rest))
        crops.append((more, rest))
    inner = [n * block[0] * block[1], *((s + sum(p)) // b for s, p, b in zip((height, width), paddings, block,
                                                                             strict=True)), inputs]
    build = mb.depthwise if depthwise else mb.conv2d
    sizes = () if depthwise else (channels,)
    conv = build(rng, inner, *sizes, kernel, padding="VALID", **options)        # type: ignore[operator]
    made = conv.tensors[conv.outputs[0]]
    source = TensorSpec("picture", tuple(shape), conv.tensors[0].dtype, conv.tensors[0].scales,
                        conv.tensors[0].zero_points)
    size = [m * b - sum(c) for m, b, c in zip(made.shape[1:3], block, crops, strict=True)]
    output = TensorSpec("result", (n, *size, made.shape[3]), made.dtype, made.scales, made.zero_points)
    count = len(conv.tensors)
    constants = [TensorSpec(name, np.shape(values), "int32", data=np.asarray(values, np.int32))
                 for name, values in (("block", block), ("paddings", paddings), ("crops", crops))]
    operations = (OperationSpec("SPACE_TO_BATCH_ND", (count, count + 2, count + 3), (0,)), *conv.operations,
                  OperationSpec("BATCH_TO_SPACE_ND", (conv.outputs[0], count + 2, count + 4), (count + 1,)))
    return Model((*conv.tensors, source, output, *constants), operations, (count,), (count + 1,))
