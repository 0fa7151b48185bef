"""TRANSPOSEs with element-wise operations between them: what lies between is computed in the order of the sources.

Converters of channels-first frameworks turn around what a convolution reads and makes, and leave ReLU, sums and
concatenations in between channels first.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from cermet.ir.boxes import MoveError, axis_of, moving_of, numbers
from cermet.ir.numerics_unary import UNARY_KINDS
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import Tensor

BINARY = frozenset({Kind.ADD, Kind.SUB, Kind.MUL, Kind.MAXIMUM, Kind.MINIMUM})
BETWEEN = frozenset({*UNARY_KINDS, *BINARY, Kind.CONCATENATION})
Order = tuple[int, ...]


def join_transposes(subgraph: Subgraph, accepts: Callable[[Subgraph, Operation], bool]) -> Subgraph:
    """TRANSPOSE, RELU, TRANSPOSE back becomes RELU, RESHAPE; likewise what sums or joins tensors turned alike.

    Needs: all that is computed between is read between, or turned back; the program hands none of it out. accepts:
    whether an operation may be made, in the subgraph that has it.
    """
    orders = _orders(subgraph)
    members = _enclosed(subgraph, orders)
    while members:
        made = _turned(subgraph, members)
        refused = [op for op in made.operations if op.index in members and not accepts(made, op)]
        if not refused:
            return made
        members = _enclosed(subgraph, {t: order for t, order in orders.items() if t not in refused[0].outputs})
    return subgraph


def order_of(subgraph: Subgraph, operation: Operation | None) -> Order | None:
    """Where each axis of a TRANSPOSE's output comes from; None for anything else."""
    if operation is None or operation.kind is not Kind.TRANSPOSE or len(operation.outputs) != 1 \
            or len(operation.inputs) != 2 or None in operation.inputs:
        return None
    data, out = (subgraph.tensor(t) for t in (operation.inputs[0], operation.output))
    try:
        order = tuple(axis_of(axis, len(data.shape)) for axis in numbers(subgraph, operation, 1, len(data.shape)))
    except MoveError:
        return None
    is_plain = sorted(order) == list(range(len(order))) and not data.is_constant \
        and out.shape == tuple(data.shape[axis] for axis in order)
    return order if is_plain and (data.dtype, data.quantisation) == (out.dtype, out.quantisation) else None


def _orders(subgraph: Subgraph) -> dict[int, Order]:
    """How each tensor is turned that TRANSPOSEs make, or element-wise operations of such tensors turned alike."""
    found: dict[int, Order] = {}
    for operation in subgraph.operations:
        order = order_of(subgraph, operation)
        if order is None and operation.kind in BETWEEN and len(operation.outputs) == 1:
            order = _common_order(subgraph, operation, found)
        if order is not None:
            found[operation.output] = order
    return found


def _common_order(subgraph: Subgraph, operation: Operation, found: Mapping[int, Order]) -> Order | None:
    given = [t for t in operation.inputs if t is not None and not subgraph.tensor(t).is_constant]
    orders = {found.get(t) for t in given}
    rank = len(subgraph.tensor(operation.output).shape)
    if len(orders) != 1 or any(len(subgraph.tensor(t).shape) != rank for t in given):
        return None
    constants = [subgraph.tensor(t) for t in operation.inputs if t is not None and subgraph.tensor(t).is_constant]
    fits = operation.kind in BINARY or not constants
    if operation.kind is Kind.CONCATENATION:
        fits = fits and operation.moving is not None and -rank <= operation.moving.axis < rank
    return orders.pop() if fits and all(t.num_elements == 1 or len(t.shape) == rank for t in constants) else None


def _enclosed(subgraph: Subgraph, orders: Mapping[int, Order]) -> dict[int, Order]:
    """Indices of the operations between TRANSPOSEs whose results no other operation sees, and how they are turned."""
    members = {op.index: orders[op.output] for op in subgraph.operations
               if len(op.outputs) == 1 and op.output in orders and op.kind is not Kind.TRANSPOSE}
    while True:
        outside = {index for index in members if not _is_enclosed(subgraph, index, members)}
        if not outside:
            return members
        members = {index: order for index, order in members.items() if index not in outside}


