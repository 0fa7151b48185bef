"""What a start of blocks moves and computes, read off its registers: the input of the cycle model."""
from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from cermet.hw.cycles import Work, conv_cycles, depthwise_cycles, spread_cycles
from cermet.hw.soc import Soc
from cermet.sim.cna import ConvShape, decode_shape
from cermet.sim.dpu import Dpu, decode_dpu
from cermet.sim.outcome import Hang, TaskOutcome
from cermet.sim.ppu import Pool, decode_pool
from cermet.sim.rdma import BLOCK_BYTES, BLOCK_CHANNELS, PRECISION_INT16, USE_ALU, USE_MUL, Rdma, decode_rdma
from cermet.sim.registers import Snapshot

ATOM_BYTES = 16
ALU_AND_MUL_BLOCK_BYTES = 48        # BRDMA without the 16 bits of CPEND: inferred (Q-L6)


def work_of(soc: Soc, snapshots: Mapping[str, Snapshot]) -> Work:
    """The work of the started blocks. Raises Hang for what the simulator does not know."""
    ignored = TaskOutcome()
    if "PPU" in snapshots and "PPU_RDMA" in snapshots:
        return pool_work(soc, decode_pool(snapshots["PPU"], snapshots["PPU_RDMA"], 0, ignored))
    if "DPU" not in snapshots:
        raise Hang("work.unknown", "op_en: starts neither DPU nor PPU")
    dpu = decode_dpu(snapshots["DPU"], 0, ignored)
    rdma = decode_rdma(snapshots["DPU_RDMA"], 0) if "DPU_RDMA" in snapshots else None
    kept = snapshots["DPU"]("DATA_CUBE_CHANNEL.ORIG_CHANNEL")
    if "CNA" in snapshots:
        return conv_work(soc, decode_shape(snapshots["CNA"]), dpu, rdma, kept)
    if rdma is None:
        raise Hang("work.unknown", "op_en: starts DPU without anything that feeds it")
    return flying_work(soc, dpu, rdma)


def conv_work(soc: Soc, shape: ConvShape, dpu: Dpu, rdma: Rdma | None, kept_channels: int) -> Work:
    """CNA, CORE and DPU. kept_channels: those of the tensor, without the filler that completes a kernel group."""
    pixels, taps = shape.out_width * shape.out_height, shape.kernel_width * shape.kernel_height
    array = (depthwise_cycles(soc, pixels, taps, shape.channels) if shape.depthwise
             else conv_cycles(soc, pixels, taps, shape.channels, dpu.channels))
    if shape.deconv_x * shape.deconv_y > 1:
        array = spread_cycles(soc, array)
    features = 0 if shape.data_reuse else shape.height * _row_bytes(shape)
    rows = min(shape.grains, shape.height)
    weights = 0 if shape.weight_reuse else shape.weight_bytes
    group = (min(soc.depthwise_group / max(shape.channels, 1), 1) if shape.depthwise
             else min(soc.kernel_group / max(shape.kernels, 1), 1))
    stored = pixels * dpu.channels * dpu.out_bytes
    return Work(
        unit="depthwise" if shape.depthwise else "conv", macs=shape.macs, array_cycles=array,
        output_cycles=ceil(pixels * dpu.channels / soc.timing.dpu_outputs.value),
        feature_bytes=features, first_feature_bytes=min(features, rows * _row_bytes(shape)),
        weight_bytes=weights, first_weight_bytes=ceil(weights * group),
        operand_bytes=_operand_bytes(rdma, min(kept_channels, dpu.channels)), stream_bytes=_second_operand(rdma, dpu),
        stored_bytes=stored, kept_bytes=min(stored, pixels * _atoms(kept_channels) * ATOM_BYTES * dpu.out_bytes))


def flying_work(soc: Soc, dpu: Dpu, rdma: Rdma) -> Work:
    """DPU and DPU_RDMA alone: one cube, or two, through the stages."""
    size = 2 if rdma.in_precision == PRECISION_INT16 else 1
    read = rdma.width * rdma.height * rdma.channels * size
    stored = read * rdma.unpool_width * rdma.unpool_height
    return Work("dpu", output_cycles=ceil(stored / soc.timing.dpu_outputs.value),
                operand_bytes=_operand_bytes(rdma, rdma.channels), stream_bytes=read + _second_operand(rdma, dpu),
                stored_bytes=stored, kept_bytes=stored)


def pool_work(soc: Soc, pool: Pool) -> Work:
    """PPU and PPU_RDMA."""
    atoms = pool.out_width * pool.out_height * pool.surfaces
    taps = pool.kernel_width * pool.kernel_height
    stored = atoms * ATOM_BYTES
    return Work("ppu", output_cycles=ceil(atoms * taps / soc.timing.ppu_taps.value),
                stream_bytes=pool.width * pool.height * pool.surfaces * ATOM_BYTES, stored_bytes=stored,
                kept_bytes=stored)


def _row_bytes(shape: ConvShape) -> int:
    return shape.width * (shape.packed_channels or shape.surfaces * ATOM_BYTES)


def _atoms(channels: int) -> int:
    return -(-channels // ATOM_BYTES)


def _operand_bytes(rdma: Rdma | None, channels: int) -> int:
    """What BRDMA and NRDMA read for each channel (data layouts §6)."""
    if rdma is None:
        return 0
    return sum(_use_bytes(use, channels) for use in (rdma.brdma_use, rdma.nrdma_use))


def _use_bytes(use: int, channels: int) -> int:
    blocks = -(-channels // BLOCK_CHANNELS)
    simple = {0: 0, USE_ALU: 4 * channels, USE_MUL: 2 * channels, USE_ALU | USE_MUL: blocks * ALU_AND_MUL_BLOCK_BYTES}
    return simple.get(use, blocks * BLOCK_BYTES)


def _second_operand(rdma: Rdma | None, dpu: Dpu) -> int:
    """The cube that ERDMA, and MRDMA behind a convolution, deliver to EW: one tensor in either case."""
    if rdma is None or not dpu.ew.needs_memory:
        return 0
    if not dpu.ew.per_pixel:
        return rdma.channels
    return dpu.width * dpu.height * dpu.channels
