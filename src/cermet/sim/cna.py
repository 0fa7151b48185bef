"""CNA: the geometry of a convolution, and the padded window of its input that CORE gets to multiply.

Padding: numerics §2. CBUF: recipes §1.3.
"""
from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from cermet.sim.registers import Snapshot

ATOM_BYTES = 16
MODE_DIRECT, MODE_DEPTHWISE = 0, 3


def ceil_div(value: int, step: int) -> int:
    return -(-value // step)


@dataclass(frozen=True)
class ConvShape:
    """Geometry of one convolution task as CNA's registers say it."""

    depthwise: bool
    packed_channels: int            # 1..4: packed pixels; 0: feature atoms
    group_line_off: bool
    width: int                      # DATAIN_WIDTH: columns that CORE sees
    dma_width: int
    height: int                     # input rows of the task
    channels: int                   # programmed, a multiple of 16
    real_channels: int
    out_width: int
    out_height: int
    kernel_width: int
    kernel_height: int
    kernels: int
    stride_x: int
    stride_y: int
    dilation_x: int
    dilation_y: int
    pad_left: int
    pad_top: int
    pad_value: int                  # 32-bit lane pattern
    deconv_x: int                   # transposed convolution: pixels are spread by this factor; 1 otherwise
    deconv_y: int
    grains: int
    data_banks: int
    weight_banks: int
    weight_reuse: bool
    data_reuse: bool

    @property
    def surfaces(self) -> int:
        return ceil_div(self.channels, ATOM_BYTES)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all kernels in memory (data layouts §7)."""
        per_kernel = self.kernel_width * self.kernel_height * self.channels
        return per_kernel if self.depthwise else per_kernel * self.kernels

    @property
    def macs(self) -> int:
        """Multiply-accumulates per output column and row, over all kernels."""
        return self.out_width * self.out_height * self.weight_bytes


@dataclass(frozen=True)
class Features:
    """int8 input of a task. Element (row, column, channel) lies at row * row_step + column * column_step
    + channel // 16 * surface_step + channel % 16 of data."""

    data: np.ndarray
    row_step: int
    column_step: int
    surface_step: int
    shape: tuple[int, int, int]

    def nhwc(self) -> np.ndarray:
        """[rows][columns][channels]."""
        height, width, channels = self.shape
        view: np.ndarray = np.ndarray((height, width, channels // ATOM_BYTES, ATOM_BYTES), np.int8, self.data.data, 0,
                          (self.row_step, self.column_step, self.surface_step, 1))
        return view.reshape(height, width, channels)


def rows_of(features: np.ndarray) -> Features:
    """From a dense [rows][columns][channels] array."""
    height, width, channels = features.shape
    return Features(np.ascontiguousarray(features), width * channels, channels, ATOM_BYTES, (height, width, channels))


def decode_shape(cna: Snapshot) -> ConvShape:
    """Read the registers; no checks."""
    argb = cna("CONV_CON1.ARGB_IN")
    deconv = cna("CONV_CON1.DECONV")
    out_width = cna("DATA_SIZE2.DATAOUT_WIDTH")
    atomics = cna("DATA_SIZE3.DATAOUT_ATOMICS")
    return ConvShape(
        depthwise=cna("CONV_CON1.CONV_MODE") == MODE_DEPTHWISE,
        packed_channels=argb - 7 if 8 <= argb <= 11 else 0,
        group_line_off=bool(cna("CONV_CON1.GROUP_LINE_OFF")),
        width=cna("DATA_SIZE0.DATAIN_WIDTH"), dma_width=cna("FC_DATA_SIZE0.DMA_WIDTH"),
        height=cna("DATA_SIZE0.DATAIN_HEIGHT"),
        channels=cna("DATA_SIZE1.DATAIN_CHANNEL"), real_channels=cna("DATA_SIZE1.DATAIN_CHANNEL_REAL"),
        out_width=out_width, out_height=atomics // out_width if out_width else 0,
        kernel_width=cna("WEIGHT_SIZE2.WEIGHT_WIDTH"), kernel_height=cna("WEIGHT_SIZE2.WEIGHT_HEIGHT"),
        kernels=cna("WEIGHT_SIZE2.WEIGHT_KERNELS"),
        stride_x=cna("CONV_CON3.CONV_X_STRIDE"), stride_y=cna("CONV_CON3.CONV_Y_STRIDE"),
        dilation_x=cna("CONV_CON3.ATROUS_X_DILATION"), dilation_y=cna("CONV_CON3.ATROUS_Y_DILATION"),
        pad_left=cna("PAD_CON0.PAD_LEFT"), pad_top=cna("PAD_CON0.PAD_TOP"), pad_value=cna("PAD_CON1.PAD_VALUE"),
        deconv_x=cna("CONV_CON3.DECONV_X_STRIDE") if deconv else 1,
        deconv_y=cna("CONV_CON3.DECONV_Y_STRIDE") if deconv else 1,
        grains=cna("CONV_CON2.FEATURE_GRAINS"),
        data_banks=cna("CBUF_CON0.DATA_BANK"), weight_banks=cna("CBUF_CON0.WEIGHT_BANK"),
        weight_reuse=bool(cna("CBUF_CON0.WEIGHT_REUSE")), data_reuse=bool(cna("CBUF_CON0.DATA_REUSE")))


def entries_per_row(shape: ConvShape) -> int:
    """CBUF entries of 128 bytes that one input row takes (recipes §1.3)."""
    atoms = shape.surfaces
    rest = atoms % 8
    return atoms // 8 * shape.width + (shape.width if rest == 3 else ceil_div(rest * shape.width, 8))


def pad_lanes(shape: ConvShape) -> np.ndarray:
    """The value each channel reads outside the cube: int8 [channels] (numerics §2).

    Depthwise: odd channels among the first 32 of each 64 read byte 1 of PAD_VALUE; everything else byte 0.
    """
    return _lanes(shape.channels, shape.pad_value & 0xFFFF, shape.depthwise)


@functools.lru_cache(256)
def _lanes(channels: int, pad_value: int, depthwise: bool) -> np.ndarray:
    lanes = np.full(channels, pad_value & 0xFF, np.uint8)
    if depthwise:
        channel = np.arange(channels)
        lanes[(channel % 64 < 32) & (channel % 2 == 1)] = pad_value >> 8
    lanes.flags.writeable = False
    return lanes.view(np.int8)


def window_size(shape: ConvShape) -> tuple[int, int]:
    """Rows and columns that the taps of all outputs reach over."""
    return ((shape.out_height - 1) * shape.stride_y + (shape.kernel_height - 1) * shape.dilation_y + 1,
            (shape.out_width - 1) * shape.stride_x + (shape.kernel_width - 1) * shape.dilation_x + 1)


def padded_window(shape: ConvShape, features: np.ndarray) -> np.ndarray:
    """int8 [rows][columns][channels] with borders (and the pixels that DECONV inserts) filled in."""
    rows, columns = window_size(shape)
    window = np.empty((rows, columns, shape.channels), np.int8)
    window[...] = pad_lanes(shape)
    height = max(0, min(shape.height, ceil_div(rows - shape.pad_top, shape.deconv_y)))
    width = max(0, min(shape.width, ceil_div(columns - shape.pad_left, shape.deconv_x)))
    window[shape.pad_top::shape.deconv_y, shape.pad_left::shape.deconv_x][:height, :width] = features[:height, :width]
    return window


def window_bytes(shape: ConvShape) -> int:
    """Size of padded_window, to be judged before it is made."""
    rows, columns = window_size(shape)
    return rows * columns * shape.channels
