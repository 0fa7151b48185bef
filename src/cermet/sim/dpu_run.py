"""DPU: takes CORE's results or a cube from memory through its stages, and writes them. Writer: data layouts §4."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from cermet.sim.core_mac import Convolution
from cermet.sim.dpu import ATOM_BYTES, OUT_INT32, Dpu
from cermet.sim.dpu_checks import check_ew_operand
from cermet.sim.lut import Lut, LutState, decode_lut
from cermet.sim.memory import AddressSpace
from cermet.sim.outcome import Cancelled, Hang, TaskOutcome
from cermet.sim.rdma import COMB_SAME_DATA, NO_OPERANDS, Operands, Rdma, read_operands
from cermet.sim.registers import Snapshot
from cermet.sim.stages import apply_bn, apply_bs, apply_ew, apply_output

CHUNK_ELEMENTS = 1 << 20            # work between two looks at cancelled()
MAX_OUTPUT_BYTES = 1 << 25          # of a re-nested write, which is collected before it is stored


class EwOperand:
    """Second operand from memory, per channel or per element."""

    def __init__(self, dpu: Dpu, rdma: Rdma, space: AddressSpace, outcome: TaskOutcome) -> None:
        self.rdma, self.space, self.width = rdma, space, dpu.width
        self.vector: np.ndarray | None = None
        self.shared = rdma.comb_use & COMB_SAME_DATA
        self.reader = rdma.operand
        if not dpu.ew.per_pixel:
            self.vector = self._read_vector(dpu.channels, outcome)
        elif not self.shared:
            if rdma.ew_surface_stride != rdma.operand.surface_bytes and dpu.channels > ATOM_BYTES:
                outcome.warn("rdma.ew_surf_stride", f"DPU_RDMA.RDMA_EW_SURF_STRIDE: {rdma.ew_surface_stride} bytes, "
                             f"cube and EW_SURF_NOTCH say {rdma.operand.surface_bytes}; the stride is ASSUMED to win")
            self.reader = rdma.ew_reader

    def _read_vector(self, channels: int, outcome: TaskOutcome) -> np.ndarray:
        if self.rdma.ew_surface_stride != ATOM_BYTES:
            outcome.warn("rdma.ew_vector_stride", f"DPU_RDMA.RDMA_EW_SURF_STRIDE: {self.rdma.ew_surface_stride} bytes "
                         "must be 16 for a per-channel operand; zeros are read instead")
            return np.zeros(channels, np.int64)
        return self.space.read(self.rdma.operand.address, channels).view(np.int8).astype(np.int64)

    def block(self, first_row: int, last_row: int, first: int, last: int) -> np.ndarray:
        """int64, broadcastable to [rows][columns][channels first*16..last*16)."""
        if self.vector is not None:
            return self.vector[first * ATOM_BYTES:last * ATOM_BYTES]
        if not self.shared:
            atoms = self.reader.block(self.space, self.width, first_row, last_row, first, last)
            return as_channels(atoms)
        atoms = np.empty((last - first, last_row - first_row, self.width, ATOM_BYTES), np.int8)
        for surface in range(first, last):
            reader = self.rdma.operand if surface & 1 else self.rdma.main
            atoms[surface - first] = reader.block(self.space, self.width, first_row, last_row, surface // 2,
                                                  surface // 2 + 1)[0]
        return as_channels(atoms)


def as_channels(atoms: np.ndarray) -> np.ndarray:
    """[surfaces][rows][columns][16] to int64 [rows][columns][channels]."""
    surfaces, rows, columns, width = atoms.shape
    return atoms.transpose(1, 2, 0, 3).reshape(rows, columns, surfaces * width).astype(np.int64)


@dataclass
class Pipeline:
    """Everything that turns a block of values into a block of outputs."""

    dpu: Dpu
    bs_operands: Operands
    bn_operands: Operands
    lut: Lut | None
    ew_operand: EwOperand | None

    def _pick(self, from_memory: bool, operands: np.ndarray | None, register: int, channels: slice) -> np.ndarray | int:
        return operands[channels].astype(np.int64) if from_memory and operands is not None else register

    def apply(self, value: np.ndarray, first_row: int, last_row: int, first: int, last: int) -> np.ndarray:
        """int64 [rows][columns][channels] of surfaces first..last (16 channels each)."""
        dpu, channels = self.dpu, slice(first * ATOM_BYTES, last * ATOM_BYTES)
        bs, bn = self.bs_operands, self.bn_operands
        value = apply_bs(value, dpu.bs, self._pick(dpu.bs.alu_from_memory, bs.alu, dpu.bs.alu_operand, channels),
                         self._pick(dpu.bs.mul_from_memory, bs.mul, dpu.bs.mul_operand, channels))
        value = apply_bn(value, dpu.bn, self._pick(dpu.bn.alu_from_memory, bn.alu, dpu.bn.alu_operand, channels),
                         self._pick(dpu.bn.mul_from_memory, bn.mul, dpu.bn.mul_operand, channels))
        operand = self.ew_operand.block(first_row, last_row, first, last) if self.ew_operand else None
        value = apply_ew(value, dpu.ew, self.lut, operand)
        return apply_output(value, dpu.output)


def make_pipeline(snapshot: Snapshot, dpu: Dpu, rdma: Rdma | None, rdma_registers: Snapshot | None,
                  lut_state: LutState, space: AddressSpace, base: int, outcome: TaskOutcome) -> Pipeline:
    """Read the per-channel operands. Raises Hang and IommuFault."""
    bs_operands = bn_operands = NO_OPERANDS
    ew_operand = None
    channels = -(-dpu.channels // ATOM_BYTES) * ATOM_BYTES
    if rdma is not None and rdma_registers is not None:
        bs_operands = read_operands(space, rdma_registers("RDMA_BS_BASE_ADDR.BS_BASE_ADDR") + base, rdma.brdma_use,
                                    channels, "BRDMA")
        bn_operands = read_operands(space, rdma_registers("RDMA_BN_BASE_ADDR.BN_BASE_ADDR") + base, rdma.nrdma_use,
                                    channels, "NRDMA")
        if dpu.ew.needs_memory:
            check_ew_operand(dpu, snapshot("EW_CFG.EW_DATA_MODE"), snapshot("EW_CFG.EDATA_SIZE"), rdma, outcome)
            ew_operand = EwOperand(dpu, rdma, space, outcome)
    if dpu.ew.op_on and not dpu.ew.from_memory:
        others = {snapshot(f"EW_OP_VALUE_{i}.EW_OPERAND_{i}") for i in range(1, 8)} - {0}
        if others - {snapshot("EW_OP_VALUE_0.EW_OPERAND_0")}:
            outcome.warn("dpu.ew_registers", "DPU.EW_OP_VALUE_1..7: differ from EW_OP_VALUE_0, which alone is ASSUMED "
                         "to be used")
    lut = decode_lut(snapshot, lut_state, outcome) if dpu.ew.lut_on else None
    return Pipeline(dpu, bs_operands, bn_operands, lut, ew_operand)


def run_conv(dpu: Dpu, pipeline: Pipeline, source: Convolution, space: AddressSpace,
             cancelled: Callable[[], bool]) -> None:
    """Plain form: NumPy all the way."""
    offsets: np.ndarray | int | None = None
    if not dpu.no_offset_term:
        memory = pipeline.bs_operands.cpend
        offsets = memory.astype(np.int64) if dpu.offset_from_memory and memory is not None else dpu.offset_operand
    sink = Sink(dpu, space, dpu.channels * dpu.out_bytes // ATOM_BYTES)
    step = max(1, CHUNK_ELEMENTS // (dpu.width * max(dpu.channels, source.shape.channels)))
    surfaces = dpu.channels // ATOM_BYTES
    for row in range(0, dpu.height, step):
        if cancelled():
            raise Cancelled
        last = min(dpu.height, row + step)
        value = pipeline.apply(source.values(row, last, offsets), row, last, 0, surfaces)
        sink.put(row, 0, value.astype(np.int32 if dpu.out_precision == OUT_INT32 else np.int8))
    sink.finish()


def run_flying(dpu: Dpu, pipeline: Pipeline, rdma: Rdma, space: AddressSpace, cancelled: Callable[[], bool]) -> None:
    """MRDMA to memory; un-pooling repeats pixels along the line and hands line copies over as extra surfaces."""
    surfaces = -(-dpu.channels // ATOM_BYTES)
    sink = Sink(dpu, space, surfaces * rdma.unpool_height)
    block = max(1, min(surfaces, CHUNK_ELEMENTS // (dpu.width * ATOM_BYTES)))
    step = max(1, CHUNK_ELEMENTS // (dpu.width * block * ATOM_BYTES))
    for first in range(0, surfaces, block):
        last = min(surfaces, first + block)
        for row in range(0, dpu.height, step):
            if cancelled():
                raise Cancelled
            last_row = min(dpu.height, row + step)
            value = as_channels(rdma.main.block(space, rdma.width, row, last_row, first, last))
            value = np.repeat(value, rdma.unpool_width, axis=1)
            result = pipeline.apply(value, row, last_row, first, last).astype(np.int8)
            sink.put(row, first * rdma.unpool_height, repeat_surfaces(result, rdma.unpool_height))
    sink.finish()


def repeat_surfaces(block: np.ndarray, times: int) -> np.ndarray:
    """Each 16-channel surface of [rows][columns][channels], times in a row."""
    if times == 1:
        return block
    rows, columns, channels = block.shape
    return np.repeat(block.reshape(rows, columns, channels // ATOM_BYTES, ATOM_BYTES), times, axis=2).reshape(
        rows, columns, channels * times)


def written_size(dpu: Dpu, surfaces: int) -> tuple[int, int, int]:
    """Surfaces, rows and columns as the write DMA counts them. Raises Hang when the totals differ."""
    writer = dpu.writer
    own_surfaces = writer.channels * dpu.out_bytes / ATOM_BYTES * (surfaces / max(1, -(
        -dpu.channels * dpu.out_bytes // ATOM_BYTES)))
    own_size = (int(own_surfaces), writer.height, writer.width)
    is_whole = not (own_surfaces % writer.surfaces_per_group or surfaces % writer.surfaces_per_group)
    if not is_whole or prod(own_size) != surfaces * dpu.height * dpu.width:
        raise Hang("dpu.wdma_size", f"DPU.WDMA_SIZE: {writer.width}x{writer.height}x{writer.channels} must hold as "
                   f"many atoms as the cube {dpu.width}x{dpu.height}x{dpu.channels}")
    return own_size


class Sink:
    """The write DMA. Results arrive in the order [group][row][column][surface of the group]; the writer counts
    through its own sizes in the same nesting, and only the totals must agree."""

    def __init__(self, dpu: Dpu, space: AddressSpace, surfaces: int) -> None:
        self.writer, self.space = dpu.writer, space
        writer = dpu.writer
        self.own_size = written_size(dpu, surfaces)
        self.collected: np.ndarray | None = None
        if self.own_size != (surfaces, dpu.height, dpu.width):
            total = prod(self.own_size)
            if total * ATOM_BYTES > MAX_OUTPUT_BYTES:
                raise Hang("dpu.wdma_size", f"DPU.WDMA_SIZE: a re-nested write of {total} atoms is more than the "
                           "simulator collects")
            per_group = writer.surfaces_per_group
            self.collected = np.zeros((surfaces // per_group, dpu.height, dpu.width, per_group, ATOM_BYTES), np.uint8)

    def put(self, row: int, surface: int, block: np.ndarray) -> None:
        """block: int8 or int32 [rows][columns][channels], starting at a group's first surface."""
        rows, columns = block.shape[:2]
        per_group = self.writer.surfaces_per_group
        stream = np.ascontiguousarray(block).view(np.uint8).reshape(rows, columns, -1, per_group, ATOM_BYTES)
        stream = stream.transpose(2, 0, 1, 3, 4)
        group = surface // per_group
        if self.collected is not None:
            self.collected[group:group + stream.shape[0], row:row + rows] = stream
            return
        self._store(group, row, stream)

    def finish(self) -> None:
        if self.collected is None:
            return
        surfaces, height, width = self.own_size
        per_group = self.writer.surfaces_per_group
        self._store(0, 0, self.collected.reshape(surfaces // per_group, height, width, per_group, ATOM_BYTES))

    def _store(self, group: int, row: int, stream: np.ndarray) -> None:
        writer = self.writer
        at = writer.address + group * writer.group_bytes + row * writer.line_bytes
        self.space.scatter(at, stream.transpose(0, 3, 1, 2, 4), (
            writer.group_bytes, writer.surface_bytes, writer.line_bytes, ATOM_BYTES, 1))
