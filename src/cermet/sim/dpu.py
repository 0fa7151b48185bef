"""DPU: takes CORE's results or a cube from memory through its stages, and writes them.

Checks of execution model §7 that concern the DPU; writer: data layouts §4.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from cermet.sim.core_mac import Convolution
from cermet.sim.lut import Lut, LutState, decode_lut
from cermet.sim.memory import AddressSpace
from cermet.sim.outcome import Cancelled, Hang, TaskOutcome
from cermet.sim.rdma import (
    COMB_SAME_DATA,
    COMB_SHARED,
    NO_OPERANDS,
    PER_CHANNEL,
    PER_PIXEL,
    PRECISION_INT8,
    PRECISION_INT16,
    SIZE_8_BIT,
    USE_ALU,
    USE_CPEND,
    USE_MUL,
    Operands,
    Rdma,
    read_operands,
)
from cermet.sim.registers import Snapshot
from cermet.sim.stages import (
    EwStage,
    LinearStage,
    OutputConverter,
    apply_bn,
    apply_bs,
    apply_ew,
    apply_output,
    decode_ew,
    decode_linear,
    decode_output,
)

ATOM_BYTES = 16
MODE_DIRECT, MODE_DEPTHWISE = 0, 3
OUT_INT8, OUT_INT32 = 0, 4
TO_MEMORY = 2
CHUNK_ELEMENTS = 1 << 20            # work between two looks at cancelled()
MAX_OUTPUT_BYTES = 1 << 25          # of a re-nested write, which is collected before it is stored


@dataclass(frozen=True)
class Writer:
    """WDMA: where the atoms go. Pitches in bytes."""

    address: int
    width: int
    height: int
    channels: int
    line_bytes: int
    surface_bytes: int
    group_bytes: int
    surfaces_per_group: int


@dataclass(frozen=True)
class Dpu:
    """The block's settings."""

    flying: bool
    conv_mode: int
    in_precision: int
    proc_precision: int
    out_precision: int
    width: int
    height: int
    channels: int
    no_offset_term: bool            # OD_BYPASS
    offset_from_memory: bool        # OW_SRC
    offset_operand: int             # OW_OP
    bs: LinearStage
    bn: LinearStage
    ew: EwStage
    output: OutputConverter
    writer: Writer

    @property
    def out_bytes(self) -> int:
        return 4 if self.out_precision == OUT_INT32 else 1


def decode_dpu(dpu: Snapshot, base: int, outcome: TaskOutcome) -> Dpu:
    """Read the registers; raises Hang on what is unsupported whatever the rest says."""
    out_precision = dpu("DATA_FORMAT.OUT_PRECISION")
    if out_precision not in (OUT_INT8, OUT_INT32):
        raise Hang("precision", f"DPU.DATA_FORMAT.OUT_PRECISION: unsupported precision {out_precision}, the simulator "
                   "writes int8 (0) and int32 (4)")
    if dpu("DATA_FORMAT.PROC_PRECISION"):
        raise Hang("precision", f"DPU.DATA_FORMAT.PROC_PRECISION: unsupported precision "
                   f"{dpu('DATA_FORMAT.PROC_PRECISION')}, the simulator does int8 (0)")
    if dpu("FEATURE_MODE_CFG.OUTPUT_MODE") != TO_MEMORY:
        raise Hang("dpu.output_mode", f"DPU.FEATURE_MODE_CFG.OUTPUT_MODE: {dpu('FEATURE_MODE_CFG.OUTPUT_MODE')} is "
                   "unsupported, 2 (memory) is what programs use")
    for field in ("FEATURE_MODE_CFG.TP_EN", "FEATURE_MODE_CFG.RGP_TYPE", "FEATURE_MODE_CFG.NONALIGN",
                  "DATA_FORMAT.MC_SURF_OUT", "BS_OW_CFG.TP_ORG_EN", "BS_OW_CFG.RGP_CNTER"):
        if dpu(field):
            raise Hang("dpu.regroup", f"DPU.{field}: transposed, regrouped and unaligned writes are unsupported")
    notch = dpu("DATA_CUBE_NOTCH_ADDR.NOTCH_ADDR_0")
    if dpu("DATA_CUBE_NOTCH_ADDR.NOTCH_ADDR_1") != notch:
        outcome.warn("dpu.notch", "DPU.DATA_CUBE_NOTCH_ADDR: both halves should carry the same number")
    sizes = {dpu(f"BS_OW_CFG.SIZE_E_{i}") for i in range(3)}
    if len(sizes) != 1:
        raise Hang("dpu.size_e", f"DPU.BS_OW_CFG: SIZE_E fields {sorted(sizes)} must be equal (ASSUMED to hang)")
    wdma_width = dpu("WDMA_SIZE_1.WIDTH_WDMA")
    writer = Writer(
        address=dpu("DST_BASE_ADDR.DST_BASE_ADDR") + base & ~0xF, width=wdma_width,
        height=dpu("WDMA_SIZE_1.HEIGHT_WDMA"), channels=dpu("WDMA_SIZE_0.CHANNEL_WDMA"),
        line_bytes=(wdma_width + notch) * ATOM_BYTES,
        surface_bytes=dpu("DST_SURF_STRIDE.DST_SURF_STRIDE") * ATOM_BYTES,
        group_bytes=dpu("SURFACE_ADD.SURF_ADD") * ATOM_BYTES, surfaces_per_group=sizes.pop())
    return Dpu(
        flying=bool(dpu("FEATURE_MODE_CFG.FLYING_MODE")), conv_mode=dpu("FEATURE_MODE_CFG.CONV_MODE"),
        in_precision=dpu("DATA_FORMAT.IN_PRECISION"), proc_precision=dpu("DATA_FORMAT.PROC_PRECISION"),
        out_precision=out_precision, width=dpu("DATA_CUBE_WIDTH.WIDTH"), height=dpu("DATA_CUBE_HEIGHT.HEIGHT"),
        channels=dpu("DATA_CUBE_CHANNEL.CHANNEL"),
        no_offset_term=bool(dpu("BS_OW_CFG.OD_BYPASS")), offset_from_memory=bool(dpu("BS_OW_CFG.OW_SRC")),
        offset_operand=dpu("BS_OW_OP.OW_OP"),
        bs=decode_linear(dpu, "BS"), bn=decode_linear(dpu, "BN"), ew=decode_ew(dpu),
        output=decode_output(dpu, 32 if out_precision == OUT_INT32 else 8), writer=writer)


