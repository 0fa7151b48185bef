"""Layers that reduce or resize planes."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.support import builders_move, builders_reduce  # noqa: F401  (write these operations' options)
from tests.support.exact import windows
from tests.support.model_builder import ACTIVATIONS, PADDINGS, OperationSpec
from tests.support.networks.layers_weighted import activated
from tests.support.networks.network import Invalid, Network, layer


@layer
def pool(net: Network, source: int, *, kind: str = "MAX", window: Sequence[int] = (2, 2),
         stride: Sequence[int] = (2, 2), padding: str = "VALID", activation: str = "NONE") -> None:
    """AVERAGE_POOL_2D or MAX_POOL_2D."""
    options = {"Padding": PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1], "FilterHeight": window[0],
               "FilterWidth": window[1], "FusedActivationFunction": ACTIVATIONS[activation]}
    name, reduce = f"{kind}_POOL_2D", np.nanmax if kind == "MAX" else np.nanmean
    real = reduce(windows(OperationSpec(name, (), (), options), net.reals[source], window, np.nan), axis=(3, 4))
    net.emit(name, (source,), [activated(real, activation)], like=source, **options)


REDUCTIONS = {"MEAN": np.mean, "SUM": np.sum, "REDUCE_MAX": np.max, "REDUCE_MIN": np.min}


@layer
def reduction(net: Network, source: int, *, kind: str = "MEAN", axes: Sequence[int] = (1, 2), keep_dims: bool = True,
              scale: float | None = None, zero: int | None = None) -> None:
    """MEAN, SUM, REDUCE_MAX or REDUCE_MIN, the extremes quantised as the input."""
    if kind == "SUM" and net.tensors[source].dtype == "int8":
        raise Invalid("TFLite's SUM of int8 has another formula in every version")
    real = np.asarray(REDUCTIONS[kind](net.reals[source], axis=tuple(axes), keepdims=keep_dims))
    net.emit(kind, (source, net.integers(axes)), [real], like=source if kind.startswith("REDUCE") else None,
             scale=scale, zero=zero, KeepDims=keep_dims)


@layer
def resize(net: Network, source: int, *, kind: str = "NEAREST_NEIGHBOR", size: Sequence[int] = (2, 2),
           align_corners: bool = False, half_pixel: bool = False) -> None:
    """RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR; the example values are the nearest ones."""
    x = net.reals[source]
    rows, columns = (np.minimum(np.arange(n) * old // n, old - 1) for n, old in zip(size, x.shape[1:3], strict=True))
    net.emit(f"RESIZE_{kind}", (source, net.integers(size)), [x[:, rows][:, :, columns]], like=source,
             AlignCorners=align_corners, HalfPixelCenters=half_pixel)
