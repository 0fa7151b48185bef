"""RESHAPEs that the CONCATENATION behind them does on its way: what it joins is read where the RESHAPE would read it.

Elements are counted in the same order on both sides of a RESHAPE, so a part of the joined tensor can be taken from
either. The RESHAPE itself then makes nothing.
"""
from __future__ import annotations

from collections.abc import Mapping

from cermet.drivers.rocket.moving import num_tasks, plan_moves
from cermet.drivers.rocket.strided import MAX_TASKS
from cermet.drivers.rocket.views import VIEW_KINDS, Views
from cermet.ir.moves import MoveError
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph


def find_homes(subgraph: Subgraph, views: Views) -> Mapping[int, int]:
    """Operand of a CONCATENATION -> the tensor in which its elements lie.

    Needs: a RESHAPE that moves bytes makes the operand, for this CONCATENATION alone and once; no batch, whose images
    would be joined one by one (batching.py).
    """
    made: dict[int, int] = {}
    for operation in subgraph.operations:
        if operation.kind is Kind.CONCATENATION and subgraph.tensor(operation.output).shape[:1] == (1,):
            found = {t: home for t in operation.inputs if (home := _home(subgraph, views, operation, t)) is not None}
            shapes = {t: views.shape(subgraph, home) for t, home in found.items()}
            if found and _is_possible(subgraph, operation, shapes):
                made.update(found)      # type: ignore[arg-type]
    return made


def _home(subgraph: Subgraph, views: Views, concatenation: Operation, operand: int | None) -> int | None:
    producer = subgraph.producer(operand)
    if operand is None or producer is None or producer.kind not in VIEW_KINDS or operand in subgraph.outputs:
        return None
    source = producer.inputs[0]
    if source is None or views.root(source) == views.root(operand) or concatenation.inputs.count(operand) != 1:
        return None
    return source if subgraph.consumers(operand) == (concatenation,) else None


def _is_possible(subgraph: Subgraph, operation: Operation, shapes: Mapping) -> bool:
    try:
        return num_tasks(plan_moves(subgraph, operation, shapes, has_homes=True)) <= MAX_TASKS
    except MoveError:
        return False
