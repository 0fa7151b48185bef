"""MEAN, SUM, REDUCE_MAX and REDUCE_MIN: which elements of a tensor become one."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

REDUCTIONS = (Kind.MEAN, Kind.SUM, Kind.REDUCE_MAX, Kind.REDUCE_MIN)
EXTREMES = (Kind.REDUCE_MAX, Kind.REDUCE_MIN)


@dataclass(frozen=True)
class Reduction:
    """A tensor as [outer, count, inner, channels], of which `count` is reduced, and the channels or not."""

    outer: int
    count: int
    inner: int
    channels: int
    over_channels: bool

    @property
    def elements(self) -> int:
        """How many elements become one."""
        return self.count * (self.channels if self.over_channels else 1)

    @property
    def output_pixels(self) -> int:
        return self.outer * self.inner

    @property
    def output_channels(self) -> int:
        return 1 if self.over_channels else self.channels


def reduced_axes(subgraph: Subgraph, operation: Operation) -> tuple[int, ...] | None:
    """Axes that go, ascending, each once, counted from the front; None when they are no constants in range."""
    number = operation.inputs[1] if len(operation.inputs) > 1 else None
    axes = None if number is None else subgraph.tensor(number)
    if axes is None or axes.data is None or axes.dtype is not DType.INT32:
        return None
    rank = len(subgraph.tensor(operation.inputs[0]).shape)
    given = axes.data.reshape(-1).tolist()
    if not given or any(not -rank <= axis < rank for axis in given):
        return None
    return tuple(sorted({axis % rank for axis in given}))


def reduction(shape: tuple[int, ...], axes: Iterable[int]) -> Reduction | None:
    """None when a kept dimension other than the last, and larger than 1, lies between reduced ones."""
    gone = set(axes)
    pixels = list(enumerate(shape[:-1]))
    inside = [axis for axis, size in pixels if axis in gone and size > 1]
    first, last = (inside[0], inside[-1]) if inside else (len(pixels), len(pixels) - 1)
    if any(size > 1 and axis not in gone for axis, size in pixels[first:last + 1]):
        return None
    return Reduction(prod(shape[:first]) if inside else prod(shape[:-1]), prod(shape[first:last + 1]),
                     prod(shape[last + 1:-1]), shape[-1], len(shape) - 1 in gone)


def reduction_problem(subgraph: Subgraph, operation: Operation) -> str | None:
    """What is wrong with axes, output and quantisation; None when the numerics apply."""
    data, out = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
    number = operation.inputs[1] if len(operation.inputs) > 1 else None
    axes = None if number is None else subgraph.tensor(number)
    if axes is None or axes.data is None or axes.dtype is not DType.INT32:
        return "axes must be a constant of int32"
    reduced, rank = reduced_axes(subgraph, operation), len(data.shape)
    if reduced is None:
        return f"axes {axes.data.reshape(-1).tolist()}, must be {-rank}..{rank - 1}"
    kept = tuple(1 if i in reduced else n for i, n in enumerate(data.shape) if operation.keep_dims or i not in reduced)
    if out.shape != kept:
        return f"output has shape {out.shape}, must be {kept}"
    return _kernel_problem(operation, data, out)


def _kernel_problem(operation: Operation, data: Tensor, out: Tensor) -> str | None:
    """Where TFLite's kernels refuse, or compute something else than the operation."""
    if operation.kind in EXTREMES and data.quantisation != out.quantisation:
        return "input and output are quantised differently, must be alike (the kernels compare the integers)"
    if operation.kind is Kind.SUM and data.dtype is DType.INT8:
        return "TFLite's kernel takes int8 elements for uint8 ones, so that there is no result to agree with"
    return None
