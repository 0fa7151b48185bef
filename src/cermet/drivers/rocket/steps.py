"""Which tasks run at the same time on several cores, and how the NPU finds from one to the next by itself."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from cermet.drivers.base import Step
from cermet.drivers.rocket.layout import ceil_div
from cermet.drivers.rocket.regcmd import PC_BASE_ADDRESS, PC_REGISTER_AMOUNTS, PC_TARGET, TaskProgram

# The PC fetches two words at a time; a program that ends on an odd word makes it read the next word too.
FETCH_WORDS = 2


def stage_numbers(tasks: Sequence[TaskProgram]) -> list[int]:
    """The stage of each task: a shared operation is one, and so are the tasks between two of them.

    Tasks of a shared operation all touch the same buffers, so that the arena's lifetimes, counted in tasks, hold for
    lanes too.
    """
    runs = groupby(tasks, key=lambda task: task.shared)
    return [stage for stage, (_, run) in enumerate(runs) for _ in run]


def steps_of(tasks: Sequence[TaskProgram]) -> tuple[Step, ...]:
    """The tasks of each stage and lane, in the array's order."""
    steps: list[Step] = []
    places = zip(stage_numbers(tasks), (task.lane for task in tasks), strict=True)
    for (stage, lane), run in groupby(places):
        first = steps[-1].first_task + steps[-1].num_tasks if steps else 0
        steps.append(Step(first, len(list(run)), lane, stage))
    return tuple(steps)


def next_words(tasks: Sequence[TaskProgram], chains: Sequence[range]) -> list[tuple[int, int]]:
    """Of each task: the two words that lead to the next one, whose address is still to be added (execution model §2.1).

    The last of a chain leads nowhere.
    """
    words = [(0, 0)] * len(tasks)
    for chain in chains:
        for index in chain[:-1]:
            amount = PC_TARGET << 48 | fetch_amount(tasks[index + 1]) << 16 | PC_REGISTER_AMOUNTS
            words[index] = (PC_TARGET << 48 | PC_BASE_ADDRESS, amount)
    return words


def fetch_amount(task: TaskProgram) -> int:
    """PC.REGISTER_AMOUNTS of a program: pairs of words, minus 1."""
    return ceil_div(len(task.words), FETCH_WORDS) - 1
