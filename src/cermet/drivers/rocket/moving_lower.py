"""Tasks of operations made of boxes; moving.py decides how each output is made."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.concat import requantising_stages
from cermet.drivers.rocket.context import UINT8_FLIP, Context
from cermet.drivers.rocket.copy import convolve, copy_patch, exact_stages, fill, pick, selection
from cermet.drivers.rocket.dpu import Stages
from cermet.drivers.rocket.flying import copy_stages
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, round_up
from cermet.drivers.rocket.moving import Made, Placed, from_start, gathered_channels, is_picked_directly, plan_moves
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.strided_lower import lower_strided
from cermet.drivers.rocket.views import MapShape
from cermet.ir.moves import Run, data_inputs
from cermet.ir.operation import Operation
from cermet.ir.tensor import DType


def lower_moves(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of an operation that keeps the rules."""
    tasks: list[TaskProgram] = []
    moved = [t for t in (*data_inputs(operation), *operation.outputs) if t is not None]
    shapes = {t: context.feature_map(context.homes.get(t, t)).shape for t in moved}
    has_homes = any(t in context.homes for t in moved)
    for made in plan_moves(context.subgraph, operation, shapes, has_homes=has_homes):
        tasks += WAYS[made.way](context, operation, made)
    return tasks


def _map(context: Context, tensor: int, shape: MapShape) -> FeatureMap:
    """The feature map in a box's rows and columns."""
    found = context.feature_map(tensor)
    if (found.num_pixels, found.channels) != (shape.pixels, shape.channels):
        raise CompileError(f"tensor {tensor}: its map of {found.height}x{found.width}x{found.channels} is no {shape}")
    return replace(found, height=shape.height, width=shape.width)


def _ends(context: Context, part: Placed) -> tuple[FeatureMap, FeatureMap]:
    return _map(context, part.box.source, part.source), _map(context, part.box.target, part.target)


def _stages(context: Context, part: Placed) -> Stages:
    return requantising_stages(context.tensor(part.box.source), context.tensor(part.box.target))


def _border(context: Context, made: Made) -> int:
    """The fill's value in the signed domain."""
    assert made.fill is not None
    return made.fill - UINT8_FLIP if context.tensor(made.tensor).dtype is DType.UINT8 else made.fill


def _copies(context: Context, operation: Operation, made: Made) -> list[TaskProgram]:
    tasks = []
    if made.fill is not None:
        tasks += fill(context, operation, _map(context, made.tensor, made.parts[0].target), _border(context, made))
    for number, part in enumerate(made.parts):
        name = f"part {number}" if len(made.parts) > 1 else f"tensor {made.tensor}"
        if _is_in_place(context, part):
            continue
        tasks += copy_patch(context, operation, part.patch, *_ends(context, part), _stages(context, part), name)
    return tasks


def _is_in_place(context: Context, part: Placed) -> bool:
    """Whether the part was written where it belongs, or is read where it lies (placement/)."""
    if not any(context.views.root(t) in context.parts for t in (part.box.source, part.box.target)):
        return False
    source, target = _ends(context, part)
    channels = part.patch.channels
    return source.row(0, channels.source // ATOM_BYTES) == target.row(0, channels.target // ATOM_BYTES)


def _padded(context: Context, operation: Operation, made: Made) -> list[TaskProgram]:
    patch, (source, target) = made.parts[0].patch, _ends(context, made.parts[0])
    weights = np.zeros((target.channels, 1, 1, source.channels), np.int8)
    each = np.arange(patch.channels.count)
    weights[patch.channels.target + each, 0, 0, patch.channels.source + each] = 1
    bias = np.where(weights.any((1, 2, 3)), 0, _border(context, made))
    has_border = (patch.rows.count, patch.columns.count) != (target.height, target.width)
    wide = target
    if has_border:
        wide = context.scratch_map(f"padded {made.tensor}", target,
                                   MapShape(source.height, source.width, target.channels))
    tasks = convolve(context, operation, source, wide, Run(0, 0, source.height), Run(0, 0, source.width), weights,
                     "channels", exact_stages(), bias)
    if not has_border:
        return tasks
    inside = replace(patch, channels=Run(0, 0, target.channels))
    tasks += fill(context, operation, target, _border(context, made))
    return tasks + copy_patch(context, operation, inside, wide, target, copy_stages(), "pixels")


def _blocks(context: Context, operation: Operation, made: Made) -> list[TaskProgram]:
    part = made.parts[0]
    source, target = _ends(context, part)
    block, channels = part.patch.rows.source_step, part.source.channels
    weights = np.zeros((target.channels, block, block, channels), np.int8)
    each = np.arange(channels)
    for y in range(block):
        for x in range(block):
            weights[(y * block + x) * channels + each, y, x, each] = 1
    return pick(context, operation, source, target, from_start(part.patch.rows), from_start(part.patch.columns),
                weights, "blocks")


def _picks(context: Context, operation: Operation, made: Made) -> list[TaskProgram]:
    """Straight into the output when it is one box of whole pixels, else by way of a map of our own."""
    part = made.parts[0]
    source, target = _ends(context, part)
    rows, columns, channels = part.patch.rows, part.patch.columns, part.patch.channels
    if is_picked_directly(made):
        wanted = range(channels.source, channels.source + channels.count)
        return pick(context, operation, source, target, rows, columns, selection(wanted, source.channels),
                    f"tensor {made.tensor}")
    return _by_way_of_scratch(context, operation, made, source)


def _by_way_of_scratch(context: Context, operation: Operation, made: Made, source: FeatureMap) -> list[TaskProgram]:
    """All pixels of the source with the parts' channels each from a surface of their own on, then copies."""
    starts = _surface_starts(made.parts)
    total = gathered_channels(made.parts)
    weights = np.zeros((total, 1, 1, source.channels), np.int8)
    for start, part in zip(starts, made.parts, strict=True):
        each = np.arange(part.patch.channels.count)
        weights[start + each, 0, 0, part.patch.channels.source + each] = 1
    scratch = context.scratch_map(f"picked {made.tensor}", source, MapShape(source.height, source.width, total))
    tasks = pick(context, operation, source, scratch, Run(0, 0, source.height), Run(0, 0, source.width), weights,
                 f"tensor {made.tensor}")
    for number, (start, part) in enumerate(zip(starts, made.parts, strict=True)):
        patch = replace(part.patch, channels=replace(part.patch.channels, source=start))
        tasks += copy_patch(context, operation, patch, scratch, _ends(context, part)[1], _stages(context, part),
                            f"part {number}")
    return tasks


def _surface_starts(parts: tuple[Placed, ...]) -> list[int]:
    """First channel of each part when each begins a surface."""
    starts, start = [], 0
    for part in parts:
        starts.append(start)
        start += round_up(part.patch.channels.count, ATOM_BYTES)
    return starts


def _strided(context: Context, operation: Operation, made: Made) -> list[TaskProgram]:
    def stages_of(source: int) -> Stages:
        return requantising_stages(context.tensor(source), context.tensor(made.tensor))
    assert made.strided is not None
    return lower_strided(context, operation, made.strided, lambda t: context.feature_map(context.homes.get(t, t)),
                         stages_of)


WAYS = {"blocks": _blocks, "copies": _copies, "padded": _padded, "picks": _picks, "strided": _strided}
