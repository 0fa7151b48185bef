"""Exact results of ADD's relatives, from real numbers. Conventions: exact.py."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.support.model_builder import Model, OperationSpec


def _operands(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Both operands as real numbers."""
    first, second = ((values[i].astype(np.float64) - model.tensors[i].zero_point) * model.tensors[i].scale
                     for i in op.inputs)
    return first, second


def _sub(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    first, second = _operands(model, op, values)
    return first - second


def _mul(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    """The integers are multiplied first, so that only the scales' product is rounded."""
    first, second = (model.tensors[i] for i in op.inputs)
    product = ((values[op.inputs[0]].astype(np.float64) - first.zero_point)
               * (values[op.inputs[1]].astype(np.float64) - second.zero_point))
    return product * (first.scale * second.scale)


def _maximum(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    return np.maximum(*_operands(model, op, values))


def _minimum(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    return np.minimum(*_operands(model, op, values))


REAL = {"SUB": _sub, "MUL": _mul, "MAXIMUM": _maximum, "MINIMUM": _minimum}
