"""CONV_2D, plain or grouped.

Grouped convolutions, depthwise ones with a multiplier among them, are cut into blocks of neighbouring groups.
Inside a block the convolution is an ordinary one whose weights hold the zero point wherever input and output channel
belong to different groups. Small blocks multiply less in vain, large ones are fewer tasks: the cheapest wins.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.conv import conv_weights, convolution_tasks, lower_direct
from cermet.drivers.rocket.geometry import Geometry, with_large_pads_in_memory
from cermet.drivers.rocket.large_strides import in_blocks, lower_in_blocks
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap
from cermet.drivers.rocket.limits import MAX_KERNEL_BYTES
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.tile_time import mainline_pace, plan_us
from cermet.drivers.rocket.tiling import plan
from cermet.drivers.rocket.weights import Weights
from cermet.hw.soc import Soc
from cermet.ir.operation import Operation


@dataclass(frozen=True)
class Blocks:
    """`count` convolutions of `groups` groups each; geometry: of one of them."""

    count: int
    groups: int
    geometry: Geometry

    @property
    def weight_bytes(self) -> int:
        return self.count * self.geometry.weight_bytes


def plan_blocks(soc: Soc, whole: Geometry, groups: int) -> Blocks | None:
    """The cheapest way to cut; None when no block fits the CBUF. whole: the convolution with all its channels."""
    costs = ((_cost(soc, blocks), blocks) for blocks in _choices(soc, whole, groups))
    found = [(cost, blocks) for cost, blocks in costs if cost is not None]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _choices(soc: Soc, whole: Geometry, groups: int) -> Iterator[Blocks]:
    """Blocks begin at whole atoms of the input and at whole kernel groups of the output."""
    inputs, outputs = whole.input_channels // groups, whole.output_channels // groups
    for size in range(1, groups + 1):
        starts_whole = size * inputs % ATOM_BYTES == 0 and size * outputs % soc.kernel_group == 0
        if groups % size == 0 and (starts_whole or size == groups):
            geometry = replace(whole, input_channels=size * inputs, output_channels=size * outputs, is_depthwise=False)
            if geometry.kernel_bytes <= MAX_KERNEL_BYTES:
                yield Blocks(groups // size, size, geometry)


def _cost(soc: Soc, blocks: Blocks) -> float | None:
    """Microseconds on mainline."""
    geometry = with_large_pads_in_memory(blocks.geometry)
    made = plan(soc, geometry)
    return None if made is None else blocks.count * plan_us(soc, geometry, made, mainline_pace(soc))


def spread_groups(weights: Weights, groups: int, block: int) -> Weights:
    """Weights [OC, KH, KW, channels of `block` groups] from [OC, KH, KW, channels of one]; the zero point elsewhere."""
    kernels, height, width, inputs = weights.values.shape
    values = np.empty((kernels, height, width, block, inputs), np.int8)
    values[...] = weights.zero_points[:, None, None, None, None]
    kernel = np.arange(kernels)
    values[kernel, :, :, kernel * groups // kernels % block] = weights.values
    return replace(weights, values=values.reshape(kernels, height, width, block * inputs))


def kernels_of(weights: Weights, first: int, count: int) -> Weights:
    """Some output channels of weights."""
    part = slice(first, first + count)
    scales = weights.scales[part] if len(weights.scales) > 1 else weights.scales
    return Weights(weights.values[part], weights.zero_points[part], scales)


def lower_groups(context: Context, operation: Operation, whole: Geometry, source: FeatureMap, weights: Weights,
                 groups: int) -> list[TaskProgram]:
    """Tasks of a grouped convolution. weights: [OC, KH, KW, channels of one group]."""
    blocks = plan_blocks(context.soc, whole, groups)
    assert blocks is not None
    spread = spread_groups(weights, groups, blocks.groups)
    inputs, outputs = blocks.geometry.input_channels, blocks.geometry.output_channels
    tasks = []
    for number in range(blocks.count):
        part = replace(source, address=source.row(0, number * inputs // ATOM_BYTES), channels=inputs)
        tasks += convolution_tasks(context, operation, blocks.geometry, part,
                                   kernels_of(spread, number * outputs, outputs), number * outputs)
    return tasks


def lower_conv(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a CONV_2D."""
    source = context.feature_map(operation.inputs[0])       # type: ignore[arg-type]
    weights = conv_weights(context.tensor(operation.inputs[1]))
    groups = source.channels // weights.values.shape[3]
    blocked = in_blocks(context.subgraph, operation)
    if blocked is not None:
        return lower_in_blocks(context, operation, source, blocked)
    if groups == 1:
        return lower_direct(context, operation, source, weights)
    assert operation.window is not None
    whole = Geometry.of(operation.window, (source.height, source.width, source.channels), len(weights.values))
    return lower_groups(context, operation, whole, source, weights, groups)
