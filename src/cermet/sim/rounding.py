"""Rounding and saturation of the NPU's integer stages: the readable definitions (numerics §0).

All take int64 arrays; the compiled kernels do the same arithmetic and are compared with these in tests.
"""
from __future__ import annotations

import numpy as np

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def shift_even(value: np.ndarray, shift: int) -> np.ndarray:
    """value / 2**shift, nearest, ties to even. shift 0..63."""
    if shift == 0:
        return value
    if shift > 62:
        return np.zeros_like(value)         # |value| < 2**61 in every stage: below one half
    floor = value >> shift
    rest = value - (floor << shift)
    half = 1 << (shift - 1)
    return floor + ((rest > half) | ((rest == half) & ((floor & 1) == 1)))


def shift_away(value: np.ndarray, shift: int) -> np.ndarray:
    """value / 2**shift, nearest, ties away from zero."""
    if shift == 0:
        return value
    if shift > 62:
        return np.zeros_like(value)
    return np.sign(value) * ((np.abs(value) + (1 << (shift - 1))) >> shift)


def shift_up(value: np.ndarray, shift: int) -> np.ndarray:
    """value / 2**shift, nearest, ties towards plus infinity."""
    if shift == 0:
        return value
    return (value + (1 << (shift - 1))) >> shift


def saturate(value: np.ndarray, bits: int) -> np.ndarray:
    """Clamp to signed bits."""
    return np.clip(value, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def signed(value: int, bits: int) -> int:
    """Two's complement reading of the low bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
