"""Every DPU stage against Python integers and fractions, in the plain and in the compiled form."""
from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import floor

import numpy as np
import pytest

from tests.sim.programs import CONV_MASK, FLYING_MASK, Conv, flying
from tests.sim.support import Memory, new_core, program, start, to_atoms

INT32 = (-(1 << 31), (1 << 31) - 1)
RNG = np.random.default_rng(11)


@pytest.fixture(params=["plain", "compiled"], autouse=True)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CERMET_SIM_PLAIN", "1" if request.param == "plain" else "0")
    yield request.param


def nearest(value: Fraction, ties: str) -> int:
    """Round to nearest; ties 'even', 'away' or 'up'."""
    low = floor(value)
    rest = value - low
    if rest != Fraction(1, 2):
        return low + (rest > Fraction(1, 2))
    if ties == "even":
        return low + (low & 1)
    return low + 1 if ties == "up" or value > 0 else low


def shifted(value: int, shift: int, ties: str = "even") -> int:
    return nearest(Fraction(value, 1 << shift), ties)


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def sat32(value: int) -> int:
    return clamp(value, *INT32)


def run_flying(values: np.ndarray, overrides: dict[int, int], memory: Memory | None = None) -> np.ndarray:
    """int8 [h][w][c] through one DPU task."""
    memory = memory or Memory()
    height, width, channels = values.shape
    source, target = memory.add(to_atoms(values)), memory.add(values.size)
    outcome = start(new_core(), memory, program(flying(memory, source, target, (width, height, channels), overrides),
                                                FLYING_MASK))
    assert (outcome.hang, outcome.fault) == (None, None)
    raw = memory.bytes(target, values.size).view(np.int8).reshape(-1, height, width, 16)
    return raw.transpose(1, 2, 0, 3).reshape(height, width, channels)


ALL_BYTES = np.arange(-128, 128).astype(np.int8).reshape(4, 4, 16)


def mapped(function: object) -> list[int]:
    return [function(int(v)) for v in ALL_BYTES.reshape(-1)]        # type: ignore[operator]


@pytest.mark.parametrize("ties", ["even", "away"])
@pytest.mark.parametrize(("scale", "shift", "offset"), [
    (1, 0, 0), (1, 1, 0), (3, 1, 5), (-3, 1, -7), (5, 2, 100), (16384, 15, 3), (32767, 14, -128), (-32768, 16, 0),
    (1, 8, 0), (1, 40, 9), (7, 63, -2)])
def test_output_converter(scale: int, shift: int, offset: int, ties: str) -> None:
    result = run_flying(ALL_BYTES, {0x4080: offset, 0x4084: scale & 0xFFFF, 0x4088: shift | (ties == "away") << 30})
    assert result.reshape(-1).tolist() == mapped(lambda v: clamp(shifted(v * scale, shift, ties) + offset, -128, 127))


@pytest.mark.parametrize(("alu", "mul", "up", "down", "config"), [
    (0, 1, 0, 0, 0x20040), (7, 3, 1, 1, 0x20040), (-5, -3, 2, 2, 0x20040), (100, 16384, 15, 15, 0x20040),
    (-64, 16384, 0, 14, 0x20040), (3, 5, 3, 3, 0x40040), (9, 0, 0, 0, 0x20050), (0, 11, 2, 2, 0x42),
    (5, 0, 0, 0, 0x20010), (-3, 13, 3, 1, 0x20000), (0, 1638, 14, 14, 0x62), (2, 3, 0, 0, 0x20090)])
