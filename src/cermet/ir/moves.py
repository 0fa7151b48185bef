"""Operations that only move elements, as boxes: which part of which tensor goes where.

PAD, CONCATENATION, SPLIT, SLICE, SPACE_TO_DEPTH, nearest-neighbour resizing and their relatives all say
target[t0 + i * ts] = source[s0 + i * ss] for every i in a box. Numerics and drivers work from the boxes alone.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cermet.ir.boxes import (
    MAX_BOXES,
    Box,
    Layout,
    MoveError,
    Run,
    axis_of,
    check_shape,
    data_inputs,
    data_of,
    flat,
    moving_of,
    numbers,
    whole_runs,
)
from cermet.ir.moves_batch import BATCHED
from cermet.ir.moves_reordered import REORDERED
from cermet.ir.operation import Activation, Kind, Moving, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

MAX_TABLE = 1 << 16
MAX_PERIOD = 64             # of the index table of a resized axis
FIRST_VERSION_WITH_OFFSET = 8   # STRIDED_SLICE: `end` may count from `begin`, told by an option that is not captured


def layout(subgraph: Subgraph, operation: Operation) -> Layout:
    """Raises MoveError."""
    return LAYOUTS[operation.kind](subgraph, operation)


def move_problem(subgraph: Subgraph, operation: Operation) -> str | None:
    """Why the operation makes no sense; None when its layout applies. Types are looked at elsewhere."""
    try:
        _check_operands(subgraph, operation)
        if operation.kind in (Kind.RESIZE_BILINEAR, Kind.RESIZE_NEAREST):
            list(resized_sides(subgraph, operation))
        else:
            layout(subgraph, operation)
        _check_quantisation(subgraph, operation)
    except MoveError as error:
        return str(error)
    return None


def _check_operands(subgraph: Subgraph, operation: Operation) -> None:
    data = data_inputs(operation)
    if not data or any(t is None for t in data):
        raise MoveError("an input is absent")
    if not operation.outputs:
        raise MoveError("has no output")
    if operation.activation is not Activation.NONE:
        raise MoveError("has a fused activation, must have none")


def _check_quantisation(subgraph: Subgraph, operation: Operation) -> None:
    """Only TFLite's uint8 CONCATENATION requantises."""
    tensors = [subgraph.tensor(t) for t in (*data_inputs(operation), *operation.outputs)]
    alike = all((t.dtype, t.quantisation) == (tensors[0].dtype, tensors[0].quantisation) for t in tensors)
    if not alike and not (operation.kind is Kind.CONCATENATION and all(t.dtype is DType.UINT8 for t in tensors)):
        raise MoveError("input and output are quantised differently, must be alike")


# ---- padding -------------------------------------------------------------------------------------------------------

def pad_amounts(subgraph: Subgraph, operation: Operation) -> list[tuple[int, int]]:
    """(before, after) of each axis. Raises MoveError."""
    data = data_of(subgraph, operation)
    values = numbers(subgraph, operation, 1, 2 * len(data.shape))
    if min(values, default=0) < 0:
        raise MoveError("a padding is negative")
    return list(zip(values[::2], values[1::2], strict=True))


def pad_value(subgraph: Subgraph, operation: Operation) -> int:
    """The integer that the border holds: PADV2's constant, else the zero point."""
    out = subgraph.tensor(operation.output)
    number = operation.inputs[2] if operation.kind is Kind.PADV2 and len(operation.inputs) > 2 else None
    if number is None:
        if out.quantisation is None:
            raise MoveError("output is not quantised")
        return out.quantisation.zero_point
    constant = subgraph.tensor(number)
    if constant.data is None or constant.data.size != 1 or constant.dtype is not out.dtype:
        raise MoveError(f"the padding's value must be one constant of {out.dtype.value}")
    return int(constant.data.reshape(-1)[0])


