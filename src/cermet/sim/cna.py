"""CNA: feature and weight DMA, input converter, padding, CBUF. What CORE gets to multiply.

Layouts: data layouts §3 and §7. Converter and padding: numerics §1 and §2. CBUF: recipes §1.3.
"""
from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from cermet.hw.soc import Soc
from cermet.sim.memory import AddressSpace
from cermet.sim.outcome import Hang, TaskOutcome
from cermet.sim.registers import Snapshot
from cermet.sim.rounding import saturate, shift_even, shift_up

ATOM_BYTES = 16
GROUP_LINES = 4                     # lines that one DMA burst group holds when GROUP_LINE_OFF is 0
DECONV_STRIDES = (1, 2, 4, 8)       # only these fields are live (recipes §12)
MODE_DIRECT, MODE_DEPTHWISE = 0, 3
GARBAGE = np.frombuffer(bytes((i * 151 + 89) & 0xFF for i in range(4096)), np.uint8)


def ceil_div(value: int, step: int) -> int:
    return -(-value // step)


def garbage(num_bytes: int) -> np.ndarray:
    """Contents of a buffer that nothing meaningful was loaded into: fixed, so that runs repeat."""
    return np.resize(GARBAGE, num_bytes)


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


@dataclass
class Cbuf:
    """What the convolution buffer holds between tasks: reuse bits read this, right or wrong."""

    features: np.ndarray | None = None          # uint8 [surfaces][rows][width][16] or packed rows
    weights: np.ndarray | None = None           # uint8, as in memory
    weights_first_bank: int = 0
    weights_resident: bool = False              # all of them, not streamed

    def clear(self) -> None:
        self.features = self.weights = None
        self.weights_resident = False


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


def check_shape(cna: Snapshot, shape: ConvShape, outcome: TaskOutcome) -> None:
    """Everything that makes CNA stop or misread, in the order a reader would look. Raises Hang."""
    _check_modes(cna, shape, outcome)
    if not shape.out_width or not shape.out_height:
        raise Hang("cna.no_output_rows", f"CNA.DATA_SIZE3: {cna('DATA_SIZE3.DATAOUT_ATOMICS')} output atoms at width "
                   f"{shape.out_width} is no row at all")
    if cna("DATA_SIZE3.DATAOUT_ATOMICS") % shape.out_width:
        raise Hang("cna.ragged_output", "CNA.DATA_SIZE3: output atoms are not a whole number of rows (ASSUMED to hang)")
    for name in ("width", "height", "channels", "kernel_width", "kernel_height", "kernels", "stride_x", "stride_y"):
        if getattr(shape, name) == 0:
            raise Hang("cna.zero_size", f"CNA: {name} is 0 (ASSUMED to hang)")
    if shape.channels % ATOM_BYTES:
        raise Hang("cna.channels", f"CNA.DATA_SIZE1: {shape.channels} channels must be a multiple of 16 "
                   "(ASSUMED to hang)")
    _check_dma_sizes(cna, shape)
    _check_weight_sizes(cna, shape)
    _check_grains(cna, shape, outcome)


def _check_modes(cna: Snapshot, shape: ConvShape, outcome: TaskOutcome) -> None:
    for name in ("CONV_CON1.IN_PRECISION", "CONV_CON1.PROC_PRECISION"):
        if cna(name):
            raise Hang("precision", f"CNA.{name}: unsupported precision {cna(name)}, the simulator does int8 (0)")
    if cna("CONV_CON1.CONV_MODE") not in (MODE_DIRECT, MODE_DEPTHWISE):
        raise Hang("cna.conv_mode", f"CNA.CONV_CON1.CONV_MODE: {cna('CONV_CON1.CONV_MODE')} must be 0 or 3")
    argb = cna("CONV_CON1.ARGB_IN")
    if argb and not shape.packed_channels:
        raise Hang("cna.argb", f"CNA.CONV_CON1.ARGB_IN: {argb} must be 0 or 8..11")
    if shape.packed_channels and not (shape.group_line_off and cna("CONV_CON1.NONALIGN_DMA")):
        raise Hang("cna.argb", "CNA.CONV_CON1: packed pixels need NONALIGN_DMA and GROUP_LINE_OFF (ASSUMED to hang)")
    if cna("CONV_CON3.NN_MODE"):
        raise Hang("cna.nn_mode", "CNA.CONV_CON3.NN_MODE: cores joined for one convolution are unsupported")
    if cna("DCOMP_CTRL.DECOMP_CONTROL") or cna("DCOMP_AMOUNT0.DCOMP_AMOUNT0"):
        raise Hang("cna.dcomp", "CNA.DCOMP_CTRL: compressed weights are unsupported")
    if cna("FC_CON0.FC_SKIP_EN"):
        raise Hang("cna.fc", "CNA.FC_CON0.FC_SKIP_EN: zero skipping is unsupported")
    if shape.deconv_x not in DECONV_STRIDES or shape.deconv_y not in DECONV_STRIDES:
        raise Hang("cna.deconv_stride", f"CNA.CONV_CON3: transposed stride {shape.deconv_x}x{shape.deconv_y} must be "
                   "1, 2, 4 or 8 (ASSUMED to hang)")
    if shape.deconv_x * shape.deconv_y > 1 and (shape.stride_x, shape.stride_y) != (1, 1):
        raise Hang("cna.deconv_stride", "CNA.CONV_CON3: transposed convolution needs convolution stride 1 "
                   "(ASSUMED to hang)")
    if shape.deconv_x == 2 and shape.pad_left >= 12 or shape.deconv_y == 2 and shape.pad_top >= 12:
        outcome.warn("cna.deconv_pad", "CNA.PAD_CON0: pads 12..15 at transposed stride 2 are wrong on hardware")


def _check_dma_sizes(cna: Snapshot, shape: ConvShape) -> None:
    if cna("FC_DATA_SIZE0.DMA_HEIGHT") != shape.height:
        raise Hang("cna.dma_height", f"CNA.FC_DATA_SIZE0.DMA_HEIGHT: {cna('FC_DATA_SIZE0.DMA_HEIGHT')} must be "
                   f"DATAIN_HEIGHT, {shape.height} (ASSUMED to hang)")
    if not shape.packed_channels and shape.dma_width != shape.width:
        raise Hang("cna.dma_width", f"CNA.FC_DATA_SIZE0.DMA_WIDTH: {shape.dma_width} must be DATAIN_WIDTH, "
                   f"{shape.width} (ASSUMED to hang)")
    if cna("FC_DATA_SIZE1.DMA_CHANNEL") != shape.channels:
        raise Hang("cna.dma_channel", f"CNA.FC_DATA_SIZE1.DMA_CHANNEL: {cna('FC_DATA_SIZE1.DMA_CHANNEL')} must be "
                   f"DATAIN_CHANNEL, {shape.channels} (ASSUMED to hang)")


def _check_weight_sizes(cna: Snapshot, shape: ConvShape) -> None:
    per_kernel = shape.kernel_width * shape.kernel_height * shape.channels
    if cna("WEIGHT_SIZE1.WEIGHT_BYTES_PER_KERNEL") != per_kernel & 0x7FFFF:
        raise Hang("cna.weight_size", f"CNA.WEIGHT_SIZE1: {cna('WEIGHT_SIZE1.WEIGHT_BYTES_PER_KERNEL')} bytes per "
                   f"kernel must be {per_kernel} (ASSUMED to hang)")
    if per_kernel > 0x7FFFF:
        raise Hang("cna.weight_size", f"CNA.WEIGHT_SIZE1: {per_kernel} bytes per kernel do not fit 19 bits")
    if cna("WEIGHT_SIZE0.WEIGHT_BYTES") != shape.weight_bytes:
        raise Hang("cna.weight_size", f"CNA.WEIGHT_SIZE0: {cna('WEIGHT_SIZE0.WEIGHT_BYTES')} bytes must be "
                   f"{shape.weight_bytes} (ASSUMED to hang)")
    if shape.depthwise and shape.kernels != 1:
        raise Hang("cna.kernels", f"CNA.WEIGHT_SIZE2.WEIGHT_KERNELS: {shape.kernels} must be 1 in depthwise mode "
                   "(ASSUMED to hang)")


def _check_grains(cna: Snapshot, shape: ConvShape, outcome: TaskOutcome) -> None:
    if cna.values.get(0x1010, 0) >> 14 & 3:
        outcome.warn("cna.grains_wrap", f"CNA.CONV_CON2: FEATURE_GRAINS above 1023 wraps to {shape.grains}")
    needed = min(shape.stride_y + shape.kernel_height + 1, shape.height + 1)
    if shape.grains < needed:
        raise Hang("cna.grains", f"CNA.CONV_CON2.FEATURE_GRAINS: {shape.grains} rows must be at least {needed} "
                   "(below the minimum: ASSUMED to stall)")


def entries_per_row(shape: ConvShape) -> int:
    """CBUF entries of 128 bytes that one input row takes (recipes §1.3)."""
    atoms = shape.surfaces
    rest = atoms % 8
    return atoms // 8 * shape.width + (shape.width if rest == 3 else ceil_div(rest * shape.width, 8))


def data_entries(shape: ConvShape) -> set[int]:
    """Accepted CBUF_CON1 values: 64-byte units of one row. Three atoms over a multiple of four may be rounded up to
    four per pixel: the vendor does (48 channels, width 15: 15), Mesa does not."""
    atoms = shape.surfaces
    rounded = atoms + 1 if atoms % 4 == 3 else atoms
    return {ceil_div(shape.width * count, 4) & 0x3FFF for count in (atoms, rounded)}


def check_cbuf(cna: Snapshot, shape: ConvShape, soc: Soc, outcome: TaskOutcome) -> None:
    """Banks: features must fit theirs; kernels may be streamed. Raises Hang."""
    if not shape.data_banks or not shape.weight_banks or shape.data_banks + shape.weight_banks > soc.cbuf.banks:
        raise Hang("cna.banks", f"CNA.CBUF_CON0: {shape.data_banks} data and {shape.weight_banks} weight banks must be "
                   f"at least 1 each and {soc.cbuf.banks} together (ASSUMED to hang)")
    if shape.packed_channels:
        entries = ceil_div(shape.width * shape.packed_channels * shape.height, soc.cbuf.entry_bytes)
    else:
        entries = entries_per_row(shape) * shape.height
        per_row = data_entries(shape)
        if cna("CBUF_CON1.DATA_ENTRIES") not in per_row:
            raise Hang("cna.entries", f"CNA.CBUF_CON1.DATA_ENTRIES: {cna('CBUF_CON1.DATA_ENTRIES')} must be "
                       f"{' or '.join(map(str, sorted(per_row)))} (ASSUMED to hang)")
    if ceil_div(entries, soc.cbuf.entries_per_bank) > shape.data_banks:
        raise Hang("cna.cbuf_overflow", f"CNA.CBUF_CON0.DATA_BANK: {entries} entries of features must fit "
                   f"{shape.data_banks} banks of {soc.cbuf.entries_per_bank} (ASSUMED to hang)")
    group = shape.weight_bytes if shape.depthwise else shape.weight_bytes // shape.kernels * min(
        shape.kernels, soc.kernel_group)
    if not shape.depthwise and group > shape.weight_banks * soc.cbuf.bank_bytes:
        outcome.warn("cna.kernel_group_streamed", f"CNA.CBUF_CON0.WEIGHT_BANK: one kernel group of {group} bytes does "
                     f"not fit {shape.weight_banks} banks; streaming inside a group is ASSUMED to work")
    if cna("CBUF_CON0.FC_DATA_BANK"):
        outcome.warn("cna.fc_data_bank", "CNA.CBUF_CON0.FC_DATA_BANK: must be 0, features are read from other banks")