def test_bs_with_register_operands(alu: int, mul: int, up: int, down: int, config: int) -> None:
    limit = 40
    result = run_flying(ALL_BYTES, {0x4040: config, 0x4044: alu, 0x4048: (mul & 0xFFFF) << 16 | up << 8, 0x404C: limit,
                                    0x4010: down << 4, 0x4084: 1})

    def expected(v: int) -> int:
        if not config & 2:
            v = sat32(v - alu if config >> 16 == 4 else v + alu)
        if not config & 0x10:
            product = v * mul
            scaled = sat32(shifted(product, up if product >= 0 else down))
            v = v if config & 0x20 and v >= 0 else scaled
        if not config & 0x40:
            v = max(v, 0)
        if config & 0x80:
            v = min(v, limit)
        return clamp(v, -128, 127)
    assert result.reshape(-1).tolist() == mapped(expected)


def test_bs_saturates_to_32_bits_before_the_output_converter() -> None:
    """x * 16384 * 32767 leaves 32 bits: BS clamps at 2**31, BN passes on, OUT_CVT scales down."""
    result = run_flying(ALL_BYTES, {0x4040: 0x20040, 0x4044: 0x7FFFFF00, 0x4048: 1 << 16, 0x4084: 1, 0x4088: 25})
    assert result.reshape(-1).tolist() == mapped(lambda v: clamp(shifted(sat32(v + 0x7FFFFF00), 25), -128, 127))


@pytest.mark.parametrize(("mul", "alu", "shift", "config"), [
    (3, 5, 1, 0x20040), (36864, -77, 12, 0x20040), (65535, 0, 14, 0x42), (1, 9, 0, 0x20050), (1638, 0, 0, 0x62),
    (5, 7, 3, 0x40040), (1, 0, 0, 0x12)])
def test_bn_multiplies_before_it_adds(mul: int, alu: int, shift: int, config: int) -> None:
    """The register multiplier is unsigned."""
    result = run_flying(ALL_BYTES, {0x4060: config, 0x4064: alu, 0x4068: mul << 16 | shift << 8, 0x4010: shift << 10,
                                    0x4084: 1, 0x4088: 2})

    def expected(v: int) -> int:
        add = 0 if config & 2 else -alu if config >> 16 == 4 else alu
        if not config & 0x10:
            v = v if config & 0x20 and v >= 0 else sat32(shifted(v * mul + add, shift))
        else:
            v = sat32(v + add)
        if not config & 0x40:
            v = max(v, 0)
        return clamp(shifted(v, 2), -128, 127)
    assert result.reshape(-1).tolist() == mapped(expected)


def operand_block(alu: list[int], cpend: list[int], mul: list[int]) -> np.ndarray:
    """64 bytes per 8 channels (data layouts §6)."""
    parts = []
    for first in range(0, len(alu), 8):
        parts += [np.array(alu[first:first + 8], "<i4").tobytes(), np.array(cpend[first:first + 8], "<i2").tobytes(),
                  np.array(mul[first:first + 8], "<i2").tobytes()]
    return np.frombuffer(b"".join(parts), np.uint8)


@pytest.mark.parametrize("use", [1, 4, 7])
def test_bs_memory_operands(use: int) -> None:
    values = RNG.integers(-128, 128, (3, 5, 32), dtype=np.int8)
    alu = RNG.integers(-300, 300, 32).tolist() if use & 1 else [0] * 32
    mul = RNG.integers(-9000, 9000, 32).tolist() if use & 4 else [1] * 32
    memory = Memory()
    content = {1: np.array(alu, "<i4"), 4: np.array(mul, "<i2"), 7: operand_block(alu, [0] * 32, mul)}[use]
    config = {1: 0x20150, 4: 0x42, 7: 0x20140}[use]
    shift = 10 if use & 4 else 0
    result = run_flying(values, {0x4040: config, 0x4048: shift << 8 | 1, 0x4010: shift << 4, 0x501C: use << 1,
                                 0x5020: memory.add(content), 0x4084: 1, 0x4088: 3}, memory)
    expected = [[[clamp(shifted(sat32(shifted((int(values[y, x, c]) + alu[c]) * mul[c], shift)), 3), -128, 127)
                  for c in range(32)] for x in range(5)] for y in range(3)]
    assert result.tolist() == expected


