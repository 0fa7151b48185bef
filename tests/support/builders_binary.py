"""Models of one operation with two operands: ADD, SUB, MUL, MAXIMUM, MINIMUM."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tests.support import exact
from tests.support.model_builder import (
    ACTIVATIONS,
    Model,
    OperationSpec,
    TensorSpec,
    fit_output,
    random_quantised,
)


@dataclass(frozen=True)
class Operand:
    """One operand; data: the integers of a constant, or is_constant: random ones."""

    shape: Sequence[int]
    scale: float = 0.05
    zero_point: int = 0
    is_constant: bool = False
    data: np.ndarray | None = None


def binary(rng: np.random.Generator, name: str, first: Operand, second: Operand, *, output: tuple[float, int] | None,
           dtype: str = "int8", activation: str = "NONE") -> Model:
    """A model of one operation. output: scale and zero point, None: fitted to what random inputs give."""
    operands = [_tensor(rng, text, operand, dtype) for text, operand in (("first", first), ("second", second))]
    scale, zero_point = output or (1.0, 0)
    made = TensorSpec("output", np.broadcast_shapes(tuple(first.shape), tuple(second.shape)), dtype,
                      (float(np.float32(scale)),), (zero_point,))
    options = {"FusedActivationFunction": ACTIVATIONS[activation]} if name in ("ADD", "SUB", "MUL") else {}
    inputs = tuple(i for i, tensor in enumerate(operands) if tensor.data is None)
    model = Model((*operands, made), (OperationSpec(name, (0, 1), (2,), options),), inputs, (2,))
    if output is not None:
        return model
    real = exact.run(model, model.random_inputs(rng), clip=False)[-1].unrounded
    return replace(model, tensors=(*operands, fit_output(made, real, None)))


def _tensor(rng: np.random.Generator, name: str, operand: Operand, dtype: str) -> TensorSpec:
    data = operand.data
    if data is None and operand.is_constant:
        data = random_quantised(rng, operand.shape, dtype)
    return TensorSpec(name, tuple(operand.shape), dtype, (float(np.float32(operand.scale)),), (operand.zero_point,),
                      data=data)
