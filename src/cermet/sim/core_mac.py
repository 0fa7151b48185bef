"""CORE: the MAC array and accumulator, plain NumPy form. Arithmetic: numerics §3 to §5."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.sim.cna import ConvShape, padded_window
from cermet.sim.outcome import Hang, TaskOutcome
from cermet.sim.registers import Snapshot
from cermet.sim.stages import clip_truncate


@dataclass(frozen=True)
class CoreSettings:
    """CORE's registers."""

    width: int
    height: int
    channels: int
    depthwise: bool
    sum_inputs: bool            # QD_EN
    truncate: int
    truncate_up: bool


def decode_core(core: Snapshot, shape: ConvShape, outcome: TaskOutcome) -> CoreSettings:
    """Read the registers and hold them against CNA's. Raises Hang."""
    if core("MISC_CFG.PROC_PRECISION"):
        raise Hang("precision", f"CORE.MISC_CFG: unsupported precision {core('MISC_CFG.PROC_PRECISION')}, the "
                   "simulator does int8 (0)")
    settings = CoreSettings(
        width=core("DATAOUT_SIZE_0.DATAOUT_WIDTH"), height=core("DATAOUT_SIZE_0.DATAOUT_HEIGHT"),
        channels=core("DATAOUT_SIZE_1.DATAOUT_CHANNEL"), depthwise=bool(core("MISC_CFG.DW_EN")),
        sum_inputs=bool(core("MISC_CFG.QD_EN")), truncate=core("CLIP_TRUNCATE.CLIP_TRUNCATE"),
        truncate_up=bool(core("CLIP_TRUNCATE.ROUND_TYPE")))
    if (settings.width, settings.height) != (shape.out_width, shape.out_height):
        raise Hang("core.size", f"CORE.DATAOUT_SIZE_0: {settings.width}x{settings.height} must be CNA's "
                   f"{shape.out_width}x{shape.out_height} (ASSUMED to hang)")
    if settings.depthwise != shape.depthwise:
        raise Hang("core.depthwise", "CORE.MISC_CFG.DW_EN: must agree with CNA.CONV_CON1.CONV_MODE (ASSUMED to hang)")
    if settings.truncate:
        outcome.warn("core.truncate", "CORE.CLIP_TRUNCATE: rounding and order of a shift above 0 are open (Q-N2)")
    return settings


class Convolution:
    """One convolution task's operands; gives accumulators block by block.

    window    int8 [rows][columns][channels], borders filled
    kernels   int8 [kernels][kernel rows][kernel columns][channels]
    """

    def __init__(self, shape: ConvShape, settings: CoreSettings, features: np.ndarray, kernels: np.ndarray) -> None:
        self.shape = shape
        self.settings = settings
        self.window = padded_window(shape, features)
        self.kernels = kernels

    def _tap(self, y: int, x: int, first_row: int, last_row: int) -> np.ndarray:
        """View [rows][columns][channels] of what tap (y, x) sees."""
        shape = self.shape
        top, left = first_row * shape.stride_y + y * shape.dilation_y, x * shape.dilation_x
        return self.window[top:top + (last_row - first_row - 1) * shape.stride_y + 1:shape.stride_y,
                           left:left + (shape.out_width - 1) * shape.stride_x + 1:shape.stride_x]

    def _taps(self) -> list[tuple[int, int]]:
        return [(y, x) for y in range(self.shape.kernel_height) for x in range(self.shape.kernel_width)]

    def accumulate(self, first_row: int, last_row: int) -> np.ndarray:
        """Sums of products, int64 [rows][columns][programmed output channels]. Exact: float64 holds 53 bits."""
        sums = np.zeros((last_row - first_row, self.shape.out_width, self.settings.channels), np.int64)
        count = self.shape.channels if self.shape.depthwise else self.kernels.shape[0]
        for y, x in self._taps():
            seen = self._tap(y, x, first_row, last_row)
            if self.shape.depthwise:
                sums[..., :count] += seen.astype(np.int32) * self.kernels[0, y, x]
            else:
                matrix = self.kernels[:, y, x].astype(np.float64).T
                sums[..., :count] += (seen.astype(np.float64) @ matrix).astype(np.int64)
        return sums

    def input_sums(self, first_row: int, last_row: int) -> np.ndarray:
        """S of numerics §5: int64 [rows][columns][1], depthwise [rows][columns][channels]."""
        channels = self.settings.channels if self.shape.depthwise else 1
        sums = np.zeros((last_row - first_row, self.shape.out_width, channels), np.int64)
        for y, x in self._taps():
            seen = self._tap(y, x, first_row, last_row)
            if self.shape.depthwise:
                sums[..., :self.shape.channels] += seen
            else:
                sums[..., 0] += seen.sum(axis=2, dtype=np.int64)
        return sums

    def values(self, first_row: int, last_row: int, weight_offsets: np.ndarray | int | None) -> np.ndarray:
        """What leaves CORE: accumulator plus zero-point term, shifted, saturated to 32 bits."""
        value = self.accumulate(first_row, last_row)
        if weight_offsets is not None and self.settings.sum_inputs:
            value = value + weight_offsets * self.input_sums(first_row, last_row)
        return clip_truncate(value, self.settings.truncate, self.settings.truncate_up)
