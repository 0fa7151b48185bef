"""Layers that move elements: outputs are quantised as the input."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.support import builders_move  # noqa: F401  (writes these operations' options)
from tests.support.networks.network import Invalid, Network, layer


@layer
def pad(net: Network, source: int, *, amounts: Sequence[Sequence[int]], value: int | None = None,
        mode: str = "") -> None:
    """PAD; PADV2 with a value; MIRROR_PAD with mode REFLECT or SYMMETRIC."""
    x, tensor = net.reals[source], net.tensors[source]
    if len(amounts) != x.ndim:
        raise Invalid("as many amounts as dimensions")
    table = net.integers(amounts)
    if mode:
        net.emit("MIRROR_PAD", (source, table), [np.pad(x, amounts, mode=mode.lower())],    # type: ignore[call-overload]
                 like=source, Mode={"REFLECT": 0, "SYMMETRIC": 1}[mode])
        return
    if value is None:
        net.emit("PAD", (source, table), [np.pad(x, amounts)], like=source)
        return
    constant = net.constant("value", np.asarray(value, tensor.dtype), tensor.scales, tensor.zero_points)
    real = (value - tensor.zero_point) * tensor.scale
    net.emit("PADV2", (source, table, constant), [np.pad(x, amounts, constant_values=real)], like=source)


@layer
def concatenation(net: Network, *sources: int, axis: int = 3, scale: float | None = None,
                  zero: int | None = None) -> None:
    """CONCATENATION; with uint8 the inputs may be quantised differently, and the output is fitted or as given."""
    tensors = [net.tensors[source] for source in sources]
    if len({tensor.dtype for tensor in tensors}) > 1:
        raise Invalid("two types")
    alike = len({(tensor.scales, tensor.zero_points) for tensor in tensors}) == 1
    if not alike and tensors[0].dtype == "int8":
        raise Invalid("int8 of two quantisations")
    real = np.concatenate([net.reals[source] for source in sources], axis)
    net.emit("CONCATENATION", sources, [real], like=sources[0] if alike else None, scale=scale, zero=zero, Axis=axis)


@layer
def split(net: Network, source: int, *, axis: int = 3, sizes: Sequence[int]) -> None:
    """SPLIT where the sizes are equal, else SPLIT_V."""
    x = net.reals[source]
    if sum(sizes) != x.shape[axis] or min(sizes) < 1:
        raise Invalid(f"sizes {sizes} of {x.shape[axis]}")
    parts = np.split(x, np.cumsum(sizes)[:-1], axis)
    if len(set(sizes)) == 1:
        net.emit("SPLIT", (net.integers(axis), source), parts, like=source, NumSplits=len(sizes))
        return
    net.emit("SPLIT_V", (source, net.integers(sizes), net.integers(axis)), parts, like=source, NumSplits=len(sizes))


@layer
def unpack(net: Network, source: int, *, axis: int = 0) -> None:
    """UNPACK."""
    x = net.reals[source]
    net.emit("UNPACK", (source,), list(np.moveaxis(x, axis, 0)), like=source, Num=x.shape[axis], Axis=axis)


@layer
def slice(net: Network, source: int, *, begin: Sequence[int], size: Sequence[int]) -> None:
    """SLICE."""
    x = net.reals[source]
    if any(b + s > n or s < 1 for n, b, s in zip(x.shape, begin, size, strict=True)):
        raise Invalid("outside")
    index = tuple(np.s_[b:b + s] for b, s in zip(begin, size, strict=True))
    net.emit("SLICE", (source, net.integers(begin), net.integers(size)), [x[index]], like=source)


@layer
def strided_slice(net: Network, source: int, *, begin: Sequence[int], end: Sequence[int],
                  steps: Sequence[int]) -> None:
    """STRIDED_SLICE without masks."""
    x = net.reals[source]
    index = tuple(np.s_[b:e:s] for b, e, s in zip(begin, end, steps, strict=True))
    if any(max(b, e) > n for b, e, n in zip(begin, end, x.shape, strict=True)) or 0 in x[index].shape:
        raise Invalid("outside")
    operands = [net.integers(numbers) for numbers in (begin, end, steps)]
    net.emit("STRIDED_SLICE", (source, *operands), [x[index]], like=source, BeginMask=0)


@layer
def depth_to_space(net: Network, source: int, *, block: int = 2) -> None:
    """DEPTH_TO_SPACE."""
    x = net.reals[source]
    n, height, width, channels = x.shape
    parts = x.reshape(n, height, width, block, block, channels // (block * block)).transpose(0, 1, 3, 2, 4, 5)
    net.emit("DEPTH_TO_SPACE", (source,), [parts.reshape(n, height * block, width * block, -1)], like=source,
             BlockSize=block)


@layer
def space_to_depth(net: Network, source: int, *, block: int = 2) -> None:
    """SPACE_TO_DEPTH."""
    x = net.reals[source]
    n, height, width, channels = x.shape
    parts = x.reshape(n, height // block, block, width // block, block, channels).transpose(0, 1, 3, 2, 4, 5)
    net.emit("SPACE_TO_DEPTH", (source,), [parts.reshape(n, height // block, width // block, -1)], like=source,
             BlockSize=block)


@layer
def reshape(net: Network, source: int, *, shape: Sequence[int]) -> None:
    """RESHAPE."""
    net.emit("RESHAPE", (source, net.integers(shape)), [net.reals[source].reshape(shape)], like=source,
             NewShape=tuple(shape))


@layer
def squeeze(net: Network, source: int, *, dims: Sequence[int] = (1,)) -> None:
    """SQUEEZE."""
    net.emit("SQUEEZE", (source,), [net.reals[source].squeeze(tuple(dims))], like=source, SqueezeDims=tuple(dims))
