"""Tasks that copy parts of feature maps: the DPU alone, or a 1x1 convolution that picks channels.

The DPU moves atoms of 16 channels; rows may lie at any distance (data layouts §4, §5). Pixels of a row at distances are
lines of one pixel: the vendor's compiler copies columns that way (recipes §11, replayed). Channels that do not begin at
a multiple of 16 go through a convolution with one weight of 1 per output channel (the same source).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.context import Context, layer_name
from cermet.drivers.rocket.conv import convolution_programs
from cermet.drivers.rocket.convolution_task import Convolution
from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.flying import FlyingTask, View, fill_stages, flying_program, whole_cube
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, MAX_CUBE, MAX_SURFACES, Cube, FeatureMap, ceil_div
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.weights import Weights, pack_bias, pack_direct
from cermet.ir.moves import Run
from cermet.ir.operation import Operation, Pair


@dataclass(frozen=True)
class Patch:
    """A box between two feature maps: rows, columns and channels."""

    rows: Run
    columns: Run
    channels: Run

    @property
    def num_surfaces(self) -> int:
        return ceil_div(self.channels.count, ATOM_BYTES)


@dataclass(frozen=True)
class Lines:
    """What one task copies: cube and, in atoms, both starts and both pitches. Source first, then target."""

    cube: Cube
    starts: tuple[int, int]
    line_pitches: tuple[int, int]
    surface_pitches: tuple[int, int]


def patch_tasks(patch: Patch, source: FeatureMap, target: FeatureMap) -> list[Lines]:
    """The tasks of a patch whose channels begin at multiples of 16 on both sides; as few as its steps allow."""
    if patch.columns.count > 1 and (patch.columns.source_step, patch.columns.target_step) != (1, 1):
        return _spread_columns(patch, source, target)
    return _whole_lines(patch, source, target)


def _starts(patch: Patch, maps: tuple[FeatureMap, FeatureMap], row: int, surface: int) -> tuple[int, int]:
    """The first atoms of a row and a surface of the patch."""
    def start(which: FeatureMap, rows: tuple[int, int], column: int, channel: int) -> int:
        first, step = rows
        return (channel // ATOM_BYTES + surface) * which.surface_atoms + (first + row * step) * which.width + column
    r, c, k = patch.rows, patch.columns, patch.channels
    return (start(maps[0], (r.source, r.source_step), c.source, k.source),
            start(maps[1], (r.target, r.target_step), c.target, k.target))


def _whole_lines(patch: Patch, source: FeatureMap, target: FeatureMap) -> list[Lines]:
    maps, made = (source, target), []
    for surface in range(0, patch.num_surfaces, MAX_SURFACES):
        for row in range(0, patch.rows.count, MAX_CUBE):
            cube = Cube(patch.columns.count, min(MAX_CUBE, patch.rows.count - row),
                        min(MAX_SURFACES, patch.num_surfaces - surface))
            made.append(Lines(cube, _starts(patch, maps, row, surface),
                              (source.width * patch.rows.source_step, target.width * patch.rows.target_step),
                              (source.surface_atoms, target.surface_atoms)))
    return made


def _spread_columns(patch: Patch, source: FeatureMap, target: FeatureMap) -> list[Lines]:
    """Each pixel a line, each row a surface; rows of all surfaces in one task where they lie at equal distances."""
    rows, columns, maps = patch.rows, patch.columns, (source, target)
    steps = (columns.source_step, columns.target_step)
    row_pitches = (source.width * rows.source_step, target.width * rows.target_step)
    surface_pitches = (source.surface_atoms, target.surface_atoms)
    is_even = all(rows.count * row == surface for row, surface in zip(row_pitches, surface_pitches, strict=True))

    def tasks(count: int, pitches: tuple[int, int], row: int, surface: int, by_surface: bool) -> list[Lines]:
        return [Lines(Cube(1, columns.count, min(MAX_SURFACES, count - first)),
                      _starts(patch, maps, *((row, surface + first) if by_surface else (row + first, surface))),
                      steps, pitches) for first in range(0, count, MAX_SURFACES)]

    if is_even:
        return tasks(rows.count * patch.num_surfaces, row_pitches, 0, 0, by_surface=False)
    if patch.num_surfaces <= rows.count:
        return [line for surface in range(patch.num_surfaces)
                for line in tasks(rows.count, row_pitches, 0, surface, by_surface=False)]
    return [line for row in range(rows.count)
            for line in tasks(patch.num_surfaces, surface_pitches, row, 0, by_surface=True)]


def copy_patch(context: Context, operation: Operation, patch: Patch, source: FeatureMap, target: FeatureMap,
               stages: Stages, name: str) -> list[TaskProgram]:
    """The tasks that copy a patch."""
    made = []
    for lines in patch_tasks(patch, source, target):
        views = [View(which.address + start * ATOM_BYTES, surface, line) for which, start, surface, line in zip(
            (source, target), lines.starts, lines.surface_pitches, lines.line_pitches, strict=True)]
        made.append(flying_program(context, operation, FlyingTask(lines.cube, stages, *views), name))
    return made


def fill(context: Context, operation: Operation, target: FeatureMap, value: int) -> list[TaskProgram]:
    """Every byte of a feature map, in the signed domain. What a fill reads does not matter: its own map is there."""
    made, total = [], whole_cube(target)
    for surface in range(0, total.num_surfaces, MAX_SURFACES):
        cube = replace(total, num_surfaces=min(MAX_SURFACES, total.num_surfaces - surface))
        view = View(target.row(0, surface), target.surface_atoms, target.width)
        made.append(flying_program(context, operation, FlyingTask(cube, fill_stages(value), view, view), "border"))
    return made


def exact_stages() -> Stages:
    """A convolution's sums come out as they are."""
    return Stages(bs=Stage(add_from_memory=True, data_use=dpu.USE_ALU), out=OutputConverter(0))


