"""What the compiled kernels need that follows from the registers alone: filled once for each decoded task.

No memory is looked at here, and none is kept: pointers into it are set at every run (fast.py).
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cermet.sim.cna import ConvShape, ceil_div, window_size
from cermet.sim.core_mac import CoreSettings
from cermet.sim.dpu import ATOM_BYTES, Dpu
from cermet.sim.dpu_run import written_size
from cermet.sim.kernels import EW_ADD, EW_MAX, EW_MIN, EW_MUL, EW_NONE, ffi, pointer
from cermet.sim.memory import Block, block_at, is_nested
from cermet.sim.rdma import COMB_SAME_DATA, CubeReader, Rdma
from cermet.sim.rounding import INT32_MIN
from cermet.sim.stages import EW_ADD as ALGO_ADD
from cermet.sim.stages import EW_MAX as ALGO_MAX
from cermet.sim.stages import EW_MIN as ALGO_MIN
from cermet.sim.stages import EW_MINUS as ALGO_MINUS
from cermet.sim.stages import EwStage, LinearStage, convert_operand

CHUNK_MACS = 1 << 27                # work between two looks at cancelled(), some 10 ms
MIN_PIXELS = 64                     # fewer per call: a call does one kernel group instead of all
KERNEL_GROUP = 32
MAX_EW_FACTOR = 1 << 22             # int32 times this stays below 2**53
BYTE_VALUES = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int64)
EW_KINDS = {ALGO_ADD: EW_ADD, ALGO_MINUS: EW_ADD, ALGO_MAX: EW_MAX, ALGO_MIN: EW_MIN}

POST, SURFACES = ffi.typeof("struct cermet_sim_post *"), ffi.typeof("struct cermet_sim_surfaces *")
FILL, CONV = ffi.typeof("struct cermet_sim_fill *"), ffi.typeof("struct cermet_sim_conv *")
WEIGHTS = ffi.typeof("struct cermet_sim_weights *")


class Surfaces:
    """A struct cermet_sim_surfaces but for its bases, and where those lie: (odd, block of bytes, reader)."""

    def __init__(self, target: Any, dpu: Dpu) -> None:
        self.parts: list[tuple[int, Block, CubeReader]] = []
        self._target, self._dpu = target, dpu

    def add(self, odd: int, reader: CubeReader, count: int, step: int) -> None:
        if not count:
            return
        strides = (reader.surface_bytes * step, reader.line_bytes, 1)
        shape = (count, self._dpu.height, self._dpu.width * ATOM_BYTES)
        self._target.step[odd], self._target.line[odd] = strides[:2]
        self.parts.append((odd, block_at(reader.address, shape, strides), reader))

    def add_pair(self, reader: CubeReader) -> None:
        """Consecutive surfaces as the even and odd halves of one reader."""
        surfaces = ceil_div(self._dpu.channels, ATOM_BYTES)
        second = CubeReader(reader.address + reader.surface_bytes, reader.line_bytes, reader.surface_bytes)
        self.add(0, reader, ceil_div(surfaces, 2), 2)
        self.add(1, second, surfaces // 2, 2)


class PostForm:
    """A struct cermet_sim_post but for what comes from memory and tables. usable: the kernels can do it exactly."""

    def __init__(self, dpu: Dpu, rdma: Rdma | None, settings: CoreSettings | None) -> None:
        """Raises Hang when the outputs do not fit what is to be written."""
        self.dpu = dpu
        surfaces = ceil_div(dpu.channels, ATOM_BYTES)
        self.channels = surfaces * ATOM_BYTES
        self.struct = struct = ffi.new(POST)
        if settings is not None:
            struct.truncate, struct.truncate_up = settings.truncate, settings.truncate_up
        self.usable = True
        fill_linear(struct.bs, dpu.bs, False)
        fill_linear(struct.bn, dpu.bn, True)
        self.ew_table: np.ndarray | None = None     # of every byte, where operands of each element come from memory
        self.ew_sources = Surfaces(struct.ew_source, dpu)
        self._fill_ew(dpu.ew, rdma)
        output = dpu.output
        struct.out_scale, struct.out_shift, struct.out_offset = output.scale, output.shift, output.offset
        struct.out_away, struct.out_bytes = output.ties_away, dpu.out_bytes
        self._fill_target(surfaces * dpu.out_bytes)

    def _fill_ew(self, stage: EwStage, rdma: Rdma | None) -> None:
        struct = self.struct
        struct.ew = EW_NONE
        struct.ew_relu, struct.ew_relux, struct.ew_relux_limit = stage.relu, stage.relux, stage.relux_limit
        if not stage.op_on:
            return
        if not stage.multiply and stage.algo not in EW_KINDS:
            self.usable = False
            return
        struct.ew = EW_MUL if stage.multiply else EW_KINDS[stage.algo]
        struct.ew_prelu, struct.ew_shift = stage.prelu, stage.truncate
        struct.ew_shift_negative = stage.truncate_negative
        if rdma is None or not stage.needs_memory or not stage.per_pixel:
            return
        self.ew_table = ew_factors(stage, convert_operand(stage, BYTE_VALUES))
        if self.ew_table is None:
            self.usable = False
            return
        struct.ew_table = pointer(self.ew_table, "int32_t")
        if rdma.comb_use & COMB_SAME_DATA:
            surfaces = self.channels // ATOM_BYTES
            self.ew_sources.add(0, rdma.main, ceil_div(surfaces, 2), 1)
            self.ew_sources.add(1, rdma.operand, surfaces // 2, 1)
        else:
            self.ew_sources.add_pair(rdma.ew_reader)

    def _fill_target(self, surfaces: int) -> None:
        """Where outputs go if that is one mapping."""
        dpu, struct, writer = self.dpu, self.struct, self.dpu.writer
        self.surfaces = surfaces
        self.is_renested = written_size(dpu, surfaces) != (surfaces, dpu.height, dpu.width)
        per_group = writer.surfaces_per_group
        shape = (surfaces // per_group, per_group, dpu.height, dpu.width, ATOM_BYTES)
        strides = (writer.group_bytes, writer.surface_bytes, writer.line_bytes, ATOM_BYTES, 1)
        self.target = block_at(writer.address, shape, strides)
        if not self.is_renested and not is_nested(shape, strides):
            self.usable = False         # outputs on outputs: it is the plain form's order that says which are left
        struct.group_bytes, struct.surface_bytes, struct.line_bytes = strides[:3]
        struct.surfaces_per_group = per_group

    def overlaps(self, sources: Surfaces) -> bool:
        """Outputs land on operands still to be read, other than exactly in place."""
        writer, target = self.dpu.writer, self.target
        for _, block, reader in sources.parts:
            in_place = (reader.line_bytes == writer.line_bytes and block.low == target.low
                        and block.high == target.high)
            if block.low < target.high and target.low < block.high and not in_place:
                return True
        return False


def fill_linear(target: Any, stage: LinearStage, multiply_first: bool) -> None:
    """All but the operands."""
    target.multiply_first, target.prelu = multiply_first, stage.prelu
    target.shift, target.shift_negative = stage.shift, stage.shift_negative
    target.relu, target.relux, target.relux_limit = stage.relu, stage.relux, stage.relux_limit


def ew_factors(stage: EwStage, values: np.ndarray) -> np.ndarray | None:
    """Converted operands as the kernels take them; None when these could not compute with them exactly."""
    if stage.multiply and np.abs(values).max(initial=0) >= MAX_EW_FACTOR:
        return None
    if not stage.multiply and stage.algo == ALGO_MINUS:
        values = np.where(values == INT32_MIN, values, -values)
    return values.astype(np.int32)


class ConvForm:
    """A convolution's structs but for pointers and the features' layout."""

    def __init__(self, shape: ConvShape, settings: CoreSettings, dpu: Dpu, rdma: Rdma | None) -> None:
        self.shape = shape
        self.post = PostForm(dpu, rdma, settings)
        self.usable = self.post.usable and not self.post.overlaps(self.post.ew_sources)
        rows, columns = window_size(shape)
        taps = shape.kernel_width * shape.kernel_height
        groups = 1 if shape.depthwise else ceil_div(shape.kernels, KERNEL_GROUP) * KERNEL_GROUP
        self.window_shape = (rows, columns, shape.channels)
        self.packed_size = groups * taps * shape.channels
        self.fill, self.weights, self.conv = ffi.new(FILL), ffi.new(WEIGHTS), ffi.new(CONV)
        self._fill_structs(rows, columns, taps)

    def _fill_structs(self, rows: int, columns: int, taps: int) -> None:
        shape, dpu = self.shape, self.post.dpu
        fill, weights, conv = self.fill, self.weights, self.conv
        fill.height, fill.width, fill.channels = shape.height, shape.width, shape.channels
        fill.rows, fill.columns = rows, columns
        fill.pad_top, fill.pad_left = shape.pad_top, shape.pad_left
        fill.spread_y, fill.spread_x = shape.deconv_y, shape.deconv_x
        weights.kernels, weights.channels, weights.taps = shape.kernels, shape.channels, taps
        weights.depthwise = conv.depthwise = shape.depthwise
        conv.window_width, conv.channels = columns, shape.channels
        conv.out_width, conv.out_channels = dpu.width, dpu.channels
        conv.kernel_width, conv.kernel_height = shape.kernel_width, shape.kernel_height
        conv.stride_x, conv.stride_y = shape.stride_x, shape.stride_y
        conv.dilation_x, conv.dilation_y = shape.dilation_x, shape.dilation_y

    def calls(self) -> Iterator[tuple[int, int, int, int]]:
        """(first pixel, last pixel, first channel, last channel) of calls that do some CHUNK_MACS each."""
        shape, dpu = self.shape, self.post.dpu
        pixels, channels = dpu.width * dpu.height, dpu.channels
        kernel_bytes = shape.kernel_width * shape.kernel_height * shape.channels
        step = max(1, CHUNK_MACS // (kernel_bytes * (1 if shape.depthwise else channels)))
        portion = channels
        if not shape.depthwise and step < MIN_PIXELS:
            step, portion = max(1, CHUNK_MACS // (kernel_bytes * KERNEL_GROUP)), KERNEL_GROUP
        for first in range(0, channels, portion):
            for pixel in range(0, pixels, step):
                yield pixel, min(pixels, pixel + step), first, first + portion


class FlyingForm:
    """The structs of a task without CORE but for pointers. Without un-pooling."""

    def __init__(self, dpu: Dpu, rdma: Rdma) -> None:
        self.post = PostForm(dpu, rdma, None)
        self.source = ffi.new(SURFACES)
        self.sources = Surfaces(self.source, dpu)
        self.sources.add_pair(rdma.main)
        self.usable = self.post.usable and not (self.post.overlaps(self.post.ew_sources)
                                                or self.post.overlaps(self.sources))
