"""DPU_RDMA: what the DPU reads besides CORE's results. Layouts: data layouts §5 and §6."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.sim.memory import AddressSpace
from cermet.sim.outcome import Hang
from cermet.sim.registers import Snapshot

ATOM_BYTES = 16
USE_ALU, USE_CPEND, USE_MUL = 1, 2, 4
COMB_SHARED = 5             # MRDMA and ERDMA share one tensor, delivered to the EW stage
COMB_SAME_DATA = 1          # bit 0
PER_CHANNEL, PER_PIXEL = 0, 1
SIZE_8_BIT = 1
BLOCK_CHANNELS, BLOCK_BYTES = 8, 64
PRECISION_INT8, PRECISION_INT16 = 0, 1


@dataclass(frozen=True)
class Operands:
    """Per-channel operands of one client; None where its DATA_USE does not deliver them."""

    alu: np.ndarray | None = None       # int32
    cpend: np.ndarray | None = None     # int16, minus the weight zero point
    mul: np.ndarray | None = None       # int16


NO_OPERANDS = Operands()


@dataclass(frozen=True)
class CubeReader:
    """A surface-by-surface reader: address and pitches in bytes."""

    address: int
    line_bytes: int
    surface_bytes: int

    def block(self, space: AddressSpace, width: int, first_row: int, last_row: int, first_surface: int,
              last_surface: int) -> np.ndarray:
        """int8 [surfaces][rows][columns][16]."""
        at = self.address + first_row * self.line_bytes + first_surface * self.surface_bytes
        shape = (last_surface - first_surface, last_row - first_row, width * ATOM_BYTES)
        raw = space.gather(at, shape, (self.surface_bytes, self.line_bytes, 1))
        return np.ascontiguousarray(raw).view(np.int8).reshape(*shape[:2], width, ATOM_BYTES)


@dataclass(frozen=True)
class Rdma:
    """The block's settings."""

    width: int
    height: int
    channels: int
    flying: bool
    mrdma_on: bool
    erdma_on: bool
    conv_mode: int
    comb_use: int
    in_precision: int
    proc_precision: int
    brdma_use: int              # 0 when disabled
    nrdma_use: int
    erdma_mode: int
    erdma_size: int
    erdma_reserved: int         # surface mode and non-aligned bits
    unpool_width: int           # 1 when off
    unpool_height: int
    ew_surface_stride: int      # bytes
    main: CubeReader
    operand: CubeReader         # pitch from the notch

    @property
    def ew_reader(self) -> CubeReader:
        """The operand with the pitch of EW_SURF_STRIDE, which is ASSUMED to win."""
        return CubeReader(self.operand.address, self.operand.line_bytes, self.ew_surface_stride)


