"""Layouts of SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND."""
from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from cermet.ir.boxes import MAX_BOXES, Box, Layout, MoveError, Run, data_of, numbers
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import Tensor


def block_shape(subgraph: Subgraph, operation: Operation) -> list[int]:
    """Sizes of the blocks of SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND. Raises MoveError."""
    block = numbers(subgraph, operation, 1)
    if not 1 <= len(block) <= 2 or min(block) < 1 or np.prod(block, dtype=np.float64) > MAX_BOXES:
        raise MoveError(f"blocks of {block} must be 1 or more along one or two axes")
    return block


def block_borders(subgraph: Subgraph, operation: Operation) -> list[tuple[int, int]]:
    """Paddings of SPACE_TO_BATCH_ND, crops of BATCH_TO_SPACE_ND: (before, after) of each axis. Raises MoveError."""
    values = numbers(subgraph, operation, 2, 2 * len(block_shape(subgraph, operation)))
    if min(values) < 0:
        raise MoveError("a padding is negative")
    return list(zip(values[::2], values[1::2], strict=True))


def _batches(subgraph: Subgraph, operation: Operation) -> Layout:
    """SPACE_TO_BATCH_ND: pixel (y, x) of each block of the padded image goes to image y * blocks + x of the batch.

    BATCH_TO_SPACE_ND: back, with the border cut off.
    """
    data, out = data_of(subgraph, operation), subgraph.tensor(operation.output)
    block, borders = block_shape(subgraph, operation), block_borders(subgraph, operation)
    is_forward = operation.kind is Kind.SPACE_TO_BATCH
    fine, coarse = (data, out) if is_forward else (out, data)
    axes, images = len(block), int(np.prod(block))
    if not len(data.shape) == len(out.shape) == axes + 2:
        raise MoveError(f"{data.shape} and {out.shape} must have a batch, {axes} axes with blocks, and channels")
    whole = [n + before + after for n, (before, after) in zip(fine.shape[1:], borders, strict=False)]
    wanted = (fine.shape[0] * images, *(n // b for n, b in zip(whole, block, strict=True)), fine.shape[-1])
    if coarse.shape != wanted or any(n % b for n, b in zip(whole, block, strict=True)):
        raise MoveError(f"input {data.shape} and output {out.shape} do not fit blocks of {block} and borders {borders}")
    boxes = []
    for image, phase in enumerate(itertools.product(*map(range, block))):
        sides = [_phase_run(*side) for side in zip(fine.shape[1:axes + 1], phase, block, borders, strict=True)]
        runs = [Run(0, image * fine.shape[0], fine.shape[0]), *sides, Run(0, 0, fine.shape[-1])]
        if all(run.count for run in runs):
            runs = runs if is_forward else [_reversed(run) for run in runs]
            boxes.append(Box(data.index, out.index, data.shape, out.shape, tuple(runs)))
    return Layout(tuple(boxes), _zero_point(out) if is_forward and np.any(borders) else None)


def _zero_point(out: Tensor) -> int:
    if out.quantisation is None:
        raise MoveError("output is not quantised")
    return out.quantisation.zero_point


def _phase_run(size: int, phase: int, block: int, border: tuple[int, int]) -> Run:
    """Along one axis, from the pixels of an image to those of one phase of its blocks."""
    first = max(0, -(-(border[0] - phase) // block))
    source = first * block + phase - border[0]
    return Run(source, first, max(0, -(-(size - source) // block)), block)


def _reversed(run: Run) -> Run:
    return Run(run.target, run.source, run.count, run.target_step, run.source_step)


BATCHED: dict[Kind, Callable[[Subgraph, Operation], Layout]] = {
    Kind.SPACE_TO_BATCH: _batches, Kind.BATCH_TO_SPACE: _batches}
