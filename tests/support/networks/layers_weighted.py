"""Layers with weights."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.support import builders_conv  # noqa: F401  (writes these operations' options)
from tests.support.exact import windows
from tests.support.model_builder import ACTIVATIONS, PADDINGS, OperationSpec
from tests.support.networks.network import Invalid, Network, layer

REAL_LIMITS = {"NONE": (-np.inf, np.inf), "RELU": (0, np.inf), "RELU_N1_TO_1": (-1, 1), "RELU6": (0, 6)}
WEIGHT_SPREAD = 42


def activated(real: np.ndarray, activation: str) -> np.ndarray:
    return np.clip(real, *REAL_LIMITS[activation]).astype(np.float32)


def _weights(net: Network, source: int, shape: Sequence[int], axis: int, seed: int, *,
             per_channel: bool, gain: float = 1.0) -> tuple[int, np.ndarray]:
    """Tensor number and real values; uint8 around any zero point, the extremes too."""
    if int(np.prod(shape)) > 1 << 20:
        raise Invalid(f"weights {shape}")
    rng, dtype = np.random.default_rng(seed), net.tensors[source].dtype
    zero = 0 if dtype == "int8" else int(rng.choice(net.weight_zero_points))
    low = -127 if dtype == "int8" else 0
    data = np.clip(np.rint(rng.normal(zero, WEIGHT_SPREAD, shape)), low, np.iinfo(dtype).max).astype(dtype)
    count = shape[axis] if per_channel and net.per_channel and dtype == "int8" else 1
    scales = (gain * np.exp(rng.uniform(np.log(0.002), np.log(0.02), count))).astype(np.float32)
    form = [1] * len(shape)
    form[axis] = count
    real = (data.astype(np.float32) - zero) * scales.reshape(form)
    return net.constant("weights", data, scales.tolist(), (zero,) * count, axis if count > 1 else 0), real


def _bias(net: Network, source: int, weights: int, count: int, taps: int, seed: int) -> tuple[int, np.ndarray]:
    """As large as the accumulators of random operands are."""
    scales = np.float32(net.tensors[source].scale) * np.asarray(net.tensors[weights].scales, np.float32)
    spread = 40 * WEIGHT_SPREAD * max(taps, 1) ** 0.5
    data = np.rint(np.random.default_rng(seed + 1).normal(0, spread, count)).astype(np.int32)
    return net.constant("bias", data, scales.tolist(), (0,) * len(scales)), data * scales


def _window_options(stride: Sequence[int], dilation: Sequence[int], padding: str,
                    activation: str) -> dict[str, object]:
    return {"Padding": PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1], "DilationHFactor": dilation[0],
            "DilationWFactor": dilation[1], "FusedActivationFunction": ACTIVATIONS[activation]}


@layer
def conv(net: Network, source: int, *, outputs: int, kernel: Sequence[int] = (1, 1), stride: Sequence[int] = (1, 1),
         dilation: Sequence[int] = (1, 1), padding: str = "SAME", activation: str = "NONE", groups: int = 1,
         gain: float = 1.0, seed: int = 0, scale: float | None = None, zero: int | None = None) -> None:
    """CONV_2D."""
    x = net.reals[source]
    if x.shape[3] % groups or outputs % groups:
        raise Invalid(f"{groups} groups")
    depth = x.shape[3] // groups
    weights, w = _weights(net, source, (outputs, *kernel, depth), 0, seed, per_channel=True, gain=gain)
    bias, b = _bias(net, source, weights, outputs, w[0].size, seed)
    options = _window_options(stride, dilation, padding, activation)
    taps = windows(OperationSpec("CONV_2D", (), (), options), x, kernel, 0.0)
    parts = [taps[..., g * depth:(g + 1) * depth].reshape(-1, w[0].size) @ kernels.reshape(len(kernels), -1).T
             for g, kernels in enumerate(np.split(w, groups))]
    real = np.concatenate(parts, 1) + b
    net.emit("CONV_2D", (source, weights, bias), [activated(real.reshape(*taps.shape[:3], outputs), activation)],
             scale=scale, zero=zero, **options)


@layer
def transpose_conv(net: Network, source: int, *, outputs: int, kernel: Sequence[int] = (2, 2),
                   stride: Sequence[int] = (2, 2), padding: str = "SAME", activation: str = "NONE", gain: float = 1.0,
                   seed: int = 0, scale: float | None = None, zero: int | None = None) -> None:
    """TRANSPOSE_CONV to the size that the input fills."""
    x = net.reals[source]
    n, height, width, channels = x.shape
    weights, w = _weights(net, source, (outputs, *kernel, channels), 0, seed, per_channel=True, gain=gain)
    bias, b = _bias(net, source, weights, outputs, w[0].size // (stride[0] * stride[1]), seed)
    spread = np.zeros((n, height * stride[0], width * stride[1], channels), np.float32)
    spread[:, ::stride[0], ::stride[1]] = x
    options = _window_options((1, 1), (1, 1), "SAME", activation)
    taps = windows(OperationSpec("CONV_2D", (), (), options), spread, kernel, 0.0)
    real = np.einsum("nyxklc,oklc->nyxo", taps, w[:, ::-1, ::-1], optimize=True) + b
    if padding == "VALID":
        more = [max(k - s, 0) for k, s in zip(kernel, stride, strict=True)]
        real = np.pad(real, [(0, 0), (0, more[0]), (0, more[1]), (0, 0)], mode="edge")
    net.emit("TRANSPOSE_CONV", (net.integers(real.shape), weights, source, bias), [activated(real, activation)],
             scale=scale, zero=zero, Padding=PADDINGS[padding], StrideH=stride[0], StrideW=stride[1],
             FusedActivationFunction=ACTIVATIONS[activation])


@layer
def depthwise(net: Network, source: int, *, multiplier: int = 1, kernel: Sequence[int] = (3, 3),
              stride: Sequence[int] = (1, 1), dilation: Sequence[int] = (1, 1), padding: str = "SAME",
              activation: str = "NONE", gain: float = 1.0, seed: int = 0, scale: float | None = None,
              zero: int | None = None) -> None:
    """DEPTHWISE_CONV_2D."""
    x = np.repeat(net.reals[source], multiplier, axis=3)
    channels = x.shape[3]
    weights, w = _weights(net, source, (1, *kernel, channels), 3, seed, per_channel=True, gain=gain)
    bias, b = _bias(net, source, weights, channels, w[0, :, :, 0].size, seed)
    options = _window_options(stride, dilation, padding, activation)
    taps = windows(OperationSpec("DEPTHWISE_CONV_2D", (), (), options), x, kernel, 0.0)
    real = np.einsum("nyxklc,klc->nyxc", taps, w[0]) + b
    net.emit("DEPTHWISE_CONV_2D", (source, weights, bias), [activated(real, activation)], scale=scale, zero=zero,
             DepthMultiplier=multiplier, **options)


@layer
def fully_connected(net: Network, source: int, *, outputs: int, flatten: bool = False, bias: bool = True,
                    activation: str = "NONE", gain: float = 1.0, seed: int = 0, scale: float | None = None,
                    zero: int | None = None) -> None:
    """FULLY_CONNECTED over the channels, or over the whole map."""
    x = net.reals[source]
    x = x.reshape(1, -1) if flatten else x.reshape(-1, x.shape[-1])
    weights, w = _weights(net, source, (outputs, x.shape[1]), 0, seed, per_channel=False, gain=gain)
    number, b = _bias(net, source, weights, outputs, x.shape[1], seed) if bias else (-1, np.zeros(1))
    net.emit("FULLY_CONNECTED", (source, weights, number), [activated(x @ w.T + b, activation)], scale=scale,
             zero=zero, FusedActivationFunction=ACTIVATIONS[activation])


@layer
def matrix_product(net: Network, source: int, *, outputs: int, seed: int = 0, scale: float | None = None,
                   zero: int | None = None) -> None:
    """BATCH_MATMUL by a constant matrix, int8."""
    x = net.reals[source]
    if net.tensors[source].dtype != "int8":
        raise Invalid("uint8")
    weights, w = _weights(net, source, (x.shape[-1], outputs), 1, seed, per_channel=False)
    net.emit("BATCH_MATMUL", (source, weights), [x @ w], scale=scale, zero=zero, AdjX=False, AdjY=False)
