"""Shares convolutions between cores: rows or output channels for each, where that is faster.

Needs a kernel that runs the jobs of one file on several cores (kernel-uapi/proposals/queues). A core is a lane here:
number 0 also runs what is not shared. Behind a shared operation all lanes wait for each other, by an interrupt.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from math import inf

from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ceil_div
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.tile_time import Pace, plan_us
from cermet.drivers.rocket.tiling import Plan, Share, plan
from cermet.hw.soc import Soc


@dataclass(frozen=True)
class Ways:
    """One convolution on one core, and where it can be shared, on several: a plan for each lane that takes part.

    number   of those that can be shared, in the order of the lowering; 0: cannot
    """

    whole: Plan
    shared: Sequence[Plan] = ()
    number: int = 0


class Sharing:
    """Plans the convolutions of one lowering for several lanes.

    pace       of tasks that are not shared; its cores are the lanes
    saved_us   what sharing saves, by number, without the waiting; may be negative
    """

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.saved_us: dict[int, float] = {}

    def plan(self, soc: Soc, geometry: Geometry) -> Ways | None:
        """None as cermet.drivers.rocket.tiling.plan()."""
        whole = plan(soc, geometry, pace=self.pace)
        if whole is None:
            return None
        shared = plan_lanes(soc, geometry, self.pace)
        if shared is None:
            return Ways(whole)
        number = len(self.saved_us) + 1
        self.saved_us[number] = plan_us(soc, geometry, whole, self.pace) - slowest_us(
            soc, geometry, shared, self.pace)
        return Ways(whole, shared, number)


def shared_where_worth(soc: Soc, tasks: Sequence[TaskProgram], saved_us: Mapping[int, float]) -> list[TaskProgram]:
    """Of each convolution that can be shared, the tasks for one core or those for several."""
    order = [number for number, _ in groupby(task.shared or task.unshared for task in tasks)]
    wanted = worth_sharing(soc, order, saved_us)
    return [task for task in tasks if (task.shared in wanted if task.shared else task.unshared not in wanted)]


def plan_lanes(soc: Soc, geometry: Geometry, pace: Pace) -> list[Plan] | None:
    """The division whose slowest lane is the fastest; None when the work cannot be divided."""
    found = []
    for shares in divisions(soc, geometry, pace.cores):
        beside = replace(pace, cores=len(shares))
        made = [lane for share in shares if (lane := plan(soc, geometry, share, beside)) is not None]
        if len(made) == len(shares):
            found.append(made)
    return min(found, key=lambda lanes: slowest_us(soc, geometry, lanes, pace), default=None)


def slowest_us(soc: Soc, geometry: Geometry, lanes: Sequence[Plan], pace: Pace) -> float:
    """Of lanes that run at the same time."""
    return max(plan_us(soc, geometry, lane, replace(pace, cores=len(lanes))) for lane in lanes)


def worth_sharing(soc: Soc, order: Iterable[int], saved_us: Mapping[int, float]) -> frozenset[int]:
    """Which convolutions to share, so that what is saved less an interrupt for each stage is most.

    order: the convolutions' numbers as they follow each other, 0 for what cannot be shared. A shared one is a stage,
    and so is all that lies between two of them.
    """
    barrier = soc.interrupt_us
    # The most that can be saved so far, and by which: when the last one is not shared, and when it is, or is none.
    apart: tuple[float, frozenset[int]] = (-inf, frozenset())
    shared: tuple[float, frozenset[int]] = (0.0, frozenset())
    for number in order:
        before = max(apart, shared, key=lambda state: state[0])
        behind = (shared[0] - barrier, shared[1])
        apart = max(apart, behind, key=lambda state: state[0])
        shared = (-inf, frozenset()) if number == 0 else (
            before[0] + saved_us[number] - barrier, before[1] | {number})
    return max(apart, shared, key=lambda state: state[0])[1]


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
