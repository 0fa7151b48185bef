"""MAX_POOL_2D from maxima of shifted maps: tasks of the DPU, then one depthwise task where the stride skips pixels.

The PPU would do it natively, but mainline never sees its interrupt (execution model §8). A window of k is built by
doubling: the maximum over m neighbours, joined with itself d <= m further on, is the maximum over m + d. So a side of k
costs ceil(log2 k) tasks. Steps, each left out where it is not needed:

    pad      a map filled with -128, larger by the padding. The first vertical maximum goes straight into it; when the
             windows at the border cannot be joined from its rows, a copy of the input does instead
    down     maxima of rows; each task leaves fewer rows, the last one only every stride-th where the rows of all
             surfaces lie at equal distances
    across   maxima of columns. A row's pixels follow the row before: the last columns get garbage that no window sees
    select   every stride-th pixel, by a depthwise convolution with one weight of 1, or by copies where the stride is
             above 7; or the last maximum writes rows of the output's width itself

Tasks for an even plane: 2x2 stride 2: 3. 3x3 stride 2 SAME: 6. 3x3 stride 1 SAME: 5. 5x5: 7. 13x13: 10.
Every step is a form that was replayed (maximum, fill, copy, row and surface notches), but for a clamp behind a maximum.
Exact: bytes are compared, never changed. -128 is the lowest byte, so that padding never wins over a pixel.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.context import Context, layer_name
from cermet.drivers.rocket.copy import Patch, copy_patch
from cermet.drivers.rocket.dpu import ALGO_MAX, Elementwise, OutputConverter, Stage, Stages
from cermet.drivers.rocket.flying import (
    MAX_CUBE,
    Cube,
    FlyingTask,
    View,
    copy_stages,
    fill_stages,
    flying_program,
    whole_cube,
)
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div
from cermet.drivers.rocket.limits import MAX_SIDE, MAX_STRIDE
from cermet.drivers.rocket.pooling import depthwise_tasks
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.requantise import Clamp
from cermet.ir.moves import Run
from cermet.ir.operation import Operation, Pair, Window

LOWEST = -128
MAX_SURFACES = MAX_CUBE // ATOM_BYTES
LARGEST_JOINED = 64     # larger windows pay one task more; looking at all their pixels would take long


def selection_stride(window: Window, height: int, width: int) -> Pair:
    """The stride where it matters: 1 along an axis with a single output."""
    out = window.output_size(height, width)
    return Pair(window.stride.y if out.y > 1 else 1, window.stride.x if out.x > 1 else 1)


def selection_geometry(width: int, channels: int, output: Pair, stride: Pair) -> Geometry:
    """The depthwise convolution that selects every stride-th pixel of a plane so wide."""
    rows, columns = (output.y - 1) * stride.y + 1, (output.x - 1) * stride.x + 1
    # All of the width where the pixels left over are fewer than a stride, as in any convolution; else a part of it.
    # Padding may have made the plane wider than the CNA's cube, the pixels that are selected never reach that far.
    columns = width if width - columns < stride.x and width <= MAX_SIDE else columns
    return Geometry(rows, columns, channels, output.y, output.x, channels, Pair(1, 1), stride, Pair(1, 1), 0, 0,
                    is_depthwise=True)


def shifts(kernel: int) -> list[int]:
    """How far the map is shifted in each step that builds a window of `kernel`: 1, 2, 4, ... and the rest."""
    made, size = [], 1
    while size < kernel:
        made.append(min(size, kernel - size))
        size += made[-1]
    return made


def pairs_see_every_pixel(size: int, kernel: int, stride: int, pad: int, output_size: int) -> bool:
    """Whether windows may be joined from maxima of two neighbours that both lie inside the plane.

    The maximum of pixels i and i + 1 is there for i = 0..size - 2 only: the pairs that stick out at either end, which
    would hold the first and the last pixel, are missing. True when every window has its pixels from other pairs.
    """
    if kernel > LARGEST_JOINED:
        return False
    offsets = {0}
    for shift in shifts(kernel)[1:]:
        offsets |= {offset + shift for offset in offsets}
    for output in range(output_size):
        start = output * stride - pad
        if start >= 0 and start + kernel <= size:
            continue
        pairs = {start + offset for offset in offsets if 0 <= start + offset < size - 1}
        if not set(range(max(start, 0), min(start + kernel, size))) <= pairs | {pair + 1 for pair in pairs}:
            return False
    return True


def lower_max_pool(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a MAX_POOL_2D that keeps the rules."""
    assert operation.window is not None and operation.inputs[0] is not None
    source, output = context.feature_map(operation.inputs[0]), context.feature_map(operation.output)
    clamp = clamp_of(operation.activation, context.tensor(operation.output))
    stride = selection_stride(operation.window, source.height, source.width)
    pool = _MaxPool(context, operation, operation.window, stride, clamp, output)
    pool.lower(source)
    return pool.programs


