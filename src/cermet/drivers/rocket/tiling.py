"""Cuts a convolution into tasks that fit the CBUF: along rows, output channels or both (recipes §1.3 to §1.6).

Of the plans that fit, the one wins that takes the least time by the cycle model, with what the kernel does between two
tasks: mostly the one with the fewest tasks, among those the one that reads the least.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cermet.drivers.rocket.geometry import Geometry, Tile
from cermet.drivers.rocket.layout import ATOM_BYTES, ceil_div
from cermet.drivers.rocket.tile_time import Pace, mainline_pace, plan_us
from cermet.hw.soc import Soc

STREAM_DATA_BANKS = 7           # with weights that do not fit: 7 data and 5 weight banks (hw-verified)
MAX_TASK_CHANNELS = 8192        # DPU cube: 13 bits
MAX_TASK_ROWS = 2047            # input rows: 11 bits, trm

Plan = tuple[Tile, ...]         # in order


@dataclass(frozen=True)
class Share:
    """The part of a convolution's output that one plan is for."""

    first_row: int
    rows: int
    first_channel: int
    channels: int

    @staticmethod
    def whole(geometry: Geometry) -> Share:
        return Share(0, geometry.output_height, 0, geometry.output_channels)


def row_entries(width: int, channels: int) -> int:
    """CBUF entries of 128 bytes that one input row takes (recipes §1.3)."""
    atoms = ceil_div(channels, ATOM_BYTES)
    rest = atoms % 8
    return atoms // 8 * width + (width if rest == 3 else ceil_div(rest * width, 8))


def data_banks(soc: Soc, width: int, channels: int, rows: int) -> int:
    """Banks for some input rows. A column of width 1 needs a spare bank: the last rows are garbage otherwise."""
    return ceil_div(row_entries(width, channels) * rows, soc.cbuf.entries_per_bank) + (1 if width == 1 else 0)


def rows_that_fit(soc: Soc, width: int, channels: int, banks: int) -> int:
    banks -= 1 if width == 1 else 0
    return max(banks, 0) * soc.cbuf.entries_per_bank // row_entries(width, channels)


def weight_banks(soc: Soc, num_bytes: int) -> int:
    """Banks for resident weights, with the spare one that working programs leave."""
    return ceil_div(num_bytes, soc.cbuf.bank_bytes) + 1


def plan(soc: Soc, geometry: Geometry, share: Share | None = None, pace: Pace | None = None) -> Plan | None:
    """The fastest plan for all or a share of the output, or None when not even the rows of one output row fit.

    pace: how the tasks will run; None: on mainline
    """
    plans = list(all_plans(soc, geometry, share or Share.whole(geometry)))
    if len(plans) < 2:
        return plans[0] if plans else None
    pace = pace or mainline_pace(soc)
    return min(plans, key=lambda tiles: plan_us(soc, geometry, tiles, pace))


def fits(soc: Soc, geometry: Geometry) -> bool:
    """Whether there is a plan."""
    return next(all_plans(soc, geometry, Share.whole(geometry)), None) is not None


def all_plans(soc: Soc, geometry: Geometry, share: Share) -> Iterator[Plan]:
    """Each way to cut the work that fits."""
    return _depthwise_plans(soc, geometry, share) if geometry.is_depthwise else _direct_plans(soc, geometry, share)


def _direct_plans(soc: Soc, geometry: Geometry, share: Share) -> Iterator[Plan]:
    """All weights resident; some groups of kernels resident at a time; weights streamed."""
    group = soc.kernel_group
    total_groups = ceil_div(share.channels, group)
    group_bytes = geometry.kernel_bytes * group
    largest = MAX_TASK_CHANNELS // group
    for parts in _part_counts(total_groups):
        groups = ceil_div(total_groups, parts)
        if groups > largest:
            continue
        banks = weight_banks(soc, min(groups * group_bytes, geometry.weight_bytes))
        if banks < soc.cbuf.banks:
            yield from _plan(soc, geometry, share, groups * group, soc.cbuf.banks - banks, is_resident=True)
    yield from _streamed_plans(soc, geometry, share, min(total_groups, largest) * group)


