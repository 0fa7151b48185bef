"""Why an operation of a known kind makes no sense as a quantised operation: reasons in words, for the drivers' rules.

A frontend accepts such an operation (TFLite may run it, or may refuse it itself); a driver must not compute it.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cermet.ir.moves import LAYOUTS, data_inputs, move_problem
from cermet.ir.numerics_float import float_problem, is_float
from cermet.ir.numerics_unary import UNARY_KINDS
from cermet.ir.operation import Activation, Kind, Operation, Window
from cermet.ir.reductions import REDUCTIONS, reduction_problem
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

EIGHT_BIT = (DType.INT8, DType.UINT8)
NUM_INPUTS = {Kind.CONV: (2, 3), Kind.DEPTHWISE_CONV: (2, 3), Kind.FULLY_CONNECTED: (2, 3),
              Kind.TRANSPOSE_CONV: (4, 4), Kind.BATCH_MATMUL: (2, 2), Kind.ADD: (2, 2),
              Kind.SUB: (2, 2), Kind.MUL: (2, 2), Kind.MAXIMUM: (2, 2), Kind.MINIMUM: (2, 2), Kind.PRELU: (2, 2),
              Kind.AVERAGE_POOL: (1, 1), Kind.MAX_POOL: (1, 1), Kind.RESHAPE: (1, 2),
              Kind.SQUEEZE: (1, 1), Kind.EXPAND_DIMS: (1, 2), **dict.fromkeys(REDUCTIONS, (2, 2))}
CONVERTING = (Kind.QUANTIZE, Kind.TABLE)     # int8 to uint8 or back is what they may do
MAX_WINDOW = 1 << 16        # kernel, stride and dilation: sizes beyond any tensor that fits in memory
MAX_COMPUTED_ELEMENTS = 1 << 31
BIAS_SCALE_TOLERANCE = 0.02     # of an output step, TFLite's own limit (kernel_util.cc)


def op_problem(subgraph: Subgraph, operation: Operation) -> str | None:
    """What is wrong with the operation, None when the numerics apply. OTHER kinds have no numerics: always a reason."""
    if is_float(subgraph, operation):
        return float_problem(subgraph, operation)
    if operation.kind in LAYOUTS or operation.kind is Kind.RESIZE_BILINEAR:
        return _moved_data_problem(subgraph, operation) or move_problem(subgraph, operation)
    if operation.kind not in CHECKS:
        return f"{operation.name} has no numerics here"
    problem = _signature_problem(subgraph, operation)
    if problem is None:
        problem = CHECKS[operation.kind](subgraph, operation)
    return problem


def _signature_problem(subgraph: Subgraph, operation: Operation) -> str | None:
    """Numbers of operands, element types and quantisation of the data in and out, fused activation."""
    low, high = NUM_INPUTS.get(operation.kind, (1, 1))
    if not low <= len(operation.inputs) <= high or operation.inputs[0] is None:
        return f"{len(operation.inputs)} inputs, must be {low}..{high} and the first present"
    if len(operation.outputs) != 1:
        return f"{len(operation.outputs)} outputs, must be 1"
    if operation.activation is Activation.OTHER:
        return "its fused activation has no quantised kernel, must be none, relu, relu_n1_to_1 or relu6"
    data, out = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
    if data.dtype is not out.dtype and operation.kind not in CONVERTING:
        return f"output is {out.dtype.value}, must be {data.dtype.value} like the input"
    return _data_problem("input", data) or _data_problem("output", out)


def _data_problem(what: str, tensor: Tensor) -> str | None:
    """An activation: int8 or uint8, one scale above 0, a zero point inside the dtype, not empty."""
    if tensor.dtype not in EIGHT_BIT:
        return f"{what} is {tensor.dtype.value}, must be int8 or uint8"
    if not 0 < tensor.num_elements <= MAX_COMPUTED_ELEMENTS:
        return f"{what} has shape {tensor.shape}, must have 1..{MAX_COMPUTED_ELEMENTS} elements"
    q = tensor.quantisation
    if q is None:
        return f"{what} is not quantised, must have a scale"
    if q.is_per_channel or len(q.zero_points) > 1:
        return f"{what} is quantised per channel, must be per tensor"
    return _scale_problem(what, tensor)


def _moved_data_problem(subgraph: Subgraph, operation: Operation) -> str | None:
    """Types and quantisation of what an operation moves."""
    for what, numbers in (("input", data_inputs(operation)), ("output", operation.outputs)):
        for number in numbers:
            problem = None if number is None else _data_problem(what, subgraph.tensor(number))
            if problem is not None:
                return problem
    return None


def _scale_problem(what: str, tensor: Tensor) -> str | None:
    assert tensor.quantisation is not None
    info = np.iinfo(tensor.dtype.numpy)
    for scale in tensor.quantisation.scales:
        if not (math.isfinite(scale) and scale > 0):
            return f"{what} has scale {scale}, must be finite and above 0"
    for point in tensor.quantisation.zero_points:
        if not info.min <= point <= info.max:
            return f"{what} has zero point {point}, must be {info.min}..{info.max}"
    return None


# ---- operations with weights ---------------------------------------------------------------------------------------

def _conv(subgraph: Subgraph, operation: Operation) -> str | None:
    data, weights = subgraph.tensor(operation.inputs[0]), operation.inputs[1]
    if weights is None or len(subgraph.tensor(weights).shape) != 4 or len(data.shape) != 4:
        return "input and weights must have 4 dimensions"
    shape = subgraph.tensor(weights).shape
    if operation.kind is Kind.CONV:
        channels, axis = shape[0], 0
        if shape[3] < 1 or data.shape[3] % shape[3] or channels % (data.shape[3] // shape[3]):
            return (f"weights have shape {shape}, must have input channels that divide {data.shape[3]} into groups, "
                    "and as many kernels for each")
    else:
        channels, axis = shape[3], 3
        if shape[0] != 1 or channels != data.shape[3] * operation.depth_multiplier:
            return (f"weights have shape {shape}, must have 1 first and {data.shape[3]} channels times multiplier "
                    f"{operation.depth_multiplier} last")
    return (_weights_problem(subgraph, operation, axis, allow_zero_points=False)
            or _bias_problem(subgraph, operation, channels) or _window_problem(subgraph, operation, channels))


def _transpose_conv(subgraph: Subgraph, operation: Operation) -> str | None:
    data, out, weights = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output), operation.inputs[1]
    if weights is None or len(subgraph.tensor(weights).shape) != 4 or len(data.shape) != 4:
        return "input and weights must have 4 dimensions"
    channels, *_, depth = subgraph.tensor(weights).shape
    if operation.window is None:
        return "padding is unknown, must be SAME or VALID"
    if depth != data.shape[3] or out.shape[:1] + out.shape[3:] != (data.shape[0], channels):
        return (f"weights have shape {subgraph.tensor(weights).shape} and the output {out.shape}, must have "
                f"{data.shape[3]} input channels, batch {data.shape[0]} and {channels} channels")
    return (_weights_problem(subgraph, operation, 0, allow_zero_points=False)
            or _bias_problem(subgraph, operation, channels) or _geometry_problem(operation.window))


def _weights_problem(subgraph: Subgraph, operation: Operation, axis: int, *, allow_zero_points: bool) -> str | None:
    """Weights have the data's dtype; uint8 ones one scale; int8 ones no zero points where the kernels ignore them."""
    data, weights = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.inputs[1])
    if weights.dtype is not data.dtype:
        return f"weights are {weights.dtype.value}, must be {data.dtype.value} like the input"
    if not 0 < weights.num_elements <= MAX_COMPUTED_ELEMENTS:
        return f"weights have shape {weights.shape}, must have 1..{MAX_COMPUTED_ELEMENTS} elements"
    q = weights.quantisation
    if q is None:
        return "weights are not quantised, must have a scale"
    if q.is_per_channel and (weights.dtype is DType.UINT8 or q.axis != axis):
        return (f"{weights.dtype.value} weights have {len(q.scales)} scales on axis {q.axis}, must be one, or int8 "
                f"on axis {axis}")
    if weights.dtype is DType.INT8 and any(q.zero_points) and (q.is_per_channel or not allow_zero_points):
        return f"int8 weights have zero point {next(z for z in q.zero_points if z)}, must be 0"
    return _scale_problem("weights", weights)


