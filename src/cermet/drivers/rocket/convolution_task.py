"""The register program of one convolution task, direct or depthwise (recipes §1 to §3)."""
from __future__ import annotations

from dataclasses import dataclass, replace

from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.dpu import USE_BLOCK, Stage, Stages
from cermet.drivers.rocket.geometry import Geometry, Tile
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div, round_up
from cermet.drivers.rocket.regcmd import Address, Regcmd
from cermet.hw.soc import Soc

DIRECT, DEPTHWISE = 0, 3
MIN_OPERAND_SURFACE = 12    # atoms: the smallest surface pitch that fused adds of working programs use


@dataclass(frozen=True)
class Addend:
    """A second operand that the DPU adds behind the convolution: same shape and place in memory as the output."""

    source: FeatureMap


@dataclass(frozen=True)
class Convolution:
    """What all tasks of one convolution share.

    source, target      the geometry may cover fewer rows and columns of them, from their addresses on
    weights             packed, all output channels
    stages              operands for all output channels
    weight_zero_point   of all channels; None: the operand blocks hold one per channel
    group_pitch         atoms from one group of output channels to the next; None: the group's surfaces
    column_pitch        of a single output row: atoms from one pixel to the next; None: they lie side by side
    """

    soc: Soc
    geometry: Geometry
    source: FeatureMap
    target: FeatureMap
    weights: Address
    stages: Stages
    weight_zero_point: int | None
    addend: Addend | None = None
    group_pitch: int | None = None
    column_pitch: int | None = None

    @property
    def group_atoms(self) -> int:
        """From one group of output channels to the next."""
        surfaces = self.geometry.group(self.soc) // ATOM_BYTES
        return surfaces * self.target.surface_atoms if self.group_pitch is None else self.group_pitch


def emit_convolution(regcmd: Regcmd, conv: Convolution, tile: Tile) -> None:
    """All registers of one task, whatever the reset or an earlier job left in them."""
    stages = _stages_of(conv.stages, tile)
    _emit_cna(regcmd, conv, tile)
    _emit_core(regcmd, conv, tile)
    _emit_dpu(regcmd, conv, tile, stages)
    _emit_rdma(regcmd, conv, tile, stages)


def _stages_of(stages: Stages, tile: Tile) -> Stages:
    """Operands from the tile's first channel on."""
    ew = stages.ew
    if ew is not None and ew.operands is not None:
        ew = replace(ew, operands=ew.operands + tile.first_channel)
    return replace(stages, bs=_part(stages.bs, tile.first_channel), bn=_part(stages.bn, tile.first_channel), ew=ew)


def _part(stage: Stage, first_channel: int) -> Stage:
    if stage.operands is None:
        return stage
    # Bytes per channel: a 64-byte block of 8; an int32 for the adder; an int16 for the multiplier.
    bytes_per_channel = {USE_BLOCK: 8, dpu.USE_ALU: 4, dpu.USE_MULTIPLIER: 2}[stage.data_use]
    return replace(stage, operands=stage.operands + first_channel * bytes_per_channel)


def _input_channels(conv: Convolution, tile: Tile) -> int:
    """Channels that the task reads: a depthwise task only its own."""
    return tile.channels if conv.geometry.is_depthwise else conv.geometry.input_channels


