"""Programs for probes: the compiler's own tasks, which are known to work, with single fields changed."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cermet.drivers.rocket.convolution_task import Addend, Convolution, emit_convolution
from cermet.drivers.rocket.dpu import USE_ALU, OutputConverter, Stage, Stages
from cermet.drivers.rocket.flying import FlyingTask, View, emit_flying
from cermet.drivers.rocket.geometry import NOT_SPREAD, Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, Cube, FeatureMap, ceil_div, round_up
from cermet.drivers.rocket.regcmd import Address, BlockMask, Regcmd
from cermet.drivers.rocket.tiling import Tile, data_banks
from cermet.drivers.rocket.weights import Weights, pack_direct
from cermet.hw.soc import RK3588
from cermet.ir.operation import Pair
from cermet.probe.model import SENTINEL, Program

BANKS = RK3588.cbuf.banks
POOL_MASK = BlockMask.PPU | BlockMask.PPU_RDMA
ONCE = Pair(1, 1)


class Draft:
    """A task whose registers can still be changed."""

    def __init__(self, mask: int) -> None:
        self.regcmd = Regcmd(RK3588.registers)
        self.mask = mask

    def set(self, path: str, **fields: int) -> Draft:
        """Change fields of a register, the others stay; a register that was not written becomes so."""
        register = self.regcmd.registers[path]
        places = [index for index, word in enumerate(self.regcmd.words)
                  if word & 0xFFFF == register.offset and word >> 48 == self._target(register.block)]
        if not places:
            self.regcmd.emit(path, **fields)
            return self
        word = self.regcmd.words[places[-1]]
        values = register.unpack(word >> 16 & 0xFFFF_FFFF) | fields
        self.regcmd.words[places[-1]] = word & ~(0xFFFF_FFFF << 16) | register.pack(**values) << 16
        return self

    def _target(self, block: str) -> int:
        return self.regcmd.registers.blocks[block].target or 0

    def address(self, path: str, address: Address) -> Draft:
        """Let a register hold another address."""
        offset = self.regcmd.registers[path].offset
        for index in list(self.regcmd.addresses):
            if self.regcmd.words[index] & 0xFFFF == offset:
                self.regcmd.addresses[index] = address
                return self
        self.regcmd.emit_address(path, address)
        return self

    def program_without(self, path: str) -> Program:
        """The program without the words that write a register."""
        whole, register = self.program(), self.regcmd.registers[path]
        place = self._target(register.block), register.offset
        kept = [index for index, word in enumerate(whole.words) if (word >> 48, word & 0xFFFF) != place]
        return Program(tuple(whole.words[index] for index in kept), {
            number: whole.addresses[index] for number, index in enumerate(kept) if index in whole.addresses})

    def program(self) -> Program:
        words, addresses = self.regcmd.finish(self.mask)
        return Program(words, addresses)


def flying(width: int, height: int = 1, surfaces: int = 1, stages: Stages | None = None,
           operand: bool = False) -> Draft:
    """A DPU task from the region "input" (and "operand") to "output", all dense."""
    draft = Draft(BlockMask.ELEMENTWISE)
    pixels = width * height
    views = [View(Address(name), pixels, width) for name in ("input", "output", "operand")]
    task = FlyingTask(Cube(width, height, surfaces), stages or Stages(out=OutputConverter(0)), views[0], views[1],
                      views[2] if operand else None)
    emit_flying(draft.regcmd, task)
    return draft


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution from "input" with "weights" and "bias" (zeros) to "output". weights [oc][kh][kw][ic], int8."""

    height: int
    width: int
    weights: np.ndarray
    out_height: int = 0         # 0: no padding
    out_width: int = 0
    pad_top: int = 0
    pad_left: int = 0
    zero_point: int = 0         # of the input: the pad value
    weight_zero_point: int = 0
    stages: Stages = field(default_factory=lambda: Stages(
        bs=Stage(add_from_memory=True, operands=Address("bias"), data_use=USE_ALU), out=OutputConverter(0)))
    spread: Pair = NOT_SPREAD
    target_width: int = 0       # of the map that the output is a part of, 0: its own
    addend: FeatureMap | None = None
    stride: Pair = ONCE

    @property
    def geometry(self) -> Geometry:
        out_channels, rows, columns, channels = self.weights.shape
        out_height, out_width = ((size - window) // step + 1 for size, window, step in (
            (self.height, rows, self.stride.y), (self.width, columns, self.stride.x)))
        return Geometry(self.height, self.width, channels, self.out_height or out_height, self.out_width or out_width,
                        out_channels, Pair(rows, columns), self.stride, ONCE, self.pad_top, self.pad_left,
                        spread=self.spread)

    @property
    def packed(self) -> np.ndarray:
        points = np.full(len(self.weights), self.weight_zero_point)
        return np.frombuffer(pack_direct(Weights(self.weights, points, np.ones(1)), RK3588), np.uint8)

    @property
    def out_surfaces(self) -> int:
        return round_up(len(self.weights), 32) // ATOM_BYTES

    def memory(self, atoms: np.ndarray) -> dict[str, np.ndarray]:
        """All regions; atoms: the input as to_atoms makes it."""
        g = self.geometry
        output = self.out_surfaces * g.output_height * (self.target_width or g.output_width) * ATOM_BYTES
        return {"input": atoms, "weights": self.packed, "bias": np.zeros(4 * round_up(len(self.weights), 32), np.uint8),
                "output": np.full(output, SENTINEL, np.uint8)}

    def draft(self) -> Draft:
        g = self.geometry
        draft = Draft(BlockMask.CONV)
        channels = g.input_channels
        source = FeatureMap(Address("input"), self.height, self.width, channels, self.zero_point, 1.0,
                            ceil_div(channels, ATOM_BYTES))
        target = FeatureMap(Address("output"), g.output_height, self.target_width or g.output_width,
                            g.output_channels, 0, 1.0, self.out_surfaces)
        banks = data_banks(RK3588, self.width, channels, self.height)
        tile = Tile(0, g.output_height, 0, self.height, self.pad_top, 0, g.output_channels, banks, BANKS - banks)
        conv = Convolution(RK3588, g, source, target, Address("weights"), self.stages, self.weight_zero_point,
                           Addend(self.addend) if self.addend else None)
        emit_convolution(draft.regcmd, conv, tile)
        return draft


