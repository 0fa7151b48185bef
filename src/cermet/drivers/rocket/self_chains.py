"""Programs that lead to each other on a kernel that starts one at a time: the option chains=program.

Mainline sets the task number to 1 before each task, and waits for an interrupt behind it. The first program of a chain
sets it to the number of programs (Q-X12, execution model §4.1), so that the kernel, which sees one task, waits for one
interrupt. Should the NPU ignore that, or interrupt behind each program, the job is over too early. Its witness, which
the last program writes, tells: so a chain is always a whole job.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cermet.drivers.rocket.assumed import TASK_NUMBER
from cermet.drivers.rocket.regcmd import PC_TARGET, TaskProgram
from cermet.hw.soc import Soc

MAX_PROGRAMS = 0xFFF            # what TASK_NUMBER holds
TRAILER_WORDS = 4
AS_MAINLINE = {"UNDOCUMENTED_14_14": 1, "TASK_COUNT_CLEAR": 1, "TASK_PP_EN": 1}


def chains_of(starts: Sequence[int], num_tasks: int) -> list[range]:
    """The tasks of each job that can be a chain. starts: the first tasks of all jobs."""
    jobs = [range(start, end) for start, end in zip(starts, [*starts[1:], num_tasks], strict=True)]
    return [job for job in jobs if len(job) <= MAX_PROGRAMS]


def with_task_numbers(soc: Soc, tasks: Sequence[TaskProgram], chains: Sequence[range]) -> list[TaskProgram]:
    """The tasks; the first of each chain of several says how many they are."""
    made = list(tasks)
    for chain in chains:
        if len(chain) > 1:
            made[chain.start] = _raising(soc, made[chain.start], len(chain))
    return made


def _raising(soc: Soc, task: TaskProgram, num_programs: int) -> TaskProgram:
    register = soc.registers["PC.TASK_CON"]
    word = PC_TARGET << 48 | register.pack(TASK_NUMBER=num_programs, **AS_MAINLINE) << 16 | register.offset
    return replace(task, words=(*task.words[:-TRAILER_WORDS], word, *task.words[-TRAILER_WORDS:]),
                   cycles=task.cycles + round(soc.timing.fetch_cycles.value), assumed=(*task.assumed, TASK_NUMBER))
