"""Layouts of operations that reorder axes, repeat or choose: TRANSPOSE, PACK, TILE, GATHER and relatives."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from cermet.ir.boxes import MAX_BOXES, Layout, MoveError, axis_of, check_shape, data_of, moving_of, numbers
from cermet.ir.flat import FlatBox, Loop, broadcast_loops, coalesced, strides
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import Tensor


def _one(data: Tensor, out: Tensor, loops: Sequence[Loop], source_start: int = 0) -> Layout:
    return Layout((), None, (FlatBox(data.index, out.index, source_start, 0, coalesced(loops)),))


def _transpose(subgraph: Subgraph, operation: Operation) -> Layout:
    data, out = data_of(subgraph, operation), subgraph.tensor(operation.output)
    rank = len(data.shape)
    order = [axis_of(a, rank) for a in numbers(subgraph, operation, 1, rank)]
    if sorted(order) != list(range(rank)):
        raise MoveError(f"permutation {order} must name each of {rank} axes once")
    check_shape(out, [data.shape[a] for a in order])
    sources = strides(data.shape)
    return _one(data, out, [Loop(data.shape[a], sources[a], t) for a, t in zip(order, strides(out.shape), strict=True)])


def _reverse(subgraph: Subgraph, operation: Operation) -> Layout:
    data, out = data_of(subgraph, operation), subgraph.tensor(operation.output)
    turned = {axis_of(a, len(data.shape)) for a in numbers(subgraph, operation, 1)}
    check_shape(out, data.shape)
    each = list(enumerate(zip(data.shape, strides(data.shape), strict=True)))
    loops = [Loop(n, -s if i in turned else s, s) for i, (n, s) in each]
    return _one(data, out, loops, sum((n - 1) * s for i, (n, s) in each if i in turned))


def _tile(subgraph: Subgraph, operation: Operation) -> Layout:
    data, out = data_of(subgraph, operation), subgraph.tensor(operation.output)
    times = numbers(subgraph, operation, 1, len(data.shape))
    if min(times, default=1) < 1:
        raise MoveError(f"repeats {times} must be 1 or more")
    check_shape(out, [n * m for n, m in zip(data.shape, times, strict=True)])
    loops = []
    for n, m, s, t in zip(data.shape, times, strides(data.shape), strides(out.shape), strict=True):
        loops += [Loop(m, 0, n * t), Loop(n, s, t)]
    return _one(data, out, loops)


def _broadcast_to(subgraph: Subgraph, operation: Operation) -> Layout:
    data, out = data_of(subgraph, operation), subgraph.tensor(operation.output)
    check_shape(out, numbers(subgraph, operation, 1))
    lead = len(out.shape) - len(data.shape)
    shape = (*([1] * lead), *data.shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, out.shape, strict=True)):
        raise MoveError(f"shape {data.shape} does not broadcast to {out.shape}")
    return _one(data, out, broadcast_loops(data.shape, out.shape))


def _pack(subgraph: Subgraph, operation: Operation) -> Layout:
    out = subgraph.tensor(operation.output)
    axis = axis_of(moving_of(operation).axis, len(out.shape))
    if len(operation.inputs) != out.shape[axis]:
        raise MoveError(f"{len(operation.inputs)} inputs, must be {out.shape[axis]}")
    targets, boxes = strides(out.shape), []
    rest = [t for i, t in enumerate(targets) if i != axis]
    for position, number in enumerate(operation.inputs):
        data = subgraph.tensor(number)
        if data.shape != (*out.shape[:axis], *out.shape[axis + 1:]):
            raise MoveError(f"input has shape {data.shape}, must agree with the output's {out.shape}")
        loops = [Loop(*each) for each in zip(data.shape, strides(data.shape), rest, strict=True)]
        boxes.append(FlatBox(data.index, out.index, 0, position * targets[axis], coalesced(loops)))
    return Layout((), None, tuple(boxes))


def _gather(subgraph: Subgraph, operation: Operation) -> Layout:
    data, out, options = data_of(subgraph, operation), subgraph.tensor(operation.output), moving_of(operation)
    axis = axis_of(options.axis, len(data.shape))
    if options.batch_dims:
        raise MoveError("batch dimensions of GATHER are not known here")
    indices = numbers(subgraph, operation, 1)
    shape = subgraph.tensor(operation.inputs[1]).shape
    check_shape(out, (*data.shape[:axis], *shape, *data.shape[axis + 1:]))
    if any(not 0 <= i < data.shape[axis] for i in indices):
        raise MoveError(f"an index is outside 0..{data.shape[axis] - 1}")
    inner, outer = prod(data.shape[axis + 1:]), prod(data.shape[:axis])
    runs = _progressions(indices)
    if len(runs) > MAX_BOXES:
        raise MoveError("falls into too many pieces")
    return Layout((), None, tuple(FlatBox(data.index, out.index, first * inner, at * inner, coalesced((
        Loop(outer, data.shape[axis] * inner, len(indices) * inner), Loop(count, step * inner, inner),
        Loop(inner, 1, 1)))) for at, first, step, count in runs))


def _progressions(indices: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """(position, first, step, count) of stretches with one step."""
    made: list[tuple[int, int, int, int]] = []
    for at, index in enumerate(indices):
        if made:
            start, first, step, count = made[-1]
            if count == 1 or first + count * step == index:
                made[-1] = (start, first, index - first if count == 1 else step, count + 1)
                continue
        made.append((at, index, 0, 1))
    return made


REORDERED: dict[Kind, Callable[[Subgraph, Operation], Layout]] = {
    Kind.TRANSPOSE: _transpose, Kind.REVERSE: _reverse, Kind.TILE: _tile, Kind.BROADCAST_TO: _broadcast_to,
    Kind.PACK: _pack, Kind.GATHER: _gather,
}
