"""PAD of rows and columns, taken over by the convolution or the maximum behind it."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from cermet.ir.moves import MoveError, pad_amounts, pad_value
from cermet.ir.operation import Kind, Operation, Padding, Window
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType

PADS = frozenset({Kind.PAD, Kind.PADV2})
WINDOWED = frozenset({Kind.CONV, Kind.DEPTHWISE_CONV})
EIGHT_BIT = (DType.INT8, DType.UINT8)
MAX_PAD = 15                # top and left: what the hardware's registers hold


def fold_pad(subgraph: Subgraph) -> Subgraph:
    """PAD then CONV becomes one CONV whose window pads by itself: its border is the zero point, which adds nothing.

    Needs: the PAD fills rows and columns with the zero point and is no graph output; every reader is a convolution of
    its output; no window lies in the border alone, and the border on the top and on the left is at most 15. Or every
    reader is a MAX_POOL_2D, and the border holds the lowest number there is, which no pixel is below.
    """
    for pad in subgraph.operations:
        if pad.kind not in PADS or pad.output in subgraph.outputs:
            continue
        readers = subgraph.consumers(pad.output)
        folded = [_folded(subgraph, pad, reader) for reader in readers]
        if folded and all(folded):
            subgraph = _replaced(subgraph, pad, readers, [made for made in folded if made is not None])
    return subgraph


def _replaced(subgraph: Subgraph, pad: Operation, readers: tuple[Operation, ...], folded: list[Operation]) -> Subgraph:
    new = {reader.index: made for reader, made in zip(readers, folded, strict=True)}
    operations = tuple(new.get(op.index, op) for op in subgraph.operations if op is not pad)
    unused = {pad.output, *(t for t in pad.inputs[1:] if t is not None)}
    unused -= {t for op in operations for t in op.inputs if t is not None}
    tensors = {t: tensor for t, tensor in subgraph.tensors.items() if t not in unused}
    return replace(subgraph, operations=operations, tensors=tensors)


def _folded(subgraph: Subgraph, pad: Operation, conv: Operation) -> Operation | None:
    """The convolution with the border in its window, None when it cannot take it."""
    if conv.kind is Kind.MAX_POOL:
        return _folded_into_maximum(subgraph, pad, conv)
    if conv.kind not in WINDOWED or conv.window is None or conv.inputs[0] != pad.output or \
            pad.output in conv.inputs[1:]:
        return None
    border = _border(subgraph, pad, _zero_point(subgraph, pad))
    if border is None:
        return None
    _, height, width, _ = subgraph.tensor(pad.output).shape
    total = tuple(a + b for a, b in zip(border, conv.window.pads(height, width), strict=True))
    if max(total[0], total[2]) > MAX_PAD or not sees_pixels(conv.window, total):
        return None
    window = replace(conv.window, padding=Padding.VALID, border=total)
    return replace(conv, inputs=(pad.inputs[0], *conv.inputs[1:]), window=window, fused=(*conv.fused, pad.index))


def _folded_into_maximum(subgraph: Subgraph, pad: Operation, pool: Operation) -> Operation | None:
    """The maximum with the border in its window, None when the border could win."""
    out = subgraph.tensor(pad.output)
    if pool.window is None or out.dtype not in EIGHT_BIT:
        return None
    border = _border(subgraph, pad, int(np.iinfo(out.dtype.numpy).min))
    if border is None:
        return None
    total = tuple(a + b for a, b in zip(border, pool.window.pads(*out.shape[1:3]), strict=True))
    window = replace(pool.window, padding=Padding.VALID, border=total)
    return replace(pool, inputs=(pad.inputs[0],), window=window, fused=(*pool.fused, pad.index))


def _zero_point(subgraph: Subgraph, pad: Operation) -> int | None:
    quantisation = subgraph.tensor(pad.output).quantisation
    return None if quantisation is None or len(quantisation.zero_points) != 1 else quantisation.zero_point


def _border(subgraph: Subgraph, pad: Operation, value: int | None) -> tuple[int, int, int, int] | None:
    """(top, bottom, left, right), None unless the PAD only surrounds the picture with that value."""
    data, out = subgraph.tensor(pad.inputs[0]), subgraph.tensor(pad.output)
    if len(data.shape) != 4 or data.quantisation != out.quantisation or out.quantisation is None:
        return None
    try:
        batch, rows, columns, channels = pad_amounts(subgraph, pad)
        is_value = pad_value(subgraph, pad) == value
    except MoveError:
        return None
    return (*rows, *columns) if batch == channels == (0, 0) and is_value else None


def sees_pixels(window: Window, border: tuple[int, ...]) -> bool:
    """Whether every window reaches into the picture."""
    return max(border[:2]) < window.extent.y and max(border[2:]) < window.extent.x
