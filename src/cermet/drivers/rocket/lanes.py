"""Shares a convolution between cores: rows or output channels for each, when that is faster.

Needs a kernel that runs the jobs of one file on several cores (kernel-uapi/proposals/queues). A core is a lane here:
number 0 also runs what is not shared. Behind a shared operation all lanes wait for each other, by an interrupt.
"""
from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ceil_div
from cermet.drivers.rocket.tile_time import pace_of, plan_us
from cermet.drivers.rocket.tiling import Plan, Share, plan
from cermet.hw.soc import Soc


def plan_lanes(soc: Soc, geometry: Geometry, num_lanes: int) -> list[Plan] | None:
    """A plan for each lane that takes part, the first one's alone when sharing does not pay; None as plan()."""
    alone = pace_of(soc, num_lanes)
    whole = plan(soc, geometry, pace=alone)
    if whole is None:
        return None
    best, least = [whole], plan_us(soc, geometry, whole, alone)
    for shares in divisions(soc, geometry, num_lanes):
        pace = pace_of(soc, len(shares))
        made = [lane for share in shares if (lane := plan(soc, geometry, share, pace)) is not None]
        taken = max((plan_us(soc, geometry, lane, pace) for lane in made), default=0.0) + barrier_us(soc)
        if len(made) == len(shares) and taken < least:
            best, least = made, taken
    return best


def barrier_us(soc: Soc) -> float:
    """An interrupt, for which all lanes wait."""
    return soc.interrupt_us


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
