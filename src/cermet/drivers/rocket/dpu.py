"""The DPU's stages as values, and the registers that hold them (numerics document §6 to §9)."""
from __future__ import annotations

from dataclasses import dataclass, field

from cermet.drivers.rocket.lut import Lut, emit_ranges, emit_tables
from cermet.drivers.rocket.regcmd import Address, Regcmd

ALGO_MAX, ALGO_MIN, ALGO_ADD, ALGO_MINUS = 0, 1, 2, 4
BURST_LENGTH = 15
POINTER_BOTH_AUTOMATIC = dict(POINTER_PP_EN=1, EXECUTER_PP_EN=1, POINTER_PP_MODE=1)     # 0xE
# Operand clients: DATA_USE bit 0 feeds the ALU, bit 1 CPEND (the weight zero points), bit 2 the multiplier.
USE_ALU, USE_MULTIPLIER, USE_BLOCK = 1, 4, 7


@dataclass(frozen=True)
class Stage:
    """BS or BN: an adder, a multiplier with a right shift, a clamp. BS adds first, BN multiplies first.

    add          register operand; None with add_from_memory False: no adder
    multiplier   register operand, signed 16 bits in BS, unsigned in BN
    from memory  operands per channel, fetched from `operands` (data_use says which ones lie there)
    shift        right shift after the multiplication (BN: after the addition), half to even
    shift_negative   of products below 0; None: as the others
    prelu        only values below 0 are multiplied and shifted
    relu, relux  clamp below at 0, above at relux
    """

    add: int | None = None
    add_from_memory: bool = False
    multiplier: int | None = None
    multiplier_from_memory: bool = False
    shift: int = 0
    shift_negative: int | None = None
    prelu: bool = False
    relu: bool = False
    relux: int | None = None
    operands: Address | None = None
    data_use: int = 0

    @property
    def adds(self) -> bool:
        return self.add is not None or self.add_from_memory

    @property
    def multiplies(self) -> bool:
        return self.multiplier is not None or self.multiplier_from_memory

    @property
    def is_bypassed(self) -> bool:
        return not (self.adds or self.multiplies or self.relu or self.relux is not None)

    def fields(self, prefix: str) -> dict[str, dict[str, int]]:
        """Register fields of the four registers CFG, ALU_CFG, MUL_CFG, RELUX_CMP_VALUE; prefix BS or BN."""
        config = {f"{prefix}_BYPASS": int(self.is_bypassed), f"{prefix}_ALU_BYPASS": int(not self.adds),
                  f"{prefix}_MUL_BYPASS": int(not self.multiplies), f"{prefix}_MUL_PRELU": int(self.prelu),
                  f"{prefix}_RELU_BYPASS": int(not self.relu),
                  f"{prefix}_RELUX_EN": int(self.relux is not None),
                  f"{prefix}_ALU_SRC": int(self.add_from_memory),
                  f"{prefix}_ALU_ALGO": ALGO_ADD if self.adds else 0}
        return {
            f"{prefix}_CFG": config,
            f"{prefix}_ALU_CFG": {f"{prefix}_ALU_OPERAND": self.add or 0},
            f"{prefix}_MUL_CFG": {f"{prefix}_MUL_OPERAND": self.multiplier or 0,
                                  f"{prefix}_MUL_SHIFT_VALUE": self.shift,
                                  f"{prefix}_MUL_SRC": int(self.multiplier_from_memory)},
            f"{prefix}_RELUX_CMP_VALUE": {f"{prefix}_RELUX_CMP_DAT": self.relux or 0},
        }


BYPASSED = Stage()


@dataclass(frozen=True)
class Elementwise:
    """EW with a second operand from memory, one int8 element per output element.

    offset, scale, shift   operand converter: (e + offset) * scale >> shift
    relu, relux            clamp of the result below at 0, above at relux (RELUX: trm)
    product_shift          right shift of a product
    algo, multiplies       ALU algorithm, or a multiplication instead
    operands               where the bytes per channel of a convolution lie; other operands are their tasks' own
    """

    offset: int
    scale: int
    shift: int
    algo: int = ALGO_ADD
    multiplies: bool = False
    per_element: bool = True
    product_shift: int = 0
    relu: bool = False
    relux: int | None = None
    operands: Address | None = None

    def fields(self) -> dict[str, int]:
        """EW_CFG: memory operand of 8 bits, converter adds first."""
        return dict(EW_CVT_TYPE=1, EW_DATA_MODE=int(self.per_element), EDATA_SIZE=1,
                    EW_RELU_BYPASS=int(not self.relu), EW_RELUX_EN=int(self.relux is not None), EW_LUT_BYPASS=1,
                    EW_OP_SRC=1, EW_OP_TYPE=int(self.multiplies), EW_ALU_ALGO=0 if self.multiplies else self.algo)


