"""A CONCATENATION of what a SPLIT has made, among other tensors, joins what there was before the SPLIT.

Blocks that pass half of the channels on (CSP, C2f) split a tensor, compute something of one half, and join all.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cermet.ir.boxes import MoveError, axis_of, moving_of, whole_runs
from cermet.ir.moves import LAYOUTS, layout
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph

TAKING_APART = frozenset({Kind.SPLIT, Kind.SPLIT_V, Kind.SLICE, Kind.STRIDED_SLICE})


@dataclass(frozen=True)
class Piece:
    """Elements first .. end - 1 of a tensor along an axis, all along the others."""

    source: int
    first: int
    end: int


def rejoin_parts(subgraph: Subgraph, accepts: Callable[[Subgraph, Operation], bool] = lambda *_: True) -> Subgraph:
    """CONCATENATION(parts of one tensor, in order and all of it, others) becomes CONCATENATION(that tensor, others).

    Needs: the parts are all along the axis that is joined, and follow each other; the same type and quantisation.
    accepts: whether the new CONCATENATION may be made, in the subgraph that has it.
    """
    for operation in subgraph.operations:
        if operation.kind is Kind.CONCATENATION and None not in operation.inputs:
            inputs = _rejoined(subgraph, operation)
            if inputs != operation.inputs:
                joined = replace(operation, inputs=inputs)
                made = subgraph.replaced([operation], [joined])
                subgraph = made if accepts(made, joined) else subgraph
    return subgraph


def _rejoined(subgraph: Subgraph, operation: Operation) -> tuple[int | None, ...]:
    rank = len(subgraph.tensor(operation.output).shape)
    try:
        axis = axis_of(moving_of(operation).axis, rank)
    except MoveError:
        return operation.inputs
    pieces = [_piece(subgraph, t, axis) for t in operation.inputs]
    made: list[int | None] = []
    at = 0
    while at < len(pieces):
        end = _end_of_whole(subgraph, pieces, at, axis)
        first = pieces[at]
        made.append(operation.inputs[at] if end is None or first is None else first.source)
        at = at + 1 if end is None else end
    return tuple(made)


def _end_of_whole(subgraph: Subgraph, pieces: list[Piece | None], at: int, axis: int) -> int | None:
    """Where a run of pieces ends that begins here and makes up a whole tensor; None when there is none."""
    position = 0
    first = pieces[at]
    for number, piece in enumerate(pieces[at:], at):
        if first is None or piece is None or piece.source != first.source or piece.first != position:
            return None
        position = piece.end
        if position == subgraph.tensor(piece.source).shape[axis]:
            return number + 1
    return None


def _piece(subgraph: Subgraph, tensor: int | None, axis: int) -> Piece | None:
    producer = subgraph.producer(tensor)
    if producer is None or producer.kind not in TAKING_APART or producer.kind not in LAYOUTS:
        return None
    try:
        found = layout(subgraph, producer)
    except MoveError:
        return None
    boxes = [box for box in found.boxes if box.target == tensor]
    if found.loops or len(boxes) != 1 or len(boxes[0].runs) != len(subgraph.tensor(tensor).shape):
        return None
    box, made = boxes[0], subgraph.tensor(tensor)
    source = subgraph.tensor(box.source)
    if (source.dtype, source.quantisation, box.source_shape) != (made.dtype, made.quantisation, source.shape):
        return None
    whole, run = whole_runs(source.shape), box.runs[axis]
    is_whole = all(run == full for i, (run, full) in enumerate(zip(box.runs, whole, strict=True)) if i != axis)
    return Piece(box.source, run.source, run.source + run.count) if is_whole and run.source_step == 1 else None
