"""Which tensors share bytes: RESHAPE and SQUEEZE only rename the shape of a feature map, some QUANTIZEs its type.

A feature map is a list of pixels (rows one after another) times channels; any shape with the same number of pixels
and the same channels describes the same bytes. At the border of a partition even the channels may change, because
both sides of the conversion count elements in NHWC order.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from cermet.drivers.base import CompileError
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

VIEW_KINDS = (Kind.RESHAPE, Kind.SQUEEZE)


@dataclass(frozen=True)
class MapShape:
    """Height, width and channels of a feature map."""

    height: int
    width: int
    channels: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


def map_shape(tensor: Tensor) -> MapShape:
    """The feature map that a tensor's own shape suggests.

    NHWC keeps its rows and columns, images one below the other; of any other rank the last dimension holds channels
    and the rest is a column of pixels.
    """
    shape = tensor.shape or (1,)
    if len(shape) == 4:
        return MapShape(shape[0] * shape[1], shape[2], shape[3])
    return MapShape(prod(shape[:-1]), 1, shape[-1])


def is_flexible(operation: Operation, tensor: int) -> bool:
    """Whether the operation takes this tensor in any shape: FULLY_CONNECTED's input may stay an image."""
    return operation.kind is Kind.FULLY_CONNECTED and operation.inputs[0] == tensor


def is_view(subgraph: Subgraph, operation: Operation) -> bool:
    """Whether the bytes stay as they are: a new shape, or uint8 to int8 (or back) with zero points 128 apart."""
    if operation.kind in VIEW_KINDS:
        return True
    if operation.kind is not Kind.QUANTIZE:
        return False
    before, after = (subgraph.tensor(t) for t in (operation.inputs[0], operation.output))
    if before.quantisation is None or after.quantisation is None:
        return False
    return before.quantisation.scales == after.quantisation.scales and _signed_point(before) == _signed_point(after)


def _signed_point(tensor: Tensor) -> tuple[int, ...]:
    assert tensor.quantisation is not None
    return tuple(p - 128 * (tensor.dtype is DType.UINT8) for p in tensor.quantisation.zero_points)


@dataclass(frozen=True)
class Views:
    """Tensors joined by views. roots: tensor -> the first of its class, in execution order (only where they differ)."""

    roots: Mapping[int, int]

    @staticmethod
    def of(subgraph: Subgraph) -> Views:
        roots: dict[int, int] = {}
        for op in subgraph.operations:
            if is_view(subgraph, op) and not needs_copy(subgraph, op, roots):
                source = op.inputs[0]
                assert source is not None
                roots[op.output] = roots.get(source, source)
        return Views(roots)

    def root(self, tensor: int) -> int:
        return self.roots.get(tensor, tensor)

    def members(self, root: int) -> list[int]:
        return [root, *(t for t, r in self.roots.items() if r == root)]

    def shape(self, subgraph: Subgraph, tensor: int) -> MapShape:
        """The feature map of the class, in the tensor's own rows and columns where those describe the same pixels.

        A copy between two classes cannot change the layout, so classes joined by one have it in common.
        """
        members = joined(subgraph, tensor)
        shapes = [map_shape(subgraph.tensor(t)) for t in members if _is_computed_with(subgraph, t)]
        shapes = shapes or [map_shape(subgraph.tensor(members[0]))]
        if len({(s.pixels, s.channels) for s in shapes}) > 1:
            raise CompileError(f"tensor {tensor}: views disagree on the layout: {shapes}")
        own = map_shape(subgraph.tensor(tensor))
        return own if (own.pixels, own.channels) == (shapes[0].pixels, shapes[0].channels) else shapes[0]


def joined(subgraph: Subgraph, tensor: int) -> list[int]:
    """All tensors that views lead to from this one, forwards and backwards, ascending: the one they begin with first.

    Tensors are numbered in order of first use.
    """
    pending, members = [tensor], set[int]()
    while pending:
        found = pending.pop()
        if found in members:
            continue
        members.add(found)
        producer = subgraph.producer(found)
        if producer is not None and is_view(subgraph, producer) and producer.inputs[0] is not None:
            pending.append(producer.inputs[0])
        pending += [op.output for op in subgraph.consumers(found) if is_view(subgraph, op) and op.inputs[0] == found]
    return sorted(members)


def needs_copy(subgraph: Subgraph, view: Operation, roots: Mapping[int, int]) -> bool:
    """A view from an input of the program to an output of it: the two lie in different BOs."""
    source = view.inputs[0]
    assert source is not None
    return roots.get(source, source) in subgraph.inputs and view.output in subgraph.outputs


def _is_computed_with(subgraph: Subgraph, tensor: int) -> bool:
    """Whether an operation other than a view writes the tensor, or reads it and insists on its shape."""
    producer = subgraph.producer(tensor)
    if producer is not None and not is_view(subgraph, producer):
        return True
    return any(not is_view(subgraph, op) and not is_flexible(op, tensor) for op in subgraph.consumers(tensor))
