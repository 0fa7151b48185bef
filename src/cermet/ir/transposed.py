"""TRANSPOSE_CONV: which input pixel and which weight meet in which output pixel.

TFLite's kernel adds every input pixel i, times weight k, to output pixel stride * i + k - before, where the padding
`before` is that of a convolution from the output to the input. Seen from output pixel stride * j + r, all j read the
same neighbourhood of input pixel j: the output consists of stride * stride phases, each an ordinary convolution.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.ir.operation import Pair, Window


@dataclass(frozen=True)
class Axis:
    """One axis of a TRANSPOSE_CONV."""

    size: int
    output_size: int
    kernel: int
    stride: int
    before: int

    def taps(self, phase: int) -> list[tuple[int, int]]:
        """(d, k) of a phase: output pixel stride * j + phase gets input pixel j + d times weight k."""
        first = phase + self.before
        return [((first - k) // self.stride, k) for k in range(first % self.stride, self.kernel, self.stride)]

    @property
    def reach(self) -> tuple[int, int]:
        """Smallest and largest d of all phases; both 0 where there are none, or none below or above."""
        found = [d for phase in range(self.stride) for d, _ in self.taps(phase)]
        return min([0, *found]), max([0, *found])

    def count(self, phase: int) -> int:
        """Output pixels of a phase."""
        return len(range(phase, self.output_size, self.stride))


def axes_of(window: Window, size: Pair, output_size: Pair) -> tuple[Axis, Axis]:
    """Rows and columns."""
    top, _, left, _ = window.pads(output_size.y, output_size.x)
    return (Axis(size.y, output_size.y, window.kernel.y, window.stride.y, top),
            Axis(size.x, output_size.x, window.kernel.x, window.stride.x, left))


def transposed_accumulators(data: np.ndarray, weights: np.ndarray, window: Window,
                            output_size: tuple[int, int]) -> np.ndarray:
    """Sums of products, exact.

    data      [N, H, W, I], zero point already subtracted; weights [O, KH, KW, I], likewise
    returns   int64 [N, *output_size, O]
    """
    rows, columns = axes_of(window, Pair(*data.shape[1:3]), Pair(*output_size))
    total = np.zeros((data.shape[0], *output_size, weights.shape[0]), np.int64)
    flat = data.astype(np.float64)
    for k_y in range(rows.kernel):
        to_y, from_y = _meeting(rows, k_y)
        for k_x in range(columns.kernel):
            to_x, from_x = _meeting(columns, k_x)
            total[:, to_y, to_x] += (flat[:, from_y, from_x] @ weights[:, k_y, k_x].T.astype(np.float64)).astype(
                np.int64)
    return total


def _meeting(axis: Axis, k: int) -> tuple[slice, slice]:
    """Output and input pixels that meet at weight k."""
    first = max(0, -(-(axis.before - k) // axis.stride))
    last = min(axis.size, -(-(axis.output_size + axis.before - k) // axis.stride))
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = first * axis.stride + k - axis.before
    return slice(start, start + (last - first - 1) * axis.stride + 1, axis.stride), slice(first, last)