def _pad(subgraph: Subgraph, operation: Operation) -> Layout:
    data, out = data_of(subgraph, operation), subgraph.tensor(operation.output)
    amounts = pad_amounts(subgraph, operation)
    check_shape(out, [n + before + after for n, (before, after) in zip(data.shape, amounts, strict=True)])
    runs = tuple(Run(0, before, n) for n, (before, _) in zip(data.shape, amounts, strict=True))
    box = Box(data.index, out.index, data.shape, out.shape, runs)
    return Layout((box,), pad_value(subgraph, operation))


def _mirror_pad(subgraph: Subgraph, operation: Operation) -> Layout:
    data, out = data_of(subgraph, operation), subgraph.tensor(operation.output)
    skipped = int(moving_of(operation).reflect)
    axes = []
    for size, (before, after) in zip(data.shape, pad_amounts(subgraph, operation), strict=True):
        if max(before, after) > size - skipped:
            raise MoveError(f"a padding of {max(before, after)} is more than the {size - skipped} elements there are")
        if before + after > MAX_BOXES:
            raise MoveError("falls into too many pieces")
        front = [Run(before - 1 - i + skipped, i, 1) for i in range(before)]
        back = [Run(size - 1 - i - skipped, before + size + i, 1) for i in range(after)]
        axes.append([*front, Run(0, before, size), *back])
    check_shape(out, [sum(run.count for run in axis) for axis in axes])
    return Layout(_boxes(data, out, axes))


def _boxes(data: Tensor, out: Tensor, axes: Sequence[Sequence[Run]]) -> tuple[Box, ...]:
    """Every combination of the axes' runs."""
    if np.prod([len(axis) for axis in axes], dtype=np.float64) > MAX_BOXES:
        raise MoveError("falls into too many pieces")
    return tuple(Box(data.index, out.index, data.shape, out.shape, runs) for runs in itertools.product(*axes))


# ---- joining and cutting -------------------------------------------------------------------------------------------

def _concatenation(subgraph: Subgraph, operation: Operation) -> Layout:
    out = subgraph.tensor(operation.output)
    axis = axis_of(moving_of(operation).axis, len(out.shape))
    start, boxes = 0, []
    for number in operation.inputs:
        data = subgraph.tensor(number)
        wanted = (*out.shape[:axis], data.shape[axis] if len(data.shape) > axis else 0, *out.shape[axis + 1:])
        if data.shape != wanted:
            raise MoveError(f"input has shape {data.shape}, must agree with the output's {out.shape}")
        runs = whole_runs(data.shape)
        runs[axis] = Run(0, start, data.shape[axis])
        start += data.shape[axis]
        boxes.append(Box(data.index, out.index, data.shape, out.shape, tuple(runs)))
    if start != out.shape[axis]:
        raise MoveError(f"inputs have {start} elements along axis {axis}, the output {out.shape[axis]}")
    return Layout(tuple(boxes))


def _split(subgraph: Subgraph, operation: Operation) -> Layout:
    data = data_of(subgraph, operation)
    operand = 0 if operation.kind is Kind.SPLIT else 2
    (value,) = numbers(subgraph, operation, operand, 1)
    axis = axis_of(value, len(data.shape))
    start, boxes = 0, []
    for number in operation.outputs:
        out = subgraph.tensor(number)
        size = out.shape[axis] if len(out.shape) > axis else 0
        check_shape(out, (*data.shape[:axis], size, *data.shape[axis + 1:]))
        runs = whole_runs(out.shape)
        runs[axis] = Run(start, 0, size)
        start += size
        boxes.append(Box(data.index, number, data.shape, out.shape, tuple(runs)))
    if start != data.shape[axis]:
        raise MoveError(f"outputs have {start} elements along axis {axis}, the input {data.shape[axis]}")
    return Layout(tuple(boxes))


def _unpack(subgraph: Subgraph, operation: Operation) -> Layout:
    data = data_of(subgraph, operation)
    axis = axis_of(moving_of(operation).axis, len(data.shape))
    if len(operation.outputs) != data.shape[axis]:
        raise MoveError(f"{len(operation.outputs)} outputs, must be {data.shape[axis]}")
    boxes = []
    for position, number in enumerate(operation.outputs):
        check_shape(subgraph.tensor(number), (*data.shape[:axis], *data.shape[axis + 1:]))
        shape = (*data.shape[:axis], 1, *data.shape[axis + 1:])
        runs = whole_runs(shape)
        runs[axis] = Run(position, 0, 1)
        boxes.append(Box(data.index, number, data.shape, shape, tuple(runs)))
    return Layout(tuple(boxes))


