"""The same tasks as dpu_run.run_conv and run_flying, by the compiled kernels.

Functions return False when a task is outside what the kernels do exactly; the plain form then runs it.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from cermet.sim.cna import Features, pad_lanes
from cermet.sim.decode import ConvTask, FlyingTask
from cermet.sim.dpu import ATOM_BYTES
from cermet.sim.dpu_run import Pipeline, Sink
from cermet.sim.forms import CONV, FILL, POST, SURFACES, WEIGHTS, ConvForm, PostForm, Surfaces, ew_factors
from cermet.sim.kernels import fast_library, ffi, pointer
from cermet.sim.lut import Lut
from cermet.sim.memory import AddressSpace
from cermet.sim.outcome import Cancelled
from cermet.sim.rdma import Operands
from cermet.sim.rounding import INT32_MIN
from cermet.sim.stages import LinearStage, convert_operand

CHUNK_ELEMENTS = 1 << 22
MAX_SCRATCH_BYTES = 1 << 24         # stored line by line at the end: up to a million lines


class Post:
    """A filled struct cermet_sim_post, and what it points to."""

    def __init__(self, form: PostForm) -> None:
        self.form = form
        self.struct = ffi.new(POST, form.struct[0])
        self.scratch: np.ndarray | None = None
        self.kept: list[np.ndarray] = []

    def keep(self, array: np.ndarray, kind: str) -> Any:
        self.kept.append(array)
        return pointer(array, kind)

    def fill_stages(self, pipeline: Pipeline, space: AddressSpace) -> bool:
        dpu = self.form.dpu
        return (self._fill_linear(self.struct.bs, dpu.bs, pipeline.bs_operands)
                and self._fill_linear(self.struct.bn, dpu.bn, pipeline.bn_operands)
                and self._fill_lut(pipeline.lut) and self._fill_ew(pipeline)
                and self.fill_surfaces(self.struct.ew_source, self.form.ew_sources, space))

    def _fill_linear(self, target: Any, stage: LinearStage, operands: Operands) -> bool:
        channels = self.form.channels
        if stage.alu_on:
            addend = _vector(stage.alu_from_memory, operands.alu, stage.alu_operand, channels)
            if stage.alu_subtract:
                if (addend == INT32_MIN).any():
                    return False
                addend = -addend
            target.alu = self.keep(addend, "int32_t")
        if stage.mul_on:
            factor = _vector(stage.mul_from_memory, operands.mul, stage.mul_operand, channels)
            target.mul = self.keep(factor, "int32_t")
        return True

    def _fill_lut(self, lut: Lut | None) -> bool:
        if lut is None:
            return True
        dense = lut.dense()
        if dense is None:
            return False
        first, values = dense
        self.struct.lut = self.keep(values, "int32_t")
        self.struct.lut_low, self.struct.lut_high = first, first + len(values) - 1
        return True

    def _fill_ew(self, pipeline: Pipeline) -> bool:
        stage, operand, channels = self.form.dpu.ew, pipeline.ew_operand, self.form.channels
        if not stage.op_on or self.form.ew_table is not None:
            return True
        if operand is None or operand.vector is None:
            values = np.full(channels, stage.register_operand, np.int64)
        else:
            values = convert_operand(stage, np.resize(operand.vector, channels))
        factors = ew_factors(stage, values)
        if factors is None:
            return False
        self.struct.ew_vector = self.keep(factors, "int32_t")
        return True

    def fill_surfaces(self, target: Any, surfaces: Surfaces, space: AddressSpace) -> bool:
        for odd, block, _ in surfaces.parts:
            view = space.view(block)
            if view is None:
                return False
            target.base[odd] = self.keep(view, "int8_t")
        return True

    def fill_target(self, space: AddressSpace) -> bool:
        """Straight to memory, or to a copy that finish() stores."""
        form, struct = self.form, self.struct
        block = None if form.is_renested else space.view(form.target)
        if block is None:
            if prod(form.target.shape) > MAX_SCRATCH_BYTES:
                return False
            self.scratch = block = np.zeros(form.target.shape, np.uint8)
            struct.group_bytes, struct.surface_bytes, struct.line_bytes = block.strides[:3]
        struct.target = self.keep(block, "int8_t")
        return True

    def finish(self, space: AddressSpace) -> None:
        if self.scratch is None:
            return
        groups, per_group, rows, width, _ = self.scratch.shape
        block = self.scratch.transpose(2, 3, 0, 1, 4).reshape(rows, width, groups * per_group * ATOM_BYTES)
        sink = Sink(self.form.dpu, space, self.form.surfaces)
        sink.put(0, 0, block.view(np.int8))
        sink.finish()


def _vector(from_memory: bool, operand: np.ndarray | None, register: int, channels: int) -> np.ndarray:
    """int32 of every channel: what memory gave, or else the register's value."""
    if from_memory and operand is not None:
        return operand
    return _constant(register, channels)


