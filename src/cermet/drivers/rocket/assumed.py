"""Parts of the hardware that programs use although nobody has shown them on silicon in int8: the only list of them.

Which of them a task uses is read off its registers, whoever wrote them, so that no lowering has to say so, and none can
forget it; but for registers that a task does not write (changed_registers.py). The option `assume` decides what is
taken for granted.
"""
from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cermet.drivers.base import Refusal
from cermet.drivers.rocket.regcmd import BlockMask, TaskProgram
from cermet.hw.soc import Soc

DIRECT, DEPTHWISE = 0, 3        # CONV_MODE
ALGO_MAX, ALGO_MIN = 0, 1
PROVEN_LUT_STEP_BITS = 5
LARGEST_SIGNED = 0x7FFF         # multipliers of all known programs are below 0x8000
# What working programs, or the vendor's, go up to.
SEEN_KERNEL, SEEN_DEPTHWISE_KERNEL, SEEN_STRIDE, SEEN_DILATION = 7, 8, 3, 4
SILICON_STRIDE = 2
OF_OPERATION, OF_OTHERS = "registers_of_operation", "registers_of_others"
TASK_NUMBER, FIRST_ROWS = "task_number", "first_rows"
SEEN_FIRST_ROWS = 12            # fewer only where a task's input has no more


class Evidence(enum.Enum):
    """What speaks for a part; the value is how reports put it."""

    REPLAYED = "replayed from a program of the vendor's, not seen on silicon in int8"
    DOCUMENTED = "the register document alone"
    INFERRED = "inferred from parts that work"


# The evidence that each value of the option `assume` accepts.
ACCEPTED: Mapping[str, frozenset[Evidence]] = {
    "on": frozenset(Evidence), "replayed": frozenset({Evidence.REPLAYED}), "off": frozenset()}


class TaskRegisters:
    """The fields of a task's registers, as its words leave them."""

    def __init__(self, soc: Soc, words: Sequence[int]) -> None:
        self.soc = soc
        self._registers = soc.registers
        self._values = {word & 0xFFFF: word >> 16 & 0xFFFF_FFFF for word in words}
        self.blocks = words[-1] >> 16 & 0xFF
        access = soc.registers["DPU.LUT_ACCESS_CFG"]
        self.loads_lut = any(word & 0xFFFF == access.offset and access.unpack(word >> 16 & 0xFFFF_FFFF)[
            "LUT_ACCESS_TYPE"] for word in words)

    def __call__(self, register: str, field: str) -> int:
        """The value of a field; what bits of 0 stand for when the task does not write the register."""
        described = self._registers[register]
        return described.fields[field].decode(self._values.get(described.offset, 0))

    def writes(self, register: str) -> bool:
        """Whether the task writes a register; shortened programs leave out what stays as it was."""
        return self._registers[register].offset in self._values

    @property
    def is_convolution(self) -> bool:
        return bool(self.blocks & BlockMask.CNA)

    @property
    def is_direct(self) -> bool:
        return self.is_convolution and self("CNA.CONV_CON1", "CONV_MODE") == DIRECT

    @property
    def kernel(self) -> int:
        """The longer side of a convolution's window, 0 for other tasks."""
        return max(self("CNA.WEIGHT_SIZE2", "WEIGHT_WIDTH"), self("CNA.WEIGHT_SIZE2", "WEIGHT_HEIGHT")) \
            if self.is_convolution else 0

    @property
    def stride(self) -> int:
        return max(self("CNA.CONV_CON3", "CONV_X_STRIDE"), self("CNA.CONV_CON3", "CONV_Y_STRIDE")) \
            if self.is_convolution else 0

    @property
    def dilation(self) -> int:
        return max(self("CNA.CONV_CON3", "ATROUS_X_DILATION"), self("CNA.CONV_CON3", "ATROUS_Y_DILATION")) \
            if self.is_convolution else 0

    @property
    def looks_up(self) -> bool:
        return self.writes("DPU.EW_CFG") and not self("DPU.EW_CFG", "EW_BYPASS") \
            and not self("DPU.EW_CFG", "EW_LUT_BYPASS")

    @property
    def is_elementwise(self) -> bool:
        """EW works on a second operand from memory."""
        return not self("DPU.EW_CFG", "EW_BYPASS") and not self("DPU.EW_CFG", "EW_OP_BYPASS") \
            and bool(self("DPU.EW_CFG", "EW_OP_SRC"))

    @property
    def bn_multiplies_from_memory(self) -> bool:
        return not self("DPU.BN_CFG", "BN_BYPASS") and not self("DPU.BN_CFG", "BN_MUL_BYPASS") \
            and bool(self("DPU.BN_MUL_CFG", "BN_MUL_SRC"))


