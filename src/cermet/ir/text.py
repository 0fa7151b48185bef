"""Subgraphs as stable text, for golden files and for CERMET_DEBUG=passes."""
from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from cermet.ir.operation import Activation, Kind, Moving, Operation, Pair, Window
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import Quantisation, Tensor

MAX_SHOWN_SCALES = 2
MAX_SHOWN_VALUES = 8


def format_subgraph(subgraph: Subgraph) -> str:
    """One line for each input, constant, operation and output; ends with a newline.

    Constants show their first values when short, else a digest of their contents.
    """
    return "\n".join(_lines(subgraph)) + "\n"


def _lines(subgraph: Subgraph) -> Iterator[str]:
    for t in subgraph.inputs:
        yield f"input    {format_tensor(subgraph.tensors[t])}"
    for t in sorted(subgraph.tensors):
        if subgraph.tensors[t].is_constant:
            yield f"constant {format_tensor(subgraph.tensors[t])} = {_contents(subgraph.tensors[t])}"
    for operation in subgraph.operations:
        yield format_operation(subgraph, operation)
    yield "outputs  " + ", ".join(f"%{t}" for t in subgraph.outputs)


def format_operation(subgraph: Subgraph, operation: Operation) -> str:
    """3: %7 int8[1x4x4x8] ... "name" = CONV_2D(%0, %1, %2) kernel 3x3 stride 1x1 same relu6."""
    outputs = ", ".join(format_tensor(subgraph.tensors[t]) for t in operation.outputs)
    inputs = ", ".join("-" if t is None else f"%{t}" for t in operation.inputs)
    words = [f"{operation.index}: {outputs} = {operation.name}({inputs})", *_attributes(operation)]
    return " ".join(words)


def _attributes(operation: Operation) -> Iterator[str]:
    if operation.window is not None:
        yield _window(operation.window)
    if operation.kind is Kind.DEPTHWISE_CONV:
        yield f"multiplier {operation.depth_multiplier}"
    if operation.keep_dims:
        yield "keep_dims"
    for name, is_set in zip(("adj_x", "adj_y"), operation.adjoint, strict=True):
        if is_set:
            yield name
    if operation.weights_format:
        yield f"weights_format {operation.weights_format}"
    if operation.kind is Kind.LEAKY_RELU:
        yield f"alpha {operation.alpha:.6g}"
    if operation.approximate:
        yield "approximate"
    if operation.activation is not Activation.NONE:
        yield operation.activation.value
    if operation.moving is not None:
        yield from _moving(operation.moving)
    if operation.table:
        yield "values " + _digest(np.array(operation.table, np.int16))
    if operation.fused:
        yield "fused " + ",".join(map(str, operation.fused))


def _moving(moving: Moving) -> Iterator[str]:
    """Members that are not at their defaults."""
    for member in fields(moving):
        value = getattr(moving, member.name)
        if value != member.default:
            yield member.name if value is True else f"{member.name} {value}"


def _window(window: Window) -> str:
    dilation = "" if window.dilation == Pair(1, 1) else f" dilation {_pair(window.dilation)}"
    border = " border " + ",".join(map(str, window.border)) if any(window.border) else ""
    return f"kernel {_pair(window.kernel)} stride {_pair(window.stride)}{dilation} {window.padding.value}{border}"


def _pair(pair: Pair) -> str:
    return f"{pair.y}x{pair.x}"


def format_tensor(tensor: Tensor) -> str:
    """%7 uint8[1x112x112x32] scale 0.0235 zero 0 "name"."""
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    words = [f"%{tensor.index} {tensor.dtype.value}[{shape}]"]
    if tensor.quantisation is not None:
        words.append(_quantisation(tensor.quantisation))
    words += ["variable"] * tensor.is_variable + ["dynamic"] * tensor.is_dynamic
    return " ".join([*words, f'"{tensor.name}"'])


def _quantisation(q: Quantisation) -> str:
    scales = "/".join(f"{s:.6g}" for s in q.scales[:MAX_SHOWN_SCALES])
    points = "/".join(str(z) for z in q.zero_points[:MAX_SHOWN_SCALES])
    axis = f" axis {q.axis}({len(q.scales)})" if q.is_per_channel else ""
    return f"scale {scales} zero {points}{axis}"


def _contents(tensor: Tensor) -> str:
    assert tensor.data is not None
    if tensor.data.size <= MAX_SHOWN_VALUES:
        return str(tensor.data.reshape(-1).tolist())
    return _digest(tensor.data)


def _digest(values: np.ndarray) -> str:
    return "blake2:" + hashlib.blake2b(values.tobytes(), digest_size=8).hexdigest()