def decode_rdma(rdma: Snapshot, base: int) -> Rdma:
    """Read the registers; no checks. base is TASK_DMA_BASE_ADDR."""
    width, height = rdma("RDMA_DATA_CUBE_WIDTH.WIDTH"), rdma("RDMA_DATA_CUBE_HEIGHT.HEIGHT")
    unpool = rdma("RDMA_SRC_DMA_CFG.UNPOOLING_EN")
    brdma_off, nrdma_off = rdma.values.get(0x501C, 0) & 1, rdma.values.get(0x5028, 0) & 1
    return Rdma(
        width=width, height=height, channels=rdma("RDMA_DATA_CUBE_CHANNEL.CHANNEL"),
        flying=bool(rdma("RDMA_FEATURE_MODE_CFG.FLYING_MODE")),
        mrdma_on=not rdma("RDMA_FEATURE_MODE_CFG.MRDMA_DISABLE"), erdma_on=not rdma("RDMA_ERDMA_CFG.ERDMA_DISABLE"),
        conv_mode=rdma("RDMA_FEATURE_MODE_CFG.CONV_MODE"), comb_use=rdma("RDMA_FEATURE_MODE_CFG.COMB_USE"),
        in_precision=rdma("RDMA_FEATURE_MODE_CFG.IN_PRECISION"),
        proc_precision=rdma("RDMA_FEATURE_MODE_CFG.PROC_PRECISION"),
        brdma_use=0 if brdma_off else rdma("RDMA_BRDMA_CFG.BRDMA_DATA_USE"),
        nrdma_use=0 if nrdma_off else rdma("RDMA_NRDMA_CFG.NRDMA_DATA_USE"),
        erdma_mode=rdma("RDMA_ERDMA_CFG.ERDMA_DATA_MODE"), erdma_size=rdma("RDMA_ERDMA_CFG.ERDMA_DATA_SIZE"),
        erdma_reserved=rdma("RDMA_ERDMA_CFG.ERDMA_SURF_MODE") | rdma("RDMA_ERDMA_CFG.ERDMA_NONALIGN"),
        unpool_width=rdma("RDMA_SRC_DMA_CFG.KERNEL_WIDTH") if unpool else 1,
        unpool_height=rdma("RDMA_SRC_DMA_CFG.KERNEL_HEIGHT") if unpool else 1,
        ew_surface_stride=rdma("RDMA_EW_SURF_STRIDE.EW_SURF_STRIDE") * ATOM_BYTES,
        main=_reader(rdma("RDMA_SRC_BASE_ADDR.SRC_BASE_ADDR") + base, width, height,
                     rdma("RDMA_SRC_DMA_CFG.LINE_NOTCH_ADDR"), rdma("RDMA_SURF_NOTCH.SURF_NOTCH_ADDR")),
        operand=_reader(rdma("RDMA_EW_BASE_ADDR.EW_BASE_ADDR") + base, width, height,
                        rdma("RDMA_DATA_CUBE_HEIGHT.EW_LINE_NOTCH_ADDR"), rdma("RDMA_EW_SURF_NOTCH.EW_SURF_NOTCH")))


def _reader(address: int, width: int, height: int, line_notch: int, surface_notch: int) -> CubeReader:
    """The surface notch starts right behind the last pixel of the last line (data layouts §5)."""
    line = width + line_notch
    return CubeReader(address & ~0xF, line * ATOM_BYTES, ((height - 1) * line + width + surface_notch) * ATOM_BYTES)


def read_operands(space: AddressSpace, address: int, use: int, channels: int, client: str) -> Operands:
    """Per-channel operands in the form that DATA_USE names (data layouts §6). Raises Hang on unknown forms."""
    address &= ~0xF
    if use == 0:
        return NO_OPERANDS
    if use == USE_ALU:
        return Operands(alu=_words(space.read(address, channels * 4), "<i4"))
    if use == USE_MUL:
        return Operands(mul=_words(space.read(address, channels * 2), "<i2"))
    blocks = -(-channels // BLOCK_CHANNELS)
    if use == USE_ALU | USE_CPEND | USE_MUL and client == "BRDMA":
        raw = space.read(address, blocks * BLOCK_BYTES).reshape(blocks, BLOCK_BYTES)
        return Operands(alu=_column(raw, 0, "<i4", channels), cpend=_column(raw, 32, "<i2", channels),
                        mul=_column(raw, 48, "<i2", channels))
    if use == USE_ALU | USE_MUL and client == "BRDMA":       # layout inferred (Q-L6)
        raw = space.read(address, blocks * 48).reshape(blocks, 48)
        return Operands(alu=_column(raw, 0, "<i4", channels), mul=_column(raw, 32, "<i2", channels))
    raise Hang(f"rdma.{client.lower()}_use", f"DPU_RDMA.{client}: DATA_USE {use} on the integer path hangs or is "
               "unknown")


def _words(raw: np.ndarray, dtype: str) -> np.ndarray:
    """A copy, as tasks may write what they have read."""
    return raw.view(dtype).astype(np.int32)


def _column(blocks: np.ndarray, at: int, dtype: str, channels: int) -> np.ndarray:
    """One operand of every channel out of interleaved blocks of 8 channels."""
    size = np.dtype(dtype).itemsize * BLOCK_CHANNELS
    return _words(blocks[:, at:at + size], dtype).reshape(-1)[:channels]