def load_features(cna: Snapshot, shape: ConvShape, space: AddressSpace, base: int, cbuf: Cbuf, soc: Soc,
                  outcome: TaskOutcome) -> Features:
    """The input as CBUF delivers it. base is TASK_DMA_BASE_ADDR."""
    if shape.data_reuse:
        raw = _reused_features(shape, cbuf, outcome)
    else:
        raw = _fetch_features(cna, shape, space, base)
        if cbuf.weights_resident and cbuf.weights_first_bank < shape.data_banks:
            cbuf.weights_resident = False       # the features now lie where the weights were
    cbuf.features = raw
    features = _unpack(cna, shape, raw, outcome)
    return _with_cbuf_defects(cna, shape, features, soc, outcome)


def _raw_shape(shape: ConvShape) -> tuple[int, ...]:
    if shape.packed_channels:
        return (shape.height, shape.width * shape.packed_channels)
    return (shape.surfaces, shape.height, shape.width * ATOM_BYTES)


def _reused_features(shape: ConvShape, cbuf: Cbuf, outcome: TaskOutcome) -> np.ndarray:
    wanted = _raw_shape(shape)
    if cbuf.features is not None and cbuf.features.shape == wanted:
        return cbuf.features
    outcome.warn("cna.data_reuse", "CNA.CBUF_CON0.DATA_REUSE: the task before left no features of this shape in CBUF")
    return garbage(int(np.prod(wanted))).reshape(wanted)


