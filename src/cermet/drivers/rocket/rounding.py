"""The right shifts of the DPU in NumPy, for arithmetic that is tried before it is chosen."""
from __future__ import annotations

import numpy as np


def rounded(values: np.ndarray, shift: int, ties_away: bool) -> np.ndarray:
    """values / 2**shift to nearest."""
    if shift == 0:
        return values
    shift = min(shift, 62)
    half = 1 << shift - 1
    if ties_away:
        return np.sign(values) * (np.abs(values) + half >> shift)
    floor = values >> shift
    rest = values - (floor << shift)
    return floor + ((rest > half) | (rest == half) & (floor & 1 == 1))
