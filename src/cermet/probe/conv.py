"""Questions about CNA and CORE: convolutions (open questions Q-N1 to Q-N3, Q-L1 to Q-L8, Q-D1, Q-E2, Q-E3)."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cermet.drivers.rocket.dpu import USE_BLOCK, Elementwise, OutputConverter, Stage, Stages
from cermet.drivers.rocket.layout import FeatureMap, round_up
from cermet.drivers.rocket.regcmd import Address
from cermet.ir.operation import Pair
from cermet.probe.build import Conv, flying, places, ramp, to_atoms
from cermet.probe.model import HANGS, ROUNDINGS, SENTINEL, Case, Probe, half_even, saturate, to_byte, wrap

BYTES = np.arange(-128, 128, dtype=np.int64)
Rounding = Callable[[np.ndarray, int], np.ndarray]


def numbers(seed: int, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """int8, both ends inclusive; the same on every machine."""
    first = 1 + seed * 1_000_003
    state = np.arange(first, first + int(np.prod(shape)), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    return (low + (state % np.uint64(high - low + 1)).astype(np.int64)).astype(np.int8).reshape(shape)


def identity(channels: int, inputs: int = 0) -> np.ndarray:
    """1x1 weights that pass channels on."""
    return np.eye(channels, inputs or channels, dtype=np.int8).reshape(channels, 1, 1, inputs or channels)


def with_out(conv: Conv, shift: int, offset: int = 0) -> Conv:
    return replace(conv, stages=replace(conv.stages, out=OutputConverter(offset, 1, shift, False)))


# -- Q-N1: the input converter -----------------------------------------------------------------------------------------


def converter_case(kind: int, round_type: int, scale: int, offset: int, shift: int) -> Case:
    """A picture of one packed channel holding all bytes; output 0 is the converted byte."""
    weights = np.zeros((2, 1, 1, 16), np.int8)
    weights[:, 0, 0, 0] = 1
    conv = Conv(16, 16, weights)
    draft = conv.draft().set("CNA.CONV_CON1", NONALIGN_DMA=1, GROUP_LINE_OFF=1, ARGB_IN=8)
    draft.set("CNA.DMA_CON1", LINE_STRIDE=16).set("CNA.DMA_CON2", SURF_STRIDE=16 * 15)
    draft.set("CNA.DATA_SIZE1", DATAIN_CHANNEL_REAL=1).set("CNA.CBUF_CON1", DATA_ENTRIES=256)
    draft.set("CNA.CVT_CON0", DATA_SIGN=1, CVT_TYPE=kind, CVT_BYPASS=0, ROUND_TYPE=round_type, CVT_TRUNCATE_0=shift)
    draft.set("CNA.CVT_CON1", CVT_SCALE0=scale, CVT_OFFSET0=offset).set("CNA.CVT_CON5", PER_CHANNEL_CVT_EN=0xFFFF)
    orders: dict[str, Callable[[Rounding], np.ndarray]] = {
        "scale, round, add": lambda rounding: rounding(BYTES * scale, shift) + offset,
        "add, scale, round": lambda rounding: rounding((BYTES + offset) * scale, shift),
        "scale, add, round": lambda rounding: rounding(BYTES * scale + offset, shift)}
    predictions = {f"{order}: {name}": to_byte(value(rounding)) for order, value in orders.items()
                   for name, (_, rounding) in ROUNDINGS.items()}
    return Case(f"scale {scale}, offset {offset}, shift {shift}", conv.memory(ramp().view(np.uint8).reshape(-1)),
                ((draft.program(),),), "output", places(16, 16, 1).reshape(-1), predictions)


def converter(kind: int, round_type: int) -> Callable[[], list[Case]]:
    return lambda: [converter_case(kind, round_type, *values) for values in ((1, 5, 1), (3, -7, 3), (5, 6, 4))]


def converter_probe(name: str, kind: int, round_type: int, assumed: str) -> Probe:
    orders = ("scale, round, add", "add, scale, round", "scale, add, round")
    names = [f"{order}: {rounding}" for order in orders for rounding in ROUNDINGS]
    texts = {one: ROUNDINGS[one.split(": ")[1]][0] for one in sorted(names, key=lambda one: one != assumed)}
    return Probe(name, f"input converter, CVT_TYPE {kind}, ROUND_TYPE {round_type}: order and rounding",
                 "one packed channel holding all bytes, scaled by odd numbers, through a 1x1 convolution by 1", texts,
                 converter(kind, round_type))


# -- Q-N2, Q-N3: CLIP_TRUNCATE, overflow -------------------------------------------------------------------------------


def truncate(round_type: int) -> Callable[[], list[Case]]:
    def cases() -> list[Case]:
        made = []
        weights = np.zeros((2, 1, 1, 16), np.int8)
        weights[:, 0, 0, 0] = 1
        image = np.zeros((16, 16, 16), np.int8)
        image[..., 0] = ramp().reshape(16, 16)
        conv = Conv(16, 16, weights, weight_zero_point=-2)
        for shift in (1, 2, 3):
            draft = conv.draft().set("CORE.CLIP_TRUNCATE", CLIP_TRUNCATE=shift, ROUND_TYPE=round_type)
            predictions = {}
            for name, (_, rounding) in ROUNDINGS.items():
                predictions[f"sum: {name}"] = to_byte(rounding(BYTES + 2 * BYTES, shift))
                predictions[f"apart: {name}"] = to_byte(rounding(BYTES, shift) + 2 * rounding(BYTES, shift))
            made.append(Case(f"shift {shift}", conv.memory(to_atoms(image)), ((draft.program(),),), "output",
                             places(16, 16, 1).reshape(-1), predictions))
        return made
    return cases


def truncate_texts(assumed: str) -> dict[str, str]:
    names = [f"{kind}: {rounding}" for kind in ("sum", "apart") for rounding in ROUNDINGS]
    words = {"sum": "accumulator and zero-point term together", "apart": "each by itself"}
    return {name: f"{words[name.split(': ')[0]]}, {ROUNDINGS[name.split(': ')[1]][0]}"
            for name in sorted(names, key=lambda one: one != f"sum: {assumed}")}


def overflow() -> list[Case]:
    channels, factor = 1024, 32767
    levels = np.array([127, 100, 70, 40, -40, -70, -100, -128], np.int64)
    image = np.repeat(levels.astype(np.int8), 2 * channels).reshape(4, 4, channels)
    conv = with_out(Conv(4, 4, np.full((2, 1, 1, channels), 127, np.int8), weight_zero_point=-factor), 24)
    total = np.repeat(levels, 2) * channels * (127 + factor)
    made = []
    for shift in (0, 2):
        draft = conv.draft().set("CORE.CLIP_TRUNCATE", CLIP_TRUNCATE=shift)
        kept = {"wide, then saturated": saturate(half_even(total, shift), 32),
                "saturated to 32 bits": half_even(saturate(total, 32), shift),
                "wrapped to 32 bits": half_even(wrap(total, 32), shift)}
        made.append(Case(f"shift {shift}", conv.memory(to_atoms(image)), ((draft.program(),),), "output",
                         places(4, 4, 1).reshape(-1),
                         {name: to_byte(half_even(value, 24)) for name, value in kept.items()}))
    return made


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


# -- Q-D1: transposed convolution --------------------------------------------------------------------------------------


def transposed() -> list[Case]:
    size, out_size, pad, point = 4, 9, 2, -9
    image = numbers(11, (size, size, 16), -20, 20)
    weights = np.zeros((16, 3, 3, 16), np.int8)
    for channel in range(16):
        weights[channel, :, :, channel] = np.arange(1, 10).reshape(3, 3) - channel % 3
    conv = with_out(Conv(size, size, weights, out_size, out_size, pad, pad, point, -1, spread=Pair(2, 2)), 4)
    values, counted = {}, {}
    for name, inserted in (("pad value", point), ("zero", 0)):
        window = np.full((out_size + 2, out_size + 2, 16), point, np.int64)
        window[pad:pad + 2 * size - 1, pad:pad + 2 * size - 1] = inserted
        window[pad:pad + 2 * size - 1:2, pad:pad + 2 * size - 1:2] = image
        values[name] = window
        counted[name] = window.sum(axis=2, keepdims=True)
    sparse = np.zeros((out_size + 2, out_size + 2, 1), np.int64)
    sparse[pad:pad + 2 * size - 1:2, pad:pad + 2 * size - 1:2] = image.sum(axis=2, keepdims=True)
    sums = {"pad value": counted["pad value"], "zero": counted["zero"], "pad value, not counted": sparse}
    predictions = {name: to_byte(half_even(window_sum(values[name.split(",")[0]], total, weights), 4))
                   for name, total in sums.items()}
    return [Case("", conv.memory(to_atoms(image)), ((conv.draft().program(),),), "output",
                 places(out_size, out_size, 16), predictions)]


def window_sum(values: np.ndarray, sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Valid convolution by 3x3, plus 1 * the sums of the taps' inputs."""
    height, width = values.shape[0] - 2, values.shape[1] - 2
    total = np.zeros((height, width, len(weights)), np.int64)
    for y in range(3):
        for x in range(3):
            total += values[y:y + height, x:x + width] @ weights[:, y, x].astype(np.int64).T
            total += sums[y:y + height, x:x + width]
    return total