def _fetch_features(cna: Snapshot, shape: ConvShape, space: AddressSpace, base: int) -> np.ndarray:
    """Read memory: the unified model of data layouts §3."""
    address = cna("FEATURE_DATA_ADDR.FEATURE_BASE_ADDR") + base & ~0xF
    line = cna("DMA_CON1.LINE_STRIDE")
    surface = cna("DMA_CON2.SURF_STRIDE")
    if shape.packed_channels:
        return space.gather(address, _raw_shape(shape), (line * shape.packed_channels, 1)).copy()
    group = 1 if shape.group_line_off else GROUP_LINES
    surface_bytes = (surface + group * shape.dma_width) * ATOM_BYTES
    block = (shape.surfaces, shape.height, shape.width * ATOM_BYTES)
    if line % group == 0:
        return space.gather(address, block, (surface_bytes, line // group * ATOM_BYTES, 1)).copy()
    rows = []
    for row in range(shape.height):
        at = address + (row // group * line + row % group * (line // group)) * ATOM_BYTES
        rows.append(space.gather(at, (shape.surfaces, 1, block[2]), (surface_bytes, 0, 1)))
    return np.concatenate(rows, axis=1)


def _unpack(cna: Snapshot, shape: ConvShape, raw: np.ndarray, outcome: TaskOutcome) -> Features:
    """Atoms, or pixels spread over channels and converted."""
    bypass = cna("CVT_CON0.CVT_BYPASS")
    if not shape.packed_channels:
        if not bypass:
            raise Hang("cna.cvt", "CNA.CVT_CON0: an active converter on feature atoms is unsupported")
        return Features(raw.view(np.int8), shape.width * ATOM_BYTES, ATOM_BYTES,
                        shape.height * shape.width * ATOM_BYTES, (shape.height, shape.width, shape.channels))
    pixels = raw.reshape(shape.height, shape.width, shape.packed_channels)
    features = np.zeros((shape.height, shape.width, shape.channels), np.int8)
    if bypass:
        features[..., :shape.packed_channels] = pixels.view(np.int8)
        return rows_of(features)
    for lane in range(shape.packed_channels):
        features[..., lane] = convert_lane(cna, pixels[..., lane], lane)
    return rows_of(features)


def convert_lane(cna: Snapshot, stored: np.ndarray, lane: int) -> np.ndarray:
    """Input converter of one pixel lane (numerics §1; Q-N1: order and rounding ASSUMED as there)."""
    value = (stored.view(np.int8) if cna("CVT_CON0.DATA_SIGN") else stored).astype(np.int64)
    if cna("CVT_CON5.PER_CHANNEL_CVT_EN") >> lane & 1:
        scale = cna(f"CVT_CON{lane + 1}.CVT_SCALE{lane}")
        offset = cna(f"CVT_CON{lane + 1}.CVT_OFFSET{lane}")
        shift = cna(f"CVT_CON0.CVT_TRUNCATE_{lane}")
        rounded = shift_up if cna("CVT_CON0.ROUND_TYPE") else shift_even
        if cna("CVT_CON0.CVT_TYPE"):
            value = rounded((value + offset) * scale, min(shift, 62))
        else:
            value = rounded(value * scale, min(shift, 62)) + offset
    return saturate(value, 8).astype(np.int8)


def _with_cbuf_defects(cna: Snapshot, shape: ConvShape, features: Features, soc: Soc,
                       outcome: TaskOutcome) -> Features:
    """Wrong data that bank settings are known to give (execution model §7)."""
    if cna("CBUF_CON0.FC_DATA_BANK"):
        return rows_of(garbage(int(np.prod(features.shape))).view(np.int8).reshape(features.shape))
    if shape.width != 1 or shape.packed_channels:
        return features
    entries = entries_per_row(shape) * shape.height
    last_bank = entries - (shape.data_banks - 1) * soc.cbuf.entries_per_bank
    if last_bank <= 0.97 * soc.cbuf.entries_per_bank:
        return features
    lost = max(1, ceil_div(last_bank - int(0.97 * soc.cbuf.entries_per_bank), entries_per_row(shape)))
    outcome.warn("cna.exact_fit", f"CNA.CBUF_CON0.DATA_BANK: width 1 fills the last bank to more than 97 %, the last "
                 f"{lost} rows are garbage (how many: ASSUMED)")
    rows = features.nhwc().copy()
    tail = rows[-lost:]
    tail[...] = garbage(tail.size).view(np.int8).reshape(tail.shape)
    return rows_of(rows)


def load_weights(cna: Snapshot, shape: ConvShape, space: AddressSpace, base: int, cbuf: Cbuf, soc: Soc,
                 outcome: TaskOutcome) -> np.ndarray:
    """uint8, WEIGHT_SIZE0 bytes: from memory, or what CBUF holds when WEIGHT_REUSE is set."""
    size = shape.weight_bytes
    if not shape.weight_reuse:
        address = cna("DCOMP_ADDR0.DECOMPRESS_ADDR0") + base & ~0xF
        cbuf.weights = space.read(address, size).copy()
        cbuf.weights_first_bank = shape.data_banks
        cbuf.weights_resident = size <= shape.weight_banks * soc.cbuf.bank_bytes
        return cbuf.weights
    held = cbuf.weights
    usable = held is not None and cbuf.weights_resident and cbuf.weights_first_bank == shape.data_banks
    if usable and held is not None and held.size >= size:
        return held[:size]
    outcome.warn("cna.weight_reuse", "CNA.CBUF_CON0.WEIGHT_REUSE: the weights of the task before are not in "
                 "these banks")
    return garbage(size)


def unpack_weights(shape: ConvShape, raw: np.ndarray, soc: Soc) -> np.ndarray:
    """int8 [kernels][kernel rows][kernel columns][channels]; depthwise: one kernel (data layouts §7)."""
    taps = (shape.kernel_height, shape.kernel_width)
    stored = raw.view(np.int8)
    if shape.depthwise:
        return _unpack_depthwise(stored, taps, shape.channels, soc.depthwise_group)
    kernels = np.empty((shape.kernels, *taps, shape.channels), np.int8)
    at = 0
    for first in range(0, shape.kernels, soc.kernel_group):
        rows = min(soc.kernel_group, shape.kernels - first)
        for channel in range(0, shape.channels, soc.weight_input_block):
            width = min(soc.weight_input_block, shape.channels - channel)
            size = taps[0] * taps[1] * rows * width
            block = stored[at:at + size].reshape(*taps, rows, width)
            kernels[first:first + rows, :, :, channel:channel + width] = block.transpose(2, 0, 1, 3)
            at += size
    return kernels


def _unpack_depthwise(stored: np.ndarray, taps: tuple[int, int], channels: int, group: int) -> np.ndarray:
    kernel = np.empty((1, *taps, channels), np.int8)
    at = 0
    for first in range(0, channels, group):
        width = min(group, channels - first)
        size = taps[0] * taps[1] * width
        kernel[0, :, :, first:first + width] = stored[at:at + size].reshape(*taps, width)
        at += size
    return kernel


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
