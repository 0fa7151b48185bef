"""A strided convolution over blocks of pixels: the block's pixels are channels, as SPACE_TO_DEPTH makes them.

The window over the blocks has fewer taps and a smaller stride. Taps that the model's window lacks weigh nothing.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from cermet.drivers.rocket.layout import ceil_div
from cermet.ir.operation import Padding, Pair, Window
from cermet.ir.tensor import Tensor

NO_STEP = Pair(1, 1)


def blocks_shape(shape: tuple[int, ...], block: Pair) -> tuple[int, ...]:
    """NHWC, in blocks: the last ones may reach beyond the picture."""
    images, height, width, channels = shape
    return images, ceil_div(height, block.y), ceil_div(width, block.x), block.y * block.x * channels


def window_of_blocks(window: Window, height: int, width: int, block: Pair) -> Window:
    """The window that computes the same of the blocks; its border below or on the right may come out negative.

    block   divides the stride
    """
    out, pads = window.output_size(height, width), window.pads(height, width)
    stride = Pair(window.stride.y // block.y, window.stride.x // block.x)
    kernel_y, top, bottom = _axis(window.kernel.y, block.y, stride.y, pads[0], height, out.y)
    kernel_x, left, right = _axis(window.kernel.x, block.x, stride.x, pads[2], width, out.x)
    return Window(Pair(kernel_y, kernel_x), stride, Padding.VALID, border=(top, bottom, left, right))


def _axis(taps: int, block: int, step: int, pad: int, size: int, out: int) -> tuple[int, int, int]:
    """(taps, border in front, border behind), in blocks."""
    before, folded = ceil_div(pad, block), ceil_div(_taps_in_front(pad, block) + taps, block)
    return folded, before, (out - 1) * step + folded - ceil_div(size, block) - before


def _taps_in_front(pad: int, block: int) -> int:
    """Taps without weight before the first one, so that a window begins where a block does."""
    return -pad % block


def weights_of_blocks(weights: Tensor, window: Window, shape: tuple[int, ...], block: Pair, index: int) -> Tensor:
    """[O, block rows, block columns, pixel in the block and channel]; what the window lacks is the zero point.

    shape   of the picture
    """
    assert weights.data is not None and weights.quantisation is not None
    outputs, height, width, channels = weights.shape
    top, _, left, _ = window.pads(*shape[1:3])
    kernel = window_of_blocks(window, shape[1], shape[2], block).kernel
    first = Pair(_taps_in_front(top, block.y), _taps_in_front(left, block.x))
    points = weights.quantisation.channel_zero_points(outputs).astype(weights.data.dtype)
    full = np.empty((outputs, kernel.y * block.y, kernel.x * block.x, channels), weights.data.dtype)
    full[...] = points[:, None, None, None]
    full[:, first.y:first.y + height, first.x:first.x + width] = weights.data
    blocks = full.reshape(outputs, kernel.y, block.y, kernel.x, block.x, channels).transpose(0, 1, 3, 2, 4, 5)
    data = np.ascontiguousarray(blocks.reshape(outputs, kernel.y, kernel.x, -1))
    data.flags.writeable = False
    return replace(weights, index=index, name=f"{weights.name} of blocks", shape=data.shape, data=data)