def _emit_cna(regcmd: Regcmd, conv: Convolution, tile: Tile) -> None:
    g, source = conv.geometry, conv.source
    channels = _input_channels(conv, tile)
    aligned = round_up(channels, ATOM_BYTES)
    kernels = 1 if g.is_depthwise else round_up(tile.channels, 2)
    kernel_bytes = g.taps * aligned
    weights = conv.weights + tile.first_channel * (g.taps if g.is_depthwise else kernel_bytes)
    first_surface = tile.first_channel // ATOM_BYTES if g.is_depthwise else 0
    e = regcmd.emit
    e("CNA.CBUF_CON0", WEIGHT_BANK=tile.weight_banks, DATA_BANK=tile.data_banks,
      WEIGHT_REUSE=int(tile.reuses_weights))
    e("CNA.DCOMP_REGNUM")
    e("CNA.DCOMP_CTRL")
    is_window = source.width != g.input_width
    e("CNA.CONV_CON1", CONV_MODE=DEPTHWISE if g.is_depthwise else DIRECT, GROUP_LINE_OFF=int(is_window),
      DECONV=int(g.is_transposed))
    e("DPU.S_POINTER", **dpu.POINTER_BOTH_AUTOMATIC)
    e("DPU_RDMA.RDMA_S_POINTER", **dpu.POINTER_BOTH_AUTOMATIC)
    e("CNA.CONV_CON2", FEATURE_GRAINS=g.first_rows)
    e("CNA.CONV_CON3", CONV_X_STRIDE=g.stride.x, CONV_Y_STRIDE=g.stride.y, ATROUS_X_DILATION=g.dilation.x,
      ATROUS_Y_DILATION=g.dilation.y, DECONV_X_STRIDE=g.spread.x, DECONV_Y_STRIDE=g.spread.y)
    e("CNA.DATA_SIZE0", DATAIN_WIDTH=g.input_width, DATAIN_HEIGHT=tile.input_rows)
    e("CNA.DATA_SIZE1", DATAIN_CHANNEL_REAL=channels, DATAIN_CHANNEL=aligned)
    e("CNA.DATA_SIZE2", DATAOUT_WIDTH=g.output_width)
    e("CNA.DATA_SIZE3", DATAOUT_ATOMICS=g.output_width * tile.output_rows)
    e("CNA.WEIGHT_SIZE0", WEIGHT_BYTES=kernel_bytes * kernels)
    e("CNA.WEIGHT_SIZE1", WEIGHT_BYTES_PER_KERNEL=kernel_bytes)
    e("CNA.WEIGHT_SIZE2", WEIGHT_WIDTH=g.kernel.x, WEIGHT_HEIGHT=g.kernel.y, WEIGHT_KERNELS=kernels)
    e("CNA.CBUF_CON1", DATA_ENTRIES=ceil_div(g.input_width * aligned, 64))
    # Converter bypassed: signed data, scale 1.
    e("CNA.CVT_CON0", DATA_SIGN=1, CVT_TYPE=1, CVT_BYPASS=1)
    for lane in range(4):
        e(f"CNA.CVT_CON{lane + 1}", **{f"CVT_SCALE{lane}": 1})
    e("CNA.FC_CON0")
    e("CNA.FC_CON1")
    e("CNA.PAD_CON0", PAD_LEFT=g.pad_left, PAD_TOP=tile.pad_top)
    regcmd.emit_address("CNA.FEATURE_DATA_ADDR", source.row(tile.first_input_row, first_surface))
    e("CNA.FC_CON2")
    e("CNA.DMA_CON0", WEIGHT_BURST_LEN=dpu.BURST_LENGTH, DATA_BURST_LEN=dpu.BURST_LENGTH)
    # In atoms, by groups of four lines; negative below four lines. A wider map: line by line (data layouts §3).
    lines = 1 if is_window else 4
    e("CNA.DMA_CON1", LINE_STRIDE=lines * source.width)
    e("CNA.DMA_CON2", SURF_STRIDE=source.surface_atoms - lines * g.input_width)
    e("CNA.FC_DATA_SIZE0", DMA_WIDTH=g.input_width, DMA_HEIGHT=tile.input_rows)
    e("CNA.FC_DATA_SIZE1", DMA_CHANNEL=aligned)
    regcmd.emit_address("CNA.DCOMP_ADDR0", weights)
    for index in range(16):
        e(f"CNA.DCOMP_AMOUNT{index}")
    e("CNA.CVT_CON5")
    # One byte per lane: depthwise reads the odd ones for odd channels (numerics §2).
    e("CNA.PAD_CON1", PAD_VALUE=0x01010101 * (source.zero_point & 0xFF))


def _emit_core(regcmd: Regcmd, conv: Convolution, tile: Tile) -> None:
    g = conv.geometry
    regcmd.emit("CORE.MISC_CFG", QD_EN=1, DW_EN=int(g.is_depthwise))
    regcmd.emit("CORE.DATAOUT_SIZE_0", DATAOUT_HEIGHT=tile.output_rows, DATAOUT_WIDTH=g.output_width)
    regcmd.emit("CORE.DATAOUT_SIZE_1", DATAOUT_CHANNEL=round_up(tile.channels, g.group(conv.soc)))
    regcmd.emit("CORE.CLIP_TRUNCATE")
    regcmd.emit("CORE.UNDOCUMENTED_3030")


def _emit_dpu(regcmd: Regcmd, conv: Convolution, tile: Tile, stages: Stages) -> None:
    g, target = conv.geometry, conv.target
    aligned = round_up(tile.channels, g.group(conv.soc))
    group_surfaces = g.group(conv.soc) // ATOM_BYTES
    e = regcmd.emit
    e("DPU.FEATURE_MODE_CFG", BURST_LEN=dpu.BURST_LENGTH, OUTPUT_MODE=2,
      CONV_MODE=DEPTHWISE if g.is_depthwise else DIRECT)
    regcmd.emit_address("DPU.DST_BASE_ADDR", _target_address(conv, tile))
    e("DPU.DST_SURF_STRIDE", DST_SURF_STRIDE=target.surface_atoms)
    e("DPU.DATA_CUBE_WIDTH", WIDTH=g.output_width)
    e("DPU.DATA_CUBE_HEIGHT", HEIGHT=tile.output_rows)
    # The writer counts in sizes of its own: pixels that lie apart are lines of one (data layouts §4).
    width, height, pitch = g.output_width, tile.output_rows, target.width
    if conv.column_pitch is not None:
        width, height, pitch = 1, g.output_width * tile.output_rows, conv.column_pitch
    notch = pitch - width
    e("DPU.DATA_CUBE_NOTCH_ADDR", NOTCH_ADDR_1=notch, NOTCH_ADDR_0=notch)
    e("DPU.DATA_CUBE_CHANNEL", ORIG_CHANNEL=tile.channels, CHANNEL=aligned)
    dpu.emit_stages(regcmd, stages)
    e("DPU.BS_OW_CFG", SIZE_E_2=group_surfaces, SIZE_E_1=group_surfaces, SIZE_E_0=group_surfaces,
      OW_SRC=int(conv.weight_zero_point is None))
    e("DPU.BS_OW_OP", OW_OP=-(conv.weight_zero_point or 0))
    e("DPU.WDMA_SIZE_0", CHANNEL_WDMA=aligned)
    e("DPU.WDMA_SIZE_1", HEIGHT_WDMA=height, WIDTH_WDMA=width)
    e("DPU.SURFACE_ADD", SURF_ADD=conv.group_atoms)
    dpu.emit_rest(regcmd, stages)


