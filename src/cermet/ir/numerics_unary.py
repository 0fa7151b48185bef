"""Unary quantised functions: 256 possible inputs, hence one table per operation.

unary_table() is the definition; evaluate_unary() looks every element up. match:

  "tflite"   TFLite's kernels (tflite-runtime 2.14, BUILTIN_REF), bit for bit
  "exact"    the real-valued function, rounded once, half away from zero

Sources: TFLite's kernels/activations.cc, elementwise.cc, quantize.cc, exp.cc, internal/common.h, and of reference/
hard_swish.h, leaky_relu.h, requantize.h; compared with the kernels for all inputs (tests).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from cermet.ir.fixed_point import multiply_by_quantised_multiplier, quantize_multiplier, rounding_right_shift
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import Tensor

INT16_MIN, INT16_MAX = -(1 << 15), (1 << 15) - 1


@dataclass(frozen=True)
class Ends:
    """Quantisation at both ends of a function.

    centred     int64[256]: input value - zero point, for every value of the input's dtype, ascending
    scale_in, scale_out   float32 values as Python floats
    zero_out, low, high   the output's zero point and dtype's range
    """

    centred: np.ndarray
    scale_in: float
    scale_out: float
    zero_out: int
    low: int
    high: int

    @staticmethod
    def of(source: Tensor, out: Tensor) -> Ends:
        assert source.quantisation is not None and out.quantisation is not None
        given, made = np.iinfo(source.dtype.numpy), np.iinfo(out.dtype.numpy)
        values = np.arange(given.min, int(given.max) + 1, dtype=np.int64)
        return Ends(values - source.quantisation.zero_point, source.quantisation.scale, out.quantisation.scale,
                    out.quantisation.zero_point, int(made.min), int(made.max))

    def clipped(self, steps: np.ndarray, low: int | None = None, high: int | None = None) -> np.ndarray:
        """Zero point added, saturated; low, high: narrower limits."""
        return np.clip(steps + self.zero_out, self.low if low is None else low, self.high if high is None else high)

    def scaled(self, real: float) -> np.ndarray:
        """centred * real, TFLite's two roundings."""
        return multiply_by_quantised_multiplier(self.centred, *quantize_multiplier(real))

    @property
    def float32_ratio(self) -> float:
        """scale_in / scale_out as the kernels divide: in float32."""
        return float(np.float32(self.scale_in) / np.float32(self.scale_out))

    def limit(self, real: float) -> int:
        """A real limit in output values, as CalculateActivationRangeQuantized rounds it."""
        steps = float(np.float32(real) / np.float32(self.scale_out))
        return max(self.low, min(self.high, self.zero_out + int(_half_away(steps))))


Table = Callable[[Ends, Operation], np.ndarray]


@dataclass(frozen=True)
class Function:
    """One function: tflite gives the kernels' table; real gives x -> f(x) for "exact" (Fraction or float64)."""

    tflite: Table
    real: Callable[[Operation, float], float]
    is_linear: bool = False


def unary_table(source: Tensor, out: Tensor, operation: Operation, match: str = "tflite") -> np.ndarray:
    """int64[256]: the output value for every input value, ascending from the lowest of the input's dtype."""
    if operation.kind is Kind.TABLE:
        return np.array(operation.table, np.int64)
    ends, function = Ends.of(source, out), FUNCTIONS[operation.kind]
    return function.tflite(ends, operation) if match == "tflite" else _exact_table(ends, operation, function)


def evaluate_unary(subgraph: Subgraph, operation: Operation, values: Mapping[int, np.ndarray],
                   match: str) -> np.ndarray:
    """Any operation of FUNCTIONS: y = table[x]."""
    source, out = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
    data = source.data if source.data is not None else values[source.index]
    table = unary_table(source, out, operation, match).astype(out.dtype.numpy)
    return table[data.astype(np.int64) - int(np.iinfo(source.dtype.numpy).min)].reshape(out.shape)


def _exact_table(ends: Ends, operation: Operation, function: Function) -> np.ndarray:
    steps = [_exact_steps(ends, operation, function, int(q)) for q in ends.centred]
    return ends.clipped(np.array(steps, np.int64))