# -- checks --------------------------------------------------------------------------------------------------


def check_conv(dpu: Dpu, shape_depthwise: bool, core_size: tuple[int, int, int], rdma: Rdma | None,
               outcome: TaskOutcome, groups: tuple[int, int]) -> None:
    """A DPU fed by CORE. groups: channels per kernel group, direct and depthwise. Raises Hang."""
    if dpu.in_precision:
        raise Hang("precision", f"DPU.DATA_FORMAT.IN_PRECISION: unsupported precision {dpu.in_precision} behind CORE")
    if (dpu.conv_mode == MODE_DEPTHWISE) != shape_depthwise:
        raise Hang("dpu.conv_mode", "DPU.FEATURE_MODE_CFG.CONV_MODE: must agree with CNA (ASSUMED to hang)")
    if rdma is not None and (rdma.conv_mode == MODE_DEPTHWISE) != shape_depthwise:
        raise Hang("rdma.conv_mode", "DPU_RDMA.RDMA_FEATURE_MODE_CFG.CONV_MODE: must agree with CNA (ASSUMED to hang)")
    if (dpu.width, dpu.height, dpu.channels) != core_size:
        raise Hang("dpu.size", f"DPU cube: {dpu.width}x{dpu.height}x{dpu.channels} must be CORE's "
                   f"{core_size[0]}x{core_size[1]}x{core_size[2]} (ASSUMED to hang)")
    group = groups[1] if shape_depthwise else groups[0]
    if dpu.channels % group:
        raise Hang("dpu.partial_group", f"DPU cube: {dpu.channels} programmed channels must be a multiple of {group}; "
                   "the last kernel group never completes")
    if shape_depthwise and dpu.out_precision == OUT_INT32:
        raise Hang("dpu.depthwise_int32", "DPU.DATA_FORMAT.OUT_PRECISION: raw int32 of a depthwise convolution is "
                   "unsupported (Q-L4)")
    surfaces = group * dpu.out_bytes // ATOM_BYTES
    if dpu.writer.surfaces_per_group != surfaces:
        raise Hang("dpu.size_e", f"DPU.BS_OW_CFG.SIZE_E: {dpu.writer.surfaces_per_group - 1} must be {surfaces - 1}, "
                   "the surfaces per kernel group minus 1")
    _check_conv_rdma(dpu, rdma, outcome)


