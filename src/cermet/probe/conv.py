"""Questions about CNA and CORE: convolutions (open questions Q-N1 to Q-N3, Q-D1, Q-E2, Q-E3)."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cermet.drivers.rocket.dpu import Elementwise, OutputConverter, Stages
from cermet.drivers.rocket.layout import FeatureMap
from cermet.drivers.rocket.regcmd import Address
from cermet.ir.operation import Pair
from cermet.probe.build import Conv, flying, places, ramp, to_atoms
from cermet.probe.model import ROUNDINGS, SENTINEL, Case, Probe, half_even, saturate, to_byte, wrap

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
    Probe("Q-D1", "what transposed mode inserts", "3x3 over 4x4 spread by 2, pad value -9, OW_OP 1", {
        "pad value": "also in the sum S", "zero": "also in the sum S",
        "pad value, not counted": "the sum S has only real pixels"}, transposed),
    Probe("Q-E2", "additions of 7x7, 8x8 and 3x5 maps by the regular formula", "x + e", {"works": "all elements"},
          small_adds),
    Probe("Q-E3", "additions fused with convolutions of maps below 12 pixels", "2x2 and 3x3, strides as they are", {
        "works": "12 atoms are no minimum"}, fused_adds),
)