@dataclass(frozen=True)
class Part:
    """One part.

    name      stable, for tools
    words     what is done, for people
    source    section or question of the hardware notes
    is_used   whether a task does it
    """

    name: str
    words: str
    evidence: Evidence
    source: str
    is_used: Callable[[TaskRegisters], bool]


def _streams_a_group(task: TaskRegisters) -> bool:
    kernels = min(task.soc.kernel_group, task("CNA.WEIGHT_SIZE2", "WEIGHT_KERNELS"))
    group_bytes = task("CNA.WEIGHT_SIZE1", "WEIGHT_BYTES_PER_KERNEL") * kernels
    return task.is_direct and group_bytes > task("CNA.CBUF_CON0", "WEIGHT_BANK") * task.soc.cbuf.bank_bytes


def _compares_per_channel(task: TaskRegisters) -> bool:
    return task.is_elementwise and task("DPU.EW_CFG", "EW_DATA_MODE") == 0 \
        and task("DPU.EW_CFG", "EW_OP_TYPE") == 0 and task("DPU.EW_CFG", "EW_ALU_ALGO") in (ALGO_MAX, ALGO_MIN)


def _ew_clamps(task: TaskRegisters) -> bool:
    return task.is_elementwise and bool(
        not task("DPU.EW_CFG", "EW_RELU_BYPASS") or task("DPU.EW_CFG", "EW_RELUX_EN"))


def _waits_for_few_rows(task: TaskRegisters) -> bool:
    return task.is_convolution and task.writes("CNA.CONV_CON2") and task("CNA.CONV_CON2", "FEATURE_GRAINS") \
        < min(SEEN_FIRST_ROWS, task("CNA.DATA_SIZE0", "DATAIN_HEIGHT") + 1)


def _is_renested(task: TaskRegisters) -> bool:
    return not task.is_convolution and max(task("DPU.BS_OW_CFG", f"SIZE_E_{i}") for i in range(3)) > 1


def _is_left_out(task: TaskRegisters) -> bool:
    """Words do not tell what they rely on that is not there: changed_registers.py adds the part's name."""
    return False


_REPLAYED, _DOCUMENTED, _INFERRED = Evidence

