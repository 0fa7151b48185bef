"""Networks with the structure of known ones, at reduced width and size, with random weights and scales that fit.

Each function adds an architecture to a network behind its input and returns nothing: what nobody reads is an output.
Depths are the originals'; widths are small. Scales come from the real-valued run that networks make of themselves.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.support.networks.network import Network
from tests.support.networks.recipe import Recipe  # noqa: F401  (layers register themselves)


class Builder:
    """Layers with seeds of their own, and what all architectures use."""

    def __init__(self, dtype: str, side: int, channels: int = 3) -> None:
        self.net = Network(weight_zero_points=(118, 128, 140))
        self.dtype, self.count = dtype, 0
        zero = 0 if dtype == "int8" else 128
        (self.input,) = self.net.apply("input", shape=(1, side, side, channels), dtype=dtype, scale=1 / 128, zero=zero)

    def conv(self, source: int, outputs: int, kernel: int = 1, stride: int = 1, activation: str = "NONE",
             **more: Any) -> int:
        return self._weighted("conv", source, outputs=outputs, kernel=(kernel, kernel), stride=(stride, stride),
                              activation=activation, **more)

    def depthwise(self, source: int, kernel: int, stride: int, activation: str = "NONE") -> int:
        return self._weighted("depthwise", source, kernel=(kernel, kernel), stride=(stride, stride),
                              activation=activation)

    def dense(self, source: int, outputs: int) -> int:
        return self._weighted("fully_connected", source, outputs=outputs)

    def _weighted(self, name: str, source: int, **parameters: Any) -> int:
        """Weights as large as normalisation makes them: the outputs' root mean square is 1."""
        return self._scaled(1.0, name, source, **parameters)

    def like(self, other: int, name: str, source: int, **parameters: Any) -> int:
        """A layer with weights, quantised as `other`: the weights are as large as that asks for."""
        tensor = self.net.tensor(other)
        return self._scaled(self._size(other), name, source, scale=tensor.scale, zero=tensor.zero_point,
                            **parameters)

    def _scaled(self, wanted: float, name: str, source: int, **parameters: Any) -> int:
        self.count += 1
        free = {key: value for key, value in parameters.items() if key not in ("scale", "zero")}
        got = self._size(self.net.one(name, source, seed=self.count, **free))
        self.net.undo()
        return self.net.one(name, source, seed=self.count, gain=wanted / got, **parameters)

    def _size(self, value: int) -> float:
        return float(np.sqrt(np.mean(np.square(self.net.reals[self.net.values[value]]))))

    def unary(self, source: int, function: str) -> int:
        return self.net.one("unary", source, function=function)

    def binary(self, operation: str, first: int, second: int, activation: str = "NONE") -> int:
        return self.net.one("binary", first, second, operation=operation, activation=activation)

    def constant(self, operation: str, source: int, *, per_channel: bool, activation: str = "NONE",
                 scale: float = 0.01) -> int:
        self.count += 1
        shape = (self.channels(source),) if per_channel else ()
        return self.net.one("with_constant", source, operation=operation, shape=shape, seed=self.count,
                            constant_scale=scale, activation=activation)

    def channels(self, value: int) -> int:
        return self.net.tensor(value).shape[3]

    def pool(self, kind: str, source: int, window: int, stride: int, padding: str = "SAME") -> int:
        return self.net.one("pool", source, kind=kind, window=(window, window), stride=(stride, stride),
                            padding=padding)

    def concatenation(self, *parts: int, axis: int = 3) -> int:
        return self.net.one("concatenation", *parts, axis=axis)

    def swish(self, source: int) -> int:
        return self.binary("MUL", source, self.unary(source, "LOGISTIC"))

    def excite(self, source: int, squeezed: int, gate: Callable[[int], int],
               inner: Callable[[int], int] | None = None) -> int:
        """A mean, two convolutions of one pixel with `inner` (RELU) in between, a gate per channel."""
        mean = self.net.one("reduction", source, keep_dims=True)
        hidden = inner(self.conv(mean, squeezed)) if inner else self.conv(mean, squeezed, activation="RELU")
        return self.binary("MUL", source, gate(self.conv(hidden, self.channels(source))))

    def classifier(self, source: int, classes: int = 10) -> None:
        mean = self.net.one("reduction", source, keep_dims=False)
        self.dense(mean, classes)


