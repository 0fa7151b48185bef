"""The same tasks as dpu_run.run_conv and run_flying, by the compiled kernels.

Functions return False when a task is outside what the kernels do exactly; the plain form then runs it.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from cermet.sim.cna import ConvShape, Features, ceil_div, pad_lanes, window_size
from cermet.sim.core_mac import CoreSettings
from cermet.sim.dpu import ATOM_BYTES, Dpu
from cermet.sim.dpu_run import EwOperand, Pipeline, Sink
from cermet.sim.kernels import EW_ADD, EW_MAX, EW_MIN, EW_MUL, EW_NONE, fast_library, ffi, pointer
from cermet.sim.lut import Lut
from cermet.sim.memory import AddressSpace, extent
from cermet.sim.outcome import Cancelled
from cermet.sim.rdma import CubeReader
from cermet.sim.rounding import INT32_MIN
from cermet.sim.stages import EW_ADD as ALGO_ADD
from cermet.sim.stages import EW_MAX as ALGO_MAX
from cermet.sim.stages import EW_MIN as ALGO_MIN
from cermet.sim.stages import EW_MINUS as ALGO_MINUS
from cermet.sim.stages import EwStage, LinearStage, convert_operand

CHUNK_MACS = 1 << 27                # work between two looks at cancelled(), some 10 ms
CHUNK_ELEMENTS = 1 << 22
MIN_PIXELS = 64                     # fewer per call: a call does one kernel group instead of all
KERNEL_GROUP = 32
MAX_EW_FACTOR = 1 << 22             # int32 times this stays below 2**53
MAX_SCRATCH_BYTES = 1 << 24         # stored line by line at the end: up to a million lines
BYTE_VALUES = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int64)


@dataclass
class Post:
    """A filled struct cermet_sim_post, and what it points to."""

    struct: Any
    kept: list[np.ndarray] = field(default_factory=list)
    reads: list[tuple[int, int, CubeReader]] = field(default_factory=list)     # extents of operands in memory

    def keep(self, array: np.ndarray, kind: str) -> Any:
        self.kept.append(array)
        return pointer(array, kind)


def _vector(operand: np.ndarray | int, channels: int) -> np.ndarray:
    if isinstance(operand, np.ndarray):
        return np.ascontiguousarray(operand[:channels], np.int32)
    return np.full(channels, operand, np.int32)


def _fill_linear(post: Post, target: Any, stage: LinearStage, alu: np.ndarray | None, mul: np.ndarray | None,
                 channels: int, multiply_first: bool) -> bool:
    target.alu = target.mul = ffi.NULL
    if stage.alu_on:
        addend = _vector(alu if stage.alu_from_memory and alu is not None else stage.alu_operand, channels)
        if stage.alu_subtract:
            if (addend == INT32_MIN).any():
                return False
            addend = -addend
        target.alu = post.keep(addend, "int32_t")
    if stage.mul_on:
        factor = _vector(mul if stage.mul_from_memory and mul is not None else stage.mul_operand, channels)
        target.mul = post.keep(factor, "int32_t")
    target.multiply_first, target.prelu = multiply_first, stage.prelu
    target.shift, target.shift_negative = stage.shift, stage.shift_negative
    target.relu, target.relux, target.relux_limit = stage.relu, stage.relux, stage.relux_limit
    return True


def _fill_lut(post: Post, lut: Lut | None) -> bool:
    post.struct.lut = ffi.NULL
    if lut is None:
        return True
    dense = lut.dense()
    if dense is None:
        return False
    first, values = dense
    post.struct.lut = post.keep(values, "int32_t")
    post.struct.lut_low, post.struct.lut_high = first, first + len(values) - 1
    return True


def _fill_ew(post: Post, stage: EwStage, operand: EwOperand | None, space: AddressSpace, dpu: Dpu,
             channels: int) -> bool:
    struct = post.struct
    struct.ew = EW_NONE
    struct.ew_table = struct.ew_vector = ffi.NULL
    struct.ew_relu, struct.ew_relux, struct.ew_relux_limit = stage.relu, stage.relux, stage.relux_limit
    if not stage.op_on:
        return True
    kinds = {ALGO_ADD: EW_ADD, ALGO_MINUS: EW_ADD, ALGO_MAX: EW_MAX, ALGO_MIN: EW_MIN}
    if not stage.multiply and stage.algo not in kinds:
        return False
    struct.ew = EW_MUL if stage.multiply else kinds[stage.algo]
    values = _ew_values(stage, operand, channels)
    if stage.multiply and np.abs(values).max(initial=0) >= MAX_EW_FACTOR:
        return False
    if not stage.multiply and stage.algo == ALGO_MINUS:
        values = np.where(values == INT32_MIN, values, -values)
    table = post.keep(values.astype(np.int32), "int32_t")
    struct.ew_prelu, struct.ew_shift, struct.ew_shift_negative = stage.prelu, stage.truncate, stage.truncate_negative
    if operand is None or operand.vector is not None:
        struct.ew_vector = table
        return True
    struct.ew_table = table
    return _fill_ew_source(post, operand, space, dpu)


def _ew_values(stage: EwStage, operand: EwOperand | None, channels: int) -> np.ndarray:
    """Converted operands: per channel, or of every byte value."""
    if operand is None:
        return np.full(channels, stage.register_operand, np.int64)
    if operand.vector is not None:
        return convert_operand(stage, np.resize(operand.vector, channels))
    return convert_operand(stage, BYTE_VALUES)


def _fill_ew_source(post: Post, operand: EwOperand, space: AddressSpace, dpu: Dpu) -> bool:
    surfaces = -(-dpu.channels // ATOM_BYTES)
    if operand.shared:
        readers = [(operand.rdma.main, -(-surfaces // 2)), (operand.rdma.operand, surfaces // 2)]
        for odd, (reader, count) in enumerate(readers):
            if count and not _fill_surfaces(post, post.struct.ew_source, odd, reader, count, 1, space, dpu):
                return False
        return True
    return _fill_plane_pair(post, post.struct.ew_source, operand.reader, surfaces, space, dpu)


def _fill_plane_pair(post: Post, target: Any, reader: CubeReader, surfaces: int, space: AddressSpace,
                     dpu: Dpu) -> bool:
    """Consecutive surfaces as the even and odd halves of one reader."""
    second = CubeReader(reader.address + reader.surface_bytes, reader.line_bytes, reader.surface_bytes)
    return (_fill_surfaces(post, target, 0, reader, -(-surfaces // 2), 2, space, dpu)
            and (surfaces < 2 or _fill_surfaces(post, target, 1, second, surfaces // 2, 2, space, dpu)))


def _fill_surfaces(post: Post, target: Any, odd: int, reader: CubeReader, count: int, step: int,
                   space: AddressSpace, dpu: Dpu) -> bool:
    shape = (count, dpu.height, dpu.width * ATOM_BYTES)
    strides = (reader.surface_bytes * step, reader.line_bytes, 1)
    view = space.window(reader.address, shape, strides)
    if view is None:
        return False
    target.base[odd] = post.keep(view, "int8_t")
    target.step[odd], target.line[odd] = strides[0], strides[1]
    post.reads.append((*extent(reader.address, shape, strides), reader))
    return True


def make_post(dpu: Dpu, pipeline: Pipeline, settings: CoreSettings | None, offsets: np.ndarray | int | None,
              space: AddressSpace) -> Post | None:
    """None when the kernels cannot do this task exactly."""
    channels = -(-dpu.channels // ATOM_BYTES) * ATOM_BYTES
    post = Post(ffi.new("struct cermet_sim_post *"))
    struct = post.struct
    if offsets is not None and settings is not None and settings.sum_inputs and np.any(offsets):
        struct.weight_offset = post.keep(_vector(offsets, channels), "int32_t")
    if settings is not None:
        struct.truncate, struct.truncate_up = settings.truncate, settings.truncate_up
    bs, bn = pipeline.bs_operands, pipeline.bn_operands
    if not (_fill_linear(post, struct.bs, dpu.bs, bs.alu, bs.mul, channels, False)
            and _fill_linear(post, struct.bn, dpu.bn, bn.alu, bn.mul, channels, True)
            and _fill_lut(post, pipeline.lut) and _fill_ew(post, dpu.ew, pipeline.ew_operand, space, dpu, channels)):
        return None
    output = dpu.output
    struct.out_scale, struct.out_shift, struct.out_offset = output.scale, output.shift, output.offset
    struct.out_away, struct.out_bytes = output.ties_away, dpu.out_bytes
    return post


class Target:
    """Where the kernels write: straight to memory, or to a copy that is stored at the end."""

    def __init__(self, dpu: Dpu, space: AddressSpace, post: Post) -> None:
        surfaces = -(-dpu.channels // ATOM_BYTES) * dpu.out_bytes
        self.sink = Sink(dpu, space, surfaces)
        writer = dpu.writer
        per_group = writer.surfaces_per_group
        shape = (surfaces // per_group, per_group, dpu.height, dpu.width, ATOM_BYTES)
        strides = (writer.group_bytes, writer.surface_bytes, writer.line_bytes, ATOM_BYTES, 1)
        self.extent = extent(writer.address, shape, strides)
        self.scratch: np.ndarray | None = None
        block = None if self.sink.renested else space.window(writer.address, shape, strides)
        self.usable = block is not None or prod(shape) <= MAX_SCRATCH_BYTES
        if not self.usable:
            return
        if block is None:
            self.scratch = block = np.zeros(shape, np.uint8)
        post.struct.target = post.keep(block, "int8_t")
        post.struct.group_bytes, post.struct.surface_bytes, post.struct.line_bytes = block.strides[:3]
        post.struct.surfaces_per_group = per_group
        self.shape = shape

    def finish(self) -> None:
        if self.scratch is None:
            return
        groups, per_group, rows, width, _ = self.shape
        block = self.scratch.transpose(2, 3, 0, 1, 4).reshape(rows, width, groups * per_group * ATOM_BYTES)
        self.sink.put(0, 0, block.view(np.int8))
        self.sink.finish()


def overlaps(post: Post, target: Target, dpu: Dpu) -> bool:
    """Outputs land on operands still to be read, other than exactly in place."""
    writer = dpu.writer
    for low, high, reader in post.reads:
        in_place = (reader.line_bytes == writer.line_bytes and low == target.extent[0] and high == target.extent[1])
        if low < target.extent[1] and target.extent[0] < high and not in_place:
            return True
    return False


def run_conv(shape: ConvShape, settings: CoreSettings, features: Features, weights: np.ndarray, dpu: Dpu,
             pipeline: Pipeline, space: AddressSpace, cancelled: Callable[[], bool]) -> bool:
    """weights: uint8, as in memory."""
    lib = fast_library()
    if lib is None:
        return False
    offsets = None if dpu.no_offset_term else _conv_offsets(dpu, pipeline)
    post = make_post(dpu, pipeline, settings, offsets, space)
    if post is None:
        return False
    target = Target(dpu, space, post)
    if not target.usable or overlaps(post, target, dpu):
        return False
    conv = _make_conv(lib, shape, features, weights, dpu, post)
    for first_channel, last_channel, step in _portions(shape, dpu.channels):
        for pixel in range(0, dpu.width * dpu.height, step):
            if cancelled():
                raise Cancelled
            last = min(dpu.width * dpu.height, pixel + step)
            lib.cermet_sim_conv(conv, post.struct, pixel, last, first_channel, last_channel)
    target.finish()
    return True


def _portions(shape: ConvShape, channels: int) -> list[tuple[int, int, int]]:
    """(first channel, last channel, pixels) of calls that do some CHUNK_MACS each."""
    kernel_bytes = shape.kernel_width * shape.kernel_height * shape.channels
    if shape.depthwise or CHUNK_MACS // (kernel_bytes * channels) >= MIN_PIXELS:
        return [(0, channels, max(1, CHUNK_MACS // (kernel_bytes * (1 if shape.depthwise else channels))))]
    step = max(1, CHUNK_MACS // (kernel_bytes * KERNEL_GROUP))
    return [(first, first + KERNEL_GROUP, step) for first in range(0, channels, KERNEL_GROUP)]


def _conv_offsets(dpu: Dpu, pipeline: Pipeline) -> np.ndarray | int:
    memory = pipeline.bs_operands.cpend
    return memory if dpu.offset_from_memory and memory is not None else dpu.offset_operand


def _make_conv(lib: Any, shape: ConvShape, features: Features, weights: np.ndarray, dpu: Dpu, post: Post) -> Any:
    rows, columns = window_size(shape)
    window = np.empty((rows, columns, shape.channels), np.int16)
    fill = ffi.new("struct cermet_sim_fill *")
    fill.source = post.keep(features.data, "int8_t")
    fill.row_step, fill.column_step, fill.surface_step = features.row_step, features.column_step, features.surface_step
    fill.height, fill.width, fill.channels = shape.height, shape.width, shape.channels
    fill.rows, fill.columns = rows, columns
    fill.pad_top, fill.pad_left = shape.pad_top, shape.pad_left
    fill.spread_y, fill.spread_x = shape.deconv_y, shape.deconv_x
    fill.lanes = post.keep(pad_lanes(shape), "int8_t")
    taps = shape.kernel_width * shape.kernel_height
    groups = 1 if shape.depthwise else ceil_div(shape.kernels, KERNEL_GROUP) * KERNEL_GROUP
    packed = np.empty(groups * taps * shape.channels, np.int16)
    stored = ffi.new("struct cermet_sim_weights *")
    stored.stored, stored.packed = pointer(weights, "int8_t"), post.keep(packed, "int16_t")
    stored.kernels, stored.channels, stored.taps = shape.kernels, shape.channels, taps
    stored.depthwise = shape.depthwise
    conv = ffi.new("struct cermet_sim_conv *")
    conv.window, conv.weights = post.keep(window, "int16_t"), stored.packed
    sums = ffi.NULL
    if post.struct.weight_offset != ffi.NULL and not shape.depthwise:
        sums = conv.input_sums = post.keep(np.empty((rows, columns), np.int32), "int32_t")
    lib.cermet_sim_prepare(fill, stored, pointer(window, "int16_t"), sums)
    conv.window_width, conv.channels = columns, shape.channels
    conv.out_width, conv.out_channels = dpu.width, dpu.channels
    conv.kernel_width, conv.kernel_height = shape.kernel_width, shape.kernel_height
    conv.stride_x, conv.stride_y = shape.stride_x, shape.stride_y
    conv.dilation_x, conv.dilation_y = shape.dilation_x, shape.dilation_y
    conv.depthwise = shape.depthwise
    return conv


def run_flying(dpu: Dpu, pipeline: Pipeline, reader: CubeReader, space: AddressSpace,
               cancelled: Callable[[], bool]) -> bool:
    """Without un-pooling."""
    lib = fast_library()
    if lib is None:
        return False
    post = make_post(dpu, pipeline, None, None, space)
    if post is None:
        return False
    source = ffi.new("struct cermet_sim_surfaces *")
    surfaces = -(-dpu.channels // ATOM_BYTES)
    if not _fill_plane_pair(post, source, reader, surfaces, space, dpu):
        return False
    target = Target(dpu, space, post)
    if not target.usable or overlaps(post, target, dpu):
        return False
    step = max(1, CHUNK_ELEMENTS // (dpu.width * ATOM_BYTES))
    for surface in range(surfaces):
        for row in range(0, dpu.height, step):
            if cancelled():
                raise Cancelled
            lib.cermet_sim_flying_rows(source, post.struct, dpu.width, row, min(dpu.height, row + step), surface,
                                       surface + 1)
    target.finish()
    return True
