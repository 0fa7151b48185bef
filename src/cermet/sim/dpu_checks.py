"""What makes the DPU or DPU_RDMA stop, told from their registers alone (execution model §7)."""
from __future__ import annotations

from dataclasses import replace

from cermet.sim.dpu import ATOM_BYTES, MODE_DEPTHWISE, OUT_INT8, OUT_INT32, Dpu
from cermet.sim.outcome import Hang, TaskOutcome
from cermet.sim.rdma import (
    COMB_SAME_DATA,
    COMB_SHARED,
    PER_CHANNEL,
    PER_PIXEL,
    PRECISION_INT8,
    PRECISION_INT16,
    SIZE_8_BIT,
    USE_ALU,
    USE_CPEND,
    USE_MUL,
    Rdma,
)


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
