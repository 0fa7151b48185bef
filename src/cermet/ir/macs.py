"""How much arithmetic an operation asks for."""
from __future__ import annotations

import math

from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph


def count_macs(subgraph: Subgraph, operation: Operation) -> int:
    """Multiply-accumulates of one operation as the model states it, padding included; 0 for operations without weights
    and for shapes that make no sense.

    Each output element costs one per weight that reaches it: weights are [O, H, W, I], [1, H, W, O] and [O, I].
    TRANSPOSE_CONV: each pixel of the input costs one per weight.
    """
    if operation.kind not in (*_PER_OUTPUT, Kind.TRANSPOSE_CONV, Kind.BATCH_MATMUL):
        return 0
    if len(operation.outputs) != 1 or len(operation.inputs) < 2:
        return 0
    weights = None if operation.inputs[1] is None else subgraph.tensor(operation.inputs[1])
    if weights is None or len(weights.shape) < 2:
        return 0
    if operation.kind is Kind.TRANSPOSE_CONV:
        data = None if operation.inputs[0] is None else subgraph.tensor(operation.inputs[0])
        return math.prod(data.shape[:-1]) * math.prod(weights.shape) if data is not None else 0
    if operation.kind is Kind.BATCH_MATMUL:
        data = None if operation.inputs[0] is None else subgraph.tensor(operation.inputs[0])
        depth = data.shape[-2 if operation.adjoint[0] else -1] if data is not None and len(data.shape) > 1 else 0
        return math.prod(subgraph.tensor(operation.output).shape) * depth
    first, last = _PER_OUTPUT[operation.kind]
    return math.prod(subgraph.tensor(operation.output).shape) * math.prod(weights.shape[first:last])


# Which dimensions of the weights meet in one output element.
_PER_OUTPUT: dict[Kind, tuple[int, int | None]] = {
    Kind.CONV: (1, None), Kind.DEPTHWISE_CONV: (1, 3), Kind.FULLY_CONNECTED: (1, None)}
