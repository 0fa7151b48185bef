"""PPU and PPU_RDMA: pooling of int8 feature maps in memory (numerics §11, recipes §8)."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cermet.sim.kernels import fast_library, pointer
from cermet.sim.memory import AddressSpace
from cermet.sim.outcome import Cancelled, Hang, TaskOutcome
from cermet.sim.registers import Snapshot
from cermet.sim.rounding import shift_even, signed

ATOM_BYTES = 16
AVERAGE, MAXIMUM, MINIMUM = 0, 1, 2
SIZE_8_BIT = 1
CHUNK_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class Pool:
    """Settings of both blocks."""

    method: int
    width: int
    height: int
    channels: int
    out_width: int
    out_height: int
    kernel_width: int
    kernel_height: int
    stride_x: int
    stride_y: int
    pad_left: int
    pad_top: int
    pad_right: int
    pad_bottom: int
    pad_value: int
    reciprocal: int             # product of both, 32 fraction bits
    source: int
    line_bytes: int
    surface_bytes: int
    target: int
    out_line_bytes: int
    out_surface_bytes: int

    @property
    def surfaces(self) -> int:
        return -(-self.channels // ATOM_BYTES)


def decode_pool(ppu: Snapshot, rdma: Snapshot, base: int, outcome: TaskOutcome) -> Pool:
    """Read and check the registers. Raises Hang."""
    _check_formats(ppu, rdma)
    pool = _decode(ppu, rdma, base)
    inputs = (pool.width, pool.height, pool.channels)
    reads = tuple(rdma(f"RDMA_CUBE_IN_{axis}.CUBE_IN_{axis}") for axis in ("WIDTH", "HEIGHT", "CHANNEL"))
    if inputs != reads or ppu("DATA_CUBE_OUT_CHANNEL.CUBE_OUT_CHANNEL") != pool.channels:
        raise Hang("ppu.size", f"PPU_RDMA cube: {reads} must be PPU's {inputs}, and output channels its input channels "
                   "(ASSUMED to hang)")
    across = (pool.out_width - 1) * pool.stride_x + pool.kernel_width
    down = (pool.out_height - 1) * pool.stride_y + pool.kernel_height
    if (across > pool.width + pool.pad_left + pool.pad_right or down > pool.height + pool.pad_top + pool.pad_bottom):
        raise Hang("ppu.window", f"PPU: windows reach column {across} and row {down} of {pool.width}x{pool.height} "
                   "plus pads; it starves")
    padded = pool.pad_left or pool.pad_top or pool.pad_right or pool.pad_bottom
    if padded and (pool.stride_x > 1 or pool.stride_y > 1):
        outcome.warn("ppu.pad_stride", "PPU: padding with stride above 1 showed a vertical phase error in one campaign "
                     "(Q-P5); modelled as ideal")
    if max(pool.pad_left, pool.pad_top, pool.pad_right, pool.pad_bottom) == 7 and 16 in (
            pool.kernel_width, pool.kernel_height):
        outcome.warn("ppu.kernel16_pad7", "PPU: kernel 16 with pad 7 fails on hardware")
    if pool.method == MAXIMUM and padded and pool.pad_value > -128:
        outcome.warn("ppu.max_pad", f"PPU.PADDING_VALUE_1_CFG: {pool.pad_value} for MAX should be -128 (0x7ff80); "
                     "padded taps are ASSUMED to be ignored (Q-P7)")
    if ppu("OPERATION_MODE_CFG.NOTCH_ADDR"):
        outcome.warn("ppu.notch", "PPU.OPERATION_MODE_CFG.NOTCH_ADDR: corrupted the output in one campaign")
    return pool


def _check_formats(ppu: Snapshot, rdma: Snapshot) -> None:
    if ppu("DATA_FORMAT.PROC_PRECISION"):
        raise Hang("precision", f"PPU.DATA_FORMAT.PROC_PRECISION: unsupported precision "
                   f"{ppu('DATA_FORMAT.PROC_PRECISION')}, the simulator pools int8 (0)")
    if rdma("RDMA_DATA_FORMAT.IN_PRECISION") != SIZE_8_BIT:
        raise Hang("precision", f"PPU_RDMA.RDMA_DATA_FORMAT.IN_PRECISION: unsupported precision, size code "
                   f"{rdma('RDMA_DATA_FORMAT.IN_PRECISION')} must be 1 (8 bit)")
    if ppu("OPERATION_MODE_CFG.POOLING_METHOD") > MINIMUM or ppu("OPERATION_MODE_CFG.INDEX_EN"):
        raise Hang("ppu.method", "PPU.OPERATION_MODE_CFG: method must be 0..2, index output is unsupported")
    if not ppu("OPERATION_MODE_CFG.FLYING_MODE") or ppu("DATA_FORMAT.DPU_FLYIN"):
        raise Hang("ppu.from_dpu", "PPU.OPERATION_MODE_CFG.FLYING_MODE: pooling straight from the DPU is unsupported")
    if ppu("MISC_CTRL.NONALIGN") or ppu("MISC_CTRL.MC_SURF_OUT"):
        raise Hang("ppu.misc", "PPU.MISC_CTRL: unaligned and serial writes are unsupported")


def _decode(ppu: Snapshot, rdma: Snapshot, base: int) -> Pool:
    out_width = ppu("DATA_CUBE_OUT_WIDTH.CUBE_OUT_WIDTH")
    pads = ppu.values.get(0x6040, 0)
    return Pool(
        method=ppu("OPERATION_MODE_CFG.POOLING_METHOD"), width=ppu("DATA_CUBE_IN_WIDTH.CUBE_IN_WIDTH"),
        height=ppu("DATA_CUBE_IN_HEIGHT.CUBE_IN_HEIGHT"), channels=ppu("DATA_CUBE_IN_CHANNEL.CUBE_IN_CHANNEL"),
        out_width=out_width, out_height=ppu("DATA_CUBE_OUT_HEIGHT.CUBE_OUT_HEIGHT"),
        kernel_width=ppu("POOLING_KERNEL_CFG.KERNEL_WIDTH"), kernel_height=ppu("POOLING_KERNEL_CFG.KERNEL_HEIGHT"),
        stride_x=ppu("POOLING_KERNEL_CFG.KERNEL_STRIDE_WIDTH"), stride_y=ppu("POOLING_KERNEL_CFG.KERNEL_STRIDE_HEIGHT"),
        pad_left=pads & 7, pad_top=pads >> 4 & 7, pad_right=pads >> 8 & 7, pad_bottom=pads >> 12 & 7,
        pad_value=_pad_value(ppu),
        reciprocal=ppu("RECIP_KERNEL_WIDTH.RECIP_KERNEL_WIDTH") * ppu("RECIP_KERNEL_HEIGHT.RECIP_KERNEL_HEIGHT"),
        source=rdma("RDMA_SRC_BASE_ADDR.SRC_BASE_ADDR") + base & ~0xF,
        line_bytes=rdma("RDMA_SRC_LINE_STRIDE.SRC_LINE_STRIDE") * ATOM_BYTES,
        surface_bytes=rdma("RDMA_SRC_SURF_STRIDE.SRC_SURF_STRIDE") * ATOM_BYTES,
        target=ppu("DST_BASE_ADDR.DST_BASE_ADDR") * ATOM_BYTES + base,
        out_line_bytes=(out_width + ppu("OPERATION_MODE_CFG.NOTCH_ADDR")) * ATOM_BYTES,
        out_surface_bytes=ppu("DST_SURF_STRIDE.DST_SURF_STRIDE") * ATOM_BYTES)


def _pad_value(ppu: Snapshot) -> int:
    """35-bit two's complement over both registers; a 19-bit minus 128 (0x7ff80) counts as -128 (numerics §11)."""
    low = ppu("PADDING_VALUE_1_CFG.PAD_VALUE_0") & 0xFFFF_FFFF
    whole = ppu("PADDING_VALUE_2_CFG.PAD_VALUE_1") << 32 | low
    return -128 if whole == 0x7FF80 else signed(whole, 35)


