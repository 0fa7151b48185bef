"""Removes what nobody reads."""
from __future__ import annotations

from dataclasses import replace

from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph


def drop_dead(subgraph: Subgraph) -> Subgraph:
    """Operations whose outputs are neither read nor handed out go, and tensors that no operation touches.

    Graph inputs stay even when they are no longer read: the caller still passes them.
    """
    wanted = set(subgraph.outputs)
    kept: list[Operation] = []
    for operation in reversed(subgraph.operations):
        if not operation.outputs or wanted.intersection(operation.outputs):
            wanted.update(t for t in operation.inputs if t is not None)
            kept.append(operation)
    touched = wanted.union(subgraph.inputs, *(operation.outputs for operation in kept))
    if len(kept) == len(subgraph.operations) and touched >= set(subgraph.tensors):
        return subgraph
    tensors = {t: tensor for t, tensor in subgraph.tensors.items() if t in touched}
    return replace(subgraph, operations=tuple(reversed(kept)), tensors=tensors)
