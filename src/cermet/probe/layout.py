"""Questions about how maps, operands and weights lie in memory (open questions Q-L1 to Q-L8)."""
from __future__ import annotations

import numpy as np

from cermet.drivers.rocket.dpu import USE_BLOCK, OutputConverter, Stage, Stages
from cermet.drivers.rocket.layout import round_up
from cermet.drivers.rocket.regcmd import Address
from cermet.probe.build import Conv, places, to_atoms
from cermet.probe.conv import identity, numbers, with_out
from cermet.probe.model import HANGS, SENTINEL, Case, Probe, half_even, saturate, to_byte

# -- Q-L1, Q-L2: where the CNA reads -----------------------------------------------------------------------------------


def gather(source: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """int64 [height][width][surfaces * 16] of atoms [surfaces][height][width]."""
    values = source.view(np.int8).reshape(-1, 16)[atoms].astype(np.int64)
    return values.transpose(1, 2, 0, 3).reshape(*atoms.shape[1:], -1)


def line_groups() -> list[Case]:
    width, height, whole = 8, 8, 16
    source = numbers(1, (height * whole * 16,), -128, 127).view(np.uint8)
    conv = Conv(height, width, identity(16))
    draft = conv.draft().set("CNA.DMA_CON1", LINE_STRIDE=4 * whole)
    draft.set("CNA.DMA_CON2", SURF_STRIDE=whole * height - 4 * width)
    row, column = np.arange(height)[:, None], np.arange(width)
    atoms = {"a quarter of LINE_STRIDE": row * whole + column,
             "dense": row // 4 * 4 * whole + row % 4 * width + column}
    return [Case("", conv.memory(source), ((draft.program(),),), "output", places(height, width, 16),
                 {name: gather(source, at[None]) for name, at in atoms.items()})]


def low_maps() -> list[Case]:
    made = []
    width, surfaces = 4, 4
    for height in (1, 2, 3):
        source = numbers(height, (surfaces * 4 * width * 16,), -128, 127).view(np.uint8)
        plane = np.arange(height * width).reshape(height, width)
        dense, wide = (plane + np.arange(surfaces)[:, None, None] * pitch for pitch in (height * width, 4 * width))
        for label, stride, atoms in (("negative", (height - 4) * width, (dense, dense, wide)),
                                     ("0", 0, (wide, dense, wide))):
            conv = Conv(height, width, identity(64))
            draft = conv.draft().set("CNA.DMA_CON2", SURF_STRIDE=stride)
            names = ("as written", "0 means dense", "negative counts as 0")
            made.append(Case(f"{height} rows, SURF_STRIDE {label}", conv.memory(source), ((draft.program(),),),
                             "output", places(height, width, 64),
                             {name: gather(source, at) for name, at in zip(names, atoms, strict=True)}))
    return made


# -- Q-L5: two results side by side ------------------------------------------------------------------------------------


def side_by_side() -> list[Case]:
    width, height = 4, 4
    image = numbers(5, (height, width, 16), -128, 127)
    conv = Conv(height, width, identity(16), target_width=2 * width)
    right = conv.draft()
    right.address("DPU.DST_BASE_ADDR", Address("output", width * 16))
    wanted = np.concatenate([image, image], axis=1).astype(np.int64)
    dense = np.full((height, 2 * width, 16), SENTINEL, np.int64)
    flat = dense.reshape(-1, 16)
    flat[:height * width] = image.reshape(-1, 16)
    flat[width:width + height * width] = image.reshape(-1, 16)
    return [Case("", conv.memory(to_atoms(image)), ((conv.draft().program(), right.program()),), "output",
                 places(height, 2 * width, 16), {"lines apart": wanted, "lines without gap": dense})]


# -- Q-L6: per-channel adders and multipliers --------------------------------------------------------------------------


def operand_layout() -> list[Case]:
    channels = 32
    adders = numbers(6, (channels,), -40, 40).astype("<i4")
    factors = numbers(7, (channels,), 1, 3).astype("<i2")
    blocks = b"".join(adders[at:at + 8].tobytes() + factors[at:at + 8].tobytes() for at in range(0, channels, 8))
    raw = np.frombuffer(blocks + bytes(128), np.uint8)
    stage = Stage(add_from_memory=True, multiplier_from_memory=True, operands=Address("bias"), data_use=USE_BLOCK)
    weights = np.zeros((channels, 1, 1, 16), np.int8)
    weights[:, 0, 0, 0] = 1
    conv = Conv(4, 4, weights, stages=Stages(bs=stage, out=OutputConverter(0, 1, 0, False)))
    draft = conv.draft().set("DPU_RDMA.RDMA_BRDMA_CFG", BRDMA_DATA_USE=5)
    image = np.zeros((4, 4, 16), np.int8)
    image[..., 0] = np.arange(-8, 8).reshape(4, 4)
    seen = np.arange(-8, 8).reshape(4, 4, 1)
    predictions = {}
    for name, (add_at, factor_at) in {
            "48 bytes per 8 channels": (block_places(48, 0, 4), block_places(48, 32, 2)),
            "64 bytes per 8 channels": (block_places(64, 0, 4), block_places(64, 48, 2)),
            "all adders, then all multipliers": (np.arange(32) * 4, 128 + np.arange(32) * 2),
            "6 bytes per channel": (np.arange(32) * 6, 4 + np.arange(32) * 6)}.items():
        total = saturate(seen + elements(raw, add_at, "<i4"), 32)
        predictions[name] = to_byte(saturate(total * elements(raw, factor_at, "<i2"), 32))
    memory = conv.memory(to_atoms(image)) | {"bias": raw}
    return [Case("", memory, ((draft.program(),),), "output", places(4, 4, channels), predictions)]


def block_places(size: int, start: int, element: int) -> np.ndarray:
    channel = np.arange(32)
    return channel // 8 * size + start + channel % 8 * element


def elements(raw: np.ndarray, at: np.ndarray, kind: str) -> np.ndarray:
    size = np.dtype(kind).itemsize
    return np.ascontiguousarray(raw[at[:, None] + np.arange(size)]).view(kind)[:, 0].astype(np.int64)


# -- Q-L7: packed pixels -----------------------------------------------------------------------------------------------


def packed_rows() -> list[Case]:
    width, height = 20, 6
    source = numbers(8, (height * 64 + 64,), -128, 127).view(np.uint8)
    weights = np.zeros((4, 1, 1, 16), np.int8)
    weights[:3, 0, 0, :3] = np.eye(3)
    conv = Conv(height, width, weights)
    draft = conv.draft().set("CNA.CONV_CON1", NONALIGN_DMA=1, GROUP_LINE_OFF=1, ARGB_IN=10)
    draft.set("CNA.DMA_CON1", LINE_STRIDE=width).set("CNA.DMA_CON2", SURF_STRIDE=width * (height - 1))
    draft.set("CNA.DATA_SIZE1", DATAIN_CHANNEL_REAL=3).set("CNA.CBUF_CON1", DATA_ENTRIES=width * height)
    pixel = np.arange(width)[:, None] * 3 + np.arange(3)
    predictions = {name: source.view(np.int8)[np.arange(height)[:, None, None] * pitch + pixel].astype(np.int64)
                   for name, pitch in (("dense rows", 60), ("rows of 64 bytes", 64), ("rows of 48 bytes", 48))}
    return [Case("", conv.memory(source), ((draft.program(),),), "output", places(height, width, 3), predictions)]


# -- Q-L8: tails of weights --------------------------------------------------------------------------------------------


def decoded(stored: np.ndarray, kernels: int, channels: int, whole_blocks: bool, whole_groups: bool) -> np.ndarray:
    """[kernels][channels] of 1x1 weights, as a reader sees them that has rows of 32 channels or groups of 32 kernels
    throughout, or short ones at the end."""
    weights = np.zeros((kernels, channels), np.int64)
    at = 0
    for first in range(0, kernels, 32):
        rows = 32 if whole_groups else min(32, round_up(kernels, 2) - first)
        for channel in range(0, channels, 32):
            width = 32 if whole_blocks else min(32, round_up(channels - channel, 16))
            block = stored[at:at + rows * width].reshape(rows, width)
            used = block[:min(rows, kernels - first), :min(width, channels - channel)]
            weights[first:first + used.shape[0], channel:channel + used.shape[1]] = used
            at += rows * width
    return weights


def weight_tails() -> list[Case]:
    made = []
    for channels, kernels in ((17, 32), (24, 32), (40, 32), (48, 32), (49, 32), (32, 3), (32, 5), (32, 33), (40, 35),
                              (104, 48)):
        image = numbers(channels, (4, 4, channels), -20, 20)
        conv = with_out(Conv(4, 4, numbers(kernels, (kernels, 1, 1, channels), -20, 20)), 5)
        memory = conv.memory(to_atoms(image))
        stored = np.concatenate([memory["weights"], np.zeros(8192, np.uint8)]).view(np.int8)
        memory["weights"] = stored.view(np.uint8)
        predictions = {}
        for name, rules in {"short rows and groups": (False, False), "rows of 32 channels": (True, False),
                            "groups of 32 kernels": (False, True), "both whole": (True, True)}.items():
            weights = decoded(stored, kernels, channels, *rules)
            predictions[name] = to_byte(half_even(image.astype(np.int64) @ weights.T, 5))
        made.append(Case(f"{channels} inputs, {kernels} kernels", memory, ((conv.draft().program(),),), "output",
                         places(4, 4, kernels), predictions))
    return made


PROBES = (
    Probe("Q-L1", "lines inside a group of four when LINE_STRIDE is not 4 * width",
          "8 columns out of 16, GROUP_LINE_OFF 0", {
              "a quarter of LINE_STRIDE": "lines are LINE_STRIDE / 4 apart", "dense": "lines follow each other"},
          line_groups),
    Probe("Q-L2", "SURF_STRIDE of maps lower than 4 rows", "1, 2, 3 rows of 64 channels, both encodings", {
        "as written": "surfaces are SURF_STRIDE + 4 * width apart, with sign",
        "0 means dense": "0 and the negative number mean the same",
        "negative counts as 0": "surfaces are 4 * width apart either way"}, low_maps),
    Probe("Q-L5", "NOTCH behind an int8 convolution", "two convolutions into the halves of a wider map", {
        "lines apart": "as in flying copies", "lines without gap": ""}, side_by_side),
    Probe("Q-L6", "operands of DATA_USE 5: adder and multiplier per channel", "(x + A[c]) * C[c]", {
        "48 bytes per 8 channels": "8 int32, then 8 int16", "64 bytes per 8 channels": "with a hole where CPEND lies",
        "all adders, then all multipliers": "", "6 bytes per channel": "", HANGS: "never completes"}, operand_layout),
    Probe("Q-L7", "packed pixels in rows that are no multiple of 16 bytes", "3 channels, 20 columns", {
        "dense rows": "60 bytes apart", "rows of 64 bytes": "", "rows of 48 bytes": ""}, packed_rows),
    Probe("Q-L8", "tails of the weights' layout",
          "1x1 convolutions of 17, 24, 40, 48, 49, 104 inputs and 3, 5, 33, 35, 48 kernels", {
              "short rows and groups": "1..16 last channels take 16, the last kernels an even number",
              "rows of 32 channels": "always", "groups of 32 kernels": "always", "both whole": "always"}, weight_tails),
)
