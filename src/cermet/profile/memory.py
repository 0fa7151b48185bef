"""What a program keeps in the NPU's memory, and when."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cermet.drivers.base import Program
from cermet.drivers.rocket.assemble import program_bytes


@dataclass(frozen=True)
class Resident:
    """A buffer of the arena: where it lies, and from which task to which its contents matter, inclusive."""

    name: str
    offset_bytes: int
    size_bytes: int
    first_task: int
    last_task: int


@dataclass(frozen=True)
class Memory:
    """Bytes of a partition's buffer objects.

    weights    with biases, scales and tables
    peak       of the arena: buffers that are alive at the same time
    """

    weights: int
    programs: int
    arena: int
    peak: int
    inputs: int
    outputs: int
    residents: tuple[Resident, ...]

    @property
    def total(self) -> int:
        return self.weights + self.programs + self.arena + self.inputs + self.outputs


def memory_of(program: Program) -> Memory:
    """From the program's buffer objects and the compiler's notes."""
    sizes = {bo.role: bo.size_bytes for bo in program.bos}
    programs = sum(program_bytes(task.num_words) for task in program.tasks)
    notes: Any = program.debug.get("arena", [])
    residents = tuple(Resident(*note) for note in notes)
    return Memory(sizes.get("constant", 0) - programs, programs, sizes.get("arena", 0),
                  max((alive(residents, task) for task in range(len(program.tasks))), default=0),
                  sizes.get("input", 0), sizes.get("output", 0), residents)


def alive(residents: tuple[Resident, ...], task: int) -> int:
    """Bytes whose contents matter while a task runs."""
    return sum(each.size_bytes for each in residents if each.first_task <= task <= each.last_task)