def _check_conv_rdma(dpu: Dpu, rdma: Rdma | None, outcome: TaskOutcome) -> None:
    wants_ew = dpu.ew.needs_memory
    if rdma is None:
        if wants_ew:
            raise Hang("rdma.off", "DPU.EW_CFG: the operand comes from memory but DPU_RDMA was not started")
        return
    if rdma.flying:
        raise Hang("rdma.flying", "DPU_RDMA.RDMA_FEATURE_MODE_CFG.FLYING_MODE: must be 0 behind CORE (ASSUMED to hang)")
    if rdma.mrdma_on and not (wants_ew and dpu.ew.per_pixel and rdma.comb_use == COMB_SHARED):
        raise Hang("rdma.mrdma_on", "DPU_RDMA.RDMA_FEATURE_MODE_CFG.MRDMA_DISABLE: MRDMA must be disabled in a "
                   "convolution without a fused add (COMB_USE 5)")
    if wants_ew and dpu.ew.per_pixel and not rdma.mrdma_on:
        raise Hang("rdma.comb_use", "DPU_RDMA: a fused add without MRDMA sharing (COMB_USE 5) is in no known program "
                   "(ASSUMED to hang)")


def check_flying(dpu: Dpu, rdma: Rdma | None, outcome: TaskOutcome) -> Dpu:
    """A DPU fed by MRDMA. Raises Hang. The stream's size is MRDMA's: the result is the DPU with that size.

    A vendor program leaves a larger size in the DPU's cube registers, so these do not decide.
    """
    if rdma is None or not rdma.mrdma_on or not rdma.flying:
        raise Hang("rdma.off", "DPU.FEATURE_MODE_CFG.FLYING_MODE: 1, but MRDMA does not deliver")
    if dpu.out_precision != OUT_INT8 or rdma.proc_precision:
        raise Hang("precision", "DPU: unsupported precision in flying mode, the simulator does int8 to int8")
    if rdma.in_precision != dpu.in_precision or dpu.in_precision not in (PRECISION_INT8, PRECISION_INT16):
        raise Hang("precision", f"DPU_RDMA.RDMA_FEATURE_MODE_CFG.IN_PRECISION: unsupported precision "
                   f"{rdma.in_precision} (DPU says {dpu.in_precision})")
    if dpu.in_precision == PRECISION_INT16 and not is_raw_copy(dpu):
        raise Hang("precision", "DPU.DATA_FORMAT.IN_PRECISION: unsupported precision, int16 only as a raw copy")
    if rdma.comb_use & COMB_SAME_DATA and dpu.ew.needs_memory:
        raise Hang("rdma.comb_use_flying", "DPU_RDMA.RDMA_FEATURE_MODE_CFG.COMB_USE: bit 0 must be 0 in a flying "
                   "integer EW")
    if dpu.offset_from_memory and not dpu.no_offset_term and not rdma.brdma_use & USE_CPEND:
        raise Hang("rdma.ow_src", "DPU.BS_OW_CFG.OW_SRC: 1, but no operand is delivered")
    raw_scale = 2 if dpu.in_precision == PRECISION_INT16 else 1
    main = (rdma.width * rdma.unpool_width, rdma.height, rdma.channels * raw_scale)
    if main != (dpu.width, dpu.height, dpu.channels):
        outcome.warn("rdma.size", f"DPU_RDMA cube: {main[0]}x{main[1]}x{main[2]} differs from the DPU's {dpu.width}x"
                     f"{dpu.height}x{dpu.channels}; MRDMA's is used")
    if dpu.writer.surfaces_per_group != rdma.unpool_height:
        raise Hang("dpu.size_e", f"DPU.BS_OW_CFG.SIZE_E: {dpu.writer.surfaces_per_group - 1} must be "
                   f"{rdma.unpool_height - 1} in flying mode")
    if rdma.unpool_height > 1 and dpu.ew.needs_memory:
        raise Hang("rdma.unpool_ew", "DPU_RDMA: un-pooling with a second operand is in no known program "
                   "(ASSUMED to hang)")
    return replace(dpu, width=main[0], height=main[1], channels=main[2])


def is_raw_copy(dpu: Dpu) -> bool:
    """Nothing on the way changes a value."""
    return (dpu.bs.is_identity and dpu.bn.is_identity and dpu.ew.is_identity and dpu.output.scale == 1
            and dpu.output.shift == 0 and dpu.output.offset == 0)


