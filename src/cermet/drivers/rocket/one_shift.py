"""A convolution whose channels share BS's shift and OUT_CVT's, without BN's powers of two (assumed.py).

All channels then count in the unit of the largest multiplier, so small multipliers M have few bits: C is M rounded.
Each channel gets the best of three:

    kept       M is rounded, no more                          error: |accumulator| * |C - M|
    moved      the bias is moved by M / C, so that rounding   error: |sum of products| * |C - M|, half a bias unit
               M only acts on the products
    dropped    weights of zero, and the constant result as    error: |sum of products| * M, half a bias unit
               bias: for pruned channels (M around 1e-8)
"""
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cermet.drivers.rocket.requantise import INT32_MAX, MAX_ROUNDED_ONCE_ERROR, MULTIPLIER_BITS, split

if TYPE_CHECKING:
    from cermet.drivers.rocket.conv import Layer

LARGEST = (1 << MULTIPLIER_BITS) - 1
DROPPED = 2
CONSTANT_UNIT = 2.0 ** -8       # output steps in which a dropped channel's constant is held
FARTHEST = 1024.0               # output steps: a constant beyond saturates anyway
STEPS = 256.0                   # outputs farther from the zero point saturate either way


def with_one_shift(layer: Layer, zero_point: int) -> Layer | None:
    """The layer with multipliers of one unit; None when a channel would be off by a step, or there is one multiplier.

    zero_point   of the input, signed domain
    """
    m = np.asarray(layer.multipliers, np.float64)
    if len(m) == 1 or m.max() <= 0:
        return None
    unit = 2.0 ** -(MULTIPLIER_BITS + int(split(m.max(keepdims=True))[1][0]))
    given = (layer.bias + zero_point * layer.weights.tap_sums()).astype(np.float64)
    products = max(127 - zero_point, zero_point + 128) * layer.weights.magnitudes().astype(np.float64)
    rounded = np.clip(np.rint(m / unit), 1, LARGEST) * unit
    constant = float(np.clip(np.rint(CONSTANT_UNIT / unit), 1, LARGEST)) * unit
    limit = STEPS / np.maximum(m, 1e-300)
    moved = np.rint(given * m / rounded)
    kept_error = np.minimum(layer.bounds, limit) * np.abs(rounded - m)
    moved_error = np.minimum(products, limit + np.abs(given)) * np.abs(rounded - m) + rounded / 2
    moved_error[np.abs(moved) + products > INT32_MAX] = np.inf
    errors = np.array([kept_error, moved_error, products * m + constant / 2])
    choice = errors.argmin(axis=0)
    if errors.min(axis=0).max() > MAX_ROUNDED_ONCE_ERROR:
        return None
    own = np.choose(choice, [given, moved, np.rint(np.clip(given * m, -FARTHEST, FARTHEST) / constant)])
    return _made(layer, zero_point, own.astype(np.int64), np.where(choice == DROPPED, constant, rounded),
                 choice == DROPPED)


def _made(layer: Layer, zero_point: int, own: np.ndarray, multipliers: np.ndarray, is_dropped: np.ndarray) -> Layer:
    """own: the bias before the input's zero point is folded in."""
    values = layer.weights.values.copy()
    values[is_dropped] = layer.weights.zero_points[is_dropped, None, None, None]
    weights = replace(layer.weights, values=values)
    reach = max(127 - zero_point, zero_point + 128)
    return replace(layer, weights=weights, bias=own - zero_point * weights.tap_sums(),
                   bounds=reach * weights.magnitudes() + np.abs(own), multipliers=multipliers)
