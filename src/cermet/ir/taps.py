"""Sliding windows over arrays."""
from __future__ import annotations

import numpy as np

from cermet.ir.operation import Window


class Taps:
    """Iterates over the taps of a window: (y, x, the pixel under that tap for every output pixel)."""

    def __init__(self, data: np.ndarray, window: Window, fill: int = 0) -> None:
        batch, height, width, _ = data.shape
        self.window = window
        self.out = window.output_size(height, width)
        self.shape = (batch, self.out.y, self.out.x)
        top, bottom, left, right = window.pads(height, width)
        self.padded = data
        if top or bottom or left or right:
            self.padded = np.pad(data, [(0, 0), (top, bottom), (left, right), (0, 0)], constant_values=fill)

    def __iter__(self):  # type: ignore[no-untyped-def]
        stride, dilation = self.window.stride, self.window.dilation
        for y in range(self.window.kernel.y):
            rows = slice(y * dilation.y, y * dilation.y + (self.out.y - 1) * stride.y + 1, stride.y)
            for x in range(self.window.kernel.x):
                columns = slice(x * dilation.x, x * dilation.x + (self.out.x - 1) * stride.x + 1, stride.x)
                yield y, x, self.padded[:, rows, columns, :]