def run_pool(pool: Pool, space: AddressSpace, cancelled: Callable[[], bool]) -> None:
    """Pool surface by surface in bands of rows."""
    columns = (pool.out_width - 1) * pool.stride_x + pool.kernel_width
    step = max(1, CHUNK_ELEMENTS // (columns * pool.stride_y * ATOM_BYTES))
    lib = fast_library() if -128 <= pool.pad_value <= 127 else None
    for surface in range(pool.surfaces):
        for row in range(0, pool.out_height, step):
            if cancelled():
                raise Cancelled
            last = min(pool.out_height, row + step)
            band = input_band(pool, space, surface, row, last)
            result = _pool_compiled(lib, pool, band, last - row) if lib else pool_rows(pool, band, last - row)
            at = pool.target + surface * pool.out_surface_bytes + row * pool.out_line_bytes
            block = result.view(np.uint8).reshape(last - row, pool.out_width * ATOM_BYTES)
            space.scatter(at, block, (pool.out_line_bytes, 1))


def input_band(pool: Pool, space: AddressSpace, surface: int, row: int, last: int) -> np.ndarray:
    """int64 [rows][columns][16] for output rows row..last. Padded taps hold the pad value in averages; MAX and MIN
    ignore them, so there they hold what cannot win."""
    first = row * pool.stride_y - pool.pad_top
    rows = (last - row - 1) * pool.stride_y + pool.kernel_height
    columns = (pool.out_width - 1) * pool.stride_x + pool.kernel_width
    outside = {AVERAGE: pool.pad_value, MAXIMUM: -128, MINIMUM: 127}[pool.method]
    band = np.full((rows, columns, ATOM_BYTES), outside, np.int64 if abs(outside) > 128 else np.int16)
    top, bottom = max(first, 0), min(first + rows, pool.height)
    right = min(pool.width, columns - pool.pad_left)
    if bottom > top and right > 0:
        at = pool.source + surface * pool.surface_bytes + top * pool.line_bytes
        raw = space.gather(at, (bottom - top, right * ATOM_BYTES), (pool.line_bytes, 1))
        values = np.ascontiguousarray(raw).view(np.int8).reshape(bottom - top, right, ATOM_BYTES)
        band[top - first:bottom - first, pool.pad_left:pool.pad_left + right] = values
    return band


def _pool_compiled(lib: Any, pool: Pool, band: np.ndarray, rows: int) -> np.ndarray:
    result = np.empty((rows, pool.out_width, ATOM_BYTES), np.int8)
    lib.cermet_sim_pool_rows(
        pointer(band, "int16_t"), band.shape[1], pool.method, pool.kernel_width, pool.kernel_height,
        pool.stride_x, pool.stride_y, pool.reciprocal, pool.out_width, rows, pointer(result, "int8_t"),
        pool.out_width * ATOM_BYTES)
    return result


def pool_rows(pool: Pool, band: np.ndarray, rows: int) -> np.ndarray:
    """Plain form: int8 [rows][columns][16]."""
    values = band.astype(np.int64)
    result: np.ndarray | None = None
    for y in range(pool.kernel_height):
        for x in range(pool.kernel_width):
            tap = values[y:y + (rows - 1) * pool.stride_y + 1:pool.stride_y,
                         x:x + (pool.out_width - 1) * pool.stride_x + 1:pool.stride_x]
            result = tap if result is None else _combine(pool.method, result, tap)
    assert result is not None
    if pool.method == AVERAGE:
        result = average(result, pool.reciprocal)
    return np.ascontiguousarray(result.astype(np.int8))


def _combine(method: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if method == AVERAGE:
        return left + right
    return np.maximum(left, right) if method == MAXIMUM else np.minimum(left, right)


def average(total: np.ndarray, reciprocal: int) -> np.ndarray:
    """Window sum times both Q16 reciprocals, nearest, ties to even; the low 8 bits are stored (numerics §11)."""
    limit = (1 << 62) // max(reciprocal, 1)
    return shift_even(np.clip(total, -limit, limit) * reciprocal, 32)