# -- Q-E2, Q-E3: additions of small maps -------------------------------------------------------------------------------


def small_adds() -> list[Case]:
    made = []
    for width, height in ((7, 7), (8, 8), (3, 5)):
        first, second = (numbers(seed, (height, width, 32), -100, 100) for seed in (12, 13))
        stages = Stages(ew=Elementwise(0, 1, 0), out=OutputConverter(0, 1, 0, False))
        draft = flying(width, height, 2, stages, operand=True)
        memory = {"input": to_atoms(first), "operand": to_atoms(second),
                  "output": np.full(first.size, SENTINEL, np.uint8)}
        total = to_byte(first.astype(np.int64) + second)
        made.append(Case(f"{width}x{height}", memory, ((draft.program(),),), "output", places(height, width, 32),
                         {"works": total}))
    return made


def fused_adds() -> list[Case]:
    made = []
    for size in (2, 3):
        image, addend = (numbers(seed, (size, size, 64), -60, 60) for seed in (14, 15))
        source = FeatureMap(Address("addend"), size, size, 64, 0, 1.0, 4)
        conv = Conv(size, size, identity(64), addend=source)
        conv = replace(conv, stages=replace(conv.stages, ew=Elementwise(0, 1, 0)))
        memory = conv.memory(to_atoms(image)) | {"addend": to_atoms(addend)}
        made.append(Case(f"{size}x{size}", memory, ((conv.draft().program(),),), "output", places(size, size, 64),
                         {"works": to_byte(image.astype(np.int64) + addend)}))
    return made


