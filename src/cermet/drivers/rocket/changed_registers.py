"""Leaves out words that would write what the registers hold already: the option registers=changed.

Each block has two groups of registers. A task's words go to one; its start makes them go to the other next (execution
model §5). What the groups hold is known only of those that were filled in the same job, and in the same step where the
kernel has queues: before either another client's program may have run. So the first two starts of a block are complete.

A word is left out when both groups hold its value, however they swap. By the model one would do. So results depend
neither on which group is written, nor on whether a register has a second one, which nobody has shown of the look-up
tables' ranges; what is taken for granted is that a register keeps its value while tasks run.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.assumed import OF_OPERATION, OF_OTHERS
from cermet.drivers.rocket.regcmd import OP_ENABLE_TARGET, PC_OPERATION_ENABLE, Address, BlockMask, TaskProgram
from cermet.hw.registers import RegisterMap
from cermet.hw.soc import Soc

ALL, CHANGED = "all", "changed"
# Of each block: status, pointer, operation enable. None is in a group, and writing them does something.
NUM_CONTROL_BYTES = 0xC
PORTS = ("DPU.LUT_ACCESS_CFG", "DPU.LUT_ACCESS_DATA")     # each write goes to the next entry


def changed_only(soc: Soc, options: CompileOptions, tasks: Sequence[TaskProgram],
                 starts: Collection[int]) -> list[TaskProgram]:
    """The tasks, shortened where the options want it. starts: first tasks of jobs and steps."""
    if options.registers == ALL or options.assume == "off":
        return list(tasks)
    made: list[TaskProgram] = []
    for index, task in enumerate(tasks):
        is_other = index > 0 and task.operations != tasks[index - 1].operations
        if index == 0 or index in starts or is_other and options.assume == "replayed":
            groups, operations = Groups(soc.registers), {task.operations}
        operations.add(task.operations)
        made.append(_shortened(soc, task, groups, OF_OPERATION if len(operations) == 1 else OF_OTHERS))
    return made


def _shortened(soc: Soc, task: TaskProgram, groups: Groups, part: str) -> TaskProgram:
    kept = [number for number, word in enumerate(task.words) if not groups.take(word, task.addresses.get(number))]
    num_dropped = len(task.words) - len(kept)
    if not num_dropped:
        return task
    places = {number: place for place, number in enumerate(kept)}
    return replace(
        task, words=tuple(task.words[number] for number in kept),
        addresses={places[number]: address for number, address in task.addresses.items() if number in places},
        cycles=task.cycles - round(num_dropped * soc.timing.fetch_cycles.value), assumed=(*task.assumed, part))


Value = tuple[int, Address | None]     # a word, and the address that will be added to it
Pair = list[dict[int, Value]]           # register offset -> value; the group that is written next comes first


class Groups:
    """What both groups of each block hold, as far as words have filled them.

    Twice: as a block's own starts swap them, and as they would be if every start swapped those of all blocks.
    """

    def __init__(self, registers: RegisterMap) -> None:
        blocks = [block for block in registers.blocks.values() if hasattr(BlockMask, block.name)]
        self._bases = {block.target: block.base for block in blocks}
        self._bits = {block.target: getattr(BlockMask, block.name) for block in blocks}
        self._ports = {registers[path].offset for path in PORTS}
        self._by_own_starts: dict[int | None, Pair] = {target: [{}, {}] for target in self._bases}
        self._by_all_starts: dict[int | None, Pair] = {target: [{}, {}] for target in self._bases}

    def take(self, word: int, address: Address | None) -> bool:
        """What a word does; whether nothing would be different without it."""
        target, offset = word >> 48, word & 0xFFFF
        if target == OP_ENABLE_TARGET and offset == PC_OPERATION_ENABLE:
            self._start(word >> 16)
        if target not in self._bases or offset in self._ports or offset - self._bases[target] < NUM_CONTROL_BYTES:
            return False
        pairs = self._by_own_starts[target], self._by_all_starts[target]
        is_known = all(group.get(offset) == (word, address) for pair in pairs for group in pair)
        for written, _ in pairs:
            written[offset] = word, address
        return is_known

    def _start(self, mask: int) -> None:
        for target, bit in self._bits.items():
            if mask & bit:
                self._by_own_starts[target].reverse()
            self._by_all_starts[target].reverse()
