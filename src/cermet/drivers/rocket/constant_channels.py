"""Channels of a convolution whose weights are all zero: pruned ones, the same byte everywhere.

Their scales can be anything, and converters give them some of 2**-31 with a bias of 2**30. One such channel would take
the bits of the multipliers of all (requantise_channels.py), and the byte may lie at a tie. So TFLite's byte is computed
here, and the bias holds it in the unit of an ordinary channel.
"""
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cermet.ir.fixed_point import multiply_by_quantised_multiplier, quantize_multiplier

if TYPE_CHECKING:
    from cermet.drivers.rocket.conv import Layer

FARTHEST = 1024         # output steps: a constant beyond saturates anyway
LARGEST_UNIT = 0.5      # output steps: a unit of the bias must not hide a step


def settle_constants(layer: Layer) -> Layer:
    """The layer with ordinary multipliers for such channels; their outputs stay TFLite's."""
    constant = layer.weights.magnitudes() == 0
    if len(layer.multipliers) == 1 or not constant.any():
        return layer
    others = layer.multipliers[~constant]
    if not (others > 0).any():
        return layer
    unit = float(np.median(others[others > 0]))
    if unit > LARGEST_UNIT:
        return layer
    numbers = [quantize_multiplier(float(m)) for m in layer.multipliers[constant]]
    q31, shift = (np.array(column, np.int64) for column in zip(*numbers, strict=True))
    steps = multiply_by_quantised_multiplier(layer.bias[constant], q31, shift)
    held = np.rint(np.clip(steps, -FARTHEST, FARTHEST) / unit).astype(np.int64)
    bias, bounds, multipliers = layer.bias.copy(), layer.bounds.copy(), layer.multipliers.copy()
    bias[constant], bounds[constant], multipliers[constant] = held, np.abs(held), unit
    return replace(layer, bias=bias, bounds=bounds, multipliers=multipliers)
