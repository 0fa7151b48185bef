"""Tiles of random convolutions: they cover the output once, and what each one needs is in the CBUF."""
from __future__ import annotations

import random

import pytest

from cermet.drivers.rocket.geometry import Geometry, Tile
from cermet.drivers.rocket.layout import ceil_div
from cermet.drivers.rocket.tiling import Plan, plan, row_entries
from cermet.hw.soc import RK3588
from cermet.ir.operation import Padding, Pair, Window

CBUF = RK3588.cbuf


def random_geometry(rng: random.Random) -> Geometry:
    is_depthwise = rng.random() < 0.5
    kernel = Pair(rng.choice((1, 2, 3, 5, 7)), rng.choice((1, 2, 3, 5, 7)))
    window = Window(kernel, Pair(rng.choice((1, 2, 3)), rng.choice((1, 2, 3))), Padding.SAME,
                    dilation=Pair(rng.choice((1, 1, 2)), rng.choice((1, 1, 2))))
    sides = (1, 2, 7, 30, 64, 100, 150, 300)
    channels = (3, 16, 40, 48, 64, 104, 112, 176, 232, 360, 512, 1000, 1500)
    height, width, inputs = rng.choice(sides), rng.choice(sides), rng.choice(channels)
    outputs = inputs if is_depthwise else rng.choice(channels)
    return Geometry.of(window, (height, width, inputs), outputs, is_depthwise=is_depthwise)


def check_coverage(geometry: Geometry, made: Plan) -> None:
    """Each row and channel once, each tile with all input rows that its windows look at."""
    areas = 0
    for tile in made:
        areas += tile.output_rows * tile.channels
        first = tile.first_output_row * geometry.stride.y - geometry.pad_top
        last = first + (tile.output_rows - 1) * geometry.stride.y + geometry.kernel_height_extent - 1
        assert tile.first_input_row - tile.pad_top == first or tile.pad_top == 0 and tile.first_input_row == first
        assert tile.first_input_row + tile.input_rows - 1 >= min(last, geometry.input_height - 1)
        assert tile.first_input_row + tile.input_rows <= geometry.input_height
    assert areas == geometry.output_height * geometry.output_channels
    corners = {(tile.first_output_row, tile.first_channel) for tile in made}
    assert len(corners) == len(made)


def check_banks(geometry: Geometry, tile: Tile) -> None:
    """Features fit their banks, with a spare one for planes of width 1; the banks fit the CBUF."""
    channels = tile.channels if geometry.is_depthwise else geometry.input_channels
    entries = row_entries(geometry.input_width, channels) * tile.input_rows
    needed = ceil_div(entries, CBUF.entries_per_bank) + (geometry.input_width == 1)
    assert needed <= tile.data_banks < CBUF.banks
    assert tile.data_banks + tile.weight_banks <= CBUF.banks


def check_reuse(geometry: Geometry, tile: Tile, before: Tile | None) -> None:
    """Kept weights are those of the task before, all of them are in its banks, and the banks are the same."""
    if not tile.reuses_weights:
        return
    assert before is not None
    assert (before.first_channel, before.channels) == (tile.first_channel, tile.channels)
    assert (before.data_banks, before.weight_banks) == (tile.data_banks, tile.weight_banks)
    per_channel = geometry.taps if geometry.is_depthwise else geometry.kernel_bytes
    assert tile.channels * per_channel <= tile.weight_banks * CBUF.bank_bytes


@pytest.mark.parametrize("seed", range(8))
def test_tiles_cover_the_output_and_fit_the_cbuf(seed: int) -> None:
    rng = random.Random(seed)
    parts = 0
    for _ in range(250):
        geometry = random_geometry(rng)
        made = plan(RK3588, geometry)
        if made is None:
            continue
        parts += len(made) > 1
        check_coverage(geometry, made)
        for before, tile in zip([None, *made], made, strict=False):
            check_banks(geometry, tile)
            check_reuse(geometry, tile, before)
    assert parts > 50