def check_operands(dpu: Dpu, rdma: Rdma | None, fed_by_core: bool) -> None:
    """Stages that want memory operands must get them. Raises Hang."""
    brdma = rdma.brdma_use if rdma else 0
    wants_offset = fed_by_core and dpu.offset_from_memory and not dpu.no_offset_term
    for wants, bit, name in ((dpu.bs.alu_on and dpu.bs.alu_from_memory, USE_ALU, "BS_CFG.BS_ALU_SRC"),
                             (dpu.bs.mul_on and dpu.bs.mul_from_memory, USE_MUL, "BS_MUL_CFG.BS_MUL_SRC"),
                             (wants_offset, USE_CPEND, "BS_OW_CFG.OW_SRC")):
        if wants and not brdma & bit:
            raise Hang("rdma.bs_operand", f"DPU.{name}: wants a memory operand that BRDMA does not deliver (DATA_USE "
                       f"{brdma})")
    nrdma = rdma.nrdma_use if rdma else 0
    for wants, bit, name in ((dpu.bn.alu_on and dpu.bn.alu_from_memory, USE_ALU, "BN_CFG.BN_ALU_SRC"),
                             (dpu.bn.mul_on and dpu.bn.mul_from_memory, USE_MUL, "BN_MUL_CFG.BN_MUL_SRC")):
        if wants and not nrdma & bit:
            raise Hang("rdma.bn_operand", f"DPU.{name}: wants a memory operand that NRDMA does not deliver (DATA_USE "
                       f"{nrdma})")


def check_ew_operand(dpu: Dpu, ew_data_mode: int, edata_size: int, rdma: Rdma, outcome: TaskOutcome) -> None:
    """Second operand from memory. Raises Hang."""
    if not rdma.erdma_on:
        raise Hang("rdma.erdma_off", "DPU.EW_CFG.EW_OP_SRC: 1, but ERDMA is disabled")
    if ew_data_mode not in (PER_CHANNEL, PER_PIXEL) or rdma.erdma_mode != ew_data_mode:
        raise Hang("rdma.data_mode", f"DPU_RDMA.RDMA_ERDMA_CFG.ERDMA_DATA_MODE: {rdma.erdma_mode} and EW_DATA_MODE "
                   f"{ew_data_mode} must be equal, 0 or 1 (ASSUMED to hang)")
    if edata_size != SIZE_8_BIT or rdma.erdma_size != SIZE_8_BIT:
        raise Hang("precision", f"DPU.EW_CFG.EDATA_SIZE: unsupported precision, sizes {edata_size} and "
                   f"{rdma.erdma_size} must be 1 (8 bit)")
    if rdma.erdma_reserved:
        raise Hang("rdma.erdma_mode", "DPU_RDMA.RDMA_ERDMA_CFG: surface mode and non-aligned reads are unsupported")
    if rdma.width != dpu.width or rdma.height != dpu.height or rdma.channels != dpu.channels:
        raise Hang("rdma.size", f"DPU_RDMA cube: {rdma.width}x{rdma.height}x{rdma.channels} must be the DPU's "
                   f"{dpu.width}x{dpu.height}x{dpu.channels} (ASSUMED to hang)")


# -- execution -----------------------------------------------------------------------------------------------


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
            self.reader = type(rdma.operand)(rdma.operand.address, rdma.operand.line_bytes, rdma.ew_surface_stride)

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


class Sink:
    """The write DMA. Results arrive in the order [group][row][column][surface of the group]; the writer counts
    through its own sizes in the same nesting, and only the totals must agree."""

    def __init__(self, dpu: Dpu, space: AddressSpace, surfaces: int) -> None:
        self.writer, self.space = dpu.writer, space
        self.dpu_size = (surfaces, dpu.height, dpu.width)
        writer = dpu.writer
        own_surfaces = writer.channels * dpu.out_bytes / ATOM_BYTES * (surfaces / max(1, -(
            -dpu.channels * dpu.out_bytes // ATOM_BYTES)))
        self.own_size = (int(own_surfaces), writer.height, writer.width)
        total, own_total = prod(self.dpu_size), prod(self.own_size)
        if own_surfaces % writer.surfaces_per_group or surfaces % writer.surfaces_per_group or total != own_total:
            raise Hang("dpu.wdma_size", f"DPU.WDMA_SIZE: {writer.width}x{writer.height}x{writer.channels} must hold as "
                       f"many atoms as the cube {dpu.width}x{dpu.height}x{dpu.channels}")
        self.renested = self.own_size != self.dpu_size
        self.collected: np.ndarray | None = None
        if self.renested:
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