def pick_geometry(source: FeatureMap, rows: Run, columns: Run, channels: int, kernel: Pair) -> Geometry:
    """A window of `kernel` over a part of the source; its stride is the source's steps."""
    stride = Pair(rows.source_step if rows.count > 1 else 1, columns.source_step if columns.count > 1 else 1)
    height = (rows.count - 1) * stride.y + kernel.y
    width = (columns.count - 1) * stride.x + kernel.x
    # All of a row where fewer pixels than a stride are left over, as in any convolution.
    if columns.source == 0 and source.width - width < stride.x:
        width = source.width
    return Geometry(height, width, source.channels, rows.count, columns.count, channels, kernel, stride, Pair(1, 1),
                    0, 0)


def pick(context: Context, operation: Operation, source: FeatureMap, target: FeatureMap, rows: Run, columns: Run,
         weights: np.ndarray, name: str) -> list[TaskProgram]:
    """A convolution with weights [OC, KH, KW, IC], one 1 per output channel, into the target's first channels.

    Rows and columns have no target steps.
    """
    return convolve(context, operation, source, target, rows, columns, weights, name, exact_stages(), 0)


def convolve(context: Context, operation: Operation, source: FeatureMap, target: FeatureMap, rows: Run, columns: Run,
             weights: np.ndarray, name: str, stages: Stages, bias: int | np.ndarray,
             zero_point: int = 0) -> list[TaskProgram]:
    """A convolution of stored bytes with weights of our own; BS adds the bias, one or one per channel.

    zero_point   of the weights
    """
    geometry = pick_geometry(source, rows, columns, len(weights), Pair(*weights.shape[1:3]))
    part = replace(source, address=source.row(rows.source) + columns.source * ATOM_BYTES)
    place = replace(target, address=target.row(rows.target) + columns.target * ATOM_BYTES)
    return convolve_plane(context, operation, geometry, part, place, weights, name, stages, bias,
                          zero_point=zero_point)


def convolve_plane(context: Context, operation: Operation, geometry: Geometry, source: FeatureMap, target: FeatureMap,
                   weights: np.ndarray, name: str, stages: Stages, bias: int | np.ndarray = 0, *, zero_point: int = 0,
                   group_pitch: int | None = None, column_pitch: int | None = None) -> list[TaskProgram]:
    """The same from and to the beginning of both maps. The pitches are those of Convolution."""
    packed = context.constant(f"selection {operation.index} {name}", pack_direct(
        Weights(weights, np.full(len(weights), zero_point), np.ones(1)), context.soc))
    if stages.bs.add_from_memory:
        operands = context.constant(f"bias {operation.index} {name}", pack_bias(
            np.full(len(weights), bias), geometry.aligned_output_channels(context.soc)))
        stages = replace(stages, bs=replace(stages.bs, operands=operands))
    conv = Convolution(context.soc, geometry, source, target, packed, stages, zero_point, group_pitch=group_pitch,
                       column_pitch=column_pitch)
    tasks = convolution_programs(context, conv, (operation,))
    return [replace(task, layer=layer_name(operation, name), macs=0) for task in tasks]


def selection(channels: Sequence[int], num_inputs: int) -> np.ndarray:
    """1x1 weights: output i is input channels[i]."""
    weights = np.zeros((len(channels), 1, 1, num_inputs), np.int8)
    weights[np.arange(len(channels)), 0, 0, list(channels)] = 1
    return weights
