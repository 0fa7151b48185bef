"""What a task ran with, in words: for somebody who wants to know why its result is another one."""
from __future__ import annotations

from collections.abc import Iterator

from cermet.hw.disasm import describe, disassemble
from cermet.hw.registers import RegisterMap
from cermet.trace.compare import TaskResult

# The registers that decide how values are computed, in the order of the pipeline (numerics document §1 to §12).
ARITHMETIC = (
    "CNA.CONV_CON1", "CNA.CONV_CON3", "CNA.CVT_CON0", "CNA.PAD_CON0", "CNA.PAD_CON1", "CORE.MISC_CFG",
    "CORE.CLIP_TRUNCATE", "DPU.FEATURE_MODE_CFG", "DPU.DATA_FORMAT", "DPU.BS_CFG", "DPU.BS_ALU_CFG", "DPU.BS_MUL_CFG",
    "DPU.BS_RELUX_CMP_VALUE", "DPU.BS_OW_CFG", "DPU.BS_OW_OP", "DPU.BN_CFG", "DPU.BN_ALU_CFG", "DPU.BN_MUL_CFG",
    "DPU.BN_RELUX_CMP_VALUE", "DPU.EW_CFG", "DPU.EW_CVT_OFFSET_VALUE", "DPU.EW_CVT_SCALE_VALUE",
    "DPU.EW_RELUX_CMP_VALUE", "DPU.OUT_CVT_OFFSET", "DPU.OUT_CVT_SCALE", "DPU.OUT_CVT_SHIFT",
    "DPU_RDMA.RDMA_BRDMA_CFG", "DPU_RDMA.RDMA_NRDMA_CFG", "DPU_RDMA.RDMA_ERDMA_CFG",
    "DPU_RDMA.RDMA_FEATURE_MODE_CFG", "PPU.OPERATION_MODE_CFG", "PPU.POOLING_KERNEL_CFG", "PPU.RECIP_KERNEL_WIDTH",
    "PPU.RECIP_KERNEL_HEIGHT", "PPU.POOLING_PADDING_CFG", "PPU.PADDING_VALUE_1_CFG", "PPU.PADDING_VALUE_2_CFG")


def register_context(task: TaskResult, registers: RegisterMap) -> list[str]:
    """The arithmetic's registers as the task found them; what it did not write itself is marked."""
    own = {word & 0xFFFF for word in task.words}
    lines = []
    for path in ARITHMETIC:
        register = registers[path]
        if register.offset in task.registers:
            text = describe(word_of(registers, path, task.registers[register.offset]), registers)
            lines.append(text if register.offset in own else f"{text}   (left by an earlier task)")
    return lines


def word_of(registers: RegisterMap, path: str, value: int) -> int:
    register = registers[path]
    return (registers.blocks[register.block].target or 0) << 48 | value << 16 | register.offset


def program(task: TaskResult, registers: RegisterMap) -> list[str]:
    return disassemble(task.words, registers)


def headline(task: TaskResult) -> str:
    """One line."""
    name = f"task {task.number} (job {task.job}, task {task.index} of it, program at {task.regcmd:#x})"
    label = f" {task.label}" if task.label else ""
    return f"{name}{label}: {task.verdict}{''.join(details(task))}"


def details(task: TaskResult) -> Iterator[str]:
    seen = f"{task.num_compared} of {task.num_written} atoms compared"
    if task.num_different:
        yield f", {task.num_different} bytes, by up to {task.largest}; {seen}"
    elif task.is_hung:
        yield f": the simulator says {task.failure}{', and it did run into the time limit' if task.hung_there else ''}"
    elif task.num_compared:
        yield f", {seen}"
    else:
        yield ", all that it wrote was overwritten before anybody looked" if task.num_written else ", wrote nothing"
    if task.num_filler:
        yield f"; {task.num_filler} bytes of no channel differ"


def difference(task: TaskResult) -> str:
    """Where the first one is."""
    first = task.first
    assert first is not None
    return (f"first at {first.address:#010x} (handle {first.handle}, byte {first.offset:#x}): channel {first.channel}, "
            f"row {first.row}, column {first.column} (surface {first.surface}): recorded {first.recorded}, simulated "
            f"{first.simulated}")
