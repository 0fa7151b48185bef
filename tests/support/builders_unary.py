"""Single unary operations as models, and the exact value of the functions they compute."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from tests.support import model_builder
from tests.support.model_builder import Model, OperationSpec, TensorSpec

model_builder.OPTIONS.update({
    "LEAKY_RELU": ("LeakyReluOptions", 2), "GELU": ("GeluOptions", 2), "HARD_SWISH": ("HardSwishOptions", 1),
    "QUANTIZE": ("QuantizeOptions", 2), "EXP": ("ExpOptions", 2), "ABS": ("AbsOptions", 2), "ELU": ("", 1)})
FUNCTIONS: Mapping[str, Callable[[float, Mapping[str, object]], float]] = {
    "RELU": lambda x, o: max(x, 0), "RELU6": lambda x, o: min(max(x, 0), 6),
    "RELU_N1_TO_1": lambda x, o: min(max(x, -1), 1), "RELU_0_TO_1": lambda x, o: min(max(x, 0), 1),
    "LEAKY_RELU": lambda x, o: x if x >= 0 else x * type(x)(float(np.float32(o["Alpha"]))),     # type: ignore[arg-type]
    "QUANTIZE": lambda x, o: x, "ABS": lambda x, o: abs(x),
    "LOGISTIC": lambda x, o: 1 / (1 + math.exp(-x)) if x > -700 else 0.0, "TANH": lambda x, o: math.tanh(x),
    "HARD_SWISH": lambda x, o: x * min(max(x + 3, 0), 6) / 6,
    "ELU": lambda x, o: x if x >= 0 else math.exp(x) - 1,
    "GELU": lambda x, o: _gelu(x, bool(o.get("Approximate", False))),
    "EXP": lambda x, o: math.exp(min(x, 500)), "LOG": lambda x, o: math.log(x) if x > 0 else -1e30}
LINEAR = ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "QUANTIZE", "ABS")
INT8_ONLY = ("ABS", "ELU", "EXP", "LOG")       # TFLite has no uint8 kernel


def _gelu(x: float, approximate: bool) -> float:
    if approximate:
        return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


@dataclass(frozen=True)
class Ends:
    """dtype, scale and zero point of the input and of the output."""

    dtype: str
    scale: float
    zero_point: int
    out_dtype: str
    out_scale: float
    out_zero_point: int

    def __str__(self) -> str:
        return (f"{self.dtype}-{self.scale:.4g}z{self.zero_point}-{self.out_dtype}-{self.out_scale:.4g}"
                f"z{self.out_zero_point}")


def unary(name: str, ends: Ends, shape: tuple[int, ...], options: Mapping[str, object] | None = None) -> Model:
    """One operation of the given quantisation."""
    source = TensorSpec("input", shape, ends.dtype, (float(np.float32(ends.scale)),), (ends.zero_point,))
    out = TensorSpec("output", shape, ends.out_dtype, (float(np.float32(ends.out_scale)),), (ends.out_zero_point,))
    return Model((source, out), (OperationSpec(name, (0,), (1,), options or {}),), (0,), (1,))


def likely_ends(name: str, rng: np.random.Generator, dtype: str) -> Ends:
    """Quantisation as a converter chooses it: the output covers the function's values over the input's range."""
    info = np.iinfo(dtype)
    low, high = sorted(rng.uniform(-1, 1, 2) * float(np.exp(rng.uniform(np.log(0.3), np.log(30)))))
    low, high = min(low, 0.0), max(high, 0.01)
    low, high = {"LOG": (0.0, high), "EXP": (low / 4, min(high, 5.0)), "RELU6": (low, high + 5)}.get(name, (low, high))
    scale = (high - low) / 255
    zero = int(np.clip(round(info.min - low / scale), info.min, info.max))
    if name in ("LOGISTIC", "TANH"):        # what the converter fixes
        made = {"LOGISTIC": (1 / 256, int(info.min)), "TANH": (1 / 128, (int(info.min) + int(info.max) + 1) // 2)}[name]
        return Ends(dtype, scale, zero, dtype, *made)
    out_dtype = str(rng.choice(["int8", "uint8"])) if name == "QUANTIZE" else dtype
    out_info = np.iinfo(out_dtype)
    reals = [FUNCTIONS[name](scale * (q - zero), {"Alpha": 0.1}) for q in range(info.min, info.max + 1)]
    least, most = min(max(min(reals), -6.0) if name == "LOG" else min(reals), 0.0), max(*reals, 0.01)
    out_scale = (most - least) / 255
    return Ends(dtype, scale, zero, out_dtype, out_scale,
                int(np.clip(round(out_info.min - least / out_scale), out_info.min, out_info.max)))


def exact_table(name: str, ends: Ends, options: Mapping[str, object] | None = None) -> np.ndarray:
    """The exact output of every input value, rounded once, half away from zero; rational where the function is."""
    number = Fraction if name in LINEAR else float
    scale, out_scale = number(float(np.float32(ends.scale))), number(float(np.float32(ends.out_scale)))
    info, out = np.iinfo(ends.dtype), np.iinfo(ends.out_dtype)
    made = []
    for q in range(info.min, info.max + 1):
        steps = FUNCTIONS[name](scale * (q - ends.zero_point), options or {}) / out_scale
        steps = max(-1000, min(1000, steps))
        rounded = math.floor(abs(steps) + (Fraction(1, 2) if number is Fraction else 0.5))
        made.append(max(out.min, min(out.max, (rounded if steps >= 0 else -rounded) + ends.out_zero_point)))
    return np.array(made, ends.out_dtype)


def behind(first: Model, name: str, rng: np.random.Generator, options: Mapping[str, object] | None = None) -> Model:
    """A model with a unary operation behind its only output, quantised as a converter would."""
    before = first.tensors[first.outputs[0]]
    ends = likely_ends(name, rng, before.dtype)
    scale = ends.out_scale * (1.0 if name in ("LOGISTIC", "TANH") else before.scale / ends.scale)
    made = TensorSpec("function", before.shape, ends.out_dtype, (float(np.float32(scale)),), (ends.out_zero_point,))
    count = len(first.tensors)
    operation = OperationSpec(name, first.outputs, (count,), options or {})
    return Model((*first.tensors, made), (*first.operations, operation), first.inputs, (count,))


def with_output_scale(model: Model, scale: float) -> Model:
    """The model with another scale of its only output."""
    (made,) = model.outputs
    return replace(model, tensors=tuple(replace(tensor, scales=(float(np.float32(scale)),)) if i == made else tensor
                                        for i, tensor in enumerate(model.tensors)))


def behind_gently(first: Model, rng: np.random.Generator) -> Model:
    """A TANH behind a model; its results for neighbouring bytes are one step apart at most."""
    return behind(with_output_scale(first, 1 / 128), "TANH", rng)
