"""The look-up tables written out for the compiled kernels."""
from __future__ import annotations

import numpy as np
import pytest

from cermet.sim.lut import ENTRIES, Lut, Table


def table(rng: np.random.Generator, start: int, end: int, select: int, slope: int = 0) -> Table:
    entries = rng.integers(-32768, 32768, ENTRIES)
    return Table(entries, start, end, select, slope, 3, slope, 3)


@pytest.mark.parametrize("select", [0, 1, 5, 7])
@pytest.mark.parametrize(("low", "high"), [(-16384, 16384), (-512, 512), (-100, 77), (0, 0), (-3, 60000)])
def test_dense_form_gives_the_same_results_everywhere(select: int, low: int, high: int) -> None:
    rng = np.random.default_rng(select)
    lut = Lut(table(rng, low, 0, select), table(rng, 0, high, select))
    made = lut.dense()
    assert made is not None
    first, values = made
    index = np.concatenate([np.arange(low - 700, high + 700), [-(1 << 31), (1 << 31) - 1]])
    assert np.array_equal(values[np.clip(index, first, first + len(values) - 1) - first], lut(index))


def test_slopes_outside_and_long_ranges_have_no_dense_form() -> None:
    rng = np.random.default_rng(0)
    assert Lut(table(rng, -512, 0, 0, slope=2), table(rng, 0, 512, 0)).dense() is None
    assert Lut(table(rng, -512, 0, 0), table(rng, 0, 512, 0, slope=2)).dense() is None
    assert Lut(table(rng, -(1 << 20), 0, 11), table(rng, 0, 512, 0)).dense() is None
