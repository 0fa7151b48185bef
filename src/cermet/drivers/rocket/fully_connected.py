"""FULLY_CONNECTED, and BATCH_MATMUL by one constant matrix: convolutions over their input (flattening.py)."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.conv import bias_values, layer_tasks, make_layer, written_tensor
from cermet.drivers.rocket.flattening import flat_source, flat_weights, flatten, vectors_per_task
from cermet.drivers.rocket.layout import ATOM_BYTES
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.views import MapShape
from cermet.drivers.rocket.weights import Weights, signed_weights
from cermet.ir.operation import Kind, Operation
from cermet.ir.tensor import Tensor


def matrix_shape(operation: Operation, tensor: Tensor) -> tuple[int, int]:
    """(outputs, inputs) of the weights; of a BATCH_MATMUL they are [inputs, outputs] unless transposed first."""
    rows, columns = tensor.shape[-2:]
    return (columns, rows) if _is_turned(operation) else (rows, columns)


def _is_turned(operation: Operation) -> bool:
    return operation.kind is Kind.BATCH_MATMUL and not operation.adjoint[1]


def matrix_weights(operation: Operation, tensor: Tensor) -> Weights:
    """[outputs, 1, 1, inputs] of a stored matrix."""
    assert tensor.data is not None
    matrix = tensor.data.reshape(tensor.shape[-2:])
    matrix = np.ascontiguousarray(matrix.T) if _is_turned(operation) else matrix
    return signed_weights(tensor, matrix[:, None, None, :])


def lower_fully_connected(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a FULLY_CONNECTED or a BATCH_MATMUL."""
    source = context.feature_map(operation.inputs[0])       # type: ignore[arg-type]
    weights = matrix_weights(operation, context.tensor(operation.inputs[1]))
    outputs, *_, depth = weights.values.shape
    shape = MapShape(source.height, source.width, source.channels)
    flat = flatten(shape, depth)
    if flat is None:
        raise CompileError(f"{operation}: {depth} weights per output do not fit a map of {source.height}x{source.width}"
                           f"x{source.channels}")
    layer = make_layer(context.tensor(operation.inputs[0]), flat_weights(flat, weights, shape),
                       bias_values(context.subgraph, operation), context.tensor(operation.output), operation.kind)
    target = context.feature_map(written_tensor(context, operation))
    step, tasks = vectors_per_task(context.soc, flat, outputs), []
    for first in range(0, flat.vectors, step):
        part = flat.part(min(step, flat.vectors - first)) if flat.atoms else flat
        place = replace(target, address=target.address + first * ATOM_BYTES, pitch=target.surface_atoms)
        tasks += layer_tasks(context, operation, part.geometry(outputs), flat_source(flat, source, first), place, layer)
    return tasks
