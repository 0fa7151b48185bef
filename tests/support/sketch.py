"""Graphs drawn step by step, for tests of passes: every tensor's quantisation is said, nothing is calibrated."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.support import builders_binary, builders_move, builders_unary, model_builder
from tests.support.model_builder import ACTIVATIONS, Model, OperationSpec, TensorSpec

assert builders_binary and builders_move and builders_unary        # their option tables
model_builder.OPTIONS.update({
    "DIV": ("DivOptions", 1), "CAST": ("CastOptions", 1), "DEQUANTIZE": ("DequantizeOptions", 2),
    "SQUARE": ("SquareOptions", 1), "NEG": ("NegOptions", 1), "COS": ("CosOptions", 1)})
FLOAT = "float32"


class Sketch:
    """A model that grows; each method returns the number of the tensor that it makes."""

    def __init__(self) -> None:
        self.tensors: list[TensorSpec] = []
        self.operations: list[OperationSpec] = []
        self.inputs: list[int] = []

    def tensor(self, shape: Sequence[int], dtype: str, scale: float | None, zero_point: int, *,
               data: np.ndarray | None = None) -> int:
        scales = () if scale is None else (float(np.float32(scale)),)
        points = () if scale is None else (zero_point,)
        name = f"t{len(self.tensors)}"
        self.tensors.append(TensorSpec(name, tuple(shape), dtype, scales, points, data=data))
        return len(self.tensors) - 1

    def input(self, shape: Sequence[int] = (1, 16, 16, 1), scale: float | None = 0.05, zero_point: int = 3,
              dtype: str = "int8") -> int:
        self.inputs.append(self.tensor(shape, dtype, scale, zero_point))
        return self.inputs[-1]

    def constant(self, value: object, scale: float | None = None, zero_point: int = 0, dtype: str = "int8") -> int:
        """scale None: a float32 constant, or integers of int32."""
        kind = dtype if scale is not None else ("int32" if np.asarray(value).dtype.kind == "i" else FLOAT)
        data = np.asarray(value, kind)
        return self.tensor(data.shape, kind, scale, zero_point, data=data)

    def op(self, name: str, inputs: Sequence[int], scale: float | None = None, zero_point: int = 0, *,
           dtype: str | None = None, shape: Sequence[int] | None = None, activation: str = "NONE",
           version: int | None = None, **options: object) -> int:
        """scale None: the output is float32, or has the first input's quantisation when that has one."""
        first = self.tensors[inputs[0]]
        dtype = dtype or first.dtype
        if scale is None and dtype != FLOAT and first.scales:
            scale, zero_point = first.scale, first.zero_point
        made = self.tensor(first.shape if shape is None else shape, dtype, scale, zero_point)
        if activation != "NONE":
            options["FusedActivationFunction"] = ACTIVATIONS[activation]
        self.operations.append(OperationSpec(name, tuple(inputs), (made,), options, version))
        return made

    def real(self, name: str, *inputs: int, version: int = 1, **options: object) -> int:
        """A float32 operation."""
        return self.op(name, inputs, dtype=FLOAT, version=version, **options)

    def model(self, *outputs: int) -> Model:
        return Model(tuple(self.tensors), tuple(self.operations), tuple(self.inputs), outputs)


def all_bytes(model: Model) -> list[np.ndarray]:
    """Every value of the only input's type once; its shape holds 256."""
    spec = model.tensors[model.inputs[0]]
    info = np.iinfo(spec.dtype)
    return [np.arange(info.min, info.max + 1).astype(spec.dtype).reshape(spec.shape)]