def _is_enclosed(subgraph: Subgraph, index: int, members: Mapping[int, Order]) -> bool:
    (operation,) = (op for op in subgraph.operations if op.index == index)
    makers = [subgraph.producer(t) for t in operation.inputs if t is not None and not subgraph.tensor(t).is_constant]
    if not all(_index_of(maker) in members or _turns_in(subgraph, maker, members) for maker in makers):
        return False
    readers = subgraph.consumers(operation.output)
    return bool(readers) and operation.output not in subgraph.outputs and all(
        reader.index in members or _turns_back(subgraph, reader, members[index]) for reader in readers)


def _turns_in(subgraph: Subgraph, maker: Operation | None, members: Mapping[int, Order]) -> bool:
    """Whether it is a TRANSPOSE, of something that keeps its own order."""
    if maker is None or maker.kind is not Kind.TRANSPOSE:
        return False
    return _index_of(subgraph.producer(maker.inputs[0])) not in members


def _turns_back(subgraph: Subgraph, reader: Operation, order: Order) -> bool:
    back = order_of(subgraph, reader)
    return back is not None and [order[axis] for axis in back] == list(range(len(order)))


def _turned(subgraph: Subgraph, members: Mapping[int, Order]) -> Subgraph:
    """The subgraph with the members in the order of the sources, and RESHAPEs where results were turned back."""
    made = subgraph
    for operation in subgraph.operations:
        maker = _index_of(subgraph.producer(operation.inputs[0])) if operation.inputs else -1
        if operation.index in members:
            made = _with_turned(made, operation, members[operation.index])
        elif operation.kind is Kind.TRANSPOSE and maker in members:
            view = replace(operation, kind=Kind.RESHAPE, name="RESHAPE", inputs=operation.inputs[:1], moving=None,
                           fused=(*operation.fused, maker))
            made = made.replaced([operation], [view])
    return _without_unread(subgraph, made, members)


def _with_turned(subgraph: Subgraph, operation: Operation, order: Order) -> Subgraph:
    inputs, tensors = list(operation.inputs), [_unturned(subgraph.tensor(operation.output), order)]
    for position, number in enumerate(operation.inputs):
        maker = subgraph.producer(number)
        if maker is not None and maker.kind is Kind.TRANSPOSE:
            inputs[position] = maker.inputs[0]
        elif number is not None and subgraph.tensor(number).num_elements > 1 and subgraph.tensor(number).is_constant:
            free = max(subgraph.tensors) + len(tensors)
            inputs[position] = free
            tensors.append(replace(_unturned(subgraph.tensor(number), order), index=free))
    moving = operation.moving
    if operation.kind is Kind.CONCATENATION:
        moving = replace(moving_of(operation), axis=order[axis_of(moving_of(operation).axis, len(order))])
    turned = replace(operation, inputs=tuple(inputs), moving=moving)
    return subgraph.replaced([operation], [turned], tensors)


def _unturned(tensor: Tensor, order: Order) -> Tensor:
    """The tensor of which a TRANSPOSE would make this one."""
    back = np.argsort(order)
    data = None if tensor.data is None else np.ascontiguousarray(tensor.data.transpose(back))
    return replace(tensor, shape=tuple(tensor.shape[axis] for axis in back), data=data)


def _without_unread(before: Subgraph, made: Subgraph, members: Mapping[int, Order]) -> Subgraph:
    """Without the TRANSPOSEs that only members read. Members carry their indices, and those of members before them,
    because what lies between is not what the model has there.
    """
    gone = {op.index for op in made.operations if op.kind is Kind.TRANSPOSE
            and op.output not in made.outputs and not made.consumers(op.output) and before.consumers(op.output)}
    operations = []
    for op in made.operations:
        if op.index in members:
            (old,) = (one for one in before.operations if one.index == op.index)
            makers = {_index_of(before.producer(t)) for t in old.inputs}
            op = replace(op, fused=tuple(sorted({*op.fused, *(makers & (gone | members.keys()))})))
        if op.index not in gone:
            operations.append(op)
    return replace(made, operations=tuple(operations))


def _index_of(operation: Operation | None) -> int:
    """-1 when there is none."""
    return -1 if operation is None else operation.index