@pytest.mark.parametrize("use", [1, 4])
def test_bn_memory_operands(use: int) -> None:
    values = RNG.integers(-128, 128, (2, 3, 16), dtype=np.int8)
    operands = RNG.integers(-3000, 3000, 16).tolist()
    memory = Memory()
    content = np.array(operands, "<i4" if use == 1 else "<i2")
    overrides = {0x4060: 0x20150, 0x5028: 2} if use == 1 else {0x4060: 0x62, 0x4068: 1, 0x5028: 8}
    result = run_flying(values, {**overrides, 0x502C: memory.add(content), 0x4084: 1, 0x4088: 5}, memory)

    def expected(v: int, c: int) -> int:
        v = v + operands[c] if use == 1 else v if v >= 0 else v * operands[c]
        return clamp(shifted(v, 5), -128, 127)
    assert result.tolist() == [[[expected(int(values[y, x, c]), c) for c in range(16)] for x in range(3)]
                               for y in range(2)]


EW_CASES = {"max": (0, lambda a, b: max(a, b)), "min": (1, lambda a, b: min(a, b)), "add": (2, lambda a, b: a + b),
            "minus": (4, lambda a, b: a - b), "abs": (5, lambda a, b: abs(a)), "neg": (6, lambda a, b: -a),
            "mul": (None, lambda a, b: a * b)}


@pytest.mark.parametrize("away", [0, 1])
@pytest.mark.parametrize("mode", ["pixel", "channel"])
@pytest.mark.parametrize("name", EW_CASES)
def test_elementwise_with_converter(name: str, mode: str, away: int) -> None:
    a = RNG.integers(-128, 128, (3, 4, 48), dtype=np.int8)
    b = RNG.integers(-128, 128, (3, 4, 48) if mode == "pixel" else (48,), dtype=np.int8)
    offset, scale, shift = -3, -5, 1
    algo, operation = EW_CASES[name]
    memory = Memory()
    operand = memory.add(to_atoms(b) if mode == "pixel" else b)
    config = 0x80400240 | 0x80 | (1 << 28 if mode == "pixel" else 0) | away << 30 | (4 if algo is None else algo << 16)
    result = run_flying(a, {
        0x4070: config, 0x4074: offset, 0x4078: shift << 16 | scale & 0xFFFF, 0x5038: operand,
        0x5034: 0x40000004 if mode == "pixel" else 0x4, 0x5040: 3 * 4 * 16 if mode == "pixel" else 16, 0x4080: 2,
        0x4084: 3, 0x4088: 3}, memory)
    wide = np.broadcast_to(b, a.shape)

    def expected(x: int, y: int) -> int:
        second = shifted((y + offset) * scale, shift, "away" if away else "even")
        return clamp(shifted(operation(x, second) * 3, 3) + 2, -128, 127)
    assert result.reshape(-1).tolist() == [expected(int(x), int(y)) for x, y in zip(a.reshape(-1), wide.reshape(-1),
                                                                                   strict=True)]


def test_elementwise_register_operand_and_limits() -> None:
    result = run_flying(ALL_BYTES, {0x4070: 0x00020580, 0x4090: 30, 0x407C: 50,
                                    0x4084: 1})
    assert result.reshape(-1).tolist() == mapped(lambda v: clamp(max(v + 30, 0), 0, 50))


