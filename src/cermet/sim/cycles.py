"""Estimate of a task's NPU cycles. Sources: SoC notes §4; the vendor's estimates, not measurements."""
from __future__ import annotations

from cermet.hw.soc import Soc

READ_BYTES_PER_CYCLE = 16           # ASSUMED (Q-C2): RK3588, one core, per cycle at 1 GHz
WRITE_BYTES_PER_CYCLE = 8           # ASSUMED (Q-C2)
PIXEL_STEP = 16                     # fitted: pixels are rounded up to 16
MIN_CYCLES_PER_PIXEL = 4            # fitted: a kernel group takes at least 4 cycles per pixel; not in depthwise
FETCH_CYCLES_PER_WORD = 8           # ASSUMED (Q-C4): 126 words take about 1 us
DPU_BYTES_PER_CYCLE = 8             # inferred: the DPU takes 8 outputs per cycle
PPU_BYTES_PER_CYCLE = 16            # ASSUMED: one atom per cycle and tap


def conv_cycles(soc: Soc, pixels: int, taps: int, in_channels: int, out_channels: int) -> int:
    """Direct convolution; fitted, exact on 1017 of 1021 vendor rows."""
    padded = -(-pixels // PIXEL_STEP) * PIXEL_STEP
    per_pixel = max(taps * -(-in_channels // soc.weight_input_block), MIN_CYCLES_PER_PIXEL)
    return padded * per_pixel * -(-out_channels // soc.kernel_group)


def depthwise_cycles(soc: Soc, pixels: int, taps: int, channels: int) -> int:
    """Depthwise convolution; fitted, exact on 580 of 580 vendor rows."""
    padded = -(-pixels // PIXEL_STEP) * PIXEL_STEP
    return padded * taps * -(-channels // soc.depthwise_group)


def dma_cycles(read_bytes: int, write_bytes: int) -> int:
    return read_bytes // READ_BYTES_PER_CYCLE + write_bytes // WRITE_BYTES_PER_CYCLE


def fetch_cycles(num_words: int) -> int:
    return num_words * FETCH_CYCLES_PER_WORD


def timeout_cycles(soc: Soc) -> int:
    """Cycles within the kernel's job timeout: a task estimated longer is never waited for."""
    return soc.job_timeout_ms * soc.clock_mhz * 1000
