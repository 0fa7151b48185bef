"""Shares a convolution between cores: rows or output channels for each, when that is faster.

Needs a kernel that runs the jobs of one file on several cores (kernel-uapi/proposals/queues). A core is a lane here:
number 0 also runs what is not shared. Behind a shared operation all lanes wait for each other, by an interrupt.
"""
from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from cermet.drivers.rocket.geometry import Geometry, mac_cycles
from cermet.drivers.rocket.layout import ATOM_BYTES, ceil_div, round_up
from cermet.drivers.rocket.tiling import Plan, Share, plan
from cermet.hw.soc import Soc

LATENCIES_OF_A_TASK = 3     # fetch, fill, drain: docs/performance.md


def plan_lanes(soc: Soc, geometry: Geometry, num_lanes: int) -> list[Plan] | None:
    """A plan for each lane that takes part, the first one's alone when sharing does not pay; None as plan()."""
    whole = plan(soc, geometry)
    if whole is None:
        return None
    best, fewest = [whole], lane_cycles(soc, geometry, whole)
    for shares in divisions(soc, geometry, num_lanes):
        made = [lane for share in shares if (lane := plan(soc, geometry, share)) is not None]
        cycles = max((lane_cycles(soc, geometry, lane) for lane in made), default=0.0) + barrier_cycles(soc)
        if len(made) == len(shares) and cycles < fewest:
            best, fewest = made, cycles
    return best


def barrier_cycles(soc: Soc) -> float:
    """An interrupt, at the clock that mainline leaves the NPU at."""
    return soc.interrupt_us * soc.mainline_clock_mhz


def divisions(soc: Soc, geometry: Geometry, num_lanes: int) -> Iterator[list[Share]]:
    """Rows and channels, dealt out evenly to 2 and more lanes. Channels: in whole groups, which one task completes."""
    height, channels, group = geometry.output_height, geometry.output_channels, geometry.group(soc)
    for count in range(2, num_lanes + 1):
        if height >= count and not geometry.is_transposed:
            ends = [height * lane // count for lane in range(count + 1)]
            yield [Share(first, end - first, 0, channels) for first, end in pairwise(ends)]
        groups = ceil_div(channels, group)
        if groups >= count:
            ends = [min(groups * lane // count * group, channels) for lane in range(count + 1)]
            yield [Share(0, height, first, end - first) for first, end in pairwise(ends)]


def lane_cycles(soc: Soc, geometry: Geometry, made: Plan) -> float:
    """What the tasks of one lane take: the array, loads and stores overlap (docs/performance.md)."""
    array = sum(mac_cycles(geometry, soc, tile.output_rows, tile.channels) for tile in made.tiles)
    stored = sum(tile.output_rows * geometry.output_width * round_up(tile.channels, ATOM_BYTES) for tile in made.tiles)
    fixed = len(made.tiles) * LATENCIES_OF_A_TASK * soc.timing.latency.value
    return fixed + max(array, made.bytes_read / soc.timing.load_bytes.value, stored / soc.timing.store_bytes.value)
