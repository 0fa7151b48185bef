"""CONV_2D with a stride that the CNA cannot take: first blocks of pixels, by a convolution that only moves them.

A stride of 16 is a block of 4 and a stride of 4 over the blocks (vision transformers cut their pictures so). Blocks
cost a task, or a few, and as much memory as the picture has elements; the multiplications stay the same.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.conv import conv_weights, convolution_tasks
from cermet.drivers.rocket.copy import convolve_plane, exact_stages
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import FeatureMap, MapShape
from cermet.drivers.rocket.limits import MAX_STRIDE
from cermet.drivers.rocket.pixel_blocks import blocks_shape, weights_of_blocks, window_of_blocks
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.weights import Weights
from cermet.ir.operation import Kind, Operation, Pair, Window
from cermet.ir.subgraph import Subgraph


@dataclass(frozen=True)
class InBlocks:
    """A convolution over blocks of pixels. blocks: the map that it reads, without blocks that no window sees."""

    block: Pair
    blocks: MapShape
    window: Window


def in_blocks(subgraph: Subgraph, operation: Operation) -> InBlocks | None:
    """None where the stride fits as it is, or no block makes it fit."""
    window, data = operation.window, subgraph.tensor(operation.inputs[0])
    if operation.kind is not Kind.CONV or window is None or len(data.shape) != 4:
        return None
    if subgraph.tensor(operation.inputs[1]).shape[3:] != data.shape[3:]:
        return None         # in groups
    steps = [_block(window.stride.y), _block(window.stride.x)]
    if None in steps or steps == [1, 1] or window.dilation != Pair(1, 1):
        return None
    block = Pair(*(step for step in steps if step is not None))
    _, rows, columns, channels = blocks_shape(data.shape, block)
    made = window_of_blocks(window, data.shape[1], data.shape[2], block)
    top, bottom, left, right = made.border
    seen = MapShape(rows + min(bottom, 0), columns + min(right, 0), channels)
    return InBlocks(block, seen, replace(made, border=(top, max(bottom, 0), left, max(right, 0))))


def _block(stride: int) -> int | None:
    """The smallest side of a block that leaves a stride of at most 7; None when there is none."""
    fits = (side for side in range(1, MAX_STRIDE + 1) if stride % side == 0 and stride // side <= MAX_STRIDE)
    return next(fits, None)


def block_geometry(made: InBlocks, height: int, width: int, channels: int) -> Geometry:
    """The convolution that makes the blocks: what they have beyond the picture is padding."""
    rows, columns = made.blocks.height, made.blocks.width
    return Geometry(min(height, rows * made.block.y), min(width, columns * made.block.x), channels, rows, columns,
                    made.blocks.channels, made.block, made.block, Pair(1, 1), 0, 0)


def block_weights(subgraph: Subgraph, operation: Operation, made: InBlocks) -> Weights:
    """Weights over the blocks."""
    assert operation.window is not None
    weights, data = subgraph.tensor(operation.inputs[1]), subgraph.tensor(operation.inputs[0])
    return conv_weights(weights_of_blocks(weights, operation.window, data.shape, made.block, weights.index))


def lower_in_blocks(context: Context, operation: Operation, source: FeatureMap, made: InBlocks) -> list[TaskProgram]:
    """Tasks of a convolution whose stride is too large."""
    channels = source.channels
    blocks = context.scratch_map(f"blocks of {operation.index}", source, made.blocks)
    chosen = np.zeros((made.blocks.channels, made.block.y, made.block.x, channels), np.int8)
    taken = np.arange(made.blocks.channels)
    chosen[taken, taken // channels // made.block.x, taken // channels % made.block.x, taken % channels] = 1
    tasks = convolve_plane(context, operation, block_geometry(made, source.height, source.width, channels), source,
                           blocks, chosen, "blocks", exact_stages())
    weights = block_weights(context.subgraph, operation, made)
    geometry = Geometry.of(made.window, (blocks.height, blocks.width, blocks.channels), len(weights.values))
    return tasks + convolution_tasks(context, operation, geometry, blocks, weights)