NO_CLAMP = Clamp()


def max_stages(clamp: Clamp = NO_CLAMP) -> Stages:
    """The larger of two bytes. With a clamp, both lose its lower end first, and OUT_CVT puts it back."""
    if clamp.is_trivial:
        return Stages(ew=Elementwise(0, 1, 0, ALGO_MAX), out=OutputConverter(0))
    return Stages(bs=Stage(add=-clamp.lowest),
                  ew=Elementwise(-clamp.lowest, 1, 0, ALGO_MAX, relu=True, relux=clamp.highest - clamp.lowest),
                  out=OutputConverter(clamp.lowest))


def clamped_copy_stages(clamp: Clamp) -> Stages:
    """A byte, inside the clamp's limits."""
    if clamp.is_trivial:
        return copy_stages()
    return Stages(bs=Stage(add=-clamp.lowest, relu=True, relux=clamp.highest - clamp.lowest),
                  out=OutputConverter(clamp.lowest))


@dataclass
class _MaxPool:
    """One operation being lowered: lower() runs the steps, programs collects their tasks."""

    context: Context
    operation: Operation
    window: Window
    stride: Pair
    clamp: Clamp
    output: FeatureMap

    def __post_init__(self) -> None:
        self.programs: list[TaskProgram] = []
        self.num_scratch = 0

    @property
    def selects(self) -> bool:
        return self.stride != Pair(1, 1)

    def lower(self, source: FeatureMap) -> None:
        """All steps, from the input's map to the output's."""
        down, across = shifts(self.window.kernel.y), shifts(self.window.kernel.x)
        plane, row_stride = source, self.stride.y
        if any(self.window.pads(source.height, source.width)):
            plane, joined = self._pad(source)
            down = down[1:] if joined else down
        elif not down and not source.is_dense:
            plane = self._scratch(source.height, source.width, source)
            self._emit(FlyingTask(whole_cube(source), copy_stages(), View.of(source), View.of(plane)), "copy")
        for index, shift in enumerate(down):
            is_last = index == len(down) - 1
            if is_last and not across and self._fits_output(plane.height - shift, plane.width):
                self._down(plane, shift, self.output, self.clamp)
                return
            if is_last and self._can_skip_rows(plane, shift):
                plane, row_stride = self._down_skipping(plane, shift), 1
            else:
                plane = self._down(plane, shift, self._scratch(plane.height - shift, plane.width, plane), NO_CLAMP)
        self._across_and_select(plane, across, row_stride, is_own=plane is not source)

    def _across_and_select(self, plane: FeatureMap, across: list[int], row_stride: int, *, is_own: bool) -> None:
        """The steps behind `down`. is_own: the map is ours and has room behind its end."""
        for index, shift in enumerate(across):
            if index == len(across) - 1 and self._writes_rows(plane):
                self._rows(plane, shift, self.output, self.clamp, self.output.width)
                return
            target = self._scratch(plane.height, plane.width, plane)
            if is_own:
                self._emit(FlyingTask(whole_cube(plane), max_stages(), View.of(plane), View.of(target),
                                      View.of(plane, column=shift)), f"columns 0 and {shift}")
            else:
                self._rows(plane, shift, target, NO_CLAMP, plane.width - shift)
            plane, is_own = target, True
        if self.selects:
            self._select(plane, row_stride)
        else:
            self._emit(FlyingTask(whole_cube(self.output), clamped_copy_stages(self.clamp), View.of(plane),
                                  View.of(self.output)), "crop")

    def _pad(self, source: FeatureMap) -> tuple[FeatureMap, bool]:
        """A map with borders of -128; with the first maximum of rows in it (True) when that loses no window."""
        top, bottom, left, right = self.window.pads(source.height, source.width)
        kernel = self.window.kernel.y
        joins = kernel > 1 and pairs_see_every_pixel(source.height, kernel, self.stride.y, top, self.output.height)
        rows = source.height - 1 if joins else source.height
        padded = self._scratch(top + rows + bottom, left + source.width + right, source)
        # What a fill reads does not matter; its own map is certainly there.
        whole = View.of(padded)
        self._emit(FlyingTask(whole_cube(padded), fill_stages(LOWEST), whole, whole), "border")
        inside = View.of(padded, top, left)
        cube = replace(whole_cube(source), height=rows)
        first = View.of(source)
        if joins:
            self._emit(FlyingTask(cube, max_stages(), first, inside, View.of(source, 1)), "rows 0 and 1")
        else:
            self._emit(FlyingTask(cube, copy_stages(), first, inside), "copy")
        return padded, joins

    def _down(self, plane: FeatureMap, shift: int, target: FeatureMap, clamp: Clamp) -> FeatureMap:
        """Maxima of rows: as many rows fewer as the shift."""
        cube = replace(whole_cube(plane), height=plane.height - shift)
        task = FlyingTask(cube, max_stages(clamp), View.of(plane), View.of(target), View.of(plane, shift))
        self._emit(task, f"rows 0 and {shift}")
        return target

    def _can_skip_rows(self, plane: FeatureMap, shift: int) -> bool:
        """Rows at equal distances through all surfaces, none beyond the end, and few enough for one task."""
        stride = self.stride.y
        rows = plane.height // stride * _num_surfaces(plane)
        return stride > shift and plane.height % stride == 0 and rows <= MAX_SURFACES and plane.is_dense

    def _down_skipping(self, plane: FeatureMap, shift: int) -> FeatureMap:
        """Maxima of every stride-th row: rows of all surfaces are the surfaces of a cube of height 1."""
        stride = self.stride.y
        target = self._scratch(plane.height // stride, plane.width, plane)
        cube = Cube(plane.width, 1, target.height * _num_surfaces(plane))
        pitch = stride * plane.width
        self._emit(FlyingTask(
            cube, max_stages(), View(plane.address, pitch, plane.width), View(target.address, plane.width, plane.width),
            View(plane.row(shift), pitch, plane.width)), f"rows 0 and {shift} of {stride}")
        return target

    def _fits_output(self, rows: int, columns: int) -> bool:
        """Whether maxima of so many rows and columns are the output."""
        return not self.selects and (rows, columns) == (self.output.height, self.output.width)

    def _writes_rows(self, plane: FeatureMap) -> bool:
        """Whether the last maximum of columns may write the output: in no more tasks than with a crop behind it."""
        tasks = ceil_div(plane.height * _num_surfaces(plane), MAX_SURFACES)
        return self._fits_output(plane.height, self.output.width) and tasks <= 2 and self.output.is_dense

    def _rows(self, plane: FeatureMap, shift: int, target: FeatureMap, clamp: Clamp, width: int) -> None:
        """Maxima of the first columns, row by row: every row is a surface, nothing beyond its end is read."""
        total = plane.height * _num_surfaces(plane)
        for first in range(0, total, MAX_SURFACES):
            cube = Cube(width, 1, min(MAX_SURFACES, total - first))
            start = plane.row(first)
            self._emit(FlyingTask(
                cube, max_stages(clamp), View(start, plane.width, width), View(target.row(first), target.width, width),
                View(start + shift * ATOM_BYTES, plane.width, width)), f"columns 0 and {shift}")

    def _select(self, plane: FeatureMap, row_stride: int) -> None:
        """Every stride-th pixel, through a convolution with a 1x1 window of weight 1: exact."""
        if max(row_stride, self.stride.x) > MAX_STRIDE:
            patch = Patch(Run(0, 0, self.output.height, row_stride), Run(0, 0, self.output.width, self.stride.x),
                          Run(0, 0, plane.channels))
            self.programs += copy_patch(self.context, self.operation, patch, plane, self.output,
                                        clamped_copy_stages(self.clamp), "select")
            return
        geometry = selection_geometry(plane.width, plane.channels, Pair(self.output.height, self.output.width),
                                      Pair(row_stride, self.stride.x))
        clamp, bs = self.clamp, Stage(add_from_memory=True, data_use=dpu.USE_ALU)
        bias = 0
        if not clamp.is_trivial:
            bias, bs = -clamp.lowest, replace(bs, relu=True, relux=clamp.highest - clamp.lowest)
        stages = Stages(bs=bs, out=OutputConverter(-bias))
        tasks = depthwise_tasks(self.context, self.operation, geometry, plane, self.output, 1, bias, stages)
        self.programs += [replace(task, layer=layer_name(self.operation, "select")) for task in tasks]

    def _scratch(self, height: int, width: int, like: FeatureMap) -> FeatureMap:
        """A map of our own, with room behind its end: `across` reads up to a window further."""
        surfaces = _num_surfaces(like)
        size = (surfaces * height * width + self.window.kernel.x) * ATOM_BYTES
        address = self.context.new_buffer(f"max pool {self.operation.index}.{self.num_scratch}", size)
        self.num_scratch += 1
        return FeatureMap(address, height, width, like.channels, like.zero_point, like.scale, surfaces)

    def _emit(self, task: FlyingTask, part: str) -> None:
        """Of more rows than a cube has, bands."""
        for row in range(0, task.cube.height, MAX_CUBE):
            band = replace(task, cube=replace(task.cube, height=min(MAX_CUBE, task.cube.height - row)),
                           source=_from_row(task.source, row), destination=_from_row(task.destination, row),
                           operand=None if task.operand is None else _from_row(task.operand, row))
            self.programs.append(flying_program(self.context, self.operation, band, part))


def _from_row(view: View, row: int) -> View:
    return replace(view, address=view.address + row * view.line_pitch * ATOM_BYTES)


def _num_surfaces(plane: FeatureMap) -> int:
    """Surfaces that hold real channels; more may be allocated."""
    return ceil_div(plane.channels, ATOM_BYTES)
