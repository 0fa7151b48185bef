"""REDUCE_MAX and REDUCE_MIN: the DPU compares two halves until one element is left. Exact: bytes are never changed.

    pixels     the first rows with the last ones, ceil(log2 count) tasks
    surfaces   likewise, when the channels go as well; a convolution that repeats a channel has filled the last one
    spread     a convolution puts the 16 channels of the last surface into 16 surfaces, in channel 0 each
    lanes      those with each other
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.copy import pick, selection
from cermet.drivers.rocket.dpu import ALGO_MAX, ALGO_MIN, Elementwise, OutputConverter, Stages
from cermet.drivers.rocket.flying import MAX_CUBE, Cube, FlyingTask, View, copy_stages, flying_program
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div
from cermet.drivers.rocket.limits import MAX_SIDE
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.views import MapShape
from cermet.ir.moves import Run
from cermet.ir.operation import Kind, Operation
from cermet.ir.reductions import Reduction

MAX_SURFACES = MAX_CUBE // ATOM_BYTES


@dataclass(frozen=True)
class Stack:
    """Surfaces at equal distances: count pieces of `size` pixels each, one behind the other."""

    view: View
    num_surfaces: int
    count: int
    size: int


def lower_extreme(context: Context, operation: Operation, made: Reduction) -> list[TaskProgram]:
    """Tasks of a REDUCE_MAX or REDUCE_MIN."""
    source, target = context.feature_map(operation.inputs[0]), context.feature_map(operation.output)  # type: ignore[arg-type]
    extreme = _Extreme(context, operation)
    if not made.over_channels:
        extreme.pixels(made, source, target)
        return extreme.programs
    plane = source
    if made.count > 1:
        plane = context.scratch_map(f"plane {operation.index}", source, MapShape(
            *kept_plane(made), source.channels))
        extreme.pixels(made, source, plane)
    extreme.channels(plane, target)
    return extreme.programs


def kept_plane(made: Reduction) -> tuple[int, int]:
    """Height and width of the pixels that a reduction keeps: one row while the CNA's cube holds it."""
    return (1, made.output_pixels) if made.output_pixels <= MAX_SIDE else (made.outer, made.inner)


class _Extreme:
    """One operation being lowered; programs collects its tasks."""

    def __init__(self, context: Context, operation: Operation) -> None:
        self.context, self.operation = context, operation
        self.programs: list[TaskProgram] = []
        algo = ALGO_MAX if operation.kind is Kind.REDUCE_MAX else ALGO_MIN
        self.stages = Stages(ew=Elementwise(0, 1, 0, algo), out=OutputConverter(0))

    def pixels(self, made: Reduction, source: FeatureMap, target: FeatureMap) -> None:
        """Rows of every plane with each other, into a map without them."""
        surfaces = ceil_div(source.channels, ATOM_BYTES) * made.outer
        start = made.count * made.inner if made.outer > 1 else source.surface_atoms
        end = made.inner if made.outer > 1 else target.surface_atoms
        self._halve(Stack(View(source.address, start, made.inner), surfaces, made.count, made.inner),
                    View(target.address, end, made.inner), "pixels")

    def channels(self, plane: FeatureMap, target: FeatureMap) -> None:
        """All channels of each pixel with each other."""
        pixels = plane.height * plane.width
        surfaces = ceil_div(plane.channels, ATOM_BYTES)
        if surfaces > 1 and plane.channels % ATOM_BYTES:
            plane = self._convolve(plane, [min(c, plane.channels - 1) for c in range(surfaces * ATOM_BYTES)], "fill")
        if surfaces > 1:
            # Surfaces are the pieces of one long surface.
            one = self.context.scratch_map(f"surface {self.operation.index}", plane, MapShape(
                plane.height, plane.width, ATOM_BYTES))
            self._halve(Stack(View(plane.address, pixels, pixels), 1, surfaces, plane.surface_atoms),
                        View(one.address, pixels, pixels), "surfaces")
            plane = one
        lanes = min(plane.channels, ATOM_BYTES)
        spread = self._convolve(plane, [lane for lane in range(lanes) for _ in range(ATOM_BYTES)], "spread")
        self._halve(Stack(View(spread.address, pixels, pixels), 1, lanes, pixels),
                    View(target.address, pixels, pixels), "lanes")

    def _convolve(self, plane: FeatureMap, channels: list[int], part: str) -> FeatureMap:
        made = self.context.scratch_map(f"{part} {self.operation.index}", plane, MapShape(
            plane.height, plane.width, len(channels)))
        self.programs += pick(self.context, self.operation, plane, made, Run(0, 0, plane.height),
                              Run(0, 0, plane.width), selection(channels, plane.channels), part)
        return made

    def _halve(self, stack: Stack, target: View, part: str) -> None:
        """The first half with the last, which overlap by a piece when their number is odd, until one is left."""
        if stack.count == 1:
            self._emit(stack, stack.view, target, 1, copy_stages(), part)
        while stack.count > 1:
            kept = ceil_div(stack.count, 2)
            operand = replace(stack.view, address=stack.view.address + (stack.count - kept) * stack.size * ATOM_BYTES)
            to = target
            if kept > 1:
                name = f"{part} {self.operation.index}.{len(self.programs)}"
                pitch = kept * stack.size
                to = View(self.context.new_buffer(name, stack.num_surfaces * pitch * ATOM_BYTES), pitch, stack.size)
            self._emit(stack, operand, to, kept, self.stages, part)
            stack = Stack(to, stack.num_surfaces, kept, stack.size)

    def _emit(self, stack: Stack, operand: View, to: View, kept: int, stages: Stages, part: str) -> None:
        """`kept` pieces of every surface, as dense rows."""
        for first, cube in _cubes(kept * stack.size):
            for surface in range(0, stack.num_surfaces, MAX_SURFACES):
                views = [View(view.address + (surface * view.surface_pitch + first) * ATOM_BYTES, view.surface_pitch,
                              cube.width) for view in (stack.view, to, operand)]
                part_cube = replace(cube, num_surfaces=min(MAX_SURFACES, stack.num_surfaces - surface))
                task = FlyingTask(part_cube, stages, views[0], views[1], views[2] if stages.ew else None)
                self.programs.append(flying_program(self.context, self.operation, task, part))


def _cubes(pixels: int) -> Iterator[tuple[int, Cube]]:
    """(first pixel, cube) of tasks that cover so many pixels one behind the other: rows of 8192 and a rest."""
    full = pixels // MAX_CUBE
    for row in range(0, full, MAX_CUBE):
        yield row * MAX_CUBE, Cube(MAX_CUBE, min(MAX_CUBE, full - row), 1)
    if pixels % MAX_CUBE:
        yield full * MAX_CUBE, Cube(pixels % MAX_CUBE, 1, 1)