def resnet50(b: Builder) -> None:
    """3, 4, 6 and 3 bottlenecks with a projection at the front of each stage."""
    x = b.pool("MAX", b.conv(b.input, 16, 7, 2, "RELU"), 3, 2)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 8 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = b.conv(b.conv(x, width, 1, 1, "RELU"), width, 3, stride, "RELU")
            y = b.conv(y, 4 * width)
            shortcut = x if block else b.conv(x, 4 * width, 1, stride)
            x = b.binary("ADD", y, shortcut, "RELU")
    b.classifier(x)


# kernel, expansion, outputs, squeeze and excite, activation, stride: MobileNetV3-Small, halved
V3_BLOCKS = ((3, 8, 8, True, "RELU", 2), (3, 36, 12, False, "RELU", 2), (3, 44, 12, False, "RELU", 1),
             (5, 48, 20, True, "HARD_SWISH", 2), (5, 120, 20, True, "HARD_SWISH", 1),
             (5, 120, 20, True, "HARD_SWISH", 1), (5, 60, 24, True, "HARD_SWISH", 1),
             (5, 72, 24, True, "HARD_SWISH", 1), (5, 144, 48, True, "HARD_SWISH", 2),
             (5, 288, 48, True, "HARD_SWISH", 1), (5, 288, 48, True, "HARD_SWISH", 1))