def _slice(subgraph: Subgraph, operation: Operation) -> Layout:
    data, out = data_of(subgraph, operation), subgraph.tensor(operation.output)
    rank = len(data.shape)
    begins, sizes = (numbers(subgraph, operation, i, rank) for i in (1, 2))
    sizes = [n - b if s == -1 else s for n, b, s in zip(data.shape, begins, sizes, strict=True)]
    if any(b < 0 or s < 1 or b + s > n for n, b, s in zip(data.shape, begins, sizes, strict=True)):
        raise MoveError(f"slice of {sizes} elements from {begins} on is not inside {data.shape}")
    check_shape(out, sizes)
    runs = tuple(Run(b, 0, s) for b, s in zip(begins, sizes, strict=True))
    return Layout((Box(data.index, out.index, data.shape, out.shape, runs),))


def _strided_slice(subgraph: Subgraph, operation: Operation) -> Layout:
    data, out, options = data_of(subgraph, operation), subgraph.tensor(operation.output), moving_of(operation)
    if options.ellipsis_mask or options.new_axis_mask or operation.version >= FIRST_VERSION_WITH_OFFSET:
        raise MoveError("ellipsis, new axes and ends that count from the beginning are not known here")
    rank = len(data.shape)
    begins, ends, steps = (numbers(subgraph, operation, i, rank) for i in (1, 2, 3))
    runs, kept = [], []
    for axis, size in enumerate(data.shape):
        bit = 1 << axis
        if steps[axis] == 0 or (steps[axis] < 0 and options.shrink_mask & bit):
            raise MoveError(f"step {steps[axis]} along axis {axis} must be above 0, or below it where the axis stays")
        if options.shrink_mask & bit:
            begin = 0 if options.begin_mask & bit else begins[axis] + size * (begins[axis] < 0)
            if not 0 <= begin < size:
                raise MoveError(f"index {begins[axis]} along axis {axis} is outside {size} elements")
            runs.append(Run(begin, 0, 1))
            continue
        indices = range(size)[None if options.begin_mask & bit else begins[axis]:
                              None if options.end_mask & bit else ends[axis]:steps[axis]]
        if not indices:
            raise MoveError(f"nothing is left along axis {axis}")
        runs.append(Run(indices[0], 0, len(indices), steps[axis]))
        kept.append(len(indices))
    check_shape(out, kept)
    box = Box(data.index, out.index, data.shape, tuple(run.count for run in runs), tuple(runs))
    return Layout((box,)) if min(steps, default=1) > 0 else Layout((), None, (flat(box),))


# ---- blocks and resizing -------------------------------------------------------------------------------------------

