"""Operands and results of quantised operations: what the numerics of all groups of operations share."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cermet.ir.fixed_point import activation_range
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import Quantisation, Tensor

Values = Mapping[int, np.ndarray]


def operand(subgraph: Subgraph, values: Values, number: int | None) -> tuple[Tensor, np.ndarray]:
    """A tensor and its value: a constant's contents, else what `values` holds."""
    tensor = subgraph.tensor(number)
    return tensor, tensor.data if tensor.data is not None else values[tensor.index]


def quantisation(tensor: Tensor) -> Quantisation:
    """The tensor's quantisation, which an operation that has numerics always has."""
    assert tensor.quantisation is not None, f"tensor {tensor.index} is not quantised"
    return tensor.quantisation


def centred(tensor: Tensor, value: np.ndarray) -> np.ndarray:
    """int32: value - zero_point. A zero point per channel lies along the quantised axis."""
    q = quantisation(tensor)
    points = np.asarray(q.zero_points, np.int32)
    if len(points) > 1:
        points = points.reshape([-1 if i == q.axis else 1 for i in range(value.ndim)])
    return value.astype(np.int32) - points


def finish(operation: Operation, out: Tensor, scaled: np.ndarray) -> np.ndarray:
    """Zero point added, activation clamped, cast to the output's dtype and shape."""
    low, high = activation_range(operation, out)
    return np.clip(scaled + quantisation(out).zero_point, low, high).astype(out.dtype.numpy).reshape(out.shape)