@functools.lru_cache(64)
def _constant(value: int, channels: int) -> np.ndarray:
    full = np.full(channels, value, np.int32)
    full.flags.writeable = False
    return full


def run_conv(task: ConvTask, features: Features, weights: np.ndarray, pipeline: Pipeline, space: AddressSpace,
             cancelled: Callable[[], bool]) -> bool:
    """weights: uint8, as in memory."""
    lib = fast_library()
    if lib is None:
        return False
    form = task.form
    if not form.usable:
        return False
    post = Post(form.post)
    if not (post.fill_stages(pipeline, space) and post.fill_target(space)):
        return False
    _fill_offsets(post, task, pipeline)
    conv = _make_conv(lib, form, features, weights, post)
    for call in form.calls():
        if cancelled():
            raise Cancelled
        lib.cermet_sim_conv(conv, post.struct, *call)
    post.finish(space)
    return True


def _fill_offsets(post: Post, task: ConvTask, pipeline: Pipeline) -> None:
    """Weight zero points, unless all are 0."""
    dpu = task.dpu
    if dpu.no_offset_term or not task.settings.sum_inputs:
        return
    memory = pipeline.bs_operands.cpend
    offsets = _vector(dpu.offset_from_memory, memory, dpu.offset_operand, post.form.channels)
    if offsets.any():
        post.struct.weight_offset = post.keep(offsets, "int32_t")


def _make_conv(lib: Any, form: ConvForm, features: Features, weights: np.ndarray, post: Post) -> Any:
    fill, stored, conv = ffi.new(FILL, form.fill[0]), ffi.new(WEIGHTS, form.weights[0]), ffi.new(CONV, form.conv[0])
    fill.source = post.keep(features.data, "int8_t")
    fill.row_step, fill.column_step, fill.surface_step = features.row_step, features.column_step, features.surface_step
    fill.lanes = post.keep(pad_lanes(form.shape), "int8_t")
    conv.window = window = post.keep(np.empty(form.window_shape, np.int16), "int16_t")
    conv.weights = stored.packed = post.keep(np.empty(form.packed_size, np.int16), "int16_t")
    stored.stored = post.keep(weights, "int8_t")
    sums = ffi.NULL
    if post.struct.weight_offset != ffi.NULL and not form.shape.depthwise:
        sums = conv.input_sums = post.keep(np.empty(form.window_shape[:2], np.int32), "int32_t")
    lib.cermet_sim_prepare(fill, stored, window, sums)
    return conv


def run_flying(task: FlyingTask, pipeline: Pipeline, space: AddressSpace, cancelled: Callable[[], bool]) -> bool:
    """Without un-pooling."""
    lib = fast_library()
    if lib is None:
        return False
    form, dpu = task.form, task.dpu
    if not form.usable:
        return False
    post, source = Post(form.post), ffi.new(SURFACES, form.source[0])
    if not (post.fill_stages(pipeline, space) and post.fill_surfaces(source, form.sources, space)
            and post.fill_target(space)):
        return False
    step = max(1, CHUNK_ELEMENTS // (dpu.width * ATOM_BYTES))
    for surface in range(-(-dpu.channels // ATOM_BYTES)):
        for row in range(0, dpu.height, step):
            if cancelled():
                raise Cancelled
            lib.cermet_sim_flying_rows(source, post.struct, dpu.width, row, min(dpu.height, row + step), surface,
                                       surface + 1)
    post.finish(space)
    return True
