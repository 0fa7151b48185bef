"""Register programs written out from the recipes, for the simulator's tests; no compiler has a part in them."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.sim.support import Memory, round_up, to_atoms

CONV_MASK, FLYING_MASK, POOL_MASK = 0x1D, 0x18, 0x60


@dataclass
class Conv:
    """A convolution of int8 data; defaults are a plain 1x1. Arrays: x [h][w][c], w [oc][kh][kw][c] or [kh][kw][c]."""

    x: np.ndarray
    w: np.ndarray
    depthwise: bool = False
    stride: int = 1
    dilation: int = 1
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)      # top, bottom, left, right
    input_zero: int = 0
    weight_zero: int = 0
    bias: np.ndarray | None = None
    out_scale: int = 16384
    out_shift: int = 14
    out_zero: int = 0
    fill: int = 0                                       # filler channels of x
    raw_int32: bool = False
    registers: dict[int, int] = field(default_factory=dict)     # overrides
    memory: Memory = field(default_factory=Memory)
    band: tuple[int, int] | None = None                 # input rows of the task, of the whole tensor

    def __post_init__(self) -> None:
        self.height, self.width, self.channels = self.x.shape
        self.kernel_height, self.kernel_width = self.w.shape[:2] if self.depthwise else self.w.shape[1:3]
        self.out_channels = self.channels if self.depthwise else self.w.shape[0]
        top, bottom, left, right = self.pads
        self.out_height = (self.height + top + bottom - self.dilation * (self.kernel_height - 1) - 1) // self.stride + 1
        self.out_width = (self.width + left + right - self.dilation * (self.kernel_width - 1) - 1) // self.stride + 1
        self.aligned = round_up(max(self.channels, 16), 16)
        self.out_aligned = round_up(self.out_channels, 64 if self.depthwise else 32)
        self.kernels = 1 if self.depthwise else round_up(self.out_channels, 2)
        self.input = self.memory.add(to_atoms(self.x, self.fill))
        self.weights = self.memory.add(self.packed_weights())
        biases = np.zeros(self.out_aligned, "<i4")
        if self.bias is not None:
            biases[:self.out_channels] = self.bias
        self.bias_address = self.memory.add(biases)
        self.out_bytes = 4 if self.raw_int32 else 1
        self.output = self.memory.add(self.out_aligned * self.out_height * self.out_width * self.out_bytes)

    def packed_weights(self) -> np.ndarray:
        """Data layouts §7, element by element."""
        zero, total = self.weight_zero, []
        if self.depthwise:
            for first in range(0, self.aligned, 64):
                for y in range(self.kernel_height):
                    for x in range(self.kernel_width):
                        for c in range(first, min(first + 64, self.aligned)):
                            total.append(self.w[y, x, c] if c < self.channels else zero)
            return np.array(total, np.int8)
        for group in range(0, self.kernels, 32):
            for block in range(0, self.aligned, 32):
                for y in range(self.kernel_height):
                    for x in range(self.kernel_width):
                        for oc in range(group, min(group + 32, self.kernels)):
                            for c in range(block, min(block + 32, self.aligned)):
                                real = oc < self.out_channels and c < self.channels
                                total.append(self.w[oc, y, x, c] if real else zero)
        return np.array(total, np.int8)

    def program(self) -> list[tuple[int, int]]:
        """Registers of recipes §1 and §3, overrides applied."""
        taps = self.kernel_width * self.kernel_height
        pixels = self.out_width * self.out_height
        depthwise = self.depthwise
        size_e = 7 if self.raw_int32 else 3 if depthwise else 1
        surfaces = size_e + 1
        data_banks = min(10, self.data_banks())
        regs = {
            0x1040: (12 - data_banks) << 4 | data_banks, 0x1104: 0, 0x1100: 0, 0x100C: 3 if depthwise else 0,
            0x4004: 0xE, 0x5004: 0xE, 0x1010: 60 << 4,
            0x1014: self.stride | self.stride << 3 | (self.dilation - 1) << 16 | (self.dilation - 1) << 21,
            0x1020: self.width << 16 | self.height, 0x1024: (self.channels - 1) << 16 | self.aligned,
            0x1028: self.out_width, 0x102C: pixels,
            0x1030: taps * self.aligned * self.kernels, 0x1034: taps * self.aligned,
            0x1038: self.kernel_width << 24 | self.kernel_height << 16 | self.kernels,
            0x1044: -(-self.width * self.aligned // 64), 0x104C: 0xB, 0x1050: 1 << 16, 0x1054: 1 << 16, 0x1058: 1 << 16,
            0x105C: 1 << 16, 0x1060: 0, 0x1064: 0, 0x1068: self.pads[2] << 4 | self.pads[0], 0x1070: self.input,
            0x1074: 0, 0x1078: 15 << 16 | 15, 0x107C: 4 * self.width,
            0x1080: (self.width * (self.height - 4)) & 0xFFFFFFF, 0x1084: self.width << 16 | self.height,
            0x1088: self.aligned, 0x1110: self.weights, 0x1140: 0, 0x1180: 0,
            0x1184: (self.input_zero & 0xFF) * 0x01010101,
            0x3010: 1 | depthwise << 1, 0x3014: (self.out_height - 1) << 16 | (self.out_width - 1),
            0x3018: self.out_aligned - 1, 0x301C: 0, 0x3030: 0,
            0x400C: 0x1FC if depthwise else 0x1E4, 0x4010: 4 << 29 if self.raw_int32 else 0, 0x4014: 0,
            0x4020: self.output, 0x4024: pixels * 16, 0x4030: self.out_width - 1, 0x4034: self.out_height - 1,
            0x4038: 0,
            0x403C: (self.out_channels - 1) << 16 | (self.out_aligned - 1), 0x4040: 0x20150, 0x4044: 0, 0x4048: 0,
            0x404C: 0, 0x4050: size_e << 8 | size_e << 5 | size_e << 2, 0x4054: -self.weight_zero & 0xFFFF,
            0x4058: self.out_aligned - 1, 0x405C: (self.out_height - 1) << 16 | (self.out_width - 1), 0x4060: 0x53,
            0x4064: 0, 0x4068: 0, 0x406C: 0, 0x4070: 0x383, 0x4074: 0, 0x4078: 1, 0x407C: 0,
            0x4080: self.out_zero & 0xFFFFFFFF, 0x4084: self.out_scale & 0xFFFF, 0x4088: self.out_shift,
            0x40C0: pixels * 16 * surfaces, 0x40C4: 0, 0x4100: 0, 0x4104: 0, 0x4108: 0, 0x410C: 0,
            0x500C: self.out_width - 1, 0x5010: self.out_height - 1, 0x5014: self.out_aligned - 1, 0x5018: 0, 0x501C: 2,
            0x5020: self.bias_address, 0x5028: 0, 0x502C: 0, 0x5034: 1, 0x5038: 0, 0x5040: 0,
            0x5044: 0x7810 | (6 if depthwise else 0), 0x5048: 0, 0x504C: 0, 0x5064: 0, 0x5068: 0x01010101, 0x506C: 0}
        regs.update(self.registers)
        return list(regs.items())

    def data_banks(self) -> int:
        """Recipes §1.3, with the slack bank."""
        atoms = self.aligned // 16
        rest = atoms % 8
        entries = atoms // 8 * self.width + (self.width if rest == 3 else -(-rest * self.width // 8))
        return -(-entries * self.height // 256) + 1

    def result(self) -> np.ndarray:
        """[h][w][oc] as stored."""
        lanes = 16 // self.out_bytes
        raw = self.memory.bytes(self.output, self.out_aligned * self.out_height * self.out_width * self.out_bytes)
        atoms = raw.view("<i4" if self.raw_int32 else np.int8).reshape(-1, self.out_height, self.out_width, lanes)
        return atoms.transpose(1, 2, 0, 3).reshape(self.out_height, self.out_width, -1)[..., :self.out_channels]

    def accumulators(self) -> np.ndarray:
        """Sum (x)(w - weight zero) with padding at the input zero point, tap by tap in Python integers (int64)."""
        top, _, left, _ = self.pads
        total = np.zeros((self.out_height, self.out_width, self.out_channels), np.int64)
        weights = self.w.astype(np.int64) - self.weight_zero
        for row in range(self.out_height):
            for column in range(self.out_width):
                for y in range(self.kernel_height):
                    for x in range(self.kernel_width):
                        at = (row * self.stride - top + y * self.dilation,
                              column * self.stride - left + x * self.dilation)
                        inside = 0 <= at[0] < self.height and 0 <= at[1] < self.width
                        pixel = self.x[at].astype(np.int64) if inside else np.full(self.channels, self.input_zero)
                        if self.depthwise:
                            total[row, column] += pixel * weights[y, x]
                        else:
                            total[row, column] += weights[:, y, x] @ pixel
        return total


def flying(memory: Memory, source: int, target: int, size: tuple[int, int, int],
           overrides: dict[int, int]) -> list[tuple[int, int]]:
    """A DPU task from memory to memory (recipes §6); size is (width, height, channels). A plain copy by default."""
    width, height, channels = size
    surface = width * height * 16
    regs = {
        0x4004: 0xE, 0x5004: 0xE, 0x400C: 0x1E5, 0x4010: 0, 0x4020: target, 0x4024: surface, 0x4030: width - 1,
        0x4034: height - 1, 0x4038: 0, 0x403C: (channels - 1) << 16 | (channels - 1), 0x4040: 0x53, 0x4044: 0,
        0x4048: 0, 0x404C: 0, 0x4050: 2, 0x4054: 0, 0x4058: channels - 1,
        0x405C: (height - 1) << 16 | (width - 1), 0x4060: 0x53,
        0x4064: 0, 0x4068: 0, 0x406C: 0, 0x4070: 0x383, 0x4074: 0, 0x4078: 1, 0x407C: 0, 0x4080: 0, 0x4084: 1,
        0x4088: 0, 0x4090: 0, 0x40C0: surface, 0x500C: width - 1, 0x5010: height - 1, 0x5014: channels - 1,
        0x5018: source,
        0x501C: 0, 0x5020: 0, 0x5028: 0, 0x502C: 0, 0x5034: 1, 0x5038: 0, 0x5040: 0, 0x5044: 0x7801, 0x5048: 0,
        0x504C: 0, 0x5068: 0x01010101, 0x506C: 0}
    regs.update(overrides)
    return list(regs.items())


def pooling(source: int, target: int, size: tuple[int, int, int], method: int, kernel: int, stride: int,
            pads: tuple[int, int, int, int] = (0, 0, 0, 0), overrides: dict[int, int] | None = None,
            ) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """A PPU task (recipes §8); pads are top, bottom, left, right. Also the output's (height, width)."""
    width, height, channels = size
    top, bottom, left, right = pads
    out_width = (width + left + right - kernel) // stride + 1
    out_height = (height + top + bottom - kernel) // stride + 1
    surface = out_width * out_height * 16
    reciprocal = 65536 // kernel if method == 0 else 0
    regs = {
        0x6004: 0xE, 0x7004: 0xE, 0x600C: width - 1, 0x6010: height - 1, 0x6014: channels - 1, 0x6018: out_width - 1,
        0x601C: out_height - 1, 0x6020: channels - 1, 0x6024: 1 << 4 | method,
        0x6034: (kernel - 1) | (kernel - 1) << 8 | (stride - 1) << 16 | (stride - 1) << 20, 0x6038: reciprocal,
        0x603C: reciprocal, 0x6040: left | top << 4 | right << 8 | bottom << 12, 0x6044: 0x7FF80, 0x6048: 0,
        0x6070: target, 0x607C: surface, 0x6084: surface, 0x60DC: 3, 0x700C: width - 1, 0x7010: height - 1,
        0x7014: channels - 1, 0x701C: source, 0x7024: width * 16, 0x7028: width * height * 16, 0x7030: 1}
    regs.update(overrides or {})
    return list(regs.items()), (out_height, out_width)