def test_lut_follows_its_tables_between_and_outside_entries() -> None:
    table = RNG.integers(-32768, 32768, (2, 513))
    upload = [(0x4100, 0x20000), *((0x4104, int(v)) for v in table[0]), (0x4100, 0x30000),
              *((0x4104, int(v)) for v in table[1]), (0x4100, 0), (0x4104, 0)]
    mul, add, shift = 20011, 777, 7
    memory = Memory()
    source, target = memory.add(to_atoms(ALL_BYTES)), memory.add(256)
    regs = flying(memory, source, target, (4, 4, 16), {
        0x4060: 0x20040, 0x4064: add, 0x4068: mul << 16 | shift << 8, 0x4010: shift << 10, 0x4070: 0x302, 0x4108: 0x68,
        0x410C: 0x50500, 0x4110: 0xFFFFC000, 0x4114: 0, 0x4118: 0, 0x411C: 0x4000, 0x4120: 23107, 0x4124: 12,
        0x4128: 0x8123 << 16, 0x412C: 9 << 5, 0x4084: 1, 0x4088: 8})
    outcome = start(new_core(), memory, program([*upload, *regs], FLYING_MASK))
    assert outcome.hang is None and outcome.diagnostics == []

    def expected(v: int) -> int:
        index = shifted(v * mul + add, shift)
        half, begin = (0, -16384) if index < 0 else (1, 0)
        if index < -16384:
            y = int(table[0][0]) + shifted((index + 16384) * 23107, 12)
        elif index > 16384:
            y = int(table[1][512]) + shifted((index - 16384) * (0x8123 - 0x10000), 9)
        else:
            at, fraction = divmod(index - begin, 32)
            low, high = int(table[half][at]), int(table[half][min(at + 1, 512)])
            y = low + shifted((high - low) * fraction, 5)
        return clamp(shifted(sat32(y), 8), -128, 127)
    assert memory.bytes(target, 256).view(np.int8).tolist() == mapped(expected)
    indices = mapped(lambda v: shifted(v * mul + add, shift))
    assert min(indices) < -16384 and max(indices) > 16384, "both slopes must be reached"


CONVS = {
    "1x1": dict(shape=(5, 6, 24), out=40, kernel=1),
    "3x3_same": dict(shape=(7, 5, 16), out=33, kernel=3, pads=(1, 1, 1, 1)),
    "3x3_stride2": dict(shape=(9, 8, 40), out=8, kernel=3, stride=2, pads=(0, 1, 0, 1)),
    "5x5_dilated": dict(shape=(11, 12, 17), out=2, kernel=5, dilation=2, pads=(2, 3, 4, 1)),
    "2x2_one_pixel": dict(shape=(2, 2, 65), out=65, kernel=2),
    "dw3x3": dict(shape=(6, 7, 24), kernel=3, pads=(1, 1, 1, 1), depthwise=True),
    "dw5x5_stride2": dict(shape=(9, 9, 80), kernel=5, stride=2, pads=(2, 2, 2, 2), depthwise=True),
    "raw_int32": dict(shape=(3, 4, 48), out=32, kernel=3, pads=(1, 1, 1, 1), raw_int32=True),
}


def make_conv(shape: tuple[int, int, int], kernel: int, out: int = 0, depthwise: bool = False, **more: object) -> Conv:
    x = RNG.integers(-128, 128, shape, dtype=np.int8)
    w = RNG.integers(-128, 128, (kernel, kernel, shape[2]) if depthwise else (out, kernel, kernel, shape[2]),
                     dtype=np.int8)
    return Conv(x, w, depthwise, **more)        # type: ignore[arg-type]


@pytest.mark.parametrize("name", CONVS)
def test_convolution_with_zero_points_and_bias(name: str) -> None:
    """uint8-style: input and weight zero points, bias; the fill channels hold what must not matter."""
    case = dict(CONVS[name])
    raw = bool(case.get("raw_int32"))
    count = case["shape"][2] if case.get("depthwise") else case["out"]      # type: ignore[index]
    bias = RNG.integers(-50000, 50000, count)
    conv = make_conv(**case, input_zero=11, weight_zero=-7, bias=bias, fill=99,    # type: ignore[arg-type]
                     out_scale=1 if raw else 20011, out_shift=0 if raw else 27, out_zero=0 if raw else 3)
    outcome = start(new_core(), conv.memory, program(conv.program(), CONV_MASK))
    assert (outcome.hang, outcome.fault, outcome.diagnostics) == (None, None, [])
    sums = conv.accumulators() + bias
    if raw:
        assert (conv.result() == sums).all()
        return
    expected = [clamp(shifted(int(v) * 20011, 27) + 3, -128, 127) for v in sums.reshape(-1)]
    assert conv.result().reshape(-1).tolist() == expected


