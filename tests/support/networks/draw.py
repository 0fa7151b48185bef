"""Random networks of 5 to 40 operations, with the shapes of graph that compilers get wrong.

Branches, residuals in every order, joins and splits, operands read several times, sums of a tensor with itself, views
in the middle and at borders, tensors that are both output and operand, odd shapes, scales and zero points.
"""
from __future__ import annotations

import numpy as np

from tests.support.networks.drawers import DRAWERS
from tests.support.networks.drawing import CHANNELS, Drawing
from tests.support.networks.network import Invalid
from tests.support.networks.recipe import Recipe

SIDES = (1, 2, 3, 4, 5, 7, 8, 12, 17)
LONG = (31, 60, 101, 224)


def draw(seed: int, lowest: int = 5, highest: int = 40) -> Recipe:
    """The random network of a seed; smaller ones more often."""
    d = Drawing(seed)
    images = d.choice([2, 3, 5]) if d.chance(0.1) else 1
    for _ in range(2 if d.chance(0.3) else 1):
        shape = (images, d.choice(SIDES), d.choice(SIDES), d.choice(CHANNELS))
        if d.chance(0.1):
            height, width = (int(n) for n in d.rng.permutation([d.choice(SIDES[:3]), d.choice(LONG)]))
            shape = (1, height, width, d.choice(CHANNELS[:9]))
        d.net.apply("input", shape=shape, dtype=d.dtype, scale=d.scale(), zero=d.zero(d.dtype), seed=d.seed())
    wanted = lowest + min(int(d.rng.exponential(7)), highest - lowest)
    drawers, weights = list(DRAWERS), np.array(list(DRAWERS.values()))
    for _ in range(10 * wanted):
        if len(d.net.operations) >= wanted:
            break
        try:
            drawers[int(d.rng.choice(len(drawers), p=weights / weights.sum()))](d)
        except Invalid:
            continue
    unread = d.net.unread()
    outputs = [value for value, tensor in enumerate(d.net.values) if value in unread
               or tensor not in d.net.inputs and d.chance(0.1)]
    return Recipe(tuple(d.net.steps), tuple(outputs), d.net.per_channel, d.choice(["tflite", "tflite", "exact"]), seed,
                  d.choice([256, 256, 64, 16, 8]), d.choice(["off", "replayed"]) if d.chance(0.2) else "on",
                  _denied(d) if d.chance(0.15) else ())


def _denied(d: Drawing) -> tuple[str, ...]:
    """Operations by their names, one by its number, or some in a row."""
    names = tuple(d.choice(d.net.operations).name for _ in range(d.number(1, 2)))
    first = d.number(0, len(d.net.operations) - 1)
    return d.choice([names, (str(first),), (f"{first}-{first + d.number(1, 3)}",)])
