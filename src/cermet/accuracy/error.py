"""Differences of two tensors, added up over samples."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cermet.ir.tensor import Tensor


@dataclass(frozen=True)
class Error:
    """One tensor against its reference. docs/accuracy-json.md.

    unit        "LSB": steps of the quantised values; "value": of a float tensor
    saturated, reference_saturated   elements at an end of the integer type's range
    cosine      of the two as vectors of real values; 1 when both are zero
    beyond      elements farther away than one step of each operation explains; None where that was not asked
    """

    unit: str
    elements: int
    max: float
    mean: float
    differing: float
    cosine: float
    saturated: int
    reference_saturated: int
    beyond: int | None


@dataclass
class Tally:
    """Adds up pairs of arrays of one tensor."""

    tensor: Tensor
    elements: int = 0
    different: int = 0
    largest: float = 0.0
    total: float = 0.0
    saturated: list[int] = field(default_factory=lambda: [0, 0])
    beyond: int | None = None
    products: np.ndarray = field(default_factory=lambda: np.zeros(3))     # got*got, got*want, want*want

    def add(self, got: np.ndarray, want: np.ndarray, allowed: np.ndarray | None = None) -> None:
        """One sample. allowed: how far each element may be away."""
        if got.shape != want.shape:
            raise ValueError(f"tensor {self.tensor.index}: shapes {got.shape} and {want.shape} must be one")
        first, second = got.astype(np.float64), want.astype(np.float64)
        same = (got == want) | (np.isnan(first) & np.isnan(second))
        distance = np.where(same, 0.0, np.abs(first - second))
        self.elements += got.size
        self.different += int(got.size - np.count_nonzero(same))
        self.largest = max(self.largest, float(distance.max(initial=0.0)))
        self.total += float(distance.sum())
        if allowed is not None:
            self.beyond = (self.beyond or 0) + int(np.count_nonzero(distance > allowed))
        zero_point = self._zero_point()
        a, b = (first - zero_point).reshape(-1), (second - zero_point).reshape(-1)
        self.products += [a @ a, a @ b, b @ b]
        for side, array in enumerate((got, want)):
            self.saturated[side] += _at_an_end(array)

    def _zero_point(self) -> int:
        quantisation = self.tensor.quantisation
        return quantisation.zero_points[0] if quantisation is not None else 0

    def error(self) -> Error | None:
        """None when no sample was added."""
        if not self.elements:
            return None
        mine, both, theirs = (float(product) for product in self.products)
        length = (mine * theirs) ** 0.5
        cosine = min(max(both / length, -1.0), 1.0) if length else float(mine == theirs)
        unit = "value" if self.tensor.dtype.value.startswith("float") else "LSB"
        return Error(unit, self.elements, self.largest, self.total / self.elements, self.different / self.elements,
                     cosine, self.saturated[0], self.saturated[1], self.beyond)


def _at_an_end(array: np.ndarray) -> int:
    if array.dtype.kind not in "iu":
        return 0
    info = np.iinfo(array.dtype)
    return int(np.count_nonzero((array == info.min) | (array == info.max)))
