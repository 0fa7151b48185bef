"""Sums over any number of pixels, exact in 32 bits.

One window holds 31 by 31 pixels (WEIGHT_WIDTH and WEIGHT_HEIGHT have 5 bits). A larger sum is made in two digits, all
of it in depthwise tasks over all channels at once:

    cut      the pixels into bands of n <= 126, each in rows, with room for one more row
    high     of each band round(sum / n), a byte, into that row
    low      of each band the sum minus n * high, |low| <= n / 2 + 1: a window over the band and the row just written,
             whose weight is -n. A byte again, so that n * high + low is the band's sum, exactly
    pair     both digits of all bands one behind the other
    total    a window over them, with weights n and 1
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.context import Context, layer_name
from cermet.drivers.rocket.conv import convolution_programs
from cermet.drivers.rocket.convolution_task import Convolution
from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.flying import MAX_CUBE, Cube, FlyingTask, View, copy_stages, fill_stages, flying_program
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div, round_up
from cermet.drivers.rocket.limits import LARGEST_MULTIPLIER, MAX_KERNEL
from cermet.drivers.rocket.pooling_arithmetic import INT32_MAX, LARGEST_WEIGHT, Gain, scaling_gain
from cermet.drivers.rocket.regcmd import Address, TaskProgram
from cermet.drivers.rocket.views import MapShape
from cermet.drivers.rocket.weights import Weights, pack_bias, pack_depthwise
from cermet.ir.operation import Operation, Pair

MAX_SURFACES = MAX_CUBE // ATOM_BYTES
LARGEST_BAND = 126              # the product of two sides below 32 that an int8 weight holds
MAX_GATHERED = 32               # copies; each is a task of its own


@dataclass(frozen=True)
class Bands:
    """count bands of rows x columns pixels; digits: rows and columns in which both digits of all bands are seen."""

    count: int
    rows: int
    columns: int
    digits: Pair

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def pitch(self) -> int:
        """From one band to the next, with room for the digits."""
        return self.size + self.columns


@dataclass(frozen=True)
class Way:
    """How `count` rows of `inner` pixels are added, each column by itself.

    window    that sees all of them, or None
    bands     when no window does
    gathers   whether the pixels of each column are first laid one behind the other
    """

    count: int
    inner: int
    window: Pair | None
    bands: Bands | None
    gathers: bool

    @property
    def largest_weight(self) -> int:
        """By which sums of |q| <= 255 may be multiplied: in the window's weights, or in BS."""
        if self.bands is None:
            return LARGEST_WEIGHT
        return min(LARGEST_MULTIPLIER, INT32_MAX // (255 * self.count))


def rectangle(pixels: int) -> Pair | None:
    """Sides of at most 31 with so many pixels, the flattest."""
    for rows in range(MAX_KERNEL, 0, -1):
        if pixels % rows == 0 and pixels // rows <= MAX_KERNEL:
            return Pair(rows, pixels // rows)
    return None


def bands_of(pixels: int) -> Bands | None:
    """The cut that needs no filler if there is one, of those the one with the fewest bytes; None: too many pixels."""
    made = [(count * rows * columns != pixels, count * (rows + 1) * columns, Bands(count, rows, columns, digits))
            for columns in range(2, MAX_KERNEL + 1) for rows in range(1, LARGEST_BAND // columns + 1)
            for count, digits in _pairs(ceil_div(pixels, rows * columns)) if rows < MAX_KERNEL]
    return min(made, key=lambda m: m[:2])[2] if made else None


def _pairs(count: int) -> list[tuple[int, Pair]]:
    """The smallest number of bands from `count` on whose digits one window sees, and that window."""
    found = ((more, window) for more in range(count, MAX_KERNEL * MAX_KERNEL // 2 + 1)
             if (window := rectangle(2 * more)))
    return list(islice(found, 1))


def way_of_adding(count: int, inner: int, num_surfaces: int) -> Way | None:
    """None when the pixels are too many, or would have to be gathered by too many tasks."""
    if inner > 1 and count <= MAX_KERNEL:
        return Way(count, inner, Pair(count, 1), None, gathers=False)
    if inner > 1 and min(num_surfaces, inner) > MAX_GATHERED:
        return None
    window = rectangle(count)
    bands = None if window else bands_of(count)
    return Way(count, inner, window, bands, gathers=inner > 1) if window or bands else None


def geometry_of(way: Way, channels: int) -> Geometry:
    """The first window of a way: what must fit the CBUF."""
    columns = 1 if way.gathers else way.inner
    channels *= way.inner if way.gathers else 1
    if way.bands is not None:
        kernel = Pair(way.bands.rows + 1, way.bands.columns)
        return _geometry(kernel, kernel, 1, channels * way.bands.count)
    assert way.window is not None
    return _geometry(Pair(way.window.y, columns if columns > 1 else way.window.x), way.window, columns, channels)


def _geometry(shape: Pair, kernel: Pair, columns: int, channels: int) -> Geometry:
    """One row of outputs from a plane of `shape`."""
    return Geometry(shape.y, shape.x, channels, 1, columns, channels, kernel, Pair(1, 1), Pair(1, 1), 0, 0,
                    is_depthwise=True)


def add_pixels(context: Context, operation: Operation, way: Way, source: FeatureMap, target: FeatureMap, gain: Gain,
               bias: int, stages: Stages, extra_bias: int = 0) -> list[TaskProgram]:
    """Tasks that make one row of way.inner pixels per surface: stages of (sum of stored bytes + bias) * gain.weight.

    source       way.count rows of way.inner pixels, dense, surfaces at any distance
    target       where the row begins
    extra_bias   added behind the weight; in one window only
    """
    tasks: list[TaskProgram] = []
    if way.gathers:
        source, tasks = _gather(context, operation, way, source)
        target = replace(target, height=1, width=1, channels=source.channels, pitch=1)
    if way.bands is not None:
        return tasks + _in_bands(context, operation, way.bands, source, target, gain.weight, bias, stages)
    assert way.window is not None
    geometry = geometry_of(replace(way, gathers=False, inner=1 if way.gathers else way.inner), source.channels)
    plane = replace(source, height=geometry.input_height, width=geometry.input_width, pitch=source.surface_atoms)
    return tasks + weighted_tasks(context, operation, geometry, plane, target,
                                  np.full((way.window.y, way.window.x), gain.weight), bias * gain.weight + extra_bias,
                                  stages)


def weighted_tasks(context: Context, operation: Operation, geometry: Geometry, source: FeatureMap, target: FeatureMap,
                   taps: np.ndarray, bias: int, stages: Stages, part: str = "") -> list[TaskProgram]:
    """Tasks of a depthwise convolution with the same taps [KH, KW] in all channels. Pads and bias: of stored bytes."""
    channels = geometry.output_channels
    values = np.broadcast_to(taps.astype(np.int8)[None, :, :, None], (channels, *taps.shape, 1))
    weights = Weights(values, np.zeros(1, np.int64), np.ones(1))
    packed = context.constant(f"window weights {operation.index} {part}", pack_depthwise(weights, context.soc))
    operands = context.constant(f"window bias {operation.index} {part}", pack_bias(
        np.full(channels, bias), geometry.aligned_output_channels(context.soc)))
    stages = replace(stages, bs=replace(stages.bs, operands=operands))
    # Taps outside the plane must add nothing to the sum of stored bytes, whatever the zero point is.
    conv = Convolution(context.soc, geometry, replace(source, zero_point=0), target, packed, stages, 0)
    tasks = convolution_programs(context, conv, (operation,))
    return [replace(task, layer=layer_name(operation, part)) for task in tasks] if part else tasks


def copies(context: Context, operation: Operation, cube: Cube, source: View, target: View, stages: Stages,
           part: str) -> list[TaskProgram]:
    """A flying task for every 512 surfaces."""
    def view(of: View, first: int) -> View:
        return replace(of, address=of.address + first * of.surface_pitch * ATOM_BYTES)
    return [flying_program(context, operation, FlyingTask(
        replace(cube, num_surfaces=min(MAX_SURFACES, cube.num_surfaces - first)), stages, view(source, first),
        view(target, first)), part) for first in range(0, cube.num_surfaces, MAX_SURFACES)]


def _gather(context: Context, operation: Operation, way: Way,
            source: FeatureMap) -> tuple[FeatureMap, list[TaskProgram]]:
    """Each column of each surface as a surface of its own: by surface or by column, whichever are fewer."""
    surfaces = ceil_div(source.channels, ATOM_BYTES)
    made = context.scratch_map(f"columns {operation.index} {len(context.buffers)}", source, MapShape(
        way.count, 1, surfaces * way.inner * ATOM_BYTES))
    distance = source.surface_atoms
    tasks: list[TaskProgram] = []
    if surfaces <= way.inner:
        for surface in range(surfaces):
            # The rows are the copy's surfaces, the pixels of a row its lines.
            start = View(source.address + surface * distance * ATOM_BYTES, way.inner, 1)
            to = View(made.row(0, surface * way.inner), 1, way.count)
            tasks += copies(context, operation, Cube(1, way.inner, way.count), start, to, copy_stages(), "columns")
        return made, tasks
    for column in range(way.inner):
        start = View(source.address + column * ATOM_BYTES, distance, way.inner)
        to = View(made.row(0, column), way.inner * way.count, 1)
        tasks += copies(context, operation, Cube(1, way.count, surfaces), start, to, copy_stages(), "columns")
    return made, tasks


# ---- two digits ----------------------------------------------------------------------------------------------------

def _in_bands(context: Context, operation: Operation, bands: Bands, source: FeatureMap, target: FeatureMap,
              weight: int, bias: int, stages: Stages) -> list[TaskProgram]:
    surfaces = ceil_div(source.channels, ATOM_BYTES)
    cut = _band_map(context, operation, bands, source, surfaces)
    tasks = list(_cut(context, operation, bands, source, cut))
    each = replace(cut, height=bands.rows + 1, width=bands.columns, channels=surfaces * bands.count * ATOM_BYTES)
    tasks += _digits(context, operation, bands, each)
    pairs = context.scratch_map(f"digits {operation.index} {len(context.buffers)}", source, MapShape(
        bands.digits.y, bands.digits.x, surfaces * ATOM_BYTES))
    tasks += copies(context, operation, Cube(2, bands.count, surfaces),
                    View(_digit_row(each, bands), bands.count * bands.pitch, bands.pitch),
                    View(pairs.address, 2 * bands.count, 2), copy_stages(), "pair")
    taps = np.tile([bands.size, 1], bands.count).reshape(bands.digits.y, bands.digits.x)
    if weight > 1:
        stages = replace(stages, bs=replace(stages.bs, multiplier=weight))
    geometry = _geometry(bands.digits, bands.digits, 1, source.channels)
    return tasks + weighted_tasks(context, operation, geometry, replace(pairs, channels=source.channels), target, taps,
                                  bias, stages, "total")


def _band_map(context: Context, operation: Operation, bands: Bands, source: FeatureMap, surfaces: int) -> FeatureMap:
    """Room for all bands, and for the three surfaces more that a depthwise task may write."""
    bytes_needed = round_up(surfaces * bands.count + 3, 4) * bands.pitch * ATOM_BYTES
    address = context.new_buffer(f"bands {operation.index} {len(context.buffers)}", bytes_needed)
    return FeatureMap(address, bands.count, bands.pitch, source.channels, 0, source.scale, surfaces)


def _cut(context: Context, operation: Operation, bands: Bands, source: FeatureMap,
         cut: FeatureMap) -> Iterator[TaskProgram]:
    """A band is a line of the copies; a last one that is not full gets zeros behind."""
    pixels, size, surfaces = source.num_pixels, bands.size, cut.num_surfaces
    full, rest = divmod(pixels, size)
    distance = bands.count * bands.pitch
    if full < bands.count:
        whole = View(cut.address, distance, bands.pitch)
        yield from copies(context, operation, Cube(bands.pitch, bands.count, surfaces), whole, whole, fill_stages(0),
                          "zeros")
    for first, cube in ((0, Cube(size, full, surfaces)), (full, Cube(rest, 1, surfaces))):
        if cube.width and cube.height:
            yield from copies(context, operation, cube,
                              View(source.address + first * size * ATOM_BYTES, source.surface_atoms, size),
                              View(cut.row(first), distance, bands.pitch), copy_stages(), "cut")


def _digits(context: Context, operation: Operation, bands: Bands, each: FeatureMap) -> list[TaskProgram]:
    """high and low of all bands; each: the bands as surfaces."""
    room, size = _digit_row(each, bands), bands.size
    spot = replace(each, height=1, width=1, pitch=bands.pitch)
    plain = Stage(add_from_memory=True, data_use=dpu.USE_ALU)
    part = scaling_gain(1 / size, 1)
    high = Stages(bs=plain, out=OutputConverter(0, part.multiplier, part.shift))
    window = Pair(bands.rows, bands.columns)
    tasks = weighted_tasks(context, operation, _geometry(window, window, 1, each.channels), each,
                           replace(spot, address=room), np.ones((window.y, window.x)), 0, high, "high")
    taps = np.ones((bands.rows + 1, bands.columns))
    taps[-1] = 0
    taps[-1, 0] = -size
    window = Pair(bands.rows + 1, bands.columns)
    return tasks + weighted_tasks(context, operation, _geometry(window, window, 1, each.channels), each,
                                  replace(spot, address=room + ATOM_BYTES), taps, 0,
                                  Stages(bs=plain, out=OutputConverter(0)), "low")


def _digit_row(each: FeatureMap, bands: Bands) -> Address:
    return each.address + bands.size * ATOM_BYTES
