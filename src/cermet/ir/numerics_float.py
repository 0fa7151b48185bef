"""What float32 operations compute that stand between 8-bit tensors: TFLite's kernels, element by element.

DEQUANTIZE and CAST lead in, QUANTIZE leads out. Sums, products, quotients and square roots are those of IEEE 754, so
equal to TFLite's bit for bit; functions of libm are computed in float64 and narrowed, within an ulp or two of any
libm's. With `ulps` each of those results is that many units in the last place away: what another libm might give.
Sources: TFLite's kernels/{elementwise, activations, cast, dequantize, quantize, div}.cc, reference/{quantize, logistic,
hard_swish, round}.h; compared with the kernels (tests).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from cermet.ir.operands import Values
from cermet.ir.operation import Activation, Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

EIGHT_BIT = (DType.INT8, DType.UINT8)
LARGEST_STEPS = 1e9         # TFLite converts to int32, which says nothing beyond its range
Function = Callable[[Operation, np.ndarray, int], np.ndarray]
F32 = np.float32


def _ieee(function: Callable[[np.ndarray], np.ndarray]) -> Function:
    """The same everywhere."""
    return lambda operation, x, ulps: function(x)


def _libm(function: Callable[[np.ndarray], np.ndarray]) -> Function:
    """Computed in float64, narrowed."""
    return lambda operation, x, ulps: _moved(function(x.astype(np.float64)).astype(F32), ulps)


def _moved(x: np.ndarray, ulps: int) -> np.ndarray:
    return x + ulps * np.spacing(x) if ulps else x


def _clamp(low: float, high: float) -> Function:
    return _ieee(lambda x: np.minimum(np.maximum(x, F32(low)), F32(high)))


def _hard_swish(x: np.ndarray) -> np.ndarray:
    return x * np.minimum(np.maximum(x + F32(3), F32(0)), F32(6)) / F32(6)


def _logistic(operation: Operation, x: np.ndarray, ulps: int) -> np.ndarray:
    return F32(1) / (F32(1) + _libm(lambda v: np.exp(-v))(operation, x, ulps))


def _leaky(operation: Operation, x: np.ndarray, ulps: int) -> np.ndarray:
    return np.where(x > 0, x, x * F32(operation.alpha))


def _gelu(operation: Operation, x: np.ndarray, ulps: int) -> np.ndarray:
    if operation.approximate:
        return _libm(lambda v: 0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v ** 3))))(
            operation, x, ulps)
    return _libm(lambda v: 0.5 * v * np.vectorize(math.erfc)(-v / math.sqrt(2)))(operation, x, ulps)


UNARY: Mapping[Kind, Function] = {
    Kind.RELU: _clamp(0.0, math.inf), Kind.RELU6: _clamp(0.0, 6.0), Kind.RELU_N1_TO_1: _clamp(-1.0, 1.0),
    Kind.RELU_0_TO_1: _clamp(0.0, 1.0), Kind.LEAKY_RELU: _leaky, Kind.HARD_SWISH: _ieee(_hard_swish),
    Kind.LOGISTIC: _logistic, Kind.GELU: _gelu, Kind.TANH: _libm(np.tanh), Kind.EXP: _libm(np.exp),
    Kind.LOG: _libm(np.log), Kind.SIN: _libm(np.sin), Kind.COS: _libm(np.cos),
    Kind.ELU: _libm(lambda x: np.where(x < 0, np.expm1(x), x)), Kind.ABS: _ieee(np.abs), Kind.NEG: _ieee(np.negative),
    Kind.SQUARE: _ieee(np.square), Kind.SQRT: _ieee(np.sqrt), Kind.RSQRT: _ieee(lambda x: F32(1) / np.sqrt(x)),
    Kind.FLOOR: _ieee(np.floor), Kind.CEIL: _ieee(np.ceil), Kind.ROUND: _ieee(np.rint)}
BINARY: Mapping[Kind, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    Kind.ADD: np.add, Kind.SUB: np.subtract, Kind.MUL: np.multiply, Kind.DIV: np.divide,
    Kind.MAXIMUM: np.maximum, Kind.MINIMUM: np.minimum}
ENTRANCES = (Kind.CAST, Kind.DEQUANTIZE)
FLOAT_KINDS = frozenset({*UNARY, *BINARY, *ENTRANCES, Kind.QUANTIZE})


def is_float(subgraph: Subgraph, operation: Operation) -> bool:
    """Whether it is an operation of this file: it has float32 data."""
    if operation.kind not in FLOAT_KINDS:
        return False
    numbers = (*operation.inputs[:1], *operation.outputs)
    return any(t is not None and subgraph.tensor(t).dtype is DType.FLOAT32 for t in numbers)


def evaluate_float(subgraph: Subgraph, operation: Operation, values: Values, ulps: int = 0) -> np.ndarray:
    """The operation's only output."""
    out = subgraph.tensor(operation.output)
    tensors = [subgraph.tensor(t) for t in operation.inputs]
    arrays = [t.data if t.data is not None else values[t.index] for t in tensors]
    with np.errstate(all="ignore"):
        if operation.kind is Kind.CAST:
            made = arrays[0].astype(F32)
        elif operation.kind is Kind.DEQUANTIZE:
            made = _dequantised(tensors[0], arrays[0])
        elif operation.kind is Kind.QUANTIZE:
            made = _saturated(float_steps(out, arrays[0]), out)
        elif operation.kind in UNARY:
            made = UNARY[operation.kind](operation, arrays[0], ulps)
        else:
            made = _activated(operation, BINARY[operation.kind](*arrays))
    return made.reshape(out.shape)


