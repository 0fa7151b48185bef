"""Layers that reorder or repeat elements: outputs are quantised as the input."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.support import builders_move  # noqa: F401  (writes these operations' options)
from tests.support.networks.network import Invalid, Network, layer


@layer
def transpose(net: Network, source: int, *, order: Sequence[int]) -> None:
    """TRANSPOSE."""
    net.emit("TRANSPOSE", (source, net.integers(order)), [net.reals[source].transpose(order)], like=source)


@layer
def pack(net: Network, *sources: int, axis: int = 0) -> None:
    """PACK of values that are quantised alike."""
    if len({(t.dtype, t.scales, t.zero_points) for t in (net.tensors[source] for source in sources)}) > 1:
        raise Invalid("two quantisations")
    real = np.stack([net.reals[source] for source in sources], axis)
    net.emit("PACK", sources, [real], like=sources[0], ValuesCount=len(sources), Axis=axis)


@layer
def gather(net: Network, source: int, *, indices: Sequence[int], axis: int = 0) -> None:
    """GATHER."""
    net.emit("GATHER", (source, net.integers(indices)), [np.take(net.reals[source], indices, axis)], like=source,
             Axis=axis)


@layer
def reverse(net: Network, source: int, *, axis: int = 0) -> None:
    """REVERSE_V2 along one axis."""
    net.emit("REVERSE_V2", (source, net.integers([axis])), [np.flip(net.reals[source], axis)], like=source)


@layer
def tile(net: Network, source: int, *, times: Sequence[int]) -> None:
    """TILE."""
    if len(times) != net.reals[source].ndim:
        raise Invalid("as many numbers as dimensions")
    net.emit("TILE", (source, net.integers(times)), [np.tile(net.reals[source], times)], like=source)


@layer
def broadcast_to(net: Network, source: int, *, shape: Sequence[int]) -> None:
    """BROADCAST_TO."""
    net.emit("BROADCAST_TO", (source, net.integers(shape)), [np.broadcast_to(net.reals[source], shape)], like=source)


@layer
def expand_dims(net: Network, source: int, *, axis: int = 0) -> None:
    """EXPAND_DIMS."""
    net.emit("EXPAND_DIMS", (source, net.integers([axis])), [np.expand_dims(net.reals[source], axis)], like=source)


@layer
def space_to_batch(net: Network, source: int, *, block: Sequence[int], paddings: Sequence[Sequence[int]]) -> None:
    """SPACE_TO_BATCH_ND of an image."""
    x = np.pad(net.reals[source], ((0, 0), *paddings, (0, 0)))
    n, height, width, channels = x.shape
    parts = x.reshape(n, height // block[0], block[0], width // block[1], block[1], channels)
    parts = parts.transpose(2, 4, 0, 1, 3, 5)
    net.emit("SPACE_TO_BATCH_ND", (source, net.integers(block), net.integers(paddings)),
             [parts.reshape(-1, *parts.shape[3:])], like=source)


@layer
def batch_to_space(net: Network, source: int, *, block: Sequence[int], crops: Sequence[Sequence[int]]) -> None:
    """BATCH_TO_SPACE_ND of images."""
    x = net.reals[source]
    _, height, width, channels = x.shape
    parts = x.reshape(block[0], block[1], -1, height, width, channels).transpose(2, 3, 0, 4, 1, 5)
    whole = parts.reshape(-1, height * block[0], width * block[1], channels)
    (top, bottom), (left, right) = crops
    net.emit("BATCH_TO_SPACE_ND", (source, net.integers(block), net.integers(crops)),
             [whole[:, top:whole.shape[1] - bottom, left:whole.shape[2] - right]], like=source)
