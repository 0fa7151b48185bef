"""The task before a DPU-only one, and the last of a program, fetches its weights itself.

On silicon a DPU-only job right behind a pair of convolutions with WEIGHT_REUSE once returned stale data (execution
model §7, cause unknown). Fetching the weights again costs less than a wrong result.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cermet.drivers.rocket.regcmd import BlockMask, TaskProgram
from cermet.hw.registers import Reg, RegisterMap


def reload_weights(tasks: Sequence[TaskProgram], registers: RegisterMap) -> list[TaskProgram]:
    """The tasks with WEIGHT_REUSE cleared where a DPU-only task, or the end, comes next: of all, or of a lane's."""
    made = []
    for index, task in enumerate(tasks):
        if task.needs_previous and not _is_dpu_only(task) and _is_last(tasks, index):
            task = replace(task, words=_without_reuse(task.words, registers), needs_previous=False)
        made.append(task)
    return made


def _is_last(tasks: Sequence[TaskProgram], index: int) -> bool:
    """Whether no convolution comes right behind a task, on one core or in its lane."""
    behind = range(index + 1, len(tasks))
    of_lane = next((tasks[other] for other in behind if tasks[other].lane == tasks[index].lane), None)
    following = (tasks[index + 1] if behind else None, of_lane)
    return any(task is None or _is_dpu_only(task) for task in following)


def _is_dpu_only(task: TaskProgram) -> bool:
    """Whether the last word, op_en, leaves the CNA out."""
    return not task.words[-1] >> 16 & BlockMask.CNA


def _without_reuse(words: tuple[int, ...], registers: RegisterMap) -> tuple[int, ...]:
    register: Reg = registers["CNA.CBUF_CON0"]
    tag = registers.blocks["CNA"].target
    bit = 1 << 16 + register.fields["WEIGHT_REUSE"].lo
    return tuple(w & ~bit if (w >> 48, w & 0xFFFF) == (tag, register.offset) else w for w in words)
