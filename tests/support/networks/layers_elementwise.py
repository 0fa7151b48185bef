"""Layers that work element by element."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.support import builders_unary
from tests.support.model_builder import ACTIVATIONS, random_quantised
from tests.support.networks.layers_weighted import activated
from tests.support.networks.network import Invalid, Network, layer

BINARY: dict[str, Callable] = {"ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "MAXIMUM": np.maximum,
                               "MINIMUM": np.minimum}
COMPARING = ("MAXIMUM", "MINIMUM")
UNARY: dict[str, Callable] = {
    "RELU": lambda x: np.maximum(x, 0), "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1), "RELU_0_TO_1": lambda x: np.clip(x, 0, 1),
    "ABS": np.abs, "LOGISTIC": lambda x: 1 / (1 + np.exp(-np.clip(x, -80, 80))), "TANH": np.tanh,
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "GELU": lambda x: x / 2 * (1 + np.tanh(0.79788 * (x + 0.044715 * x ** 3))),
    "EXP": lambda x: np.exp(np.minimum(x, 20)), "LOG": lambda x: np.log(np.maximum(x, 0.01)),
    "LEAKY_RELU": lambda x: x}
INT8_ONLY = builders_unary.INT8_ONLY


def _same_type(net: Network, first: int, second: int) -> None:
    if net.tensors[first].dtype != net.tensors[second].dtype:
        raise Invalid("two types")


def _emit_binary(net: Network, operation: str, pair: Sequence[int], reals: Sequence[np.ndarray], activation: str,
                 scale: float | None, zero: int | None) -> None:
    real = BINARY[operation](*reals)
    if operation in COMPARING:
        first, second = (net.tensors[t] for t in pair)
        if (first.scales, first.zero_points) != (second.scales, second.zero_points):
            raise Invalid(f"{operation} of two quantisations")
        net.emit(operation, pair, [real], like=pair[0])
        return
    net.emit(operation, pair, [activated(real, activation)], scale=scale, zero=zero,
             FusedActivationFunction=ACTIVATIONS[activation])


@layer
def binary(net: Network, first: int, second: int, *, operation: str = "ADD", activation: str = "NONE",
           scale: float | None = None, zero: int | None = None) -> None:
    """ADD, SUB, MUL, MAXIMUM or MINIMUM of two values, which broadcast."""
    _same_type(net, first, second)
    _emit_binary(net, operation, (first, second), [net.reals[first], net.reals[second]], activation, scale, zero)


@layer
def with_constant(net: Network, source: int, *, operation: str = "ADD", shape: Sequence[int] = (), first: bool = False,
                  activation: str = "NONE", seed: int = 0, constant_scale: float = 0.01,
                  scale: float | None = None, zero: int | None = None) -> None:
    """The same with a constant; first: it is the first operand."""
    rng, tensor = np.random.default_rng(seed), net.tensors[source]
    point = int(rng.integers(-128, 128)) + (128 if tensor.dtype == "uint8" else 0)
    step = float(np.float32(constant_scale))
    if operation in COMPARING:
        step, point = tensor.scale, tensor.zero_point
    data = random_quantised(rng, shape, tensor.dtype)
    constant = net.constant("constant", data, (step,), (point,))
    pair, reals = [source, constant], [net.reals[source], (data.astype(np.float32) - point) * np.float32(step)]
    if first:
        pair, reals = pair[::-1], reals[::-1]
    _emit_binary(net, operation, pair, reals, activation, scale, zero)


@layer
def unary(net: Network, source: int, *, function: str = "RELU", alpha: float = 0.1, approximate: bool = False,
          scale: float | None = None, zero: int | None = None) -> None:
    """A function of one value; LOGISTIC and TANH are quantised as the converter does."""
    tensor = net.tensors[source]
    if function in INT8_ONLY and tensor.dtype != "int8":
        raise Invalid(f"{function} of {tensor.dtype}")
    real = UNARY[function](net.reals[source])
    options: dict[str, object] = {}
    low = int(np.iinfo(tensor.dtype).min)
    if function == "LEAKY_RELU":
        real, options = np.where(real > 0, real, alpha * real), {"Alpha": alpha}
    if function == "GELU":
        options = {"Approximate": approximate}
    if function in ("LOGISTIC", "TANH"):
        scale, zero = (1 / 256, low) if function == "LOGISTIC" else (1 / 128, low + 128)
    net.emit(function, (source,), [real.astype(np.float32)], scale=scale, zero=zero, **options)


@layer
def prelu(net: Network, source: int, *, per_channel: bool = True, seed: int = 0, scale: float | None = None,
          zero: int | None = None) -> None:
    """PRELU with constant slopes."""
    x, rng, dtype = net.reals[source], np.random.default_rng(seed), net.tensors[source].dtype
    shape = (1,) * (x.ndim - 1) + (x.shape[-1] if per_channel else 1,)
    data, point = random_quantised(rng, shape, dtype), 5
    slopes = net.constant("slopes", data, (float(np.float32(0.003)),), (point,))
    real = np.where(x > 0, x, x * (data.astype(np.float32) - point) * np.float32(0.003)).astype(np.float32)
    net.emit("PRELU", (source, slopes), [real], scale=scale, zero=zero)


@layer
def quantize(net: Network, source: int, *, dtype: str = "", scale: float | None = None,
             zero: int | None = None) -> None:
    """QUANTIZE from integers to integers."""
    net.emit("QUANTIZE", (source,), [net.reals[source]], dtype=dtype, scale=scale, zero=zero)