def pooling(width: int, height: int, method: int, kernel: int, stride: int = 1, pad: int = 0,
            reciprocal: int = 0) -> Draft:
    """A PPU task from "input" to "output", one surface of 16 channels; the same kernel, stride, pad both ways."""
    draft = Draft(POOL_MASK)
    out_width, out_height = ((size + 2 * pad - kernel) // stride + 1 for size in (width, height))
    e = draft.regcmd.emit
    e("PPU.S_POINTER", POINTER_PP_EN=1, EXECUTER_PP_EN=1, POINTER_PP_MODE=1)
    e("PPU_RDMA.RDMA_S_POINTER", POINTER_PP_EN=1, EXECUTER_PP_EN=1, POINTER_PP_MODE=1)
    e("PPU.DATA_CUBE_IN_WIDTH", CUBE_IN_WIDTH=width)
    e("PPU.DATA_CUBE_IN_HEIGHT", CUBE_IN_HEIGHT=height)
    e("PPU.DATA_CUBE_IN_CHANNEL", CUBE_IN_CHANNEL=ATOM_BYTES)
    e("PPU.DATA_CUBE_OUT_WIDTH", CUBE_OUT_WIDTH=out_width)
    e("PPU.DATA_CUBE_OUT_HEIGHT", CUBE_OUT_HEIGHT=out_height)
    e("PPU.DATA_CUBE_OUT_CHANNEL", CUBE_OUT_CHANNEL=ATOM_BYTES)
    e("PPU.OPERATION_MODE_CFG", FLYING_MODE=1, POOLING_METHOD=method)
    e("PPU.POOLING_KERNEL_CFG", KERNEL_WIDTH=kernel, KERNEL_HEIGHT=kernel, KERNEL_STRIDE_WIDTH=stride,
      KERNEL_STRIDE_HEIGHT=stride)
    e("PPU.RECIP_KERNEL_WIDTH", RECIP_KERNEL_WIDTH=reciprocal)
    e("PPU.RECIP_KERNEL_HEIGHT", RECIP_KERNEL_HEIGHT=reciprocal)
    e("PPU.POOLING_PADDING_CFG", PAD_LEFT=pad, PAD_TOP=pad, PAD_RIGHT=pad, PAD_BOTTOM=pad)
    e("PPU.PADDING_VALUE_1_CFG", PAD_VALUE_0=0x7FF80 if method == 1 else 0)
    e("PPU.PADDING_VALUE_2_CFG")
    draft.regcmd.emit_address("PPU.DST_BASE_ADDR", Address("output"))
    surface = out_width * out_height
    e("PPU.DST_SURF_STRIDE", DST_SURF_STRIDE=surface)
    e("PPU.DATA_FORMAT", INDEX_ADD=surface)
    e("PPU.MISC_CTRL", BURST_LEN=3)
    e("PPU_RDMA.RDMA_CUBE_IN_WIDTH", CUBE_IN_WIDTH=width)
    e("PPU_RDMA.RDMA_CUBE_IN_HEIGHT", CUBE_IN_HEIGHT=height)
    e("PPU_RDMA.RDMA_CUBE_IN_CHANNEL", CUBE_IN_CHANNEL=ATOM_BYTES)
    draft.regcmd.emit_address("PPU_RDMA.RDMA_SRC_BASE_ADDR", Address("input"))
    e("PPU_RDMA.RDMA_SRC_LINE_STRIDE", SRC_LINE_STRIDE=width)
    e("PPU_RDMA.RDMA_SRC_SURF_STRIDE", SRC_SURF_STRIDE=width * height)
    e("PPU_RDMA.RDMA_DATA_FORMAT", IN_PRECISION=1)
    return draft


def to_atoms(values: np.ndarray, fill: int = 0) -> np.ndarray:
    """int8 [height][width][channels] to the bytes of surfaces of 16 channels; the last one is filled up."""
    height, width, channels = values.shape
    surfaces = ceil_div(channels, ATOM_BYTES)
    full = np.full((height, width, surfaces * ATOM_BYTES), fill, np.int8)
    full[..., :channels] = values
    return np.ascontiguousarray(full.reshape(height, width, surfaces, ATOM_BYTES).transpose(2, 0, 1, 3)).view(
        np.uint8).reshape(-1)


def places(height: int, width: int, channels: int, pitch: int = 0, line: int = 0) -> np.ndarray:
    """Byte offsets [height][width][channels] of a map's elements. pitch, line: atoms of a surface and of a row."""
    channel = np.arange(channels)
    pixel = np.arange(height)[:, None] * (line or width) + np.arange(width)
    return (channel // ATOM_BYTES * (pitch or height * width) + pixel[..., None]) * ATOM_BYTES + channel % ATOM_BYTES


def ramp() -> np.ndarray:
    """int8 [1][16][16]: all values from -128 to 127."""
    return np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16)