PARTS: tuple[Part, ...] = (
    Part("large_kernel", f"a window above {SEEN_KERNEL} by {SEEN_KERNEL} "
         f"({SEEN_DEPTHWISE_KERNEL} by {SEEN_DEPTHWISE_KERNEL} depthwise)", _DOCUMENTED, "recipes §1.8",
         lambda task: task.kernel > (SEEN_KERNEL if task.is_direct else SEEN_DEPTHWISE_KERNEL)),
    Part("large_stride", f"a stride above {SEEN_STRIDE}", _DOCUMENTED, "recipes §1.8",
         lambda task: task.stride > SEEN_STRIDE),
    Part("stride_of_three", "a stride of 3", _REPLAYED, "recipes §1.8",
         lambda task: SILICON_STRIDE < task.stride <= SEEN_STRIDE),
    Part("large_dilation", f"a dilation above {SEEN_DILATION}", _DOCUMENTED, "recipes §1.8",
         lambda task: task.dilation > SEEN_DILATION),
    Part("dilation", f"a dilation of 2 to {SEEN_DILATION}", _REPLAYED, "recipes §1.8",
         lambda task: 1 < task.dilation <= SEEN_DILATION),
    Part("streamed_kernel_group", "a group of 32 kernels larger than its CBUF banks, fetched in parts", _INFERRED,
         "Q-C5", _streams_a_group),
    Part("transposed_convolution", "the transposed mode of the convolution unit", _REPLAYED, "Q-D1",
         lambda task: task.is_convolution and bool(task("CNA.CONV_CON1", "DECONV"))),
    Part("window_of_columns", "a convolution that reads some columns of a wider map", _REPLAYED, "Q-L1",
         lambda task: task.is_convolution and bool(task("CNA.CONV_CON1", "GROUP_LINE_OFF"))
         and not task("CNA.CONV_CON1", "ARGB_IN")),
    Part("packed_pixels", "input of 1 to 4 channels read pixel by pixel", _REPLAYED, "Q-L7",
         lambda task: task.is_convolution and bool(task("CNA.CONV_CON1", "ARGB_IN"))),
    Part("input_converter", "the input converter at work", _INFERRED, "Q-N1",
         lambda task: task.writes("CNA.CVT_CON0") and not task("CNA.CVT_CON0", "CVT_BYPASS")),
    Part("feature_reuse", "features left in the CBUF by the task before", _DOCUMENTED, "Q-X8",
         lambda task: task.is_convolution and bool(task("CNA.CBUF_CON0", "DATA_REUSE"))),
    Part("direct_notch", "a convolution that writes some columns of a wider map", _INFERRED, "Q-L5",
         lambda task: task.is_direct and task("DPU.DATA_CUBE_NOTCH_ADDR", "NOTCH_ADDR_0") > 0),
    Part("line_notch", "a copy that reads some columns of a wider map, or every k-th row or column", _REPLAYED,
         "evidence §5", lambda task: not task.is_convolution and
         task("DPU_RDMA.RDMA_SRC_DMA_CFG", "LINE_NOTCH_ADDR") > 0),
    Part("unpooling", "reading each pixel several times (un-pooling)", _REPLAYED, "recipes §12",
         lambda task: bool(task("DPU_RDMA.RDMA_SRC_DMA_CFG", "UNPOOLING_EN"))),
    Part("nested_writer", "a copy whose surfaces interleave", _REPLAYED, "recipes §12", _is_renested),
    Part("interleaved_groups", "a convolution that writes groups of channels nearer to each other than their surfaces",
         _REPLAYED, "recipes §12", lambda task: task.is_convolution and task("DPU.SURFACE_ADD", "SURF_ADD")
         < task("DPU.BS_OW_CFG", "SIZE_E_0") * task("DPU.DST_SURF_STRIDE", "DST_SURF_STRIDE")),
    Part("writer_sizes", "a convolution that writes its pixels in other rows and columns than it computes them",
         _REPLAYED, "data layouts §4", lambda task: task.is_convolution and
         task("DPU.WDMA_SIZE_1", "WIDTH_WDMA") != task("DPU.DATA_CUBE_WIDTH", "WIDTH")),
    Part("regrouping", "regrouped or transposed writes", _DOCUMENTED, "open questions",
         lambda task: bool(task("DPU.FEATURE_MODE_CFG", "TP_EN") or task("DPU.FEATURE_MODE_CFG", "RGP_TYPE")
                           or task("DPU.BS_OW_CFG", "TP_ORG_EN"))),
    Part("bn_multipliers", "the BN stage multiplies each channel by a number from memory", _INFERRED, "numerics §7",
         lambda task: task.bn_multiplies_from_memory and not task("DPU.BN_CFG", "BN_MUL_PRELU")),
    Part("bn_shift_by_sign", "the BN stage shifts products below zero by a number of their own", _INFERRED,
         "numerics §7", lambda task: task.bn_multiplies_from_memory and task("DPU.BN_MUL_CFG", "BN_MUL_SHIFT_VALUE")
         != task("DPU.DATA_FORMAT", "BN_MUL_SHIFT_VALUE_NEG")),
    Part("bn_large_multiplier", "the BN stage multiplies by a number of 16 bits", _INFERRED, "Q-N7",
         lambda task: not task.bn_multiplies_from_memory
         and task("DPU.BN_MUL_CFG", "BN_MUL_OPERAND") > LARGEST_SIGNED),
    Part("bn_slopes", "the BN stage multiplies values below 0 by a number per channel from memory", _REPLAYED,
         "numerics §7", lambda task: task.bn_multiplies_from_memory and bool(task("DPU.BN_CFG", "BN_MUL_PRELU"))),
    Part("bn_addends", "the BN stage adds a number per channel from memory", _REPLAYED, "numerics §7",
         lambda task: not task("DPU.BN_CFG", "BN_BYPASS") and not task("DPU.BN_CFG", "BN_ALU_BYPASS")
         and bool(task("DPU.BN_CFG", "BN_ALU_SRC"))),
    Part("lut_in_one_task", "a look-up table loaded by the task that uses it", _INFERRED, "numerics §12",
         lambda task: task.looks_up and task.loads_lut),
    Part("lut_step", "a look-up table with a step other than 32", _DOCUMENTED, "numerics §12",
         lambda task: task.looks_up and task("DPU.LUT_INFO", "LUT_LO_INDEX_SELECT") != PROVEN_LUT_STEP_BITS),
    Part("lut_behind_convolution", "a look-up table behind a convolution, in one task", _REPLAYED, "numerics §12",
         lambda task: task.looks_up and task.is_convolution),
    Part("operand_line_notch", "a second operand of some columns of a wider map", _DOCUMENTED, "data layouts §5",
         lambda task: task.is_elementwise and task("DPU_RDMA.RDMA_DATA_CUBE_HEIGHT", "EW_LINE_NOTCH_ADDR") > 0),
    Part("ew_clamp", "the element-wise stage clamps behind its adder", _DOCUMENTED, "Q-N9", _ew_clamps),
    Part("ew_product_shift", "the element-wise stage shifts its products", _DOCUMENTED, "numerics §8.2, Q-N8",
         lambda task: task.is_elementwise and task("DPU.EW_CVT_SCALE_VALUE", "EW_TRUNCATE") > 0),
    Part("ew_behind_convolution", "the element-wise stage multiplies a convolution by a number per channel", _INFERRED,
         "numerics §8.3, Q-E5", lambda task: task.is_convolution and task.is_elementwise
         and task("DPU.EW_CFG", "EW_DATA_MODE") == 0),
    Part("ew_wide_gains", "the number per channel reaches 256: the operand converter of the element-wise stage rounds",
         _INFERRED, "numerics §8.2, Q-N8", lambda task: task.is_convolution and task.is_elementwise
         and task("DPU.EW_CFG", "EW_DATA_MODE") == 0 and task("DPU.EW_CVT_SCALE_VALUE", "EW_OP_CVT_SHIFT") > 0),
    Part("compare_per_channel", "a maximum or minimum with one operand per channel", _INFERRED, "numerics §8.3",
         _compares_per_channel),
    Part(FIRST_ROWS, f"fewer than {SEEN_FIRST_ROWS} input rows of which the array waits (option first_rows=least)",
         _DOCUMENTED, "recipes §1.2, Q-X10", _waits_for_few_rows),
    Part(TASK_NUMBER, "a program that asks for those behind it (option chains=program)", _INFERRED,
         "execution model §4.1, Q-X12", lambda task: task.writes("PC.TASK_CON")),
    Part(OF_OPERATION, "registers that earlier tasks of the operation have written (option registers=changed)",
         _REPLAYED, "execution model §5", _is_left_out),
    Part(OF_OTHERS, "registers that tasks of other operations have written (option registers=changed)", _INFERRED,
         "execution model §5", _is_left_out),
)
BY_NAME: Mapping[str, Part] = {part.name: part for part in PARTS}


def parts_used(soc: Soc, words: Sequence[int]) -> tuple[str, ...]:
    """Names of the parts that a task relies on, in the list's order."""
    task = TaskRegisters(soc, words)
    return tuple(part.name for part in PARTS if part.is_used(task))


def with_assumed(soc: Soc, tasks: Sequence[TaskProgram]) -> list[TaskProgram]:
    """The tasks with `assumed` filled in."""
    return [replace(task, assumed=parts_used(soc, task.words)) for task in tasks]


def refusals_of(tasks: Sequence[TaskProgram], assume: str) -> dict[int, Refusal]:
    """Operations that need a part which the option does not accept.

    A task of several operations is laid on the first, the convolution: the others are asked again without it.
    """
    accepted = ACCEPTED[assume]
    found: dict[int, Refusal] = {}
    for task in tasks:
        parts = [BY_NAME[name] for name in task.assumed if BY_NAME[name].evidence not in accepted]
        if parts:
            found.setdefault(task.operations[0], Refusal(
                "parts_are_proven", f"needs {parts[0].words}, which assume={assume} does not take: "
                f"{parts[0].evidence.value} ({parts[0].source})"))
    return found
