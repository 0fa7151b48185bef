"""RESHAPE and SQUEEZE: nothing to do where the bytes stay, a copy from an input straight to an output, or moves."""
from __future__ import annotations

from collections.abc import Iterator

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.flying import FlyingTask, View, copy_stages, flying_program
from cermet.drivers.rocket.layout import ATOM_BYTES, MAX_CUBE, Cube, FeatureMap, ceil_div
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.strided_lower import lower_strided
from cermet.drivers.rocket.views import are_same_bytes, reshaped
from cermet.ir.operation import Operation


def lower_view(context: Context, operation: Operation) -> list[TaskProgram]:
    """No task when input and output are the same bytes; a copy when they lie in different BOs; moves where the channels
    change.
    """
    source, target = operation.inputs[0], operation.output
    assert source is not None
    if target in context.homes or context.views.root(source) == context.views.root(target):
        return []
    before, after = (context.views.shape(context.subgraph, t) for t in (source, target))
    if not are_same_bytes(before, after):
        return lower_strided(context, operation, reshaped(source, target, before, after), context.feature_map,
                             lambda _: copy_stages())
    return copy_map(context, operation, context.feature_map(source), context.feature_map(target))


def copy_map(context: Context, operation: Operation, whole: FeatureMap, other: FeatureMap) -> list[TaskProgram]:
    """Tasks that copy all of a feature map into another of as many pixels and channels."""
    if (whole.num_pixels, whole.channels) != (other.num_pixels, other.channels):
        raise CompileError(f"{operation}: a copy cannot change the layout")
    return [flying_program(context, operation, FlyingTask(
        cube, copy_stages(), _part(whole, pixel, surface, cube), _part(other, pixel, surface, cube)), part)
        for pixel, surface, cube, part in _parts(whole)]


def _parts(source: FeatureMap) -> Iterator[tuple[int, int, Cube, str]]:
    """(first pixel, first surface, cube, name) of each task; one unless a side passes the cube's limit.

    Pixels of a surface lie one behind the other, so that any rectangle of them will do.
    """
    surfaces, step = ceil_div(source.channels, ATOM_BYTES), MAX_CUBE // ATOM_BYTES
    width = min(source.width, MAX_CUBE)
    pixels = width * MAX_CUBE if width == source.width else width
    for surface in range(0, surfaces, step):
        for pixel in range(0, source.num_pixels, pixels):
            count = min(pixels, source.num_pixels - pixel)
            cube = Cube(min(width, count), ceil_div(count, width), min(step, surfaces - surface))
            is_whole = count == source.num_pixels and cube.num_surfaces == surfaces
            yield pixel, surface, cube, "" if is_whole else f"pixel {pixel}, channel {surface * ATOM_BYTES}"


def _part(whole: FeatureMap, pixel: int, surface: int, cube: Cube) -> View:
    return View(whole.address + (surface * whole.surface_atoms + pixel) * ATOM_BYTES, whole.surface_atoms, cube.width)
