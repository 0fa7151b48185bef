"""CBUF tiling: tiles cover the output once, fit their banks, and number as few as the sizes allow."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.tiling import Tile, data_banks, plan, row_entries, rows_that_fit
from cermet.hw.soc import RK3588
from cermet.ir.operation import Padding, Pair, Window


def _geometry(plane: tuple[int, int], channels: int, outputs: int, kernel: int = 3, stride: int = 1,
              padding: Padding = Padding.SAME, *, is_depthwise: bool = False) -> Geometry:
    window = Window(Pair(kernel, kernel), Pair(stride, stride), padding)
    return Geometry.of(window, (*plane, channels), outputs, is_depthwise=is_depthwise)


def _tiles(geometry: Geometry) -> tuple[Tile, ...]:
    made = plan(RK3588, geometry)
    assert made is not None
    return made.tiles


GRID = list(itertools.product(((1, 1), (5, 7), (40, 3), (112, 112), (300, 200)), (3, 64, 500), (8, 96, 1001), (1, 3, 7),
                              (1, 2, 3), tuple(Padding)))


@pytest.mark.parametrize("is_depthwise", [False, True])
def test_tiles_cover_the_output_once_and_fit(is_depthwise: bool) -> None:
    checked = 0
    for plane, channels, outputs, kernel, stride, padding in GRID:
        if padding is Padding.VALID and kernel > min(plane):
            continue
        geometry = _geometry(plane, channels, channels if is_depthwise else outputs, kernel, stride, padding,
                             is_depthwise=is_depthwise)
        made = plan(RK3588, geometry)
        if made is None:
            continue
        covered = np.zeros((geometry.output_height, geometry.output_channels), int)
        for tile in made.tiles:
            covered[tile.first_output_row:tile.first_output_row + tile.output_rows,
                    tile.first_channel:tile.first_channel + tile.channels] += 1
            _check_rows(geometry, tile)
            _check_banks(geometry, tile)
        assert (covered == 1).all()
        checked += 1
    assert checked > 150


def _check_rows(geometry: Geometry, tile: Tile) -> None:
    """Every tap of every output row is inside the tile's rows, above its top pad, or below the image."""
    assert tile.output_rows > 0 and tile.input_rows > 0
    for row in range(tile.output_rows):
        top = (tile.first_output_row + row) * geometry.stride.y - geometry.pad_top
        inside = tile.first_input_row - tile.pad_top + row * geometry.stride.y
        assert inside == top
        bottom = min(top + geometry.kernel_height_extent, geometry.input_height)
        assert bottom <= tile.first_input_row + tile.input_rows
    assert tile.first_input_row + tile.input_rows <= geometry.input_height


def _check_banks(geometry: Geometry, tile: Tile) -> None:
    assert tile.data_banks + tile.weight_banks == RK3588.cbuf.banks and min(tile.data_banks, tile.weight_banks) >= 1
    channels = tile.channels if geometry.is_depthwise else geometry.input_channels
    assert data_banks(RK3588, geometry.input_width, channels, tile.input_rows) <= tile.data_banks
    assert tile.first_channel % (64 if geometry.is_depthwise else 32) == 0


def test_reused_weights_are_those_of_the_tile_before() -> None:
    """Same channels, same banks: only then is what lies in the CBUF the same."""
    for plane, channels, outputs, kernel, stride, padding in GRID:
        if padding is Padding.VALID and kernel > min(plane):
            continue
        made = plan(RK3588, _geometry(plane, channels, outputs, kernel, stride, padding))
        for before, tile in itertools.pairwise(made.tiles if made else ()):
            if tile.reuses_weights:
                assert (before.first_channel, before.channels, before.weight_banks) == (
                    tile.first_channel, tile.channels, tile.weight_banks)


def test_what_fits_is_one_task() -> None:
    assert len(_tiles(_geometry((14, 14), 64, 96))) == 1


def test_weights_larger_than_the_cbuf_are_streamed_in_one_task() -> None:
    """2.3 MB of weights behind a 7x7 map: 7 data and 5 weight banks, as working programs have it."""
    (tile,) = _tiles(_geometry((7, 7), 512, 512))
    assert not tile.reuses_weights and tile.data_banks <= 7


def test_planes_larger_than_the_cbuf_are_cut_into_bands_that_keep_the_weights() -> None:
    tiles = _tiles(_geometry((300, 200), 16, 16))
    assert len(tiles) > 1 and not tiles[0].reuses_weights and all(t.reuses_weights for t in tiles[1:])


def test_depthwise_channels_are_cut_where_rows_do_not_fit() -> None:
    tiles = _tiles(_geometry((9, 200), 3000, 3000, 7, is_depthwise=True))
    assert len({t.first_channel for t in tiles}) > 1


def test_a_window_larger_than_the_cbuf_has_no_plan() -> None:
    assert plan(RK3588, _geometry((50, 2000), 1024, 16, 7)) is None


def test_a_kernel_group_larger_than_its_banks_is_listed_as_assumed() -> None:
    made = plan(RK3588, _geometry((3, 3), 1024, 40, 7))
    assert made is not None and made.assumed


@pytest.mark.parametrize("width, channels, entries", [(112, 32, 28), (7, 48, 7), (7, 40, 7), (8, 128, 8), (1, 16, 1),
                                                      (10, 144, 12), (5, 16, 1)])
def test_row_entries(width: int, channels: int, entries: int) -> None:
    """Recipes §1.3: whole groups of 8 atoms, 3 atoms take a full entry each pixel."""
    assert row_entries(width, channels) == entries


def test_a_column_keeps_one_bank_free() -> None:
    """int8 with width 1 that fills the last bank reads garbage."""
    assert rows_that_fit(RK3588, 1, 16, 2) == 256 and data_banks(RK3588, 1, 16, 256) == 2