def _streamed_plans(soc: Soc, geometry: Geometry, share: Share, part: int) -> Iterator[Plan]:
    """Weights fetched group by group for each task: one group must fit its banks, or so it is safest."""
    group_bytes = geometry.kernel_bytes * min(soc.kernel_group, geometry.num_kernels)
    banks = max(soc.cbuf.banks - STREAM_DATA_BANKS, ceil_div(group_bytes, soc.cbuf.bank_bytes))
    made = list(_plan(soc, geometry, share, part, soc.cbuf.banks - banks, is_resident=False))
    yield from made or _plan(soc, geometry, share, part, STREAM_DATA_BANKS, is_resident=False)


def _part_counts(total: int) -> list[int]:
    """Numbers of parts that give different part sizes."""
    return sorted({ceil_div(total, size) for size in range(1, total + 1)})


def _depthwise_plans(soc: Soc, geometry: Geometry, share: Share) -> Iterator[Plan]:
    """Channel groups at a time: their weights and their surfaces only."""
    group = soc.depthwise_group
    total_groups = ceil_div(share.channels, group)
    for parts in _part_counts(total_groups):
        channels = ceil_div(total_groups, parts) * group
        banks = weight_banks(soc, geometry.taps * min(channels, geometry.aligned_input_channels))
        if banks < soc.cbuf.banks and channels <= MAX_TASK_CHANNELS:
            yield from _plan(soc, geometry, share, channels, soc.cbuf.banks - banks, is_resident=True)


def _plan(soc: Soc, geometry: Geometry, share: Share, part: int, banks: int, *, is_resident: bool) -> Iterator[Plan]:
    """One plan with `part` output channels at a time and `banks` for data; nothing when a window's rows do not fit."""
    widest = min(part, geometry.input_channels) if geometry.is_depthwise else geometry.input_channels
    # The last channels may take more entries than the others: 48 take more than 64.
    last = geometry.input_channels % widest or widest
    rows = min(rows_that_fit(soc, geometry.input_width, channels, banks) for channels in (widest, last))
    rows = min(rows, MAX_TASK_ROWS)
    if rows < min(geometry.kernel_height_extent, geometry.input_height):
        return
    bands = list(_bands(geometry, share, rows))
    if sum(band.output_rows for band in bands) < share.rows:
        return
    tiles: list[Tile] = []
    end = share.first_channel + share.channels
    for first in range(share.first_channel, end, part):
        channels = min(part, end - first)
        channels_read = channels if geometry.is_depthwise else geometry.input_channels
        for index, band in enumerate(bands):
            used = banks if len(bands) > 1 else data_banks(soc, geometry.input_width, channels_read, band.input_rows)
            tiles.append(replace(band, first_channel=first, channels=channels, data_banks=used,
                                 weight_banks=soc.cbuf.banks - used, reuses_weights=is_resident and index > 0))
    yield tuple(tiles)


def _bands(geometry: Geometry, share: Share, rows: int) -> Iterator[Tile]:
    """Bands of a share's output rows, each as tall as `rows` input rows allow; nothing when one output row needs more.

    No program is known that cuts a transposed convolution into bands (Q-D3).
    """
    if geometry.is_transposed:
        if rows >= geometry.input_height:
            yield Tile(0, geometry.output_height, 0, geometry.input_height, geometry.pad_top, 0, 0, 0, 0)
        return
    first, end = share.first_row, share.first_row + share.rows
    while first < end:
        height = _tallest(geometry, first, end, rows)
        if height == 0:
            return
        start, size = _input_rows(geometry, first, height)
        pad_top = max(geometry.pad_top - first * geometry.stride.y, 0)
        yield Tile(first, height, start, size, pad_top, 0, 0, 0, 0)
        first += height


def _tallest(geometry: Geometry, first: int, end: int, rows: int) -> int:
    """Output rows from `first` on, before `end`, whose input rows number at most `rows`."""
    low, high = 0, end - first
    while low < high:
        middle = (low + high + 1) // 2
        if _input_rows(geometry, first, middle)[1] <= rows:
            low = middle
        else:
            high = middle - 1
    return low


def _input_rows(geometry: Geometry, first: int, height: int) -> tuple[int, int]:
    """(first input row, number of input rows) that some output rows look at."""
    top = max(first * geometry.stride.y - geometry.pad_top, 0)
    last = (first + height - 1) * geometry.stride.y - geometry.pad_top + geometry.kernel_height_extent
    return top, min(last, geometry.input_height) - top
