"""The DPU's arithmetic: BS, BN, EW, OUT_CVT (numerics §6 to §9). Plain NumPy definitions, int64 inside.

Arrays are [rows][columns][channels]; per-channel operands are [channels].
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.sim.lut import Lut
from cermet.sim.outcome import Hang
from cermet.sim.registers import Snapshot
from cermet.sim.rounding import INT32_MIN, saturate, shift_away, shift_even, signed

ALGO_ADD, ALGO_SUBTRACT = 2, 4
EW_MAX, EW_MIN, EW_ADD, EW_DIV, EW_MINUS, EW_ABS, EW_NEG, EW_FLOOR, EW_CEIL = range(9)
EW_USED = (EW_MAX, EW_MIN, EW_ADD, EW_MINUS, EW_ABS, EW_NEG, EW_FLOOR, EW_CEIL)

Operand = np.ndarray | int


@dataclass(frozen=True)
class LinearStage:
    """BS (adds first) or BN (multiplies first)."""

    alu_on: bool
    alu_subtract: bool
    alu_from_memory: bool
    alu_operand: int
    mul_on: bool
    mul_from_memory: bool
    mul_operand: int
    prelu: bool
    shift: int
    shift_negative: int
    relu: bool
    relux: bool
    relux_limit: int

    @property
    def is_identity(self) -> bool:
        return not (self.alu_on or self.mul_on or self.relu or self.relux)


IDENTITY = LinearStage(False, False, False, 0, False, False, 0, False, 0, 0, False, False, 0)


def decode_linear(dpu: Snapshot, stage: str) -> LinearStage:
    """stage is BS or BN. The register multiplier is signed in BS, unsigned in BN (numerics §7, Q-N7). Raises Hang."""
    if dpu(f"{stage}_CFG.{stage}_BYPASS"):
        return IDENTITY
    alu_on = not dpu(f"{stage}_CFG.{stage}_ALU_BYPASS")
    mul_on = not dpu(f"{stage}_CFG.{stage}_MUL_BYPASS")
    algo = dpu(f"{stage}_CFG.{stage}_ALU_ALGO")
    if alu_on and algo not in (ALGO_ADD, ALGO_SUBTRACT):
        raise Hang("dpu.alu_algo", f"DPU.{stage}_CFG.{stage}_ALU_ALGO: {algo} must be 2 (add) or 4 (subtract)")
    if mul_on and dpu(f"{stage}_MUL_CFG.{stage}_TRUNCATE_SRC"):
        raise Hang("dpu.truncate_src", f"DPU.{stage}_MUL_CFG.{stage}_TRUNCATE_SRC: shifts from memory are unsupported")
    operand = dpu(f"{stage}_MUL_CFG.{stage}_MUL_OPERAND") & 0xFFFF
    return LinearStage(
        alu_on=alu_on, alu_subtract=algo == ALGO_SUBTRACT, alu_from_memory=bool(dpu(f"{stage}_CFG.{stage}_ALU_SRC")),
        alu_operand=signed(dpu(f"{stage}_ALU_CFG.{stage}_ALU_OPERAND"), 32),
        mul_on=mul_on, mul_from_memory=bool(dpu(f"{stage}_MUL_CFG.{stage}_MUL_SRC")),
        mul_operand=signed(operand, 16) if stage == "BS" else operand,
        prelu=bool(dpu(f"{stage}_CFG.{stage}_MUL_PRELU")),
        shift=dpu(f"{stage}_MUL_CFG.{stage}_MUL_SHIFT_VALUE"),
        shift_negative=dpu(f"DATA_FORMAT.{stage}_MUL_SHIFT_VALUE_NEG"),
        relu=not dpu(f"{stage}_CFG.{stage}_RELU_BYPASS"), relux=bool(dpu(f"{stage}_CFG.{stage}_RELUX_EN")),
        relux_limit=signed(dpu(f"{stage}_RELUX_CMP_VALUE.{stage}_RELUX_CMP_DAT"), 32))


def _shift_by_sign(value: np.ndarray, shift: int, shift_negative: int) -> np.ndarray:
    if shift == shift_negative:
        return shift_even(value, shift)
    return np.where(value >= 0, shift_even(value, shift), shift_even(value, shift_negative))


def _clamp(value: np.ndarray, stage: LinearStage) -> np.ndarray:
    if stage.relu:
        value = np.maximum(value, 0)
    if stage.relux:
        value = np.minimum(value, stage.relux_limit)
    return value


def apply_bs(value: np.ndarray, stage: LinearStage, alu: Operand, mul: Operand) -> np.ndarray:
    """(value + alu) * mul >> shift, each step saturated to 32 bits; then ReLU and the upper clamp."""
    if stage.alu_on:
        value = saturate(value - alu if stage.alu_subtract else value + alu, 32)
    if stage.mul_on:
        scaled = saturate(_shift_by_sign(value * mul, stage.shift, stage.shift_negative), 32)
        value = np.where(value < 0, scaled, value) if stage.prelu else scaled
    return _clamp(value, stage)


def apply_bn(value: np.ndarray, stage: LinearStage, alu: Operand, mul: Operand) -> np.ndarray:
    """(value * mul + alu) >> shift, saturated to 32 bits; then ReLU and the upper clamp."""
    if not stage.alu_on:
        alu = 0
    if stage.alu_subtract:
        alu = -alu
    if stage.mul_on:
        scaled = saturate(_shift_by_sign(value * mul + alu, stage.shift, stage.shift_negative), 32)
        value = np.where(value < 0, scaled, saturate(value + alu, 32)) if stage.prelu else scaled
    elif stage.alu_on:
        value = saturate(value + alu, 32)
    return _clamp(value, stage)


@dataclass(frozen=True)
class EwStage:
    """EW: LUT first, then one operation with the second operand, then ReLU."""

    lut_on: bool
    op_on: bool
    multiply: bool
    algo: int
    from_memory: bool
    per_pixel: bool
    register_operand: int
    convert: bool
    add_first: bool
    cvt_away: bool
    cvt_offset: int
    cvt_scale: int
    cvt_shift: int
    prelu: bool
    truncate: int
    truncate_negative: int
    relu: bool
    relux: bool
    relux_limit: int

    @property
    def needs_memory(self) -> bool:
        return self.op_on and self.from_memory

    @property
    def is_identity(self) -> bool:
        return not (self.lut_on or self.op_on or self.relu or self.relux)


EW_IDENTITY = EwStage(False, False, False, 0, False, False, 0, False, False, False, 0, 1, 0, False, 0, 0, False, False,
                      0)


def decode_ew(dpu: Snapshot) -> EwStage:
    """Raises Hang on what no integer program does."""
    if dpu("EW_CFG.EW_BYPASS"):
        return EW_IDENTITY
    op_on = not dpu("EW_CFG.EW_OP_BYPASS")
    multiply = bool(dpu("EW_CFG.EW_OP_TYPE"))
    algo = dpu("EW_CFG.EW_ALU_ALGO")
    if op_on and not multiply and algo not in EW_USED:
        raise Hang("dpu.ew_algo", f"DPU.EW_CFG.EW_ALU_ALGO: {algo} is unsupported on integers")
    if op_on and dpu("EW_CFG.EW_BINARY_EN"):
        raise Hang("dpu.ew_binary", "DPU.EW_CFG.EW_BINARY_EN: not understood, unsupported")
    return EwStage(
        lut_on=not dpu("EW_CFG.EW_LUT_BYPASS"), op_on=op_on, multiply=multiply, algo=algo,
        from_memory=bool(dpu("EW_CFG.EW_OP_SRC")), per_pixel=dpu("EW_CFG.EW_DATA_MODE") == 1,
        register_operand=signed(dpu("EW_OP_VALUE_0.EW_OPERAND_0"), 32),
        convert=not dpu("EW_CFG.EW_OP_CVT_BYPASS"), add_first=bool(dpu("EW_CFG.EW_CVT_TYPE")),
        cvt_away=bool(dpu("EW_CFG.EW_CVT_ROUND")),
        cvt_offset=signed(dpu("EW_CVT_OFFSET_VALUE.EW_OP_CVT_OFFSET"), 32),
        cvt_scale=signed(dpu("EW_CVT_SCALE_VALUE.EW_OP_CVT_SCALE"), 16),
        cvt_shift=dpu("EW_CVT_SCALE_VALUE.EW_OP_CVT_SHIFT"),
        prelu=bool(dpu("EW_CFG.EW_MUL_PRELU")), truncate=min(dpu("EW_CVT_SCALE_VALUE.EW_TRUNCATE"), 63),
        truncate_negative=min(dpu("DATA_FORMAT.EW_TRUNCATE_NEG"), 63),
        relu=not dpu("EW_CFG.EW_RELU_BYPASS"), relux=bool(dpu("EW_CFG.EW_RELUX_EN")),
        relux_limit=signed(dpu("EW_RELUX_CMP_VALUE.EW_RELUX_CMP_DAT"), 32))


def convert_operand(stage: EwStage, operand: np.ndarray) -> np.ndarray:
    """EW operand converter (numerics §8.2); rounding rne, ties away with CVT_ROUND (Q-N8: ASSUMED)."""
    if not stage.convert:
        return operand
    rounded = shift_away if stage.cvt_away else shift_even
    if stage.add_first:
        return saturate(rounded((operand + stage.cvt_offset) * stage.cvt_scale, stage.cvt_shift), 32)
    return saturate(rounded(operand * stage.cvt_scale, stage.cvt_shift) + stage.cvt_offset, 32)


def apply_ew(value: np.ndarray, stage: EwStage, lut: Lut | None, operand: np.ndarray | None) -> np.ndarray:
    """operand: as read, int64, broadcastable; None for a register operand (which is not converted: ASSUMED)."""
    if stage.lut_on and lut is not None:
        value = saturate(lut(value), 32)
    if stage.op_on:
        second = (np.asarray(stage.register_operand, np.int64) if operand is None
                  else convert_operand(stage, operand))
        value = _ew_multiply(value, stage, second) if stage.multiply else _ew_alu(value, stage.algo, second)
    if stage.relu:
        value = np.maximum(value, 0)
    if stage.relux:
        value = np.minimum(value, stage.relux_limit)
    return value


def _ew_multiply(value: np.ndarray, stage: EwStage, second: np.ndarray) -> np.ndarray:
    product = saturate(_shift_by_sign(value * second, stage.truncate, stage.truncate_negative), 32)
    return np.where(value < 0, product, value) if stage.prelu else product


def _negative(value: np.ndarray) -> np.ndarray:
    """INT32_MIN stays (numerics §8.3)."""
    return np.where(value == INT32_MIN, value, -value)


def _ew_alu(value: np.ndarray, algo: int, second: np.ndarray) -> np.ndarray:
    if algo == EW_MAX:
        return np.maximum(value, second)
    if algo == EW_MIN:
        return np.minimum(value, second)
    if algo == EW_ADD:
        return saturate(value + second, 32)
    if algo == EW_MINUS:
        return saturate(value + _negative(second), 32)
    if algo == EW_ABS:
        return np.where(value < 0, _negative(value), value)
    if algo == EW_NEG:
        return _negative(value)
    return value                                            # floor and ceil of an integer


@dataclass(frozen=True)
class OutputConverter:
    """OUT_CVT: value * scale >> shift, plus offset, saturated to the output's width."""

    scale: int
    shift: int
    offset: int
    ties_away: bool
    bits: int


