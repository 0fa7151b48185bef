"""RESHAPE between operations that see other channels on either side, on the simulated core: equal to TFLite."""
from __future__ import annotations

import zlib

import numpy as np
import pytest

from tests.drivers.rocket.grid import run
from tests.support import builders_move as b
from tests.support import interpreter
from tests.support.model_builder import Model


def check(model: Model) -> None:
    inputs, outputs = run(model, np.random.default_rng(zlib.crc32(model.data)))
    for mine, theirs in zip(outputs, interpreter.run(model.data, inputs), strict=True):
        np.testing.assert_array_equal(mine, theirs)


PLANES = [(1, 1), (1, 9), (5, 3), (19, 19)]


@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize("parts,kept", [(2, 3), (3, 4), (6, 4), (3, 91), (6, 91), (2, 16), (3, 32), (4, 48), (5, 33),
                                        (9, 7), (21, 1), (2, 40)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_channels_become_pixels_and_back(plane: tuple, parts: int, kept: int, dtype: str) -> None:
    merged, split = (1, *plane, parts * kept), (1, plane[0] * plane[1] * parts, kept)
    check(b.reshape(merged, split, dtype=dtype))
    check(b.reshape(split, merged, dtype=dtype))


@pytest.mark.parametrize("shape,new", [
    ((1, 4, 6), (1, 3, 8)), ((1, 6, 6, 10), (1, 9, 10, 4)), ((1, 5, 4, 12), (1, 6, 5, 8)), ((2, 3, 5, 8), (15, 16)),
    ((1, 7, 48), (1, 3, 7, 16)), ((1, 14, 96), (1, 28, 48)), ((1, 1, 288), (1, 3, 3, 32)), ((1, 3, 3, 32), (1, 1, 288)),
    ((6, 24), (9, 16)), ((1, 2, 2, 6), (1, 1, 1, 24)), ((1, 60), (4, 15)), ((4, 15), (1, 60))], ids=str)
def test_other_changes(shape: tuple, new: tuple) -> None:
    check(b.reshape(shape, new))