EW_BYPASSED = dict(EW_BYPASS=1, EW_OP_BYPASS=1, EW_LUT_BYPASS=1, EW_OP_CVT_BYPASS=1, EW_RELU_BYPASS=1)     # 0x383


EW_LUT = dict(EW_OP_BYPASS=1, EW_OP_CVT_BYPASS=1, EW_RELU_BYPASS=1)     # 0x302


@dataclass(frozen=True)
class OutputConverter:
    """OUT_CVT: y = saturate8(round(v * scale / 2**shift) + offset), ties away from zero or else to even."""

    offset: int
    scale: int = 1
    shift: int = 0
    ties_away: bool = True


@dataclass(frozen=True)
class Stages:
    """Everything between the accumulator (or MRDMA) and the output bytes.

    ew, lut   EW is an operation or a LUT, not both
    tables    what the task loads: the LUT that it uses, or one for the tasks behind it
    """

    bs: Stage = BYPASSED
    bn: Stage = BYPASSED
    ew: Elementwise | None = None
    out: OutputConverter = field(default_factory=lambda: OutputConverter(0))
    lut: Lut | None = None
    tables: Lut | None = None


def emit_stages(regcmd: Regcmd, stages: Stages) -> None:
    """BS, BN, EW and OUT_CVT registers, and DPU.DATA_FORMAT for int8 throughout."""
    # The negative side of the shifts has its own field.
    negative = [s.shift if s.shift_negative is None else s.shift_negative for s in (stages.bs, stages.bn)]
    ew = stages.ew
    regcmd.emit("DPU.DATA_FORMAT", BS_MUL_SHIFT_VALUE_NEG=negative[0], BN_MUL_SHIFT_VALUE_NEG=negative[1],
                EW_TRUNCATE_NEG=ew.product_shift if ew else 0)
    for prefix, stage in (("BS", stages.bs), ("BN", stages.bn)):
        for name, fields in stage.fields(prefix).items():
            regcmd.emit(f"DPU.{name}", **fields)
    regcmd.emit("DPU.EW_CFG", **(ew.fields() if ew else EW_LUT if stages.lut else EW_BYPASSED))
    regcmd.emit("DPU.EW_CVT_OFFSET_VALUE", EW_OP_CVT_OFFSET=ew.offset if ew else 0)
    regcmd.emit("DPU.EW_CVT_SCALE_VALUE", EW_OP_CVT_SCALE=ew.scale if ew else 1, EW_OP_CVT_SHIFT=ew.shift if ew else 0,
                EW_TRUNCATE=ew.product_shift if ew else 0)
    regcmd.emit("DPU.EW_RELUX_CMP_VALUE", EW_RELUX_CMP_DAT=(ew.relux or 0) if ew else 0)
    regcmd.emit("DPU.OUT_CVT_OFFSET", OUT_CVT_OFFSET=stages.out.offset)
    regcmd.emit("DPU.OUT_CVT_SCALE", OUT_CVT_SCALE=stages.out.scale)
    regcmd.emit("DPU.OUT_CVT_SHIFT", OUT_CVT_SHIFT=stages.out.shift, CVT_ROUND=int(stages.out.ties_away))
    for index in range(8):
        regcmd.emit(f"DPU.EW_OP_VALUE_{index}", **{f"EW_OPERAND_{index}": 0})


def emit_operand_clients(regcmd: Regcmd, stages: Stages) -> None:
    """BRDMA and NRDMA: the per-channel operands of BS and BN."""
    emit_client(regcmd, "DPU_RDMA.RDMA_BRDMA_CFG", "BRDMA_DATA_USE", "DPU_RDMA.RDMA_BS_BASE_ADDR", stages.bs)
    emit_client(regcmd, "DPU_RDMA.RDMA_NRDMA_CFG", "NRDMA_DATA_USE", "DPU_RDMA.RDMA_BN_BASE_ADDR", stages.bn)


def emit_client(regcmd: Regcmd, config: str, data_use: str, base: str, stage: Stage) -> None:
    regcmd.emit(config, **{data_use: stage.data_use})
    if stage.operands is None:
        regcmd.emit(base)
    else:
        regcmd.emit_address(base, stage.operands)


def emit_rest(regcmd: Regcmd, stages: Stages) -> None:
    """The LUT, and registers that int8 programs keep at 0: a stale value of an earlier job would act."""
    for name in ("OFFSET_PEND", "UNDOCUMENTED_40C4"):
        regcmd.emit(f"DPU.{name}")
    if stages.tables is not None:
        emit_tables(regcmd, stages.tables)
    emit_ranges(regcmd, stages.lut)