def _target_address(conv: Convolution, tile: Tile) -> Address:
    group = tile.first_channel // conv.geometry.group(conv.soc)
    return conv.target.row(tile.first_output_row) + group * conv.group_atoms * ATOM_BYTES


def _emit_rdma(regcmd: Regcmd, conv: Convolution, tile: Tile, stages: Stages) -> None:
    g = conv.geometry
    e = regcmd.emit
    e("DPU_RDMA.RDMA_DATA_CUBE_WIDTH", WIDTH=g.output_width)
    e("DPU_RDMA.RDMA_DATA_CUBE_HEIGHT", HEIGHT=tile.output_rows)
    e("DPU_RDMA.RDMA_DATA_CUBE_CHANNEL", CHANNEL=round_up(tile.channels, g.group(conv.soc)))
    dpu.emit_operand_clients(regcmd, stages)
    e("DPU_RDMA.UNDOCUMENTED_5024")
    if conv.addend is None:
        _emit_no_addend(regcmd, g, stages.ew)
    else:
        _emit_addend(regcmd, conv, tile, conv.addend)
    # The stride fields of un-pooling hold stride - 1: all zero.
    e("DPU_RDMA.RDMA_SRC_DMA_CFG", KERNEL_STRIDE_HEIGHT=1, KERNEL_STRIDE_WIDTH=1, KERNEL_HEIGHT=1, KERNEL_WIDTH=1)
    e("DPU_RDMA.RDMA_PAD_CFG")
    e("DPU_RDMA.RDMA_WEIGHT", E_WEIGHT=1, N_WEIGHT=1, B_WEIGHT=1, M_WEIGHT=1)


def _emit_no_addend(regcmd: Regcmd, geometry: Geometry, ew: dpu.Elementwise | None) -> None:
    """MRDMA must be disabled when nothing feeds it: the task would hang. ERDMA fetches one byte per channel at most."""
    e = regcmd.emit
    e("DPU_RDMA.RDMA_SRC_BASE_ADDR")
    if ew is None or ew.operands is None:
        e("DPU_RDMA.RDMA_ERDMA_CFG", ERDMA_DISABLE=1)
        e("DPU_RDMA.RDMA_EW_BASE_ADDR")
        e("DPU_RDMA.RDMA_EW_SURF_STRIDE")
    else:
        e("DPU_RDMA.RDMA_ERDMA_CFG", ERDMA_DATA_MODE=0, ERDMA_DATA_SIZE=1)
        regcmd.emit_address("DPU_RDMA.RDMA_EW_BASE_ADDR", ew.operands)
        e("DPU_RDMA.RDMA_EW_SURF_STRIDE", EW_SURF_STRIDE=1)
    e("DPU_RDMA.RDMA_FEATURE_MODE_CFG", BURST_LEN=dpu.BURST_LENGTH, MRDMA_DISABLE=1,
      CONV_MODE=DEPTHWISE if geometry.is_depthwise else DIRECT)
    e("DPU_RDMA.RDMA_SURF_NOTCH")
    e("DPU_RDMA.RDMA_EW_SURF_NOTCH")


def _emit_addend(regcmd: Regcmd, conv: Convolution, tile: Tile, addend: Addend) -> None:
    """MRDMA reads the even surfaces, ERDMA the odd ones; both skip the other's and the rows outside the band."""
    g, source = conv.geometry, addend.source
    first = tile.first_channel // ATOM_BYTES
    skipped = source.surface_atoms - g.output_width * tile.output_rows
    e = regcmd.emit
    regcmd.emit_address("DPU_RDMA.RDMA_SRC_BASE_ADDR", source.row(tile.first_output_row, first))
    e("DPU_RDMA.RDMA_ERDMA_CFG", ERDMA_DATA_MODE=1, ERDMA_DATA_SIZE=1)
    regcmd.emit_address("DPU_RDMA.RDMA_EW_BASE_ADDR", source.row(tile.first_output_row, first + 1))
    e("DPU_RDMA.RDMA_EW_SURF_STRIDE", EW_SURF_STRIDE=source.surface_atoms)
    e("DPU_RDMA.RDMA_FEATURE_MODE_CFG", BURST_LEN=dpu.BURST_LENGTH, COMB_USE=5)
    e("DPU_RDMA.RDMA_SURF_NOTCH", SURF_NOTCH_ADDR=source.surface_atoms + skipped)
    e("DPU_RDMA.RDMA_EW_SURF_NOTCH", EW_SURF_NOTCH=source.surface_atoms + skipped)