def _bias_problem(subgraph: Subgraph, operation: Operation, channels: int) -> str | None:
    """int32, one for each output channel, in the unit input scale times weight scale."""
    if len(operation.inputs) < 3 or operation.inputs[2] is None:
        return None
    bias = subgraph.tensor(operation.inputs[2])
    if bias.dtype is not DType.INT32 or bias.num_elements != channels:
        return f"bias is {bias.dtype.value} of shape {bias.shape}, must be int32 with {channels} elements"
    if bias.quantisation is None:
        return None         # the kernels never look
    tensors = [subgraph.tensor(t) for t in (operation.inputs[0], operation.inputs[1], operation.output)]
    data, weights, out = (t.quantisation for t in tensors)
    assert data is not None and weights is not None and out is not None
    if len(bias.quantisation.scales) not in (1, len(weights.scales)):
        return f"bias has {len(bias.quantisation.scales)} scales, must be 1 or {len(weights.scales)}"
    for scale, weight_scale in zip(bias.quantisation.scales, weights.scales, strict=False):
        wanted = data.scale * weight_scale
        if not abs(scale - wanted) <= BIAS_SCALE_TOLERANCE * out.scale:
            return f"bias has scale {scale:.6g}, must be {wanted:.6g}, input scale times weight scale"
    return None