def _dequantised(tensor: Tensor, data: np.ndarray) -> np.ndarray:
    """scale * (q - zero point): the product is that of float64, then narrowed."""
    assert tensor.quantisation is not None
    centred = data.astype(np.float64) - tensor.quantisation.zero_point
    return (centred * tensor.quantisation.scale).astype(F32)


def float_steps(out: Tensor, real: np.ndarray) -> np.ndarray:
    """Steps of a QUANTIZE's output before they are rounded."""
    assert out.quantisation is not None
    return real / F32(out.quantisation.scale)


def _saturated(steps: np.ndarray, out: Tensor) -> np.ndarray:
    """Rounded half away from zero, zero point added. NaN becomes the lowest value, as int32 does on a PC."""
    assert out.quantisation is not None
    info = np.iinfo(out.dtype.numpy)
    bounded = np.clip(np.nan_to_num(steps.astype(np.float64), nan=-LARGEST_STEPS), -LARGEST_STEPS, LARGEST_STEPS)
    rounded = np.copysign(np.floor(np.abs(bounded) + 0.5), bounded)
    return np.clip(rounded + out.quantisation.zero_point, info.min, info.max).astype(out.dtype.numpy)


def _activated(operation: Operation, made: np.ndarray) -> np.ndarray:
    low, high = operation.activation.real_range
    if low is None:
        return made
    return _clamp(low, math.inf if high is None else high)(operation, made, 0)


# ---- what makes sense ----------------------------------------------------------------------------------------------

def float_problem(subgraph: Subgraph, operation: Operation) -> str | None:
    """What is wrong with an operation on float32 data; None when evaluate_float computes it."""
    wanted = 2 if operation.kind in BINARY else 1
    if len(operation.inputs) != wanted or None in operation.inputs or len(operation.outputs) != 1:
        return f"{len(operation.inputs)} inputs and {len(operation.outputs)} outputs, must be {wanted} and 1"
    if operation.activation is Activation.OTHER:
        return "its fused activation must be none, relu, relu_n1_to_1 or relu6"
    tensors, out = [subgraph.tensor(t) for t in operation.inputs], subgraph.tensor(operation.output)
    entrance, leaves = operation.kind in ENTRANCES, operation.kind is Kind.QUANTIZE
    if any((t.dtype not in EIGHT_BIT) if entrance else (t.dtype is not DType.FLOAT32) for t in tensors):
        return f"inputs must be {'int8 or uint8' if entrance else 'float32'}"
    if (out.dtype not in EIGHT_BIT) if leaves else (out.dtype is not DType.FLOAT32):
        return f"output is {out.dtype.value}, must be {'int8 or uint8' if leaves else 'float32'}"
    for tensor in ((out,) if leaves else tensors if operation.kind is Kind.DEQUANTIZE else ()):
        if not _is_per_tensor(tensor):
            return f"tensor {tensor.index} must have one scale above 0 and one zero point"
    try:
        fits = np.broadcast_shapes(*(t.shape for t in tensors)) == out.shape
    except ValueError:
        fits = False
    return None if fits else f"output has shape {out.shape}, must be what the inputs' shapes broadcast to"


def _is_per_tensor(tensor: Tensor) -> bool:
    q = tensor.quantisation
    return q is not None and len(q.scales) == len(q.zero_points) == 1 and math.isfinite(q.scale) and q.scale > 0