PROBES = (
    converter_probe("Q-N1.multiply", 0, 0, "scale, round, add: half-even"),
    converter_probe("Q-N1.multiply.round", 0, 1, "scale, round, add: half-up"),
    converter_probe("Q-N1.add", 1, 0, "add, scale, round: half-even"),
    converter_probe("Q-N1.add.round", 1, 1, "add, scale, round: half-up"),
    Probe("Q-N2.even", "CLIP_TRUNCATE with ROUND_TYPE 0: what is shifted, how is it rounded",
          "(x + 2 * S) >> 1, 2, 3 with S = x", truncate_texts("half-even"), truncate(0)),
    Probe("Q-N2.up", "CLIP_TRUNCATE with ROUND_TYPE 1: what is shifted, how is it rounded",
          "(x + 2 * S) >> 1, 2, 3 with S = x", truncate_texts("half-up"), truncate(1)),
    Probe("Q-N3", "overflow of accumulator plus zero-point term",
          "1024 products by 127, S times 32767, CLIP_TRUNCATE 0 and 2, shown by OUT_CVT >> 24", {
              "wide, then saturated": "more than 32 bits up to CLIP_TRUNCATE", "saturated to 32 bits": "before it",
              "wrapped to 32 bits": "before it"}, overflow),
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
    Probe("Q-D1", "what transposed mode inserts", "3x3 over 4x4 spread by 2, pad value -9, OW_OP 1", {
        "pad value": "also in the sum S", "zero": "also in the sum S",
        "pad value, not counted": "the sum S has only real pixels"}, transposed),
    Probe("Q-E2", "additions of 7x7, 8x8 and 3x5 maps by the regular formula", "x + e", {"works": "all elements"},
          small_adds),
    Probe("Q-E3", "additions fused with convolutions of maps below 12 pixels", "2x2 and 3x3, strides as they are", {
        "works": "12 atoms are no minimum"}, fused_adds),
)