def decode_output(dpu: Snapshot, bits: int) -> OutputConverter:
    if dpu("OUT_CVT_SCALE.FP32TOFP16_EN"):
        raise Hang("precision", "DPU.OUT_CVT_SCALE.FP32TOFP16_EN: unsupported precision, the simulator does integers")
    return OutputConverter(
        scale=signed(dpu("OUT_CVT_SCALE.OUT_CVT_SCALE"), 16), shift=min(dpu("OUT_CVT_SHIFT.OUT_CVT_SHIFT"), 63),
        offset=signed(dpu("OUT_CVT_OFFSET.OUT_CVT_OFFSET"), 32),
        ties_away=bool(dpu("OUT_CVT_SHIFT.CVT_ROUND")), bits=bits)


def apply_output(value: np.ndarray, output: OutputConverter) -> np.ndarray:
    rounded = shift_away if output.ties_away else shift_even
    return saturate(rounded(value * output.scale, output.shift) + output.offset, output.bits)


def clip_truncate(value: np.ndarray, shift: int, round_up: bool) -> np.ndarray:
    """CORE's shift of the accumulator plus zero-point term (numerics §4)."""
    return saturate(shift_up_or_even(value, shift, round_up), 32)


def shift_up_or_even(value: np.ndarray, shift: int, round_up: bool) -> np.ndarray:
    if round_up and shift:
        return (value + (1 << (shift - 1))) >> shift
    return shift_even(value, shift)