@pytest.mark.parametrize("depthwise", [False, True])
def test_per_channel_block_with_offsets(depthwise: bool) -> None:
    conv = make_conv((5, 5, 20), 3, 20, depthwise, pads=(1, 1, 1, 1), out_scale=30001, out_shift=20, out_zero=-4)
    padded = conv.out_aligned
    alu, mul = RNG.integers(-20000, 20000, padded).tolist(), RNG.integers(0, 16385, padded).tolist()
    offset = RNG.integers(-20, 20, padded).tolist()
    address = conv.memory.add(operand_block(alu, offset, mul))
    size_e = 3 if depthwise else 1
    conv.registers = {0x4040: 0x20140, 0x4048: 0xE01, 0x4010: 0xE0, 0x4054: 0, 0x501C: 0xE, 0x5020: address,
                      0x4050: size_e << 8 | size_e << 5 | size_e << 2 | 1}
    assert start(new_core(), conv.memory, program(conv.program(), CONV_MASK)).diagnostics == []
    ones = conv.w
    sums = conv.accumulators()
    conv.w = np.ones_like(ones)                 # the input sums S
    inputs = conv.accumulators()
    expected = [[[clamp(shifted(sat32(shifted((int(sums[y, x, c]) + offset[c] * int(inputs[y, x, c]) + alu[c]) * mul[c],
                                              14)) * 30001, 20) - 4, -128, 127)
                  for c in range(20)] for x in range(5)] for y in range(5)]
    assert conv.result().tolist() == expected


@pytest.mark.parametrize(("truncate", "ties"), [(1, "even"), (3, "even"), (2, "up")])
def test_clip_truncate_shifts_the_sum_with_the_zero_point_term(truncate: int, ties: str) -> None:
    conv = make_conv((3, 3, 16), 1, 32, weight_zero=5, out_scale=1, out_shift=9)
    conv.registers = {0x301C: truncate | (ties == "up") << 6}
    start(new_core(), conv.memory, program(conv.program(), CONV_MASK))
    expected = [clamp(shifted(shifted(int(v), truncate, ties), 9), -128, 127) for v in conv.accumulators().reshape(-1)]
    assert conv.result().reshape(-1).tolist() == expected


def test_depthwise_pad_value_is_a_lane_pattern() -> None:
    """Odd channels among the first 32 of each 64 read byte 1 of PAD_CON1, all others byte 0."""
    conv = make_conv((2, 2, 96), 3, depthwise=True, pads=(1, 1, 1, 1), out_scale=1, out_shift=7)
    conv.registers = {0x1184: 0x0000_0B05}
    start(new_core(), conv.memory, program(conv.program(), CONV_MASK))
    for channel in range(96):
        conv.input_zero = 0x0B if channel % 64 < 32 and channel % 2 else 0x05
        expected = [clamp(shifted(int(v), 7), -128, 127) for v in conv.accumulators()[..., channel].reshape(-1)]
        assert conv.result()[..., channel].reshape(-1).tolist() == expected, channel


