"""Moves that undo each other: what already lies in memory is not moved there and back.

TRANSPOSE there and back, a SLICE that takes off what a PAD has added, the CONCATENATION of what a SPLIT took apart, a
PAD of nothing, RESHAPE behind RESHAPE: elements are followed one by one, so that the kinds of operations do not matter.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cermet.ir.boxes import MoveError, data_inputs
from cermet.ir.flat import move_elements
from cermet.ir.moves import LAYOUTS, layout
from cermet.ir.operation import Activation, Kind, Operation
from cermet.ir.subgraph import Subgraph

VIEWS = frozenset({Kind.RESHAPE, Kind.SQUEEZE, Kind.EXPAND_DIMS})
SAME_SIZE = frozenset({Kind.RESIZE_BILINEAR})       # moves where the size stays
MAX_ELEMENTS = 1 << 22         # of a tensor that is followed
MAX_FOLLOWED = 1 << 25         # of all tensors together
NOT_MOVED = -1


@dataclass(frozen=True, eq=False)
class Contents:
    """Where the elements of a tensor come from: for each, the place in tensor `root`, or NOT_MOVED."""

    root: int
    places: np.ndarray

    @cached_property
    def key(self) -> tuple[int, bytes] | None:
        """Equal for tensors that hold the same; None when something of other origin is in it."""
        if (self.places == NOT_MOVED).any():
            return None
        return self.root, hashlib.blake2b(self.places.tobytes(), digest_size=16).digest()


Known = dict[int, Contents | None]


def cancel_moves(subgraph: Subgraph, accepts: Callable[[Subgraph, Operation], bool] = lambda *_: True) -> Subgraph:
    """Moves to where the elements have been before become one RESHAPE from there.

    Needs: type and quantisation are the same. Of RESHAPEs one behind the other nobody else reads what is between.
    accepts: whether the RESHAPE may be made, in the subgraph that has it.
    """
    known: Known = {}
    while True:
        made = next((new for view, new in cancelled(subgraph, known) if accepts(new, view)), None)
        if made is None:
            return subgraph
        subgraph = made


def cancelled(subgraph: Subgraph, known: Known) -> Iterator[tuple[Operation, Subgraph]]:
    """(RESHAPE, subgraph with it) for each operation that makes what there has been; `fused` names what vanishes.

    known   contents of tensors found so far, which no pass changes
    """
    earlier: dict[int, Contents] = {}
    for operation in subgraph.operations:
        for output in operation.outputs if _is_move(subgraph, operation) else ():
            if output not in known:
                known[output] = _contents(subgraph, operation, output, known)
            found = known[output]
            if found is None:
                continue
            earlier |= {t: own for t in data_inputs(operation) if t is not None and (own := known.get(t)) is not None}
            earlier[output] = found
            source = _source(subgraph, operation, output, earlier)
            if source is not None:
                yield _replaced(subgraph, operation, source)


def _contents(subgraph: Subgraph, operation: Operation, output: int, known: Known) -> Contents | None:
    """None for what comes from several tensors, or is too large to follow."""
    data = [t for t in data_inputs(operation) if t is not None]
    if not data:
        return None
    tensors = [subgraph.tensor(t) for t in (*data, output)]
    if any(t.is_variable or (t.dtype, t.quantisation) != (tensors[0].dtype, tensors[0].quantisation) for t in tensors):
        return None
    followed = sum(len(one.places) for one in known.values() if one is not None)
    if any(t.num_elements > MAX_ELEMENTS for t in tensors) or followed > MAX_FOLLOWED or \
            any(t.is_constant for t in tensors):
        return None
    for tensor in tensors[:-1]:
        if known.get(tensor.index) is None:
            known[tensor.index] = Contents(tensor.index, np.arange(tensor.num_elements, dtype=np.int32))
    origins = {t: own for t in data if (own := known.get(t)) is not None}
    roots = {own.root for own in origins.values()}
    if len(roots) > 1:
        return None
    if operation.kind in VIEWS or operation.kind in SAME_SIZE:
        return origins[data[0]]
    places = np.full(tensors[-1].num_elements, NOT_MOVED, np.int32)
    try:
        for box in layout(subgraph, operation).flat:
            if box.target == output:
                move_elements(box, origins[box.source].places, places)
    except MoveError:
        return None
    return Contents(roots.pop(), places)


def _is_move(subgraph: Subgraph, operation: Operation) -> bool:
    if operation.activation is not Activation.NONE:
        return False
    if operation.kind in SAME_SIZE or operation.kind in VIEWS:
        ends = (*operation.inputs[:1], *operation.outputs)
        if len(ends) != 2 or None in ends:
            return False
        before, after = (subgraph.tensor(t) for t in ends)
        return before.shape == after.shape if operation.kind in SAME_SIZE else before.num_elements == after.num_elements
    return operation.kind in LAYOUTS


def _source(subgraph: Subgraph, operation: Operation, output: int, earlier: dict[int, Contents]) -> int | None:
    """The tensor to read instead; None when there is none, or the operation reads it already."""
    mine, wanted = earlier[output].key, subgraph.tensor(output).shape
    if len(operation.outputs) != 1 or mine is None:
        return None
    alike = [t for t, other in earlier.items() if t != output and other.key == mine]
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
