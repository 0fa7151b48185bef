"""How far two runs of a model are apart, output by output."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """One output. unit "LSB": steps of the quantised values; "value": of a float output, whose steps are unknown.

    equal: share of elements that are the same, 0..1; 1 for an output without elements
    """

    output: str
    unit: str
    max: float
    mean: float
    equal: float

    def __str__(self) -> str:
        amount = f"{self.max:g} LSB" if self.unit == "LSB" else f"{self.max:g}"
        mean = f"{self.mean:.4g} LSB" if self.unit == "LSB" else f"{self.mean:.4g}"
        return f"{self.output}: at most {amount}, mean {mean}, {self.equal:.2%} equal"


def compare(name: str, first: np.ndarray, second: np.ndarray) -> Difference:
    """The difference of two arrays of one shape; NaN equals NaN."""
    is_float = first.dtype.kind == "f"
    unit = "value" if is_float else "LSB"
    if first.size == 0:
        return Difference(name, unit, 0.0, 0.0, 1.0)
    wide = np.float64 if is_float else np.int64
    a, b = first.astype(wide), second.astype(wide)
    same = (a == b) | (np.isnan(a) & np.isnan(b)) if is_float else a == b
    distance = np.where(same, 0, np.abs(np.subtract(a, b, where=~same, out=np.zeros_like(a))))
    return Difference(name, unit, float(distance.max()), float(distance.mean()), float(same.mean()))
