"""Moves that undo each other: what already lies in memory is not moved there and back.

TRANSPOSE there and back, a SLICE that takes off what a PAD has added, the CONCATENATION of what a SPLIT took apart, a
PAD of nothing, RESHAPE behind RESHAPE: elements are followed one by one, so that the kinds of operations do not matter.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from cermet.ir.boxes import MoveError, data_inputs
from cermet.ir.flat import move_elements
from cermet.ir.moves import LAYOUTS, layout
from cermet.ir.operation import Activation, Kind, Operation
from cermet.ir.subgraph import Subgraph

VIEWS = frozenset({Kind.RESHAPE, Kind.SQUEEZE, Kind.EXPAND_DIMS})
SAME_SIZE = frozenset({Kind.RESIZE_BILINEAR})       # moves where the size stays
MAX_ELEMENTS = 1 << 22
NOT_MOVED = -1


@dataclass(frozen=True, eq=False)
class Contents:
    """Where the elements of a tensor come from: for each, the place in tensor `root`, or NOT_MOVED."""

    root: int
    places: np.ndarray

    def equals(self, other: Contents) -> bool:
        return self.root == other.root and np.array_equal(self.places, other.places) \
            and not (self.places == NOT_MOVED).any()


def cancel_moves(subgraph: Subgraph, accepts: Callable[[Subgraph, Operation], bool] = lambda *_: True) -> Subgraph:
    """Moves to where the elements have been before become one RESHAPE from there.

    Needs: type and quantisation are the same. Of RESHAPEs one behind the other nobody else reads what is between.
    accepts: whether the RESHAPE may be made, in the subgraph that has it.
    """
    while True:
        made = next((new for view, new in cancelled(subgraph) if accepts(new, view)), None)
        if made is None:
            return subgraph
        subgraph = made


def cancelled(subgraph: Subgraph) -> Iterator[tuple[Operation, Subgraph]]:
    """(RESHAPE, subgraph with it) for each operation that makes what there has been; `fused` names what vanishes."""
    contents: dict[int, Contents] = {}
    for operation in subgraph.operations:
        for output in operation.outputs:
            found = _contents(subgraph, operation, output, contents)
            if found is None:
                continue
            contents[output] = found
            source = _source(subgraph, operation, output, contents)
            if source is not None:
                yield _replaced(subgraph, operation, source)


def _contents(subgraph: Subgraph, operation: Operation, output: int,
              known: dict[int, Contents]) -> Contents | None:
    """None for what is no move, comes from several tensors, or is too large to follow."""
    data = [t for t in data_inputs(operation) if t is not None]
    if not data or not _is_move(subgraph, operation) or subgraph.tensor(output).num_elements > MAX_ELEMENTS:
        return None
    tensors = [subgraph.tensor(t) for t in (*data, output)]
    if any(t.is_variable or (t.dtype, t.quantisation) != (tensors[0].dtype, tensors[0].quantisation) for t in tensors):
        return None
    for tensor in tensors[:-1]:
        if tensor.num_elements > MAX_ELEMENTS or tensor.is_constant:
            return None
        known.setdefault(tensor.index, Contents(tensor.index, np.arange(tensor.num_elements, dtype=np.int32)))
    roots = {known[t].root for t in data}
    if len(roots) > 1:
        return None
    if operation.kind in VIEWS or operation.kind in SAME_SIZE:
        return known[data[0]]
    places = np.full(subgraph.tensor(output).num_elements, NOT_MOVED, np.int32)
    try:
        for box in layout(subgraph, operation).flat:
            if box.target == output:
                move_elements(box, known[box.source].places, places)
    except MoveError:
        return None
    return Contents(roots.pop(), places)


def _is_move(subgraph: Subgraph, operation: Operation) -> bool:
    if operation.activation is not Activation.NONE:
        return False
    if operation.kind in SAME_SIZE:
        return subgraph.tensor(operation.inputs[0]).shape == subgraph.tensor(operation.output).shape
    return operation.kind in VIEWS or operation.kind in LAYOUTS


def _source(subgraph: Subgraph, operation: Operation, output: int, contents: dict[int, Contents]) -> int | None:
    """The tensor to read instead; None when there is none, or the operation reads it already."""
    if len(operation.outputs) != 1:
        return None
    mine, wanted = contents[output], subgraph.tensor(output).shape
    alike = [t for t, other in contents.items() if t != output and mine.equals(other)]
    if operation.kind in VIEWS:
        before = operation.inputs[0]
        if before in subgraph.outputs or len(subgraph.consumers(before)) > 1:           # type: ignore[arg-type]
            return None
        alike = [t for t in alike if t != before]
    shapes = {t: subgraph.tensor(t).shape for t in alike}
    return min(alike, key=lambda t: (shapes[t] != wanted, shapes[t][-1:] != wanted[-1:], t), default=None)


def _replaced(subgraph: Subgraph, operation: Operation, source: int) -> tuple[Operation, Subgraph]:
    view = replace(operation, kind=Kind.RESHAPE, name="RESHAPE", inputs=(source,), moving=None, window=None)
    made = subgraph.replaced([operation], [view])
    gone: list[Operation] = []
    pending = [t for t in data_inputs(operation) if t != source]
    while pending:
        number = pending.pop()
        producer = made.producer(number)
        if producer is None or any(t in made.outputs or made.consumers(t) for t in producer.outputs):
            continue
        made, gone = made.replaced([producer], []), [*gone, producer]
        pending += [t for t in producer.inputs if t is not None and t != source]
    fused = {i for op in gone for i in (op.index, *op.fused)}
    final = replace(view, fused=tuple(sorted({*view.fused, *fused})))
    return final, made.replaced([view], [final])
