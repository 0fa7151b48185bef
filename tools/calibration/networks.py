"""Networks with published rates, as subgraphs: shapes only, all weights alike."""
from __future__ import annotations

import numpy as np

from cermet.ir.operation import Activation, Kind, Moving, Operation, Padding, Pair, Window
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Quantisation, Tensor

ONE_SCALE = Quantisation((0.02,), (0,))


class Network:
    """Collects operations; values are tensor numbers."""

    def __init__(self, side: int) -> None:
        self.tensors: dict[int, Tensor] = {}
        self.operations: list[Operation] = []
        self.input = self._tensor((1, side, side, 3))

    def _tensor(self, shape: tuple[int, ...], data: np.ndarray | None = None, dtype: DType = DType.INT8,
                quantisation: Quantisation = ONE_SCALE) -> int:
        number = len(self.tensors)
        self.tensors[number] = Tensor(number, f"tensor {number}", shape, dtype, quantisation, data)
        return number

    def _add(self, kind: Kind, inputs: tuple[int, ...], shape: tuple[int, ...], window: Window | None = None,
             activation: Activation = Activation.NONE, moving: Moving | None = None) -> int:
        output = self._tensor(shape)
        self.operations.append(Operation(len(self.operations), kind, kind.value, inputs, (output,), window=window,
                                         activation=activation, moving=moving))
        return output

    def shape(self, value: int) -> tuple[int, ...]:
        return self.tensors[value].shape

    def conv(self, value: int, channels: int, kernel: int = 1, stride: int = 1,
             activation: Activation = Activation.RELU) -> int:
        return self._weighted(Kind.CONV, value, (channels, kernel, kernel, self.shape(value)[3]), stride, activation)

    def depthwise(self, value: int, stride: int) -> int:
        return self._weighted(Kind.DEPTHWISE_CONV, value, (1, 3, 3, self.shape(value)[3]), stride, Activation.RELU6)

    def _weighted(self, kind: Kind, value: int, weights: tuple[int, ...], stride: int, activation: Activation) -> int:
        channels = weights[3] if kind is Kind.DEPTHWISE_CONV else weights[0]
        scales = tuple(0.01 + 0.0001 * (index % 7) for index in range(channels))
        axis = 3 if kind is Kind.DEPTHWISE_CONV else 0
        kernels = self._tensor(weights, np.ones(weights, np.int8), quantisation=Quantisation(scales, (0,), axis))
        bias = self._tensor((channels,), np.zeros(channels, np.int32), DType.INT32,
                            Quantisation(tuple(scale * ONE_SCALE.scale for scale in scales), (0,)))
        window = _window(weights[1], stride)
        _, height, width, _ = self.shape(value)
        out = window.output_size(height, width)
        return self._add(kind, (value, kernels, bias), (1, out.y, out.x, channels), window, activation)

    def add(self, first: int, second: int, activation: Activation = Activation.NONE) -> int:
        return self._add(Kind.ADD, (first, second), self.shape(first), activation=activation)

    def pool(self, kind: Kind, value: int, kernel: int, stride: int, padding: Padding = Padding.SAME) -> int:
        window = _window(kernel, stride, padding)
        _, height, width, channels = self.shape(value)
        out = window.output_size(height, width)
        return self._add(kind, (value,), (1, out.y, out.x, channels), window)

    def concatenation(self, *values: int) -> int:
        _, height, width, _ = self.shape(values[0])
        channels = sum(self.shape(value)[3] for value in values)
        return self._add(Kind.CONCATENATION, values, (1, height, width, channels), moving=Moving(axis=3))

    def doubled(self, value: int) -> int:
        _, height, width, channels = self.shape(value)
        size = self._tensor((2,), np.array([2 * height, 2 * width], np.int32), DType.INT32)
        return self._add(Kind.RESIZE_NEAREST, (value, size), (1, 2 * height, 2 * width, channels), moving=Moving())

    def subgraph(self, *outputs: int) -> Subgraph:
        return Subgraph(self.tensors, tuple(self.operations), (self.input,), tuple(sorted(outputs)))


def _window(kernel: int, stride: int, padding: Padding = Padding.SAME) -> Window:
    return Window(Pair(kernel, kernel), Pair(stride, stride), padding)