def test_packed_pixels_with_converter() -> None:
    """One unsigned byte per pixel, 128 subtracted by the converter (numerics §1)."""
    conv = make_conv((6, 16, 1), 3, 32, pads=(1, 1, 1, 1), input_zero=-9, out_scale=1, out_shift=7)
    pixels = (conv.x[..., 0].astype(np.int16) + 128).astype(np.uint8)
    conv.registers = {
        0x100C: 0x60008000, 0x1070: conv.memory.add(pixels), 0x107C: 16, 0x1080: 16 * 5, 0x1044: 16 * 6,
        0x104C: 14 << 4, 0x1050: 16384 << 16 | 0xFF80, 0x1180: 0xFFFF}
    outcome = start(new_core(), conv.memory, program(conv.program(), CONV_MASK))
    assert outcome.hang is None
    expected = [clamp(shifted(int(v), 7), -128, 127) for v in conv.accumulators().reshape(-1)]
    assert conv.result().reshape(-1).tolist() == expected


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_packed_pixels_signed(channels: int) -> None:
    conv = make_conv((5, 16, channels), 3, 32, pads=(1, 1, 1, 1), stride=2, input_zero=4, out_scale=1, out_shift=7)
    conv.registers = {0x100C: 0x60000000 | (7 + channels) << 12, 0x1070: conv.memory.add(conv.x), 0x107C: 16,
                      0x1080: 16 * 4, 0x1044: 16 * 5}
    outcome = start(new_core(), conv.memory, program(conv.program(), CONV_MASK))
    assert outcome.hang is None
    expected = [clamp(shifted(int(v), 7), -128, 127) for v in conv.accumulators().reshape(-1)]
    assert conv.result().reshape(-1).tolist() == expected


def test_transposed_convolution_fills_with_the_pad_value() -> None:
    """Stride 2: input spread over a plane of the pad value, then a plain convolution (recipes §12)."""
    x = RNG.integers(-128, 128, (4, 3, 16), dtype=np.int8)
    spread = np.full((7, 5, 16), -64, np.int8)
    spread[::2, ::2] = x
    wide = Conv(spread, RNG.integers(-128, 128, (32, 3, 3, 16), dtype=np.int8), pads=(1, 1, 1, 1), input_zero=-64,
                out_scale=1, out_shift=9)
    wide.registers = {
        0x100C: 0x10000, 0x1014: 0x909, 0x1020: 3 << 16 | 4, 0x1084: 3 << 16 | 4, 0x1044: 1, 0x107C: 12, 0x1080: 0,
        0x1070: wide.memory.add(to_atoms(x))}
    outcome = start(new_core(), wide.memory, program(wide.program(), CONV_MASK))
    assert outcome.hang is None, outcome.hang
    expected = [clamp(shifted(int(v), 9), -128, 127) for v in wide.accumulators().reshape(-1)]
    assert wide.result().reshape(-1).tolist() == expected


def test_window_of_a_wider_tensor() -> None:
    """GROUP_LINE_OFF: 4 of 6 columns, 3 of 5 rows, two surfaces (data layouts §3)."""
    whole = RNG.integers(-128, 128, (5, 6, 32), dtype=np.int8)
    conv = Conv(np.ascontiguousarray(whole[1:4, 2:6]), RNG.integers(-9, 9, (32, 1, 1, 32), dtype=np.int8), out_scale=1,
                out_shift=4)
    base = conv.memory.add(to_atoms(whole))
    conv.registers = {0x100C: 1 << 29, 0x1070: base + (6 + 2) * 16, 0x107C: 6, 0x1080: 30 - 4}
    assert start(new_core(), conv.memory, program(conv.program(), CONV_MASK)).hang is None
    expected = [clamp(shifted(int(v), 4), -128, 127) for v in conv.accumulators().reshape(-1)]
    assert conv.result().reshape(-1).tolist() == expected


def test_long_kernels_do_not_wrap() -> None:
    """131 x 1024 products of -128 * -128 leave int32: CORE saturates (the accumulator itself: Q-N3)."""
    x, w = np.full((12, 12, 1024), -128, np.int8), np.full((2, 12, 12, 1024), -128, np.int8)
    conv = Conv(x, w, out_scale=1, out_shift=25)
    outcome = start(new_core(), conv.memory, program(conv.program(), CONV_MASK))
    assert outcome.hang is None
    assert conv.result().reshape(-1).tolist() == [64, 64]
