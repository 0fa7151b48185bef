"""What makes CNA stop or misread, told from its registers alone (execution model §7)."""
from __future__ import annotations

from cermet.hw.soc import Soc
from cermet.sim.cna import ATOM_BYTES, MODE_DEPTHWISE, MODE_DIRECT, ConvShape, ceil_div, entries_per_row
from cermet.sim.outcome import Hang, TaskOutcome
from cermet.sim.registers import Snapshot

DECONV_STRIDES = (1, 2, 4, 8)       # only these fields are live (recipes §12)


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
