"""A subgraph: tensors and operations in execution order. Immutable; passes return new ones."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from cermet.ir.operation import Operation
from cermet.ir.tensor import Tensor


@dataclass(frozen=True)
class Subgraph:
    """tensors by number; operations in execution order; inputs and outputs: tensor numbers, ascending."""

    tensors: Mapping[int, Tensor]
    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Subgraph):
            return NotImplemented
        return (dict(self.tensors), self.operations, self.inputs, self.outputs) == (
            dict(other.tensors), other.operations, other.inputs, other.outputs)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def _producers(self) -> Mapping[int, Operation]:
        return MappingProxyType({t: op for op in self.operations for t in op.outputs})

    @cached_property
    def _consumers(self) -> Mapping[int, tuple[Operation, ...]]:
        consumers: dict[int, list[Operation]] = {}
        for op in self.operations:
            for t in {t for t in op.inputs if t is not None}:
                consumers.setdefault(t, []).append(op)
        return MappingProxyType({t: tuple(ops) for t, ops in consumers.items()})

    def tensor(self, index: int | None) -> Tensor:
        """The tensor; KeyError for an unknown number or an absent input."""
        return self.tensors[index]  # type: ignore[index]

    def producer(self, tensor: int | None) -> Operation | None:
        """The operation that writes the tensor, None for inputs and constants."""
        return self._producers.get(tensor)  # type: ignore[arg-type]

    def consumers(self, tensor: int) -> tuple[Operation, ...]:
        """Operations that read the tensor, in execution order."""
        return self._consumers.get(tensor, ())

    def replaced(self, old: Iterable[Operation], new: Iterable[Operation],
                 tensors: Iterable[Tensor] = ()) -> Subgraph:
        """The subgraph with `old` taken out and `new` put where the last of them was; `tensors` added or replaced."""
        gone = {id(op) for op in old}
        last = max(i for i, op in enumerate(self.operations) if id(op) in gone)
        operations: list[Operation] = []
        for i, op in enumerate(self.operations):
            if id(op) not in gone:
                operations.append(op)
            if i == last:
                operations.extend(new)
        return replace(self, operations=tuple(operations),
                       tensors={**self.tensors, **{t.index: t for t in tensors}})

    def extract(self, operations: Iterable[Operation]) -> Subgraph:
        """The part made of some operations: inputs come from outside, outputs are read outside or by the graph."""
        part = tuple(operations)
        members = {op.index for op in part}
        made = {t for op in part for t in op.outputs}
        read = {t for op in part for t in op.inputs if t is not None}
        inputs = tuple(sorted(t for t in read - made if not self.tensor(t).is_constant))
        outputs = tuple(sorted(t for t in made if t in self.outputs or any(
            user.index not in members for user in self.consumers(t))))
        return Subgraph({t: self.tensor(t) for t in sorted(read | made)}, part, inputs, outputs)