def mobilenet_v2() -> Subgraph:
    """224x224, width 1, 1001 classes."""
    n = Network(224)
    value = n.conv(n.input, 32, 3, 2, Activation.RELU6)
    for expansion, channels, repeats, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                                                 (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
        for number in range(repeats):
            before, width = value, n.shape(value)[3]
            if expansion > 1:
                value = n.conv(value, width * expansion, activation=Activation.RELU6)
            value = n.depthwise(value, stride if number == 0 else 1)
            value = n.conv(value, channels, activation=Activation.NONE)
            value = n.add(before, value) if number else value
    value = n.conv(value, 1280, activation=Activation.RELU6)
    value = n.pool(Kind.AVERAGE_POOL, value, 7, 1, Padding.VALID)
    return n.subgraph(n.conv(value, 1001, activation=Activation.NONE))


def mobilenet_v1() -> Subgraph:
    """224x224, width 1, 1001 classes."""
    n = Network(224)
    value = n.conv(n.input, 32, 3, 2, Activation.RELU6)
    for channels, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
                             (1024, 1)):
        value = n.conv(n.depthwise(value, stride), channels, activation=Activation.RELU6)
    value = n.pool(Kind.AVERAGE_POOL, value, 7, 1, Padding.VALID)
    return n.subgraph(n.conv(value, 1001, activation=Activation.NONE))


def resnet50() -> Subgraph:
    """224x224, 1000 classes; the stride in the 3x3 convolutions."""
    n = Network(224)
    value = n.pool(Kind.MAX_POOL, n.conv(n.input, 64, 7, 2), 3, 2)
    for width, repeats in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for number in range(repeats):
            stride = 2 if number == 0 and width > 64 else 1
            beside = n.conv(value, 4 * width, 1, stride, Activation.NONE) if number == 0 else value
            value = n.conv(n.conv(n.conv(value, width), width, 3, stride), 4 * width, activation=Activation.NONE)
            value = n.add(beside, value, Activation.RELU)
    value = n.pool(Kind.AVERAGE_POOL, value, 7, 1, Padding.VALID)
    return n.subgraph(n.conv(value, 1000, activation=Activation.NONE))


def yolov5s_relu() -> Subgraph:
    """640x640, 80 classes, three heads of 255 channels."""
    n = Network(640)

    def c3(value: int, channels: int, repeats: int, is_residual: bool) -> int:
        left, right = n.conv(value, channels // 2), n.conv(value, channels // 2)
        for _ in range(repeats):
            made = n.conv(n.conv(left, channels // 2), channels // 2, 3)
            left = n.add(left, made) if is_residual else made
        return n.conv(n.concatenation(left, right), channels)

    value = n.conv(n.input, 32, 6, 2)
    kept = []
    for channels, repeats in ((64, 1), (128, 2), (256, 3), (512, 1)):
        value = c3(n.conv(value, channels, 3, 2), channels, repeats, True)
        kept.append(value)
    pooled = [n.conv(value, 256)]
    for _ in range(3):
        pooled.append(n.pool(Kind.MAX_POOL, pooled[-1], 5, 1))
    high = n.conv(n.conv(n.concatenation(*pooled), 512), 256)
    middle = n.conv(c3(n.concatenation(n.doubled(high), kept[2]), 256, 1, False), 128)
    small = c3(n.concatenation(n.doubled(middle), kept[1]), 128, 1, False)
    medium = c3(n.concatenation(n.conv(small, 128, 3, 2), middle), 256, 1, False)
    large = c3(n.concatenation(n.conv(medium, 256, 3, 2), high), 512, 1, False)
    return n.subgraph(*(n.conv(each, 255, activation=Activation.NONE) for each in (small, medium, large)))


# name: (subgraph, row of vendor_model_zoo_fps.csv)
NETWORKS = {"MobileNetV2 224": (mobilenet_v2, "mobilenetv2-12"), "ResNet50 224": (resnet50, "resnet50-v2-7"),
            "YOLOv5s ReLU 640": (yolov5s_relu, "yolov5s_relu")}
# name: (subgraph, model in open_driver_latency.csv)
OPEN_DRIVER = {"MobileNetV1 224": (mobilenet_v1, "MobileNetV1 224 quant"),
               "MobileNetV2 224": (mobilenet_v2, "MobileNetV2 224 quant")}