def _fully_connected(subgraph: Subgraph, operation: Operation) -> str | None:
    data, out, weights = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output), operation.inputs[1]
    if weights is None or len(subgraph.tensor(weights).shape) != 2:
        return "weights must have 2 dimensions"
    if operation.weights_format != 0:
        return f"weights format {operation.weights_format}, must be 0 (plain)"
    channels, depth = subgraph.tensor(weights).shape
    if channels < 1 or depth < 1 or data.num_elements % depth:
        return f"weights have shape {(channels, depth)}, the input's {data.num_elements} must be rows of {depth}"
    batch = data.num_elements // depth
    if out.num_elements != batch * channels or out.shape[-1:] != (channels,):
        return f"output has shape {out.shape}, must have {batch} rows of {channels}"
    return (_weights_problem(subgraph, operation, 0, allow_zero_points=True)
            or _bias_problem(subgraph, operation, channels))


def _batch_matmul(subgraph: Subgraph, operation: Operation) -> str | None:
    second = operation.inputs[1]
    if second is None:
        return "second operand is absent"
    data, weights, out = (subgraph.tensor(t) for t in (operation.inputs[0], second, operation.output))
    if data.dtype is not DType.INT8 or weights.dtype is not DType.INT8:
        return f"operands are {data.dtype.value} and {weights.dtype.value}, must be int8"
    problem = _data_problem("second operand", weights)
    if problem is not None or min(len(data.shape), len(weights.shape)) < 2:
        return problem or "operands must have 2 dimensions or more"
    first, last = (t.shape[:-2] + t.shape[:-3:-1] if turned else t.shape
                   for t, turned in zip((data, weights), operation.adjoint, strict=True))
    try:
        wanted = (*np.broadcast_shapes(first[:-2], last[:-2]), first[-2], last[-1])
    except ValueError:
        wanted = ()
    if operation.adjoint[0] and first[:-2] != last[:-2] and len(first) == len(last):
        return "a transposed first operand whose batch is repeated: TFLite's kernel mixes up its images"
    return None if first[-1] == last[-2] and out.shape == wanted else (
        f"operands of shapes {data.shape} and {weights.shape} and an output of {out.shape} do not fit")


# ---- windows -------------------------------------------------------------------------------------------------------

def _window_problem(subgraph: Subgraph, operation: Operation, channels: int) -> str | None:
    """Geometry in range, and the output shape that follows from it."""
    window, data, out = operation.window, subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
    if window is None:
        return "padding is unknown, must be SAME or VALID"
    problem = _geometry_problem(window)
    if problem is not None:
        return problem
    batch, height, width, _ = data.shape
    size = window.output_size(height, width)
    if size.y < 1 or size.x < 1:
        return f"window of {window.extent.y}x{window.extent.x} does not fit in {height}x{width}"
    wanted = (batch, size.y, size.x, channels)
    return None if out.shape == wanted else f"output has shape {out.shape}, must be {wanted}"


