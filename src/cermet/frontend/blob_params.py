"""What the parameters of a blob's operation say (cermet_blob.h), for each kind that has some."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cermet.ir.operation import Activation, Kind, Moving, Operation, Padding, Pair, Window
from cermet.ir.reductions import REDUCTIONS
from cermet.ir.tensor import Tensor

PADDINGS = {1: Padding.SAME, 2: Padding.VALID}
ACTIVATIONS = {0: Activation.NONE, 1: Activation.RELU, 2: Activation.RELU_N1_TO_1, 3: Activation.RELU6}
NO_DILATION = Pair(1, 1)


def with_params(op: Operation, params: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    """The operation with what its parameters say; there are as many as its kind has."""
    return _READERS[op.kind](op, params, tensors) if op.kind in _READERS else op


def _window(padding: int, kernel: Pair | None, stride: Pair, dilation: Pair = NO_DILATION) -> Window | None:
    """None when the model says nothing that makes sense; ir.verify.op_problem then gives the reason."""
    if kernel is None or padding not in PADDINGS:
        return None
    return Window(kernel, stride, PADDINGS[padding], dilation)


def _kernel(op: Operation, tensors: Sequence[Tensor]) -> Pair | None:
    """Height and width of the weights [O, H, W, I]."""
    weights = op.inputs[1] if len(op.inputs) > 1 else None
    shape = () if weights is None else tensors[weights].shape
    return Pair(shape[1], shape[2]) if len(shape) == 4 else None


def _activation(number: int) -> Activation:
    return ACTIVATIONS.get(number, Activation.OTHER)


def _conv(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    window = _window(p[0], _kernel(op, tensors), Pair(p[2], p[1]), Pair(p[5], p[4]))
    return replace(op, window=window, activation=_activation(p[3]))


def _depthwise(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    window = _window(p[0], _kernel(op, tensors), Pair(p[2], p[1]), Pair(p[6], p[5]))
    return replace(op, window=window, depth_multiplier=p[3], activation=_activation(p[4]))


def _transpose_conv(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    """TFLite's order is output shape, weights, data, bias; here the data comes first, as everywhere."""
    window = _window(p[0], _kernel(op, tensors), Pair(p[2], p[1]))
    inputs = op.inputs
    if 3 <= len(inputs) <= 4:
        inputs = (inputs[2], inputs[1], inputs[3] if len(inputs) == 4 else None, inputs[0])
    return replace(op, inputs=inputs, window=window, activation=_activation(p[3]))


def _batch_matmul(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, adjoint=(bool(p[0]), bool(p[1])))


def _pool(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, window=_window(p[0], Pair(p[4], p[3]), Pair(p[2], p[1])), activation=_activation(p[5]))


def _fully_connected(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, activation=_activation(p[0]), weights_format=p[1], keep_dims=bool(p[2]))


def _binary(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, activation=_activation(p[0]))


def _leaky_relu(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, alpha=float(np.array(p, np.int32).view(np.float32)[0]))


def _gelu(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, approximate=bool(p[0]))


def _reduction(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, keep_dims=bool(p[0]))


def _mirror_pad(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    modes = {1: Moving(reflect=True), 2: Moving()}
    return replace(op, moving=modes.get(p[0]))


def _concatenation(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, moving=Moving(axis=p[0]), activation=_activation(p[1]))


def _unpack(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, moving=Moving(axis=p[0]))


def _gather(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, moving=Moving(axis=p[0], batch_dims=p[1]))


def _strided_slice(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, moving=Moving(begin_mask=p[0], end_mask=p[1], ellipsis_mask=p[2], new_axis_mask=p[3],
                                     shrink_mask=p[4]))


def _blocks(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, moving=Moving(block=p[0]))


def _resize(op: Operation, p: Sequence[int], tensors: Sequence[Tensor]) -> Operation:
    return replace(op, moving=Moving(align_corners=bool(p[0]), half_pixel=bool(p[1])))


_READERS = {
    Kind.CONV: _conv, Kind.DEPTHWISE_CONV: _depthwise, Kind.AVERAGE_POOL: _pool, Kind.MAX_POOL: _pool,
    Kind.FULLY_CONNECTED: _fully_connected, Kind.ADD: _binary, Kind.SUB: _binary, Kind.MUL: _binary,
    **dict.fromkeys(REDUCTIONS, _reduction),
    Kind.TRANSPOSE_CONV: _transpose_conv, Kind.BATCH_MATMUL: _batch_matmul,
    Kind.DIV: _binary,
    Kind.LEAKY_RELU: _leaky_relu, Kind.GELU: _gelu,
    Kind.MIRROR_PAD: _mirror_pad, Kind.CONCATENATION: _concatenation, Kind.UNPACK: _unpack,
    Kind.PACK: _unpack, Kind.GATHER: _gather,
    Kind.STRIDED_SLICE: _strided_slice, Kind.SPACE_TO_DEPTH: _blocks, Kind.DEPTH_TO_SPACE: _blocks,
    Kind.RESIZE_NEAREST: _resize, Kind.RESIZE_BILINEAR: _resize,
}
