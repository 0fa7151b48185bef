"""MAX_POOL_2D of planes that only their padding makes wider than the CNA's 2047 pixels."""
from __future__ import annotations

import numpy as np
import pytest

from tests.drivers.rocket.grid import compare
from tests.support import model_builder


@pytest.mark.parametrize("window, stride", [((2, 2), (2, 2)), ((1, 3), (3, 3)), ((7, 7), (7, 7)), ((5, 5), (2, 1))],
                         ids=str)
def test_max_pool_of_the_widest_plane_with_padding(window: tuple[int, int], stride: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    model = model_builder.pool(rng, (1, 3, 2047, 20), "MAX", window, stride=stride, padding="SAME")
    assert compare(model, rng).largest == 0
