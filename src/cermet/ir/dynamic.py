"""Tensors whose shape is computed while the model runs: no program can be made for them beforehand.

A dimension of -1 in a model's signature is not meant here: such a model runs with the shapes it has once the
application has chosen its inputs' sizes, and those are in the subgraph.
"""
from __future__ import annotations

from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph

# Operations and which of their inputs decide the output's shape; when one is not constant, neither is the shape.
SHAPE_OPERANDS: dict[str, tuple[int, ...]] = {
    "RESHAPE": (1,), "RESIZE_BILINEAR": (1,), "RESIZE_NEAREST_NEIGHBOR": (1,), "PAD": (1,), "PADV2": (1,),
    "MIRROR_PAD": (1,), "SLICE": (1, 2), "STRIDED_SLICE": (1, 2, 3), "SPACE_TO_BATCH_ND": (1, 2),
    "BATCH_TO_SPACE_ND": (1, 2), "TILE": (1,), "FILL": (0,), "RANGE": (0, 1, 2), "BROADCAST_TO": (1,),
    "TRANSPOSE": (1,), "TRANSPOSE_CONV": (3,), "EXPAND_DIMS": (1,), "MEAN": (1,), "SUM": (1,), "REDUCE_MAX": (1,),
    "REDUCE_MIN": (1,), "REDUCE_PROD": (1,), "REDUCE_ANY": (1,), "REDUCE_ALL": (1,), "ARG_MAX": (1,), "ARG_MIN": (1,),
    "ONE_HOT": (1,), "TOPK_V2": (1,), "SPARSE_TO_DENSE": (1,), "SCATTER_ND": (2,), "SPLIT_V": (1, 2), "SPLIT": (0,),
}
# The output's shape depends on the data, or on a subgraph that is not looked at.
ALWAYS_DYNAMIC = frozenset({"WHERE", "UNIQUE", "IF", "WHILE"})
# The output's shape is known however the input's is.
SHAPELESS = frozenset({"SHAPE", "RANK"})


def dynamic_tensors(subgraph: Subgraph) -> frozenset[int]:
    """Tensors whose shape is known only when the operations before them have run."""
    found: set[int] = set()
    for operation in subgraph.operations:
        follows = operation.name not in SHAPELESS and not found.isdisjoint(operation.inputs)
        if follows or operation.name in ALWAYS_DYNAMIC or _has_computed_shape(subgraph, operation):
            found.update(operation.outputs)
    return frozenset(found)


def _has_computed_shape(subgraph: Subgraph, operation: Operation) -> bool:
    operands = [operation.inputs[i] for i in SHAPE_OPERANDS.get(operation.name, ()) if i < len(operation.inputs)]
    return any(tensor is not None and not subgraph.tensor(tensor).is_constant for tensor in operands)