def _exact_steps(ends: Ends, operation: Operation, function: Function, centred: int) -> int:
    """Output steps, rounded once; rational arithmetic where the function is piecewise linear."""
    if function.is_linear:
        real = function.real(operation, Fraction(ends.scale_in) * centred)      # type: ignore[arg-type]
        return int(_half_away(real / Fraction(ends.scale_out)))
    real = function.real(operation, ends.scale_in * centred)
    reach = 2.0 * (ends.high - ends.low) * ends.scale_out           # beyond it every result saturates
    return int(_half_away(max(-reach, min(reach, real)) / ends.scale_out))


def _half_away(value: float) -> int:
    """Rounded, ties away from zero; of a Fraction exactly."""
    half = Fraction(1, 2) if isinstance(value, Fraction) else 0.5
    rounded = math.floor(abs(value) + half)
    return rounded if value >= 0 else -rounded


# ---- TFLite's tables -----------------------------------------------------------------------------------------------

def _from_float32(function: Callable[[np.ndarray], np.ndarray]) -> Table:
    """The kernels that fill a table in float32 (PopulateLookupTable, LUTPopulate)."""
    def table(ends: Ends, operation: Operation) -> np.ndarray:
        real = np.float32(ends.scale_in) * ends.centred.astype(np.float32)
        with np.errstate(over="ignore"):
            steps = function(real).astype(np.float32) * (np.float32(1) / np.float32(ends.scale_out))
        rounded = np.copysign(np.floor(np.abs(steps.astype(np.float64)) + 0.5), steps)
        return ends.clipped(np.clip(rounded, -1e6, 1e6).astype(np.int64))
    return table


def _relu(low: float, high: float | None) -> Table:
    def table(ends: Ends, operation: Operation) -> np.ndarray:
        return ends.clipped(ends.scaled(ends.float32_ratio), ends.limit(low),
                            None if high is None else ends.limit(high))
    return table


def _leaky_relu(ends: Ends, operation: Operation) -> np.ndarray:
    with np.errstate(all="ignore"):
        slope = float(np.float32(ends.scale_in) * np.float32(operation.alpha) / np.float32(ends.scale_out))
    negative = _scaled_signed(ends, slope)
    return ends.clipped(np.where(ends.centred >= 0, ends.scaled(ends.float32_ratio), negative))


def _scaled_signed(ends: Ends, real: float) -> np.ndarray:
    """QuantizeMultiplier rounds negative multipliers half away from zero as well."""
    if real >= 0:
        return ends.scaled(real)
    q31, shift = quantize_multiplier(-real)
    return multiply_by_quantised_multiplier(ends.centred, -q31, shift)


def _quantize(ends: Ends, operation: Operation) -> np.ndarray:
    return ends.clipped(ends.scaled(ends.scale_in / ends.scale_out))


def _absolute(ends: Ends, operation: Operation) -> np.ndarray:
    values = np.abs(ends.centred)
    if ends.scale_in != ends.scale_out:
        values = multiply_by_quantised_multiplier(values, *quantize_multiplier(ends.float32_ratio))
    return ends.clipped(values)


