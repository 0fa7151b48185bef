"""Small random networks of the operations that the NPU knows, with the graph shapes that compilers get wrong.

Residual sums in every order, operands read several times, sums of a tensor with itself, views in the middle and at
borders, tensors that are both output and operand, and now and then an operation that stays on the CPU.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tests.support import exact
from tests.support.model_builder import (
    ACTIVATIONS,
    PADDINGS,
    Model,
    OperationSpec,
    TensorSpec,
    fit_output,
    random_quantised,
)

CHANNELS = (1, 2, 3, 4, 5, 8, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100)
SIDES = (1, 2, 3, 4, 5, 7, 8, 12, 17)
MAX_ELEMENTS = 12_000
MAX_RESIDUAL_CHANNELS = 200     # weights grow with their square
ACTIVATION_NAMES = ("NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")


class NetworkBuilder:
    """Appends random operations; knows an example value of every tensor, so that scales can be chosen to fit."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = str(self.rng.choice(["int8", "uint8"]))
        self.per_channel = self.dtype == "int8" and bool(self.rng.integers(2))
        self.tensors: list[TensorSpec] = []
        self.operations: list[OperationSpec] = []
        self.inputs: list[int] = []
        self.activations: list[int] = []
        self.values: dict[int, np.ndarray] = {}

    # tensors

    def _tensor(self, tensor: TensorSpec) -> int:
        self.tensors.append(replace(tensor, name=f"{tensor.name}{len(self.tensors)}"))
        if tensor.data is not None:
            self.values[len(self.tensors) - 1] = tensor.data
        return len(self.tensors) - 1

    def _scale(self, low: float, high: float) -> float:
        return float(np.float32(np.exp(self.rng.uniform(np.log(low), np.log(high)))))

    def _zero_point(self) -> int:
        info = np.iinfo(self.dtype)
        if self.rng.random() < 0.2:
            return int(self.rng.choice([info.min, info.max]))
        return int(self.rng.integers(info.min, info.max + 1))

    def add_input(self, shape: tuple[int, ...]) -> int:
        number = self._tensor(TensorSpec("input", shape, self.dtype, (self._scale(0.005, 0.08),),
                                         (self._zero_point(),)))
        self.values[number] = random_quantised(self.rng, shape, self.dtype)
        self.inputs.append(number)
        self.activations.append(number)
        return number

    def _finish(self, operation: OperationSpec, shape: tuple[int, ...], like: int | None = None) -> None:
        """Append an operation whose output has the next tensor number; `like`: quantised as that tensor."""
        number = len(self.tensors)
        quantised: tuple[tuple[float, ...], tuple[int, ...]] = ((1.0,), (0,))
        if like is not None:
            quantised = self.tensors[like].scales, self.tensors[like].zero_points
        self._tensor(TensorSpec("activation", shape, self.dtype, *quantised))
        operation = replace(operation, outputs=(number,))
        if like is None:
            self.tensors[number] = self._fitted(operation, number)
        self.operations.append(operation)
        self.values[number] = exact.operation(self._model(()), operation, self.values).quantised
        self.activations.append(number)

    def _fitted(self, operation: OperationSpec, number: int) -> TensorSpec:
        real = exact.operation(self._model(()), operation, self.values, clip=False).unrounded
        zero_point = self._zero_point() if self.rng.random() < 0.3 else None
        tensor = fit_output(self.tensors[number], real, zero_point)
        if self.rng.random() < 0.1:
            tensor = replace(tensor, scales=(float(np.float32(tensor.scale * self.rng.choice([0.05, 8.0]))),))
        return tensor

    def _model(self, outputs: tuple[int, ...]) -> Model:
        return Model(tuple(self.tensors), tuple(self.operations), tuple(self.inputs), outputs)

    # choices

    def pick(self, is_fit: Callable[[TensorSpec], bool] = lambda tensor: True) -> int | None:
        """One of the activations, the latest ones more often."""
        fitting = [t for t in self.activations if is_fit(self.tensors[t])]
        if not fitting:
            return None
        return fitting[-1 - min(int(self.rng.geometric(0.45)) - 1, len(fitting) - 1)]

    def _activation(self) -> int:
        return ACTIVATIONS[str(self.rng.choice(ACTIVATION_NAMES))]

    def _weights(self, shape: tuple[int, ...], axis: int) -> int:
        low = -127 if self.dtype == "int8" else 0
        zero_point = 0 if self.dtype == "int8" else int(self.rng.choice([0, 255, 128, 77, 140]))
        count = shape[axis] if self.per_channel else 1
        data = self.rng.integers(low, np.iinfo(self.dtype).max + 1, shape).astype(self.dtype)
        scales = tuple(self._scale(0.001, 0.02) for _ in range(count))
        return self._tensor(TensorSpec("weights", shape, self.dtype, scales, (zero_point,) * count,
                                       axis if count > 1 else 0, data))

    def _bias(self, source: int, weights: int, count: int) -> int:
        """Now and then none where TFLite's kernels allow it: CONV_2D insists on one."""
        if len(self.tensors[weights].shape) == 2 and self.rng.random() < 0.25:
            return -1
        scales = tuple(float(np.float32(self.tensors[source].scale) * np.float32(s))
                       for s in self.tensors[weights].scales)
        data = self.rng.integers(-20_000, 20_000, count).astype(np.int32)
        return self._tensor(TensorSpec("bias", (count,), "int32", scales, (0,) * len(scales), 0, data))

    # operations

    def convolution(self, *, keeps_shape: bool = False, source: int | None = None) -> None:
        source = self.pick(_is_image) if source is None else source
        if source is None:
            return
        _, height, width, channels = self.tensors[source].shape
        kernel = tuple(int(k) for k in self.rng.choice([1, 1, 2, 3, 3, 5], 2))
        stride = (1, 1) if keeps_shape else tuple(int(s) for s in self.rng.choice([1, 1, 2, 3], 2))
        dilation = tuple(int(d) for d in self.rng.choice([1, 1, 1, 2], 2))
        fits = all((k - 1) * d < n for k, d, n in zip(kernel, dilation, (height, width), strict=True))
        padding = "SAME" if keeps_shape or not fits else str(self.rng.choice(["SAME", "VALID"]))
        is_depthwise = not keeps_shape and self.rng.random() < 0.4
        multiplier = 2 if is_depthwise and channels <= 24 and self.rng.random() < 0.25 else 1
        outputs = channels * multiplier if is_depthwise else int(self.rng.choice(CHANNELS))
        size = [_window_size(n, k, s, d, padding) for n, k, s, d in
                zip((height, width), kernel, stride, dilation, strict=True)]
        if size[0] * size[1] * outputs > MAX_ELEMENTS:
            return
        shape = (1, *kernel, outputs) if is_depthwise else (outputs, *kernel, channels)
        weights = self._weights(shape, 3 if is_depthwise else 0)
        bias = self._bias(source, weights, outputs)
        options: dict[str, object] = {
            "Padding": PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1], "DilationHFactor": dilation[0],
            "DilationWFactor": dilation[1], "FusedActivationFunction": self._activation()}
        if is_depthwise:
            options["DepthMultiplier"] = multiplier
        name = "DEPTHWISE_CONV_2D" if is_depthwise else "CONV_2D"
        inputs = (source, weights, bias) if bias >= 0 else (source, weights)
        self._finish(OperationSpec(name, inputs, (), options), (1, *size, outputs))

    def fully_connected(self) -> None:
        source = self.pick(lambda t: t.shape[-1] <= 600 and int(np.prod(t.shape)) <= 2500)
        if source is None:
            return
        shape = self.tensors[source].shape
        rows = int(np.prod(shape[:-1]))
        depth = shape[-1] if self.rng.random() < 0.7 else rows * shape[-1]
        outputs = int(self.rng.choice(CHANNELS))
        per_channel, self.per_channel = self.per_channel, False     # tflite-runtime 2.14 has no such kernel
        weights = self._weights((outputs, depth), 0)
        self.per_channel = per_channel
        options = {"FusedActivationFunction": self._activation()}
        self._finish(OperationSpec("FULLY_CONNECTED", (source, weights, self._bias(source, weights, outputs)), (),
                                   options), (rows * shape[-1] // depth, outputs))

    def addition(self) -> None:
        """Of two tensors of one shape; a branch of its own is made for the second one when there is none."""
        first = self.pick()
        if first is None:
            return
        shape = self.tensors[first].shape
        second = self.pick(lambda tensor: tensor.shape == shape)
        if second == first and self.rng.random() < 0.8:
            others = [t for t in self.activations if self.tensors[t].shape == shape and t != first]
            second = int(self.rng.choice(others)) if others else first
        pair = (first, second) if self.rng.integers(2) else (second, first)
        self._finish(OperationSpec("ADD", pair, (), {"FusedActivationFunction": self._activation()}), shape)    # type: ignore[arg-type]

    def residual(self) -> None:
        """ADD of convolutions of one tensor or of a tensor and its convolution, in every order."""
        source = self.pick(lambda tensor: _is_image(tensor) and tensor.shape[3] <= MAX_RESIDUAL_CHANNELS)
        if source is None:
            return
        shape = self.tensors[source].shape
        made = []
        for _ in range(int(self.rng.integers(1, 3))):
            before = len(self.operations)
            self._same_shape_convolution(source)
            made += [self.operations[i].outputs[0] for i in range(before, len(self.operations))]
        operands = [source, *made] if len(made) == 1 else made
        if len(operands) < 2:
            return
        pair = tuple(int(t) for t in self.rng.permutation(operands[:2]))
        self._finish(OperationSpec("ADD", pair, (), {"FusedActivationFunction": self._activation()}), shape)

    def _same_shape_convolution(self, source: int) -> None:
        _, height, width, channels = self.tensors[source].shape
        kernel = int(self.rng.choice([1, 3]))
        weights = self._weights((channels, kernel, kernel, channels), 0)
        bias = self._bias(source, weights, channels)
        options = {"Padding": 0, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1,
                   "FusedActivationFunction": self._activation()}
        inputs = (source, weights, bias) if bias >= 0 else (source, weights)
        self._finish(OperationSpec("CONV_2D", inputs, (), options), (1, height, width, channels))

    def pooling(self) -> None:
        source = self.pick(_is_image)
        if source is None:
            return
        _, height, width, channels = self.tensors[source].shape
        window = [int(self.rng.integers(1, min(n, 5) + 1)) for n in (height, width)]
        stride = [int(s) for s in self.rng.choice([1, 2, 3], 2)]
        padding = str(self.rng.choice(["SAME", "VALID"]))
        size = [_window_size(n, k, s, 1, padding) for n, k, s in zip((height, width), window, stride, strict=True)]
        options = {"Padding": PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1],
                   "FilterHeight": window[0], "FilterWidth": window[1], "FusedActivationFunction": self._activation()}
        name = str(self.rng.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
        self._finish(OperationSpec(name, (source,), (), options), (1, *size, channels), like=source)

    def mean(self) -> None:
        source = self.pick(_is_image)
        if source is None:
            return
        axes = self._tensor(TensorSpec("axes", (2,), "int32", data=np.array([1, 2], np.int32)))
        keeps = bool(self.rng.integers(2))
        channels = self.tensors[source].shape[3]
        like = source if self.rng.integers(2) else None
        self._finish(OperationSpec("MEAN", (source, axes), (), {"KeepDims": keeps}),
                     (1, 1, 1, channels) if keeps else (1, channels), like=like)

    def reshape(self) -> None:
        source = self.pick()
        if source is None:
            return
        shape = self.tensors[source].shape
        if len(shape) == 4 and 1 in shape[1:3] and self.rng.random() < 0.3:
            dims = tuple(i for i in (1, 2) if shape[i] == 1)
            squeezed = tuple(n for i, n in enumerate(shape) if i not in dims)
            self._finish(OperationSpec("SQUEEZE", (source,), (), {"SqueezeDims": dims}), squeezed, like=source)
            return
        elements, channels = int(np.prod(shape)), shape[-1]
        pixels = elements // channels
        sides = [n for n in range(1, pixels + 1) if pixels % n == 0]
        side = int(self.rng.choice(sides))
        wanted: tuple[int, ...] = (1, side, pixels // side, channels)
        if self.rng.random() < 0.4:
            wanted = ((1, elements), (pixels, channels), (1, pixels, channels))[int(self.rng.integers(3))]
        operand = self._tensor(TensorSpec("shape", (len(wanted),), "int32", data=np.array(wanted, np.int32)))
        self._finish(OperationSpec("RESHAPE", (source, operand), (), {"NewShape": wanted}), wanted, like=source)

    def on_the_cpu(self) -> None:
        """MAX_POOL_2D with a stride that the NPU does not have, so that the network falls into several partitions."""
        source = self.pick(_is_image)
        if source is None:
            return
        _, height, width, channels = self.tensors[source].shape
        options = {"Padding": PADDINGS["SAME"], "StrideH": 1, "StrideW": 9, "FilterHeight": 2, "FilterWidth": 1,
                   "FusedActivationFunction": 0}
        self._finish(OperationSpec("MAX_POOL_2D", (source,), (), options), (1, height, -(-width // 9), channels),
                     like=source)

    def constant_addition(self) -> None:
        source = self.pick()
        if source is None:
            return
        shape = self.tensors[source].shape
        constant = self._tensor(TensorSpec("constant", shape, self.dtype, (self._scale(0.005, 0.08),),
                                           (self._zero_point(),), data=random_quantised(self.rng, shape, self.dtype)))
        self._finish(OperationSpec("ADD", (source, constant), (), {"FusedActivationFunction": 0}), shape)

    # the network

    def build(self) -> Model:
        rng = self.rng
        image = (1, int(rng.choice(SIDES)), int(rng.choice(SIDES)), int(rng.choice(CHANNELS)))
        self.add_input(image)
        if rng.random() < 0.3:
            self.add_input(image)
        makers = [self.convolution, self.fully_connected, self.addition, self.residual, self.pooling, self.mean,
                  self.reshape, self.on_the_cpu, self.constant_addition]
        weights = np.array([6, 1, 3, 4, 2, 0.7, 2, 0.3, 0.3])
        wanted = int(rng.integers(3, 13))
        for _ in range(4 * wanted):
            if len(self.operations) >= wanted:
                break
            makers[int(rng.choice(len(makers), p=weights / weights.sum()))]()
        if not self.operations:
            self._same_shape_convolution(self.inputs[0])
        read = {t for op in self.operations for t in op.inputs}
        outputs = tuple(op.outputs[0] for op in self.operations
                        if op.outputs[0] not in read or rng.random() < 0.15)
        return replace(self._model(outputs), operations=self._reordered())

    def _reordered(self) -> tuple[OperationSpec, ...]:
        """The operations in a random order in which each still follows its inputs'."""
        if self.rng.random() < 0.5:
            return tuple(self.operations)
        pending, done, ordered = list(self.operations), set[int](), []
        made = {op.outputs[0] for op in self.operations}
        while pending:
            ready = [op for op in pending if all(t not in made or t in done for t in op.inputs)]
            chosen = ready[int(self.rng.integers(len(ready)))]
            pending.remove(chosen)
            done.add(chosen.outputs[0])
            ordered.append(chosen)
        return tuple(ordered)


def random_network(seed: int) -> Model:
    """A network of 3 to 12 operations."""
    return NetworkBuilder(seed).build()


def _is_image(tensor: TensorSpec) -> bool:
    return len(tensor.shape) == 4


def _window_size(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    extent = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == "SAME" else (size - extent) // stride + 1
