"""A network that grows by layers and knows an example of every tensor's real values, so that scales fit.

Layers register themselves (layers_*.py). A network remembers the calls that made it as steps with all parameters, the
fitted scales too: the steps alone, as text (recipe.py), make it again, and can be made smaller (shrink.py).
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tflite

from tests.support.model_builder import Model, OperationSpec, TensorSpec, fit_output

MAX_ELEMENTS = 1 << 22
MAX_SCALE = 1e3     # beyond, float32 products of scales are too coarse for TFLite, which compares a bias's with them


class Invalid(ValueError):
    """The layer cannot be applied to these values."""


@dataclass(frozen=True)
class Step:
    """One call of a layer. sources: numbers of values; parameters: what the layer takes by keyword."""

    layer: str
    sources: tuple[int, ...]
    parameters: Mapping[str, object]
    results: int = 1


Layer = Callable[..., None]
LAYERS: dict[str, Layer] = {}


def layer(function: Layer) -> Layer:
    """Registers a layer: a function of the network, of tensor numbers and of keywords that emits operations."""
    LAYERS[function.__name__] = function
    return function


class Network:
    """Values are the activations in the order in which layers made them; each is a tensor of the model.

    per_channel   weights of int8 layers whose kernels know it
    weight_zero_points   of uint8 weights, one of them for each layer
    """

    def __init__(self, *, per_channel: bool = True,
                 weight_zero_points: Sequence[int] = (0, 255, 77, 120, 128, 140)) -> None:
        self.per_channel, self.weight_zero_points = per_channel, weight_zero_points
        self.tensors: list[TensorSpec] = []
        self.operations: list[OperationSpec] = []
        self.inputs: list[int] = []
        self.values: list[int] = []
        self.steps: list[Step] = []
        self.reals: dict[int, np.ndarray] = {}
        self._fitted: dict[str, object] = {}
        self._marks: list[int] = []

    def apply(self, name: str, *sources: int, **parameters: object) -> list[int]:
        """Numbers of the values that a layer makes of others. Raises Invalid, and then nothing has changed."""
        self._marks = [len(part) for part in self._parts()]
        self._fitted = {}
        try:
            LAYERS[name](self, *(self.values[source] for source in sources), **parameters)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            self._cut()
            raise Invalid(f"{name}: {error}") from error
        made = list(range(self._marks[3], len(self.values)))
        self.steps.append(Step(name, tuple(sources), parameters | self._fitted, len(made)))
        return made

    def one(self, name: str, *sources: int, **parameters: object) -> int:
        """The value that a layer with one result makes."""
        (made,) = self.apply(name, *sources, **parameters)
        return made

    def undo(self) -> None:
        """Takes the last step back; only once."""
        self.steps.pop()
        self._cut()

    def _parts(self) -> tuple[list, ...]:
        return self.tensors, self.operations, self.inputs, self.values

    def _cut(self) -> None:
        for part, mark in zip(self._parts(), self._marks, strict=True):
            del part[mark:]

    def tensor(self, value: int) -> TensorSpec:
        """The tensor of a value."""
        return self.tensors[self.values[value]]

    def model(self, outputs: Sequence[int] | None = None) -> Model:
        """outputs: values; None: those that no layer reads."""
        if outputs is None:
            outputs = self.unread()
        return Model(tuple(self.tensors), tuple(self.operations), tuple(self.inputs),
                     tuple(self.values[value] for value in outputs))

    def unread(self) -> list[int]:
        """Values that no layer reads."""
        read = {source for step in self.steps for source in step.sources}
        return [value for value in range(len(self.values)) if value not in read
                and self.values[value] not in self.inputs]

    # What layers use: tensor numbers

    def constant(self, name: str, data: np.ndarray, scales: Sequence[float] = (), zero_points: Sequence[int] = (),
                 axis: int = 0) -> int:
        """A constant tensor."""
        self.tensors.append(TensorSpec(f"{name}{len(self.tensors)}", data.shape, str(data.dtype), tuple(scales),
                                       tuple(zero_points), axis, data))
        return len(self.tensors) - 1

    def integers(self, values: object) -> int:
        """An operand of int32."""
        return self.constant("numbers", np.asarray(values, np.int32))

    def input(self, shape: Sequence[int], dtype: str, scale: float, zero: int, seed: int) -> None:
        """An input of the model; its example values are all equally likely."""
        info = np.iinfo(dtype)
        data = np.random.default_rng(seed).integers(info.min, info.max + 1, shape)
        self._activation(((data - zero) * scale).astype(np.float32), dtype, scale, zero)
        self.inputs.append(self.values[-1])

    def emit(self, name: str, inputs: Sequence[int], reals: Sequence[np.ndarray], *, like: int | None = None,
             scale: float | None = None, zero: int | None = None, dtype: str = "", version: int | None = None,
             **options: object) -> None:
        """An operation with its outputs. like: quantised as that tensor; else by scale and zero, None: fitted."""
        if not hasattr(tflite.BuiltinOperator, name):
            raise Invalid(f"no operation {name}")
        source = self.tensors[next(i for i in inputs if i >= 0 and i in self.reals)]
        dtype = dtype or source.dtype
        outputs = []
        for real in reals:
            if like is not None:
                scale, zero = self.tensors[like].scale, self.tensors[like].zero_point
            elif scale is None or zero is None:
                fitted = fit_output(replace(source, dtype=dtype), real, zero)
                scale, zero = fitted.scale, fitted.zero_point
            if like is None:
                self._fitted = {"scale": scale, "zero": zero}
            outputs.append(self._activation(real, dtype, scale, zero))
        self.operations.append(OperationSpec(name, tuple(inputs), tuple(outputs), options, version))

    def _activation(self, real: np.ndarray, dtype: str, scale: float, zero: int) -> int:
        if not 0 < real.size <= MAX_ELEMENTS:
            raise Invalid(f"shape {real.shape}")
        if not scale < MAX_SCALE:
            raise Invalid(f"scale {scale}")
        info = np.iinfo(dtype)
        scale = float(np.float32(scale))
        number = len(self.tensors)
        self.tensors.append(TensorSpec(f"t{number}", real.shape, dtype, (scale,), (zero,)))
        quantised = np.clip(np.rint(real / np.float32(scale)), info.min - zero, info.max - zero)
        self.reals[number] = quantised.astype(np.float32) * np.float32(scale)
        self.values.append(number)
        return number


@layer
def input(net: Network, *, shape: Sequence[int], dtype: str = "int8", scale: float = 0.03, zero: int = 0,
          seed: int = 0) -> None:
    """An input of the model."""
    net.input(shape, dtype, scale, zero, seed)
