"""How a FULLY_CONNECTED sees its input: as pixels, as a window over the map, or as rows of atoms.

    pixels   one result for each pixel: a 1x1 convolution over a column of pixels
    map      one result for the whole map: a window as large as it
    rows     what has too many channels or too large a window for registers: the atoms of an input vector, which lie at
             one distance from each other, are cut into rows of equal length, and the window is a column of them. The
             CNA reads line by line, lines and surfaces at any distance (data layouts §3, row-major matrices)
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div
from cermet.drivers.rocket.limits import MAX_INPUT_CHANNELS, MAX_KERNEL
from cermet.drivers.rocket.tiling import fits
from cermet.drivers.rocket.views import MapShape, window_over
from cermet.drivers.rocket.weights import Weights
from cermet.hw.soc import Soc
from cermet.ir.operation import Padding, Pair, Window

ONE = Pair(1, 1)


@dataclass(frozen=True)
class Flattening:
    """The map that the convolution sees.

    vectors   input vectors: one result each
    atoms     of a vector; 0 unless it is cut into rows
    step      atoms from one row to the next; rows overlap where they are no divisor
    """

    height: int
    width: int
    channels: int
    kernel: Pair
    vectors: int
    atoms: int = 0
    step: int = 0

    def geometry(self, outputs: int) -> Geometry:
        window = Window(self.kernel, ONE, Padding.VALID)
        return Geometry.of(window, (self.height, self.width, self.channels), outputs)

    def part(self, vectors: int) -> Flattening:
        """The same for fewer vectors of a map cut into rows."""
        return replace(self, width=vectors)


def flatten(shape: MapShape, depth: int) -> Flattening | None:
    """For weights of `depth` inputs per output; None when they fit neither the pixels nor the map."""
    kernel = window_over(shape, depth)
    if kernel is None:
        return None
    fits = shape.channels <= MAX_INPUT_CHANNELS
    if kernel == ONE:
        return Flattening(shape.pixels, 1, shape.channels, ONE, shape.pixels) if fits else _in_rows(
            ceil_div(depth, ATOM_BYTES), shape.pixels)
    if fits and max(kernel.y, kernel.x) <= MAX_KERNEL:
        return Flattening(shape.height, shape.width, shape.channels, kernel, 1)
    return _in_rows(shape.pixels * ceil_div(shape.channels, ATOM_BYTES), 1)


def _in_rows(atoms: int, vectors: int) -> Flattening:
    """As few rows as there must be."""
    rows = ceil_div(atoms, MAX_INPUT_CHANNELS // ATOM_BYTES)
    step = atoms // rows
    length = atoms - (rows - 1) * step
    return Flattening(rows, vectors, length * ATOM_BYTES, Pair(rows, 1), vectors, atoms, step)


def vectors_per_task(soc: Soc, flat: Flattening, outputs: int) -> int:
    """Vectors whose rows fit the CBUF at once; 0 when not even one does. All where the tiling cuts by itself."""
    if not flat.atoms:
        return flat.vectors if fits(soc, flat.geometry(outputs)) else 0
    low, high = 0, flat.vectors
    while low < high:
        middle = (low + high + 1) // 2
        if fits(soc, flat.part(middle).geometry(outputs)):
            low = middle
        else:
            high = middle - 1
    return low


def flat_source(flat: Flattening, source: FeatureMap, first: int = 0) -> FeatureMap:
    """The same bytes as the convolution sees them, from some vector on."""
    if not flat.atoms:
        return replace(source, height=flat.height, width=flat.width, channels=flat.channels)
    # A vector's atoms lie a surface apart; those of a whole map follow each other.
    pitch = source.surface_atoms if source.num_pixels == flat.vectors else 1
    return replace(source, address=source.address + first * ATOM_BYTES, height=flat.height, width=flat.step * pitch,
                   channels=flat.channels, pitch=pitch)


def flat_weights(flat: Flattening, weights: Weights, shape: MapShape) -> Weights:
    """Weights [outputs, kernel rows, kernel columns, channels] from [outputs, 1, 1, inputs in the model's order]."""
    outputs = len(weights.values)
    if not flat.atoms:
        return replace(weights, values=weights.values.reshape(outputs, flat.kernel.y, flat.kernel.x, flat.channels))
    lanes = ceil_div(shape.channels, ATOM_BYTES) * ATOM_BYTES
    values = np.empty((outputs, flat.atoms * ATOM_BYTES // lanes, lanes), np.int8)
    values[...] = weights.zero_points[:, None, None]
    values[..., :shape.channels] = weights.values.reshape(outputs, -1, shape.channels)
    atoms = values.reshape(outputs, -1, lanes // ATOM_BYTES, ATOM_BYTES).transpose(0, 2, 1, 3)
    atoms = atoms.reshape(outputs, flat.atoms, ATOM_BYTES)
    rows = np.empty((outputs, flat.height, flat.channels // ATOM_BYTES, ATOM_BYTES), np.int8)
    rows[...] = weights.zero_points[:, None, None, None]
    for row in range(flat.height):
        count = flat.step if row < flat.height - 1 else rows.shape[2]      # what overlaps belongs to the next row
        rows[:, row, :count] = atoms[:, row * flat.step:row * flat.step + count]
    return replace(weights, values=rows.reshape(outputs, flat.height, 1, flat.channels))
