"""What runs as one: the operations of a partition that tasks compute together, and the tensors between them."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cermet.compiler import Compiled
from cermet.drivers.base import Program
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph


@dataclass(frozen=True, eq=False)
class Unit:
    """Operations that are computed together; part: they alone, its outputs are in memory after they ran.

    has_tasks   False for what only renames a tensor
    """

    partition: int
    operations: tuple[Operation, ...]
    part: Subgraph
    has_tasks: bool


@dataclass(frozen=True, eq=False)
class Partition:
    """One program: its subgraph with every tensor that exists in memory as an output, and its units."""

    number: int
    exposed: Subgraph
    units: tuple[Unit, ...]


Step = Partition | Operation


def partitions_of(compiled: Compiled) -> list[Partition]:
    """The partitions of a compiled subgraph."""
    return [_partition(compiled.subgraph, number, group, program)
            for number, (group, program) in enumerate(zip(compiled.groups, compiled.programs, strict=True))]


def _partition(subgraph: Subgraph, number: int, group: Sequence[int], program: Program) -> Partition:
    members = set(group)
    part = subgraph.extract(op for op in subgraph.operations if op.index in members)
    together = _joined_operations(program)
    units = []
    for indices in _classes(part, together):
        operations = tuple(op for op in part.operations if op.index in indices)
        units.append(Unit(number, operations, part.extract(operations), bool(indices & _with_tasks(program))))
    outputs = tuple(sorted({t for unit in units for t in unit.part.outputs}))
    return Partition(number, replace(part, outputs=outputs), tuple(units))


def _joined_operations(program: Program) -> list[set[int]]:
    """Operations of each task that belongs to several, and those that passes have made one of."""
    tasks, together = program.debug.get("tasks"), program.debug.get("together")
    found = [task["operations"] for task in tasks] if isinstance(tasks, list) else []
    found += together if isinstance(together, list) else []
    return [set(indices) for indices in found if len(indices) > 1]


def _with_tasks(program: Program) -> set[int]:
    tasks = program.debug.get("tasks")
    return {index for task in tasks for index in task["operations"]} if isinstance(tasks, list) else set()


def _classes(part: Subgraph, together: list[set[int]]) -> list[set[int]]:
    """Sets of operation indices: those in one task together, by way of others too; ordered by their last operation."""
    classes = [{operation.index} for operation in part.operations]
    for joined in together:
        touched = [one for one in classes if one & joined]
        classes = [one for one in classes if not one & joined] + [set().union(*touched)]
    return sorted(classes, key=max)


def steps(compiled: Compiled, partitions: Sequence[Partition]) -> Iterator[Step]:
    """Partitions and the CPU's operations, each when its inputs are there."""
    on_npu = {index for group in compiled.groups for index in group}
    cpu = [op for op in compiled.subgraph.operations if op.index not in on_npu]
    pending: list[Step] = sorted([*partitions, *cpu], key=_first_index)
    while pending:
        missing = {t for step in pending for t in _outputs(step)}
        ready = next((step for step in pending if not missing & _inputs(step)), pending[0])
        pending.remove(ready)
        yield ready


def _first_index(step: Step) -> int:
    return step.index if isinstance(step, Operation) else step.units[0].operations[0].index


def _inputs(step: Step) -> set[int]:
    return set(step.exposed.inputs) if isinstance(step, Partition) else {t for t in step.inputs if t is not None}


def _outputs(step: Step) -> set[int]:
    if isinstance(step, Operation):
        return set(step.outputs)
    return {t for op in step.exposed.operations for t in op.outputs}