def _blocks(subgraph: Subgraph, operation: Operation) -> Layout:
    """SPACE_TO_DEPTH: pixel (y, x) of each block goes to channels (y * block + x) * C on. DEPTH_TO_SPACE: back."""
    data, out, block = data_of(subgraph, operation), subgraph.tensor(operation.output), moving_of(operation).block
    if len(data.shape) != 4 or block < 1:
        raise MoveError("must have 4 dimensions and a block size of 1 or more")
    fine, coarse = (data, out) if operation.kind is Kind.SPACE_TO_DEPTH else (out, data)
    if len(fine.shape) != 4 or len(coarse.shape) != 4:
        raise MoveError("output must have 4 dimensions")
    n, height, width, channels = fine.shape
    if coarse.shape != (n, height // block, width // block, channels * block * block) or height % block or \
            width % block:
        raise MoveError(f"input {data.shape} and output {out.shape} do not fit a block of {block}")
    if block * block > MAX_BOXES:
        raise MoveError("falls into too many pieces")
    boxes = []
    for y, x in itertools.product(range(block), repeat=2):
        at = (y * block + x) * channels
        if fine is data:
            runs = (Run(0, 0, n), Run(y, 0, height // block, block), Run(x, 0, width // block, block),
                    Run(0, at, channels))
        else:
            runs = (Run(0, 0, n), Run(0, y, height // block, 1, block), Run(0, x, width // block, 1, block),
                    Run(at, 0, channels))
        boxes.append(Box(data.index, out.index, data.shape, out.shape, runs))
    return Layout(tuple(boxes))


def resized_sides(subgraph: Subgraph, operation: Operation) -> Iterator[tuple[int, int]]:
    """(input size, output size) of height and width. Raises MoveError."""
    data, out = data_of(subgraph, operation), subgraph.tensor(operation.output)
    if len(data.shape) != 4:
        raise MoveError(f"input has shape {data.shape}, must have 4 dimensions")
    sizes = numbers(subgraph, operation, 1, 2)
    if min(sizes) < 1:
        raise MoveError(f"output of {sizes} must be 1 or more")
    check_shape(out, (data.shape[0], *sizes, data.shape[3]))
    options = moving_of(operation)
    if options.align_corners and options.half_pixel:
        raise MoveError("align_corners and half_pixel_centers exclude each other")
    return zip(data.shape[1:3], sizes, strict=True)


def nearest_indices(size: int, output_size: int, options: Moving) -> list[int]:
    """Which input position each output position shows (TFLite's GetNearestNeighbor, in its float32)."""
    aligned = options.align_corners and output_size > 1
    inputs, steps = (size - 1, output_size - 1) if aligned else (size, output_size)
    scale = np.float32(inputs) / np.float32(steps)
    offset = np.float32(0.5 if options.half_pixel else 0.0)
    places = (np.arange(output_size, dtype=np.float32) + offset) * scale
    # TfLiteRound goes away from zero; all places are 0 or more.
    indices = np.floor(places + np.float32(0.5)) if options.align_corners else np.floor(places)
    return np.clip(indices.astype(np.int64), 0, size - 1).tolist()


def runs_of(indices: Sequence[int]) -> list[Run]:
    """An index table as few progressions: every p-th entry from each of p positions on. Raises MoveError."""
    table = np.asarray(indices, np.int64)
    for period in range(1, min(len(table), MAX_PERIOD) + 1):
        parts = [table[start::period] for start in range(period)]
        steps = [np.unique(np.diff(part)) for part in parts]
        if all(len(step) <= 1 and (len(step) == 0 or step[0] >= 1) for step in steps):
            return [Run(int(part[0]), start, len(part), int(step[0]) if len(step) else 1, period)
                    for start, (part, step) in enumerate(zip(parts, steps, strict=True))]
    raise MoveError(f"rows or columns to read have no pattern that repeats within {MAX_PERIOD}")


def _nearest(subgraph: Subgraph, operation: Operation) -> Layout:
    data, out = data_of(subgraph, operation), subgraph.tensor(operation.output)
    if max(out.shape) > MAX_TABLE:
        raise MoveError(f"output of {out.shape} is too large for an index table")
    sides = [runs_of(nearest_indices(size, output_size, moving_of(operation)))
             for size, output_size in resized_sides(subgraph, operation)]
    return Layout(_boxes(data, out, [[Run(0, 0, data.shape[0])], *sides, [Run(0, 0, data.shape[3])]]))


LAYOUTS: dict[Kind, Callable[[Subgraph, Operation], Layout]] = {
    Kind.PAD: _pad, Kind.PADV2: _pad, Kind.MIRROR_PAD: _mirror_pad, Kind.CONCATENATION: _concatenation,
    Kind.SPLIT: _split, Kind.SPLIT_V: _split, Kind.UNPACK: _unpack, Kind.SLICE: _slice,
    Kind.STRIDED_SLICE: _strided_slice, Kind.SPACE_TO_DEPTH: _blocks, Kind.DEPTH_TO_SPACE: _blocks,
    Kind.RESIZE_NEAREST: _nearest, **BATCHED,
    **REORDERED,
}