def mobilenet_v3(b: Builder) -> None:
    """Inverted bottlenecks with HARD_SWISH; gates are relu6(x + 3) / 6, as Keras writes them."""
    def act(value: int, name: str) -> int:
        return b.unary(value, "HARD_SWISH") if name == "HARD_SWISH" else value

    def fused(name: str) -> str:
        return "RELU" if name == "RELU" else "NONE"

    def gate(value: int) -> int:
        shifted = b.constant("ADD", value, per_channel=False, activation="RELU6", scale=3 / 127)
        return b.constant("MUL", shifted, per_channel=False, scale=1 / 6 / 127)
    x = act(b.conv(b.input, 8, 3, 2), "HARD_SWISH")
    for kernel, wide, outputs, excites, activation, stride in V3_BLOCKS:
        y = act(b.conv(x, wide, 1, 1, fused(activation)), activation)
        y = act(b.depthwise(y, kernel, stride, fused(activation)), activation)
        if excites:
            y = b.excite(y, max(wide // 4, 8), gate)
        y = b.conv(y, outputs)
        x = b.binary("ADD", x, y) if stride == 1 and b.channels(x) == outputs else y
    x = act(b.conv(x, 288), "HARD_SWISH")
    mean = b.net.one("reduction", x, keep_dims=True)
    head = act(b.conv(mean, 512), "HARD_SWISH")
    b.net.apply("reshape", b.conv(head, 10), shape=(1, 10))


def efficientnet_b0(b: Builder) -> None:
    """MBConv blocks with swish and squeeze and excite, a quarter of the width."""
    x = b.swish(b.conv(b.input, 8, 3, 2))
    for expansion, outputs, repeats, stride, kernel in ((1, 4, 1, 1, 3), (6, 6, 2, 2, 3), (6, 10, 2, 2, 5),
                                                        (6, 20, 3, 2, 3), (6, 28, 3, 1, 5), (6, 48, 4, 2, 5),
                                                        (6, 80, 1, 1, 3)):
        for repeat in range(repeats):
            step, before = stride if not repeat else 1, b.channels(x)
            y = x if expansion == 1 else b.swish(b.conv(x, before * expansion))
            y = b.swish(b.depthwise(y, kernel, step))
            y = b.excite(y, max(before // 4, 1), lambda v: b.unary(v, "LOGISTIC"), b.swish)
            y = b.conv(y, outputs)
            x = b.binary("ADD", y, x) if step == 1 and before == outputs else y
    b.classifier(b.swish(b.conv(x, 160)))


def densenet121(b: Builder, growth: int = 8) -> None:
    """6, 12, 24 and 16 layers, each joined to all before it; the normalisation in front of a ReLU cannot be folded."""
    def normalised(value: int) -> int:
        scaled = b.constant("MUL", value, per_channel=True)
        return b.constant("ADD", scaled, per_channel=True, activation="RELU")
    x = b.pool("MAX", b.conv(b.input, 2 * growth, 7, 2, "RELU"), 3, 2)
    for block, layers in enumerate((6, 12, 24, 16)):
        for _ in range(layers):
            y = b.conv(normalised(x), 4 * growth, 1, 1, "RELU")
            x = b.concatenation(x, b.like(x, "conv", y, outputs=growth, kernel=(3, 3)))
        if block < 3:
            x = b.pool("AVERAGE", b.conv(normalised(x), b.channels(x) // 2), 2, 2, "VALID")
    b.classifier(normalised(x))


def unet(b: Builder, *, transposed: bool = True) -> None:
    """Four levels down, four up, with the skipped maps joined in."""
    def twice(value: int, width: int) -> int:
        return b.conv(b.conv(value, width, 3, 1, "RELU"), width, 3, 1, "RELU")
    skipped, x = [], b.input
    for width in (8, 16, 32, 48):
        x = twice(x, width)
        skipped.append(x)
        x = b.pool("MAX", x, 2, 2, "VALID")
    x = twice(x, 64)
    for width, skip in zip((48, 32, 16, 8), reversed(skipped), strict=True):
        if transposed:
            up = b.like(skip, "transpose_conv", x, outputs=width, kernel=(2, 2), stride=(2, 2))
        else:
            side = b.net.tensor(x).shape[1] * 2
            enlarged = b.net.one("resize", x, kind="BILINEAR", size=(side, side), half_pixel=True)
            up = b.like(skip, "conv", enlarged, outputs=width)
        x = twice(b.concatenation(skip, up), width)
    b.unary(b.conv(x, 2), "LOGISTIC")


def yolo(b: Builder, classes: int = 7) -> None:
    """A small backbone and two heads: one on the last map, one on it enlarged and joined with the map before."""
    def block(value: int, width: int, kernel: int, stride: int = 1) -> int:
        return b.net.one("unary", b.conv(value, width, kernel, stride), function="LEAKY_RELU", alpha=0.1)
    x = b.input
    for width in (8, 16, 32):
        x = block(x, width, 3, 2)
    middle = block(x, 48, 3, 2)
    last = block(block(block(middle, 64, 3, 2), 48, 1), 64, 3)
    coarse = block(last, 32, 1)
    side = b.net.tensor(middle).shape[1]
    enlarged = b.net.one("resize", b.like(middle, "conv", coarse, outputs=24), kind="NEAREST_NEIGHBOR",
                         size=(side, side))
    fine = block(b.concatenation(enlarged, middle), 48, 3)
    boxes = [_boxes(b, value, classes) for value in (coarse, fine)]
    b.concatenation(*boxes, axis=1)


def _boxes(b: Builder, value: int, classes: int) -> int:
    """Three anchors per pixel: offsets and scores through LOGISTIC, sizes through EXP in the original, here scaled."""
    _, height, width, _ = b.net.tensor(value).shape
    raw = b.net.one("reshape", b.conv(value, 3 * (5 + classes)), shape=(1, height * width * 3, 5 + classes))
    offsets, sizes, scores = b.net.apply("split", raw, axis=2, sizes=(2, 2, 1 + classes))
    size = b.net.one("quantize", b.constant("MUL", sizes, per_channel=False), scale=1 / 256, zero=_low(b))
    return b.concatenation(b.unary(offsets, "LOGISTIC"), size, b.unary(scores, "LOGISTIC"), axis=2)


def _low(b: Builder) -> int:
    return -128 if b.dtype == "int8" else 0


def unet_resized(b: Builder) -> None:
    """U-Net whose way up is a bilinear resize and a convolution."""
    unet(b, transposed=False)


# name -> (architecture, side of the input)
ARCHITECTURES: Mapping[str, tuple[Callable[[Builder], None], int]] = {
    "ResNet50": (resnet50, 64), "MobileNetV3": (mobilenet_v3, 96), "EfficientNet-B0": (efficientnet_b0, 64),
    "DenseNet121": (densenet121, 64), "U-Net, TRANSPOSE_CONV": (unet, 48), "U-Net, RESIZE_BILINEAR": (unet_resized, 48),
    "YOLO head": (yolo, 96)}
