"""The tasks of a program with their times, in the order in which one core runs them."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cermet.drivers.base import Program
from cermet.hw.soc import Soc
from cermet.profile.setting import Setting
from cermet.sim.cycles import Conditions, LaunchTime, total_cycles
from cermet.sim.outcome import Hang
from cermet.sim.timer import Timer, time_programs


@dataclass(frozen=True)
class TimedTask:
    """One task. Times in microseconds from the partition's SUBMIT on.

    start_us   when the PC has the task: its fetch begins, or is over where the hardware chains
    wait_us    of fetching that nothing hides
    end_us     its interrupt, or the next task's start; the kernel's work between two tasks is not part of it
    """

    number: int
    layer: str
    operations: tuple[int, ...]
    macs: int
    launches: tuple[LaunchTime, ...]
    start_us: float
    wait_us: float
    end_us: float

    @property
    def busy_us(self) -> float:
        return self.end_us - self.start_us

    def total(self, name: str) -> int:
        """Sum of a number of Work over the task's starts."""
        return sum(getattr(launch.work, name) for launch in self.launches)


def program_words(program: Program) -> list[np.ndarray]:
    """The register programs as uint64, in order."""
    return [np.frombuffer(program.bos[task.bo].data, "<u8", task.num_words, task.offset_bytes)
            for task in program.tasks]


def program_cycles(soc: Soc, program: Program, conditions: Conditions) -> int:
    """Of all tasks, one by one. A program that the simulator does not know counts nothing."""
    try:
        return total_cycles(time_programs(soc, program_words(program), conditions))
    except (Hang, ValueError):
        return 0


def timed_tasks(program: Program, setting: Setting) -> list[TimedTask]:
    """Times by the cycle model, from the registers of the program's tasks."""
    notes: Any = program.debug["tasks"]
    timer = Timer(setting.soc, setting.conditions)
    found: list[TimedTask] = []
    now, before = setting.soc.submit_us, 0.0
    for number, (note, words) in enumerate(zip(notes, program_words(program), strict=True)):
        launches = tuple(timer.program(words))
        fetch = setting.us(sum(launch.fetch for launch in launches))
        run = setting.us(sum(launch.run for launch in launches))
        wait = max(fetch - before, 0.0) if setting.is_chained else fetch
        found.append(TimedTask(number, note["layer"], tuple(note["operations"]), note["macs"], launches, now, wait,
                               now + wait + run))
        now, before = now + wait + run + setting.task_us, run
    return found


def npu_us(tasks: Sequence[TimedTask], setting: Setting) -> float:
    """From SUBMIT to the end of PREP_BO."""
    busy = sum(task.busy_us for task in tasks)
    return setting.soc.submit_us + busy + len(tasks) * setting.task_us