def _log(ends: Ends, operation: Operation) -> np.ndarray:
    lowest = np.float32(ends.low - ends.zero_out) * np.float32(ends.scale_out)

    def natural(real: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.where(real <= 0, lowest, np.log(real))
    return _from_float32(natural)(ends, operation)


def _hard_swish(ends: Ends, operation: Operation) -> np.ndarray:
    """16-bit fixed point with 7 more bits than the input."""
    finer = np.float32(1 / 128) * np.float32(ends.scale_in)
    out_multiplier, out_exponent = _int16_multiplier(float(finer / np.float32(ends.scale_out)))
    relu_multiplier, relu_exponent = _int16_multiplier(float(finer / np.float32(3 / 32768)))
    wide = _int16(ends.centred << 7)
    scaled = _high_half_rounded(wide, out_multiplier)
    gate = wide if relu_exponent <= 0 else _saturated16(wide << (relu_exponent - 1))
    gate = _high_half_rounded(gate, relu_multiplier)
    gate = _saturated16(gate << 1) if relu_exponent > 0 else rounding_right_shift(gate, -relu_exponent)
    gate = (gate + (1 << 15)) >> 1
    product = gate * scaled
    truncated = np.sign(product) * (np.abs(product) >> 15)
    return ends.clipped(rounding_right_shift(truncated, max(-out_exponent, 0)))


def _int16_multiplier(real: float) -> tuple[int, int]:
    q31, exponent = quantize_multiplier(real)
    return (INT16_MAX if q31 >= (1 << 31) - 1 - (1 << 15) else (q31 + (1 << 15)) >> 16), exponent


def _int16(values: np.ndarray) -> np.ndarray:
    """Wrapped to 16 bits."""
    return values.astype(np.int16).astype(np.int64)


def _saturated16(values: np.ndarray) -> np.ndarray:
    return np.clip(values, INT16_MIN, INT16_MAX)


def _high_half_rounded(values: np.ndarray, multiplier: int) -> np.ndarray:
    """gemmlowp's SaturatingRoundingDoublingHighMul on int16: (values * multiplier + nudge) / 2**15, towards zero."""
    product = values * multiplier
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return np.sign(nudged) * (np.abs(nudged) >> 15)


# ---- real functions ------------------------------------------------------------------------------------------------

def _clamp(low: float, high: float | None) -> Callable[[Operation, float], float]:
    return lambda operation, x: max(low, x) if high is None else min(high, max(low, x))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _real_exp(operation: Operation, x: float) -> float:
    return math.exp(min(x, 700.0))


def _gelu(operation: Operation, x: float) -> float:
    if operation.approximate:
        return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))
    return 0.5 * x * math.erfc(-x / math.sqrt(2))


def _float32_gelu(ends: Ends, operation: Operation) -> np.ndarray:
    """Computed in float64 and narrowed: libm's float32 erf and tanh are within an ulp of that."""
    return _from_float32(lambda x: np.array([_gelu(operation, float(v)) for v in x]))(ends, operation)


def _real_leaky(operation: Operation, x: float) -> float:
    if x >= 0:
        return x
    return x * (Fraction(operation.alpha) if isinstance(x, Fraction) else operation.alpha)


def _float64(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Evaluated in float64 and narrowed to float32: what a correctly rounded float32 function gives."""
    def narrowed(x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return function(x.astype(np.float64)).astype(np.float32)
    return narrowed


def _float32_logistic(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        exponential = np.exp(-x.astype(np.float64)).astype(np.float32)
    return np.float32(1) / (np.float32(1) + exponential)


FUNCTIONS: Mapping[Kind, Function] = {
    Kind.RELU: Function(_relu(0.0, None), _clamp(0, None), is_linear=True),
    Kind.RELU6: Function(_relu(0.0, 6.0), _clamp(0, 6), is_linear=True),
    Kind.RELU_N1_TO_1: Function(_relu(-1.0, 1.0), _clamp(-1, 1), is_linear=True),
    Kind.RELU_0_TO_1: Function(_relu(0.0, 1.0), _clamp(0, 1), is_linear=True),
    Kind.LEAKY_RELU: Function(_leaky_relu, _real_leaky, is_linear=True),
    Kind.QUANTIZE: Function(_quantize, lambda operation, x: x, is_linear=True),
    Kind.ABS: Function(_absolute, lambda operation, x: abs(x), is_linear=True),
    Kind.LOGISTIC: Function(_from_float32(_float32_logistic), lambda operation, x: _logistic(x)),
    Kind.TANH: Function(_from_float32(_float64(np.tanh)), lambda operation, x: math.tanh(x)),
    Kind.HARD_SWISH: Function(_hard_swish, lambda operation, x: x * min(6.0, max(0.0, x + 3)) / 6),
    Kind.ELU: Function(_from_float32(_float64(lambda x: np.where(x < 0, np.expm1(x), x))),
                       lambda operation, x: x if x >= 0 else math.expm1(x)),
    Kind.GELU: Function(_float32_gelu, _gelu),
    Kind.EXP: Function(_from_float32(_float64(np.exp)), _real_exp),
    Kind.LOG: Function(_log, lambda operation, x: math.log(x) if x > 0 else -math.inf),
}
UNARY_KINDS = frozenset({*FUNCTIONS, Kind.TABLE})