def _geometry_problem(window: Window) -> str | None:
    for what, pair in (("kernel", window.kernel), ("stride", window.stride), ("dilation", window.dilation)):
        if not (1 <= pair.y <= MAX_WINDOW and 1 <= pair.x <= MAX_WINDOW):
            return f"{what} {pair.y}x{pair.x}, must be 1..{MAX_WINDOW} each"
    return None


def _pool(subgraph: Subgraph, operation: Operation) -> str | None:
    data, out = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
    if len(data.shape) != 4:
        return f"input has shape {data.shape}, must have 4 dimensions"
    if data.quantisation != out.quantisation:
        return "output is quantised differently from the input, must be alike (pooling does not rescale)"
    return _window_problem(subgraph, operation, data.shape[3])


# ---- the rest ------------------------------------------------------------------------------------------------------

def _binary(subgraph: Subgraph, operation: Operation) -> str | None:
    if operation.inputs[1] is None:
        return "second operand is absent"
    first, second, out = (subgraph.tensor(t) for t in (*operation.inputs, operation.output))
    if second.dtype is not first.dtype:
        return f"second operand is {second.dtype.value}, must be {first.dtype.value} like the first"
    try:
        wanted = np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        return f"operands of shapes {first.shape} and {second.shape} do not broadcast"
    if out.shape != wanted:
        return f"output has shape {out.shape}, must be {wanted}"
    return _data_problem("second operand", second)


def _extreme(subgraph: Subgraph, operation: Operation) -> str | None:
    """MAXIMUM and MINIMUM compare the integers, which means something only when all are quantised alike."""
    problem = _binary(subgraph, operation)
    first, second, out = (subgraph.tensor(t).quantisation for t in (*operation.inputs, operation.output))
    if problem is None and not first == second == out:
        return "operands and output are quantised differently, must be alike (the kernels compare the integers)"
    return problem


def _reshape(subgraph: Subgraph, operation: Operation) -> str | None:
    data, out = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
    if data.num_elements != out.num_elements:
        return f"output has {out.num_elements} elements, must be {data.num_elements} like the input"
    return None


def _unary(subgraph: Subgraph, operation: Operation) -> str | None:
    data, out = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
    if data.shape != out.shape:
        return f"output has shape {out.shape}, must be {data.shape} like the input"
    return None if math.isfinite(operation.alpha) else f"alpha is {operation.alpha}, must be finite"


def _prelu(subgraph: Subgraph, operation: Operation) -> str | None:
    if operation.inputs[1] is None:
        return "slopes are absent"
    data, slopes, out = (subgraph.tensor(t) for t in (*operation.inputs, operation.output))
    if slopes.dtype is not data.dtype:
        return f"slopes are {slopes.dtype.value}, must be {data.dtype.value} like the input"
    try:
        wanted = np.broadcast_shapes(data.shape, slopes.shape)
    except ValueError:
        wanted = ()
    if not out.shape == data.shape == wanted:
        return f"slopes have shape {slopes.shape}, must broadcast to the input's {data.shape}"
    return _data_problem("slopes", slopes)


CHECKS: dict[Kind, Callable[[Subgraph, Operation], str | None]] = {
    Kind.CONV: _conv, Kind.DEPTHWISE_CONV: _conv, Kind.FULLY_CONNECTED: _fully_connected,
    Kind.TRANSPOSE_CONV: _transpose_conv, Kind.BATCH_MATMUL: _batch_matmul, Kind.ADD: _binary,
    Kind.SUB: _binary, Kind.MUL: _binary, Kind.MAXIMUM: _extreme, Kind.MINIMUM: _extreme,
    Kind.AVERAGE_POOL: _pool, Kind.MAX_POOL: _pool, Kind.RESHAPE: _reshape, Kind.SQUEEZE: _reshape,
    Kind.EXPAND_DIMS: _reshape, **dict.fromkeys(REDUCTIONS, reduction_problem),
    **dict.fromkeys(UNARY_KINDS, _unary), Kind.PRELU: _prelu,
}
