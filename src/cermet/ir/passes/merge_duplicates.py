"""Operations that compute the same of the same become one."""
from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph


def merge_duplicates(subgraph: Subgraph) -> Subgraph:
    """Of two operations alike in kind, parameters, inputs and outputs the second goes; who reads it reads the first.

    Needs: the second's results are no graph outputs, and no tensor involved keeps its value. Constants are compared by
    their contents.
    """
    first_of: dict[Hashable, Operation] = {}
    for operation in subgraph.operations:
        current = next(op for op in subgraph.operations if op.index == operation.index)     # may read others by now
        key = _key(subgraph, current)
        if key is None:
            continue
        first = first_of.setdefault(key, current)
        if first is not current and not set(current.outputs) & set(subgraph.outputs):
            subgraph = _merged(subgraph, next(op for op in subgraph.operations if op.index == first.index), current)
    return subgraph


def _key(subgraph: Subgraph, operation: Operation) -> Hashable:
    """Equal for operations that compute the same; None for what is not known to depend on its inputs alone."""
    tensors = [subgraph.tensor(t) for t in (*operation.inputs, *operation.outputs) if t is not None]
    if operation.kind is Kind.OTHER or not operation.outputs or any(t.is_variable for t in tensors):
        return None
    inputs = tuple(None if t is None else _value(subgraph, t) for t in operation.inputs)
    outputs = tuple((t.shape, t.dtype, t.quantisation) for t in map(subgraph.tensor, operation.outputs))
    return replace(operation, index=0, name="", inputs=(), outputs=(), fused=()), inputs, outputs


def _value(subgraph: Subgraph, number: int) -> Hashable:
    tensor = subgraph.tensor(number)
    if tensor.data is None:
        return number
    return tensor.shape, tensor.dtype, tensor.quantisation, tensor.data.tobytes()


def _merged(subgraph: Subgraph, first: Operation, second: Operation) -> Subgraph:
    instead = dict(zip(second.outputs, first.outputs, strict=True))
    joined = replace(first, fused=tuple(sorted({*first.fused, second.index, *second.fused})))
    operations = tuple(
        joined if op is first else replace(op, inputs=tuple(instead.get(t, t) for t in op.inputs))  # type: ignore[arg-type]
        for op in subgraph.operations if op is not second)
    tensors = {t: tensor for t, tensor in subgraph.tensors.items() if t not in instead}
    return replace(subgraph, operations=operations, tensors=tensors)
