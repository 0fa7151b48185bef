"""TRANSPOSE in front of reductions, moved behind them, where there is less to move and often nothing at all.

Converters of other frameworks write a mean over the picture as TRANSPOSE to channels first, then MEAN of the last axes.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from cermet.ir.operation import Kind, Operation
from cermet.ir.reductions import REDUCTIONS, reduced_axes
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

Sunk = tuple[tuple[Operation, ...], Subgraph]


def sink_transposes(subgraph: Subgraph, accepts: Callable[[Subgraph, Operation], bool]) -> Subgraph:
    """TRANSPOSE, MEAN becomes MEAN over the axes that were meant, TRANSPOSE; an identity at the end is left out.

    Needs: nobody else reads what lies between, and it is quantised as the input. accepts: whether an operation may be
    made, in the subgraph that has it.
    """
    while True:
        made = next((sunk for changed, sunk in sunk_transposes(subgraph) if all(accepts(sunk, op) for op in changed)),
                    None)
        if made is None:
            return subgraph
        subgraph = made


def sunk_transposes(subgraph: Subgraph) -> Iterator[Sunk]:
    """(operations that are new or changed, subgraph with them) for each TRANSPOSE, as far down as it goes."""
    for transpose in subgraph.operations:
        if transpose.kind is not Kind.TRANSPOSE:
            continue
        changed: dict[int, Operation] = {}
        made, last = subgraph, transpose
        while (reduction := _only_reduction(made, last)) is not None and last.kind is Kind.TRANSPOSE:
            pair = _swapped(made, last, reduction)
            if pair is None:
                break
            operations, made = pair
            changed.pop(last.index, None)
            changed |= {op.index: op for op in operations}
            last = operations[-1]
        if changed:
            yield tuple(changed.values()), made


def _only_reduction(subgraph: Subgraph, operation: Operation) -> Operation | None:
    """The reduction that alone reads the output."""
    if len(operation.outputs) != 1 or operation.output in subgraph.outputs:
        return None
    readers = subgraph.consumers(operation.output)
    is_alone = len(readers) == 1 and readers[0].kind in REDUCTIONS and readers[0].inputs[0] == operation.output
    return readers[0] if is_alone and len(readers[0].outputs) == 1 else None


def _order(subgraph: Subgraph, transpose: Operation) -> list[int] | None:
    """Where each axis of the output comes from."""
    number = transpose.inputs[1] if len(transpose.inputs) == 2 else None
    order = None if number is None else subgraph.tensor(number)
    if order is None or order.data is None or order.dtype is not DType.INT32 or transpose.inputs[0] is None:
        return None
    rank = len(subgraph.tensor(transpose.inputs[0]).shape)
    axes = [int(axis) + rank * (axis < 0) for axis in order.data.reshape(-1)]
    return axes if sorted(axes) == list(range(rank)) else None


def _swapped(subgraph: Subgraph, transpose: Operation,
             reduction: Operation) -> tuple[tuple[Operation, ...], Subgraph] | None:
    """The reduction and, unless it does nothing, the TRANSPOSE behind it."""
    order, axes = _order(subgraph, transpose), reduced_axes(subgraph, reduction)
    if order is None or axes is None:
        return None
    data, between = subgraph.tensor(transpose.inputs[0]), subgraph.tensor(transpose.output)
    out = subgraph.tensor(reduction.output)
    if data.quantisation != between.quantisation or data.dtype is not between.dtype:
        return None
    gone = {order[axis] for axis in axes}
    kept = [axis for axis in range(len(order)) if reduction.keep_dims or axis not in gone]
    behind = [kept.index(axis) for axis in order if axis in kept]
    shape = tuple(1 if axis in gone else data.shape[axis] for axis in kept)
    free = max(subgraph.tensors) + 1
    tensors = [_constant(subgraph.tensor(reduction.inputs[1]), free, sorted(gone))]
    if shape == out.shape and _does_nothing(behind, shape):
        alone = replace(reduction, inputs=(data.index, free), fused=(*reduction.fused, transpose.index))
        return (alone,), subgraph.replaced([transpose, reduction], [alone], tensors)
    middle = replace(out, index=between.index, name=between.name, shape=shape)
    tensors += [middle, _constant(subgraph.tensor(transpose.inputs[1]), free + 1, behind)]
    first = replace(reduction, inputs=(data.index, free), outputs=(middle.index,),
                    fused=(*reduction.fused, transpose.index))      # alone, neither computes what it did
    second = replace(transpose, inputs=(middle.index, free + 1), outputs=reduction.outputs)
    return (first, second), subgraph.replaced([transpose, reduction], [first, second], tensors)


def _constant(like: Tensor, index: int, values: Sequence[int]) -> Tensor:
    return replace(like, index=index, shape=(len(values),), data=np.array(values, np.int32))


def _does_nothing(order: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether only axes of one element change places."""
    real = [axis for axis in order if shape[axis] > 1]
    return real == sorted(real)
