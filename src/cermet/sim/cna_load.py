"""CNA: feature and weight DMA, input converter, and what CBUF holds from task to task.

Layouts: data layouts §3 and §7. Converter: numerics §1.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.hw.soc import Soc
from cermet.sim.cna import ATOM_BYTES, ConvShape, Features, ceil_div, entries_per_row, rows_of
from cermet.sim.memory import AddressSpace
from cermet.sim.outcome import Hang, TaskOutcome
from cermet.sim.registers import Snapshot
from cermet.sim.rounding import saturate, shift_even, shift_up

GROUP_LINES = 4                     # lines that one DMA burst group holds when GROUP_LINE_OFF is 0
GARBAGE = np.frombuffer(bytes((i * 151 + 89) & 0xFF for i in range(4096)), np.uint8)


def garbage(num_bytes: int) -> np.ndarray:
    """Contents of a buffer that nothing meaningful was loaded into: fixed, so that runs repeat."""
    return np.resize(GARBAGE, num_bytes)


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
