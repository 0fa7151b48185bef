"""The random layers: each picks operands and parameters; what does not fit raises Invalid or adds nothing."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.support.networks.drawers_blocks import BLOCKS
from tests.support.networks.drawers_move import MOVING
from tests.support.networks.drawing import ACTIVATIONS, CHANNELS, MAX_ELEMENTS, Drawer, Drawing
from tests.support.networks.layers_elementwise import INT8_ONLY, UNARY

MAX_WEIGHTS = 60_000

def _window(d: Drawing, height: int, width: int) -> dict[str, Any]:
    kernel = (d.choice([1, 1, 2, 3, 3, 5]), d.choice([1, 1, 2, 3, 3, 5]))
    dilation = (1, 1) if d.chance(0.8) else (d.number(1, 2), d.number(1, 2))
    fits = all((k - 1) * e < n for k, e, n in zip(kernel, dilation, (height, width), strict=True))
    steps = [1, 1, 1, 2, 3] if d.chance(0.95) or dilation != (1, 1) else [1, 8, 9]
    return {"kernel": kernel, "dilation": dilation, "stride": (d.choice(steps), d.choice(steps)),
            "padding": d.choice(["SAME", "VALID"]) if fits else "SAME"}


def conv(d: Drawing) -> None:
    source = d.image()
    _, height, width, channels = d.shape(source)
    window, outputs = _window(d, height, width), d.choice(CHANNELS)
    if d.chance(0.1):
        window["groups"] = d.choice([g for g in range(1, channels + 1) if channels % g == 0])
        outputs = window["groups"] * d.number(1, max(1, 64 // window["groups"]))
    if height * width * outputs <= MAX_ELEMENTS and np.prod(window["kernel"]) * channels * outputs <= MAX_WEIGHTS:
        d.weighted("conv", source, outputs=outputs, **window)


def depthwise(d: Drawing) -> None:
    source = d.image()
    _, height, width, channels = d.shape(source)
    multiplier = d.choice([2, 3]) if channels <= 24 and d.chance(0.25) else 1
    d.weighted("depthwise", source, multiplier=multiplier, **_window(d, height, width))


def transpose_conv(d: Drawing) -> None:
    source = d.image()
    n, height, width, _ = d.shape(source)
    kernel, stride = (d.number(1, 4), d.number(1, 4)), (d.number(1, 3), d.number(1, 3))
    outputs = d.choice(CHANNELS[:14])
    if n * height * width * stride[0] * stride[1] * outputs <= MAX_ELEMENTS:
        d.weighted("transpose_conv", source, outputs=outputs, kernel=kernel, stride=stride,
                   padding=d.choice(["SAME", "VALID"]))


def fully_connected(d: Drawing) -> None:
    source = d.pick(lambda value: int(np.prod(d.shape(value))) <= 1200)
    d.weighted("fully_connected", source, outputs=d.choice(CHANNELS[:14]), flatten=d.chance(0.4), bias=d.chance(0.7))


def binary(d: Drawing) -> None:
    """Of one shape, or with one value per channel, per pixel, or for all."""
    first = d.pick()
    shape, dtype = d.shape(first), d.net.tensor(first).dtype
    second = d.pick(lambda value: d.net.tensor(value).dtype == dtype and _broadcasts(d.shape(value), shape))
    if second == first and d.chance(0.7):
        second = d.pick(lambda value: d.shape(value) == shape and value != first and d.net.tensor(value).dtype == dtype)
    operation = d.choice(["ADD", "ADD", "ADD", "SUB", "MUL", "MUL", "MAXIMUM", "MINIMUM"])
    if operation in ("MAXIMUM", "MINIMUM"):
        second = d.like(first, second)
    _apply_binary(d, operation, first, second)


def _apply_binary(d: Drawing, operation: str, first: int, second: int) -> int:
    pair = (first, second) if d.chance(0.5) else (second, first)
    if operation in ("MAXIMUM", "MINIMUM"):
        return d.net.one("binary", *pair, operation=operation)
    activation = d.choice(["NONE", "RELU"] if operation == "MUL" else ACTIVATIONS)
    return d.fitted("binary", *pair, operation=operation, activation=activation)


def _broadcasts(small: Sequence[int], shape: Sequence[int]) -> bool:
    return len(small) == len(shape) and all(s in (1, n) for s, n in zip(small, shape, strict=True))


def with_own_line(d: Drawing) -> None:
    """A tensor and its mean or maximum along rows or columns, which repeats along them."""
    source = d.pick(lambda value: len(d.shape(value)) == 4)
    reduced = d.fitted("reduction", source, kind=d.choice(["MEAN", "REDUCE_MAX"]), keep_dims=True,
                       axes=d.choice([(1,), (2,), (1,), (2,), (1, 3), (2, 3)]))
    operation = d.choice(["ADD", "SUB", "MUL", "MAXIMUM"])
    _apply_binary(d, operation, source, d.like(source, reduced) if operation == "MAXIMUM" else reduced)


def with_constant(d: Drawing) -> None:
    source = d.pick()
    shape = d.shape(source)
    form = d.choice([shape, (1,) * (len(shape) - 1) + shape[-1:], (1,) * len(shape), shape[-1:]])
    operation = d.choice(["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"])
    parameters = {} if operation in ("MAXIMUM", "MINIMUM") else {"constant_scale": d.scale(0.002, 0.05)}
    d.fitted("with_constant", source, operation=operation, shape=form, first=d.chance(0.3), seed=d.seed(), **parameters)


def residual(d: Drawing) -> None:
    """A sum of convolutions of one tensor, or of it and its convolution."""
    source = d.pick(lambda value: len(d.shape(value)) == 4 and d.shape(value)[3] <= 100)
    channels, made = d.shape(source)[3], []
    for _ in range(d.number(1, 2)):
        kernel = d.choice([1, 3]) if channels <= 33 else 1
        made.append(d.weighted("conv", source, outputs=channels, kernel=(kernel, kernel)))
    operands = [source, *made][-2:]
    _apply_binary(d, d.choice(["ADD", "ADD", "ADD", "SUB"]), operands[0], operands[1])


def excite(d: Drawing) -> None:
    """Squeeze and excite: a mean, two convolutions of one pixel, a product over the plane."""
    source = d.pick(lambda value: len(d.shape(value)) == 4 and 4 <= d.shape(value)[3] <= 100)
    channels = d.shape(source)[3]
    squeezed = d.fitted("reduction", source, keep_dims=True)
    inner = d.net.one("conv", squeezed, outputs=max(channels // 4, 1), activation="RELU", seed=d.seed())
    gate = d.net.one("conv", inner, outputs=channels, seed=d.seed())
    gate = d.net.one("unary", gate, function="LOGISTIC")
    d.fitted("binary", source, gate, operation="MUL")


def unary(d: Drawing) -> None:
    source = d.pick()
    tensor = d.net.tensor(source)
    names = [name for name in UNARY if tensor.dtype == "int8" or name not in INT8_ONLY]
    if tensor.scale * (int(np.iinfo(tensor.dtype).max) - tensor.zero_point) > 5:
        names = [name for name in names if name != "EXP"]       # a scale that nothing behind it can go on with
    function = d.choice(names)
    options = {"LEAKY_RELU": {"alpha": d.choice([0.1, 0.2, 0.01, 1.5, -0.5])},
               "GELU": {"approximate": d.chance(0.5)}}.get(function, {})
    d.fitted("unary", source, function=function, **options)


def swish(d: Drawing) -> None:
    """A tensor times its own LOGISTIC."""
    source = d.pick()
    gate = d.net.one("unary", source, function="LOGISTIC")
    d.fitted("binary", *((source, gate) if d.chance(0.5) else (gate, source)), operation="MUL")


def prelu(d: Drawing) -> None:
    d.fitted("prelu", d.pick(), per_channel=d.chance(0.7), seed=d.seed())


def quantize(d: Drawing) -> None:
    source = d.pick()
    dtype = d.choice(["int8", "uint8"]) if d.chance(0.3) else d.net.tensor(source).dtype
    if d.net.tensor(source).dtype == dtype:
        d.fitted("quantize", source)
    else:
        d.net.one("quantize", source, dtype=dtype)


def pool(d: Drawing) -> None:
    source = d.image()
    _, height, width, _ = d.shape(source)
    window = (d.number(1, min(height, 5)), d.number(1, min(width, 5)))
    most = 3 if d.chance(0.95) else 10
    d.net.apply("pool", source, kind=d.choice(["MAX", "AVERAGE"]), window=window,
                stride=(d.number(1, most), d.number(1, most)), padding=d.choice(["SAME", "VALID"]),
                activation=d.choice(ACTIVATIONS))


def reduction(d: Drawing) -> None:
    """Mostly the mean of the plane."""
    source = d.image()
    kind, axes = "MEAN", (1, 2)
    if d.chance(0.5):
        kind = d.choice(["MEAN", "REDUCE_MAX", "REDUCE_MIN", *(["SUM"] * (d.net.tensor(source).dtype == "uint8"))])
        axes = d.choice([(1,), (2,), (3,), (1, 2), (1, 2, 3), (2, 3)])
    d.fitted("reduction", source, kind=kind, axes=axes, keep_dims=d.chance(0.6))


def matrix_product(d: Drawing) -> None:
    source = d.pick(lambda value: len(d.shape(value)) in (2, 3) and d.net.tensor(value).dtype == "int8")
    d.fitted("matrix_product", source, outputs=d.choice(CHANNELS[:14]), seed=d.seed())


def resize(d: Drawing) -> None:
    source = d.image()
    _, height, width, channels = d.shape(source)
    size = (height * d.number(1, 3), width * d.number(1, 3)) if d.chance(0.6) else (
        d.number(1, 2 * height), d.number(1, 2 * width))
    if size[0] * size[1] * channels <= MAX_ELEMENTS:
        mode = d.choice([{}, {"half_pixel": True}, {"align_corners": True}])
        d.net.apply("resize", source, kind=d.choice(["NEAREST_NEIGHBOR", "BILINEAR"]), size=size, **mode)


def branches(d: Drawing) -> None:
    """Two to four convolutions of one tensor, joined by their channels: all quantised alike, as converters do."""
    source = d.image()
    _, height, width, _ = d.shape(source)
    if height * width > 150:
        return
    made = [d.weighted("conv", source, outputs=d.choice(CHANNELS[:14]))]
    tensor = d.net.tensor(made[0])
    for _ in range(d.number(1, 3)):
        made.append(d.net.one("conv", source, outputs=d.choice(CHANNELS[:14]), seed=d.seed(), scale=tensor.scale,
                              zero=tensor.zero_point))
    d.net.apply("concatenation", *made, axis=3)


DRAWERS: dict[Drawer, float] = {
    conv: 4, depthwise: 2, transpose_conv: 0.6, fully_connected: 0.7, binary: 3, with_own_line: 0.5,
    with_constant: 1.5, residual: 2, excite: 0.4, unary: 2.5, swish: 0.4, prelu: 0.6, quantize: 0.6, pool: 1.5,
    reduction: 0.8, matrix_product: 0.2, resize: 0.6, branches: 0.7,
    **MOVING, **BLOCKS}
