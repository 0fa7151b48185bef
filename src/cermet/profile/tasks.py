"""The tasks of a program with their times, in the order in which one core runs them."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from cermet.drivers.base import Program, Step
from cermet.hw.cycles import Conditions, LaunchTime, chained_cycles
from cermet.hw.soc import Soc
from cermet.profile.setting import Setting
from cermet.sim.outcome import Hang
from cermet.sim.timer import Timer


@dataclass(frozen=True)
class TimedTask:
    """One task. Times in microseconds from the partition's SUBMIT on.

    core       of those that work on the inference
    start_us   when the PC has the task: its fetch begins, or is over where the hardware chains
    wait_us    of fetching that nothing hides
    end_us     its interrupt, or the next task's start; kernel_us: what the kernel needs behind it
    """

    number: int
    layer: str
    operations: tuple[int, ...]
    macs: int
    core: int
    launches: tuple[LaunchTime, ...]
    start_us: float
    wait_us: float
    end_us: float
    kernel_us: float

    @property
    def busy_us(self) -> float:
        return self.end_us - self.start_us


def program_words(program: Program) -> list[np.ndarray]:
    """The register programs as uint64, in order."""
    return [np.frombuffer(program.bos[task.bo].data, "<u8", task.num_words, task.offset_bytes)
            for task in program.tasks]


def program_cycles(soc: Soc, program: Program, conditions: Conditions) -> int:
    """Of all tasks, as mainline starts them. A program that the simulator does not know counts nothing."""
    timer, words = Timer(soc, conditions), program_words(program)
    try:
        return sum(chained_cycles([launch for index in chain for launch in timer.program(words[index])])
                   for chain in program.chains)
    except (Hang, ValueError):
        return 0


def timed_tasks(program: Program, setting: Setting) -> list[TimedTask]:
    """Times by the cycle model, from the registers of the program's tasks, in the program's order."""
    clock = _Clock(program, setting)
    if setting.has_queues and program.steps:
        return clock.queued(program.steps)
    return clock.serial(program.chains)


class _Clock:
    """Times tasks one behind the other; registers of each core outlive its tasks."""

    def __init__(self, program: Program, setting: Setting) -> None:
        self.notes: Any = program.debug["tasks"]
        self.words, self.setting = program_words(program), setting
        self.timers: dict[int, Timer] = {}

    def serial(self, chains: Sequence[range]) -> list[TimedTask]:
        """One core. On mainline an interrupt behind each chain; else all are one, without."""
        setting, gap = self.setting, self.setting.soc.interrupt_us
        if setting.kernel != "mainline":
            chains, gap = [range(len(self.words))], 0.0
        found: list[TimedTask] = []
        now = setting.soc.submit_us
        for chain in chains:
            found += self._run(chain, 0, now, setting.inferences, [0.0] * (len(chain) - 1) + [gap])
            now = found[-1].end_us + found[-1].kernel_us
        return found

    def queued(self, steps: Sequence[Step]) -> list[TimedTask]:
        """Steps of a stage side by side, each a chain that ends with an interrupt; stages one after the other."""
        found: list[TimedTask] = []
        now = self.setting.soc.submit_us
        for _, members in groupby(sorted(steps, key=lambda step: step.stage), key=lambda step: step.stage):
            stage = list(members)
            made: list[TimedTask] = []
            for step in stage:
                gaps = [0.0] * (step.num_tasks - 1) + [self.setting.soc.interrupt_us]
                numbers = range(step.first_task, step.first_task + step.num_tasks)
                made += self._run(numbers, step.lane, now, len(stage), gaps)
            now = max(task.end_us + task.kernel_us for task in made)
            found += made
        return sorted(found, key=lambda task: task.number)

    def _run(self, numbers: Sequence[int], core: int, now: float, sharing: int,
             gaps: Sequence[float]) -> list[TimedTask]:
        """A chain of one core from a time on. sharing: cores that share the memory."""
        timer = self.timers.setdefault(core, Timer(self.setting.soc))
        timer.conditions = self.setting.conditions(sharing)
        found: list[TimedTask] = []
        before = 0.0
        for number, gap in zip(numbers, gaps, strict=True):
            launches = tuple(timer.program(self.words[number]))
            fetch = self.setting.us(sum(launch.fetch for launch in launches))
            run = self.setting.us(sum(launch.run for launch in launches))
            wait = max(fetch - before, 0.0)
            note = self.notes[number]
            found.append(TimedTask(number, note["layer"], tuple(note["operations"]), note["macs"], core, launches, now,
                                   wait, now + wait + run, gap))
            now, before = now + wait + run + gap, run
        return found


def npu_us(tasks: Sequence[TimedTask], setting: Setting) -> float:
    """From SUBMIT to the end of PREP_BO."""
    return max((task.end_us + task.kernel_us for task in tasks), default=setting.soc.submit_us)


def elapsed_us(tasks: Iterable[TimedTask], *, with_kernel: bool) -> float:
    """The time in which at least one of the tasks runs, or the kernel works behind one."""
    total, reached = 0.0, 0.0
    for task in sorted(tasks, key=lambda task: task.start_us):
        end = task.end_us + (task.kernel_us if with_kernel else 0.0)
        total += max(end - max(task.start_us, reached), 0.0)
        reached = max(reached, end)
    return total
