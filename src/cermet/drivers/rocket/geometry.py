"""Shapes of a convolution, as the CNA sees them."""
from __future__ import annotations

from dataclasses import dataclass, replace

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.layout import ATOM_BYTES, round_up
from cermet.drivers.rocket.limits import MAX_PAD
from cermet.hw.soc import Soc
from cermet.ir.operation import Pair, Window

NOT_SPREAD = Pair(1, 1)
# The array starts when FEATURE_GRAINS rows are there: the fewer, the earlier. At least a window, a step and one (the
# register's description; no program is known that asks for so few, docs/hardware.md). The vendor's programs ask for 12
# under windows of 3 rows and for 27 to 30 under windows of 7, where a map has more; Mesa's for 51 and a step.
FIRST_ROWS = 12
FIRST_WINDOWS = 4           # times the window: 28 rows under windows of 7
MAX_FIRST_ROWS = 1022       # above, the field wraps (hw-verified)


@dataclass(frozen=True)
class Geometry:
    """One convolution over one image. Pads on the right and at the bottom follow from the output size.

    spread   distance at which the CNA lays out the input's pixels, with pad values between them: the transposed mode
             (recipes §12). Pads, kernel and output then count in pixels of the spread image
    starts_early   the array waits for as few rows as it may (option first_rows=least)
    """

    input_height: int
    input_width: int
    input_channels: int
    output_height: int
    output_width: int
    output_channels: int
    kernel: Pair
    stride: Pair
    dilation: Pair
    pad_top: int
    pad_left: int
    is_depthwise: bool = False
    spread: Pair = NOT_SPREAD
    starts_early: bool = False

    @staticmethod
    def of(window: Window, input_shape: tuple[int, int, int], output_channels: int, *,
           is_depthwise: bool = False) -> Geometry:
        """From a window over an input of (height, width, channels)."""
        height, width, channels = input_shape
        out = window.output_size(height, width)
        top, _, left, _ = window.pads(height, width)
        return Geometry(height, width, channels, out.y, out.x, output_channels, window.kernel, window.stride,
                        window.dilation, top, left, is_depthwise)

    @property
    def aligned_input_channels(self) -> int:
        """Cal: what is programmed and stored, whole atoms."""
        return round_up(max(self.input_channels, 1), ATOM_BYTES)

    @property
    def kernel_height_extent(self) -> int:
        return (self.kernel.y - 1) * self.dilation.y + 1

    @property
    def is_transposed(self) -> bool:
        return self.spread != NOT_SPREAD

    @property
    def taps(self) -> int:
        return self.kernel.y * self.kernel.x

    @property
    def kernel_bytes(self) -> int:
        """Weight bytes of one kernel; of all channels when depthwise, whose channels make one kernel."""
        return self.taps * self.aligned_input_channels

    def group(self, soc: Soc) -> int:
        """Output channels that the DPU completes together."""
        return soc.depthwise_group if self.is_depthwise else soc.kernel_group

    def aligned_output_channels(self, soc: Soc) -> int:
        """OCal: whole groups, else the task never ends (recipes §1.7)."""
        return round_up(self.output_channels, self.group(soc))

    @property
    def num_kernels(self) -> int:
        """Kernels that are stored: even (data layouts §7.1). Depthwise: one."""
        return 1 if self.is_depthwise else round_up(self.output_channels, 2)

    @property
    def first_rows(self) -> int:
        """FEATURE_GRAINS: input rows that the array waits for; in transposed mode all and one (recipes §12)."""
        if self.is_transposed:
            return self.input_height + 1
        window = self.kernel_height_extent
        if self.starts_early:
            return window + self.stride.y + 1
        return max(FIRST_ROWS, min(FIRST_WINDOWS * window, MAX_FIRST_ROWS), window + self.stride.y + 1)

    @property
    def weight_bytes(self) -> int:
        return self.kernel_bytes * self.num_kernels

    @property
    def macs(self) -> int:
        per_output = self.taps * (1 if self.is_depthwise else self.input_channels)
        return self.output_height * self.output_width * self.output_channels * per_output


def starting(geometry: Geometry, options: CompileOptions) -> Geometry:
    """The same convolution with as many rows to wait for as the options want."""
    return replace(geometry, starts_early=options.starts_early)


def with_large_pads_in_memory(geometry: Geometry) -> Geometry:
    """The same convolution over a map that holds the padding which registers do not: above, on the left."""
    top = geometry.pad_top if geometry.pad_top > MAX_PAD else 0
    left = geometry.pad_left if geometry.pad_left > MAX_PAD else 0
    return replace(geometry, input_height=geometry.input_height + top, input_width=geometry.input_width + left,
                   pad_top=geometry.pad_top - top, pad_left=geometry.pad_left - left)


@dataclass(frozen=True)
class Tile:
    """The work of one task, in rows and channels of the whole convolution."""

    first_output_row: int
    output_rows: int
    first_input_row: int
    input_rows: int
    pad_top: int
    first_channel: int
    channels: int
    data_banks: int
    weight_banks: int
    reuses_weights: bool = False
