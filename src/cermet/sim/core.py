"""One simulated NPU core: registers in, memory and interrupts out."""
from __future__ import annotations

from collections.abc import Callable

from cermet.hw import cycles
from cermet.hw.cycles import Work
from cermet.hw.soc import Soc
from cermet.sim import fast, pc
from cermet.sim.cna_load import Cbuf, load_features, load_weights, unpack_weights
from cermet.sim.core_mac import Convolution
from cermet.sim.decode import ConvTask, Decoder, FlyingTask
from cermet.sim.dpu_run import make_pipeline, run_conv, run_flying
from cermet.sim.kernels import plain_wanted
from cermet.sim.lut import LutState
from cermet.sim.memory import AddressSpace, IommuFault
from cermet.sim.outcome import Cancelled, Diagnostic, Hang, TaskOutcome
from cermet.sim.ppu import run_pool
from cermet.sim.registers import BIT_OF_BLOCK, BlockState, RegisterFile, Snapshot
from cermet.sim.silicon import EARLY, IGNORED, MASKED, TASK_NUMBER, Silicon
from cermet.sim.steps import Programs, TableEntries, Writes

__all__ = ["AddressSpace", "Core", "Diagnostic", "IommuFault", "TaskOutcome"]

CONV_BLOCKS = BIT_OF_BLOCK["CNA"] | BIT_OF_BLOCK["CORE"]
INTERRUPT_SHIFTS = {"CNA": (0, 2, 4), "CORE": (6,), "DPU": (8,), "PPU": (10,)}
DMA_READ_ERROR, DMA_WRITE_ERROR = 1 << 12, 1 << 13
HARDWARE_VERSION = 0x46495245           # VERSION + VERSION_NUM as the kernel logs it; how it splits is ASSUMED
PC_SLAVE_MODE = 1
PC_BYTES = 0x1000                       # of its register page, the first
TASK_NUMBER_MASK = 0xFFF


class PcOffset:
    """MMIO offsets of the PC block."""

    VERSION, VERSION_NUM, OPERATION_ENABLE, BASE_ADDRESS, REGISTER_AMOUNTS = 0x0, 0x4, 0x8, 0x10, 0x14
    INTERRUPT_MASK, INTERRUPT_CLEAR, INTERRUPT_STATUS, INTERRUPT_RAW_STATUS = 0x20, 0x24, 0x28, 0x2C
    TASK_CON, TASK_DMA_BASE_ADDR, TASK_STATUS = 0x30, 0x34, 0x3C


class Core:
    """State survives tasks, jobs and processes; only reset() clears it.

    programs and decoder are no state: what they remember follows from bytes and register values alone.
    """

    def __init__(self, soc: Soc, index: int, silicon: Silicon | None = None) -> None:
        """silicon: None for an NPU as it is taken to be."""
        self.soc = soc
        self.index = index
        self.chaining = (silicon or Silicon()).answer(TASK_NUMBER)
        self.files = RegisterFile(soc.registers)
        self.programs = Programs(self.files.by_target)
        self.decoder = Decoder(soc)
        self.lut = LutState()
        self.cbuf = Cbuf()
        self.launches: list[dict[str, Snapshot]] = []   # of the last run: the registers that each op_en found, by block
        self.reset()

    # -- the kernel's side -----------------------------------------------------------------------------------

    def reset(self) -> None:
        """The reset pulse that mainline gives after a timeout."""
        self.files.reset()
        self.lut.reset()
        self.cbuf.clear()
        self.pc: dict[int, int] = {}
        self.raw_status = 0
        self.wedged: str | None = None      # a task that hung holds the core until reset
        self._fetched_address = 0
        self._is_raised = False             # the task number, by a program of this run
        self._held_interrupts = 0           # of programs behind which the run went on
        self._words_before_start = 0        # of the program that is running
        self.reused_weights = False         # the last convolution of this job ran with WEIGHT_REUSE
        self.job_after_reuse = False        # of the job before; nothing else has run since
        self.timeout_ms = self.soc.job_timeout_ms

    def begin_job(self, timeout_ms: int = 0) -> None:
        """A new job starts: LUT contents do not survive from one submission to the next. timeout_ms 0: the kernel's."""
        self.timeout_ms = timeout_ms or self.soc.job_timeout_ms
        self.lut.begin_job()
        self.job_after_reuse, self.reused_weights = self.reused_weights, False

    def write(self, offset: int, value: int) -> None:
        """An MMIO write."""
        value &= 0xFFFF_FFFF
        if offset == PcOffset.INTERRUPT_CLEAR:
            self.raw_status &= ~value
        elif offset < PC_BYTES:
            self.pc[offset] = value
        elif (block := self.files.by_page.get(offset >> 12)) is not None:
            block.write(offset, value)

    def read(self, offset: int) -> int:
        """An MMIO read; unknown registers read 0."""
        block = self.files.by_page.get(offset >> 12)
        if block is not None:
            return block.read(offset)
        if offset == PcOffset.INTERRUPT_RAW_STATUS:
            return self.raw_status
        if offset == PcOffset.INTERRUPT_STATUS:
            return self.raw_status & self.pc.get(PcOffset.INTERRUPT_MASK, 0)
        if offset == PcOffset.VERSION:
            return HARDWARE_VERSION
        return self.pc.get(offset, 0)

    def run(self, space: AddressSpace, cancelled: Callable[[], bool] = lambda: False) -> TaskOutcome:
        """Execute what OPERATION_ENABLE = 1 started. Never raises for anything a program can contain."""
        outcome = TaskOutcome()
        self.launches = []
        self.decoder.plain = plain_wanted()
        try:
            self._run_tasks(space, cancelled, outcome)
        except Hang as hang:
            outcome.hang = hang.reason
            outcome.warn(hang.rule, hang.reason)
        except Cancelled:
            outcome.hang = "cancelled by the caller"
        except IommuFault as fault:
            outcome.fault = fault
            outcome.interrupts |= DMA_WRITE_ERROR if fault.is_write else DMA_READ_ERROR
        if outcome.hang or outcome.fault:
            outcome.interrupts &= ~self._held_interrupts        # a chain interrupts when it is over
            self.wedged = self.wedged or outcome.hang or str(outcome.fault)
        self.raw_status |= outcome.interrupts
        if self.chaining == MASKED:
            outcome.interrupts &= self.pc.get(PcOffset.INTERRUPT_MASK, 0) | DMA_READ_ERROR | DMA_WRITE_ERROR
        return outcome

    # -- program control -------------------------------------------------------------------------------------

    def _run_tasks(self, space: AddressSpace, cancelled: Callable[[], bool], outcome: TaskOutcome) -> None:
        if self.wedged:
            raise Hang("core.wedged", f"core {self.index}: still held by a task that did not finish ({self.wedged})")
        if not self.pc.get(PcOffset.OPERATION_ENABLE, 0) & 1:
            raise Hang("pc.not_started", "PC.OPERATION_ENABLE: 0, nothing was started")
        self._is_raised, self._held_interrupts, number = False, 0, 0
        while number < max(self.pc.get(PcOffset.TASK_CON, 0) & TASK_NUMBER_MASK, 1):
            if cancelled():
                raise Cancelled
            address = self.pc.get(PcOffset.BASE_ADDRESS, 0)
            if address & PC_SLAVE_MODE:
                raise Hang("pc.slave_mode", "PC.BASE_ADDRESS: bit 0 is set, slave mode fetches no program")
            is_last = self._has_interrupted(outcome)
            if number:
                self._check_redirect(address)
            self._run_program(space, address, cancelled, outcome)
            number += 1
            self.pc[PcOffset.TASK_STATUS] = number
            if is_last:
                return

    def _has_interrupted(self, outcome: TaskOutcome) -> bool:
        """Between two programs: whether the kernel has seen an interrupt, and stops what comes behind the next one.

        Programs of a chain do not interrupt, but for the last one; see Silicon for what one does that they made.
        """
        if self._is_raised and self.chaining in (EARLY, MASKED):
            return bool(outcome.interrupts & self.pc.get(PcOffset.INTERRUPT_MASK, 0))
        self._held_interrupts = outcome.interrupts
        return False

    def _check_redirect(self, address: int) -> None:
        if address == self._fetched_address:
            raise Hang("pc.no_redirect", "PC.BASE_ADDRESS: TASK_NUMBER asks for another task but the program "
                       "names none")

    def _run_program(self, space: AddressSpace, address: int, cancelled: Callable[[], bool],
                     outcome: TaskOutcome) -> None:
        amounts = self.pc.get(PcOffset.REGISTER_AMOUNTS, 0)
        self._fetched_address = address
        program = self.programs.find(pc.fetch(space, address, amounts), self.decoder.plain)
        separated = False
        started = False
        self._words_before_start = program.num_words
        by_target = self.files.by_target
        for step in program.steps:
            if isinstance(step, Writes):
                for target, values in step.values.items():
                    by_target[target].write_registers(values)
                continue
            if isinstance(step, TableEntries):
                self.lut.write_entries(step.values)
                continue
            target, offset, value = step
            block = by_target.get(target)
            if block is not None:
                self._write_from_program(block, offset, value, space, cancelled, outcome)
            elif target == pc.PC_TARGET:
                self._write_pc(offset, value, outcome)
            elif target == pc.OP_ENABLE_TARGET and offset == pc.PC_OPERATION_ENABLE:
                if not separated:
                    raise Hang("pc.separator", "program: op_en without the separator word before it (ASSUMED to hang)")
                started = True
                separated = False
                self._launch(value, space, cancelled, outcome)
            elif target == pc.SEPARATOR_TARGET:
                separated = True
            elif not pc.is_nop(target, offset, value):
                pc.warn_unknown(outcome, target, offset)
        if not started:
            raise Hang("pc.no_op_en", f"program: {program.num_words} words without an op_en word start nothing")

    def _write_from_program(self, block: BlockState, offset: int, value: int, space: AddressSpace,
                            cancelled: Callable[[], bool], outcome: TaskOutcome) -> None:
        if offset not in block.known:
            pc.warn_unknown(outcome, 0, offset)
            return
        if block.name == "DPU" and self.lut.write(offset, value):
            return
        if offset == block.operation_enable:
            if value & 1:
                outcome.warn("pc.single_start", f"{block.name}.OPERATION_ENABLE: blocks must be started by one op_en "
                             "word")
                self._launch(BIT_OF_BLOCK[block.name], space, cancelled, outcome)
            return
        block.write(offset, value)

    def _write_pc(self, offset: int, value: int, outcome: TaskOutcome) -> None:
        """Programs may redirect the fetch; other PC registers are ASSUMED out of their reach (Q-X12)."""
        if offset in (pc.PC_BASE_ADDRESS, pc.PC_REGISTER_AMOUNTS):
            self.pc[offset] = value
        elif offset == PcOffset.TASK_CON and self.chaining != IGNORED:
            self.pc[offset], self._is_raised = value, True
        elif offset == PcOffset.INTERRUPT_MASK and self.chaining == MASKED:
            self.pc[offset] = value
        elif offset == PcOffset.INTERRUPT_CLEAR and self.chaining == MASKED:
            outcome.interrupts &= ~value
        else:
            outcome.warn("pc.write", f"program word: PC register {offset:#06x} cannot be written by a program "
                         "(Q-X12)")

    # -- blocks ----------------------------------------------------------------------------------------------

    def _launch(self, mask: int, space: AddressSpace, cancelled: Callable[[], bool], outcome: TaskOutcome) -> None:
        """op_en: start the blocks of mask together and run them to completion."""
        if cancelled():
            raise Cancelled
        snapshots: dict[str, Snapshot] = {}
        groups: dict[str, int] = {}
        for name, bit in BIT_OF_BLOCK.items():
            if not mask & bit:
                continue
            block = self.files.blocks[name]
            written, executed = block.launch()
            if written != executed:
                raise Hang("registers.pointer", f"{name}.S_POINTER: op_en went to group {written} but the executer "
                           f"waits at group {executed} (ASSUMED to hang)")
            snapshots[name] = block.snapshot(executed)
            groups[name] = executed
        if not snapshots:
            raise Hang("pc.empty_mask", f"op_en: mask {mask:#x} starts no block")
        self.launches.append(snapshots)
        self._check_mask(mask, snapshots)
        self._run_blocks(snapshots, space, cancelled, outcome)
        for name, group in groups.items():
            for shift in INTERRUPT_SHIFTS.get(name, ()):
                outcome.interrupts |= 1 << shift + group

    def _check_mask(self, mask: int, snapshots: dict[str, Snapshot]) -> None:
        if mask & CONV_BLOCKS and mask & CONV_BLOCKS != CONV_BLOCKS or mask & CONV_BLOCKS and "DPU" not in snapshots:
            raise Hang("pc.mask", f"op_en: mask {mask:#x} must start CNA, CORE and DPU together")
        if "DPU_RDMA" in snapshots and "DPU" not in snapshots:
            raise Hang("pc.mask", f"op_en: mask {mask:#x} starts DPU_RDMA without DPU")
        if ("PPU" in snapshots) != ("PPU_RDMA" in snapshots):
            raise Hang("pc.mask", f"op_en: mask {mask:#x} must start PPU and PPU_RDMA together")
        for name in ("CNA", "CORE"):
            held = self.files.blocks[name].core_id
            if name in snapshots and held != self.index:
                raise Hang("core.id", f"{name}.S_POINTER: core id bits say {held}, this is core {self.index}")

    def _run_blocks(self, snapshots: dict[str, Snapshot], space: AddressSpace, cancelled: Callable[[], bool],
                    outcome: TaskOutcome) -> None:
        base = self.pc.get(PcOffset.TASK_DMA_BASE_ADDR, 0) & ~0xF
        if "DPU" in snapshots:
            task = self.decoder.dpu_task(snapshots, base, outcome)
            if isinstance(task, ConvTask):
                self._run_conv(task, snapshots, space, base, cancelled, outcome)
            else:
                self._run_flying(task, snapshots, space, base, cancelled, outcome)
        if "PPU" in snapshots:
            pooling = self.decoder.pool_task(snapshots, base, outcome)
            self._spend(pooling.work, outcome)
            run_pool(pooling.pool, space, cancelled)

    def _spend(self, work: Work, outcome: TaskOutcome) -> None:
        """Account cycles before doing the work: what outlasts the kernel's timeout is not computed."""
        launch = self.decoder.time(work, self._words_before_start)
        self._words_before_start = 0        # a second start in the same program
        outcome.launches.append(launch)
        outcome.cycles += launch.total
        limit = cycles.timeout_cycles(self.soc, self.timeout_ms)
        if outcome.cycles > limit:
            raise Hang("core.too_long", f"task: {outcome.cycles} estimated cycles are more than {limit}, the kernel's "
                       f"job timeout of {self.timeout_ms} ms at {self.soc.clock_mhz} MHz")

    def _run_conv(self, task: ConvTask, snapshots: dict[str, Snapshot], space: AddressSpace, base: int,
                  cancelled: Callable[[], bool], outcome: TaskOutcome) -> None:
        shape, settings, dpu, cna = task.shape, task.settings, task.dpu, snapshots["CNA"]
        self._spend(task.work, outcome)
        outcome.macs += shape.macs
        self.reused_weights, self.job_after_reuse = shape.weight_reuse, False
        weights = load_weights(cna, shape, space, base, self.cbuf, self.soc, outcome)
        features = load_features(cna, shape, space, base, self.cbuf, self.soc, outcome)
        pipeline = make_pipeline(snapshots["DPU"], dpu, task.rdma, snapshots.get("DPU_RDMA"), self.lut, space, base,
                                 outcome)
        if fast.run_conv(task, features, weights, pipeline, space, cancelled):
            return
        source = Convolution(shape, settings, features.nhwc(), unpack_weights(shape, weights, self.soc))
        run_conv(dpu, pipeline, source, space, cancelled)

    def _run_flying(self, task: FlyingTask, snapshots: dict[str, Snapshot], space: AddressSpace, base: int,
                    cancelled: Callable[[], bool], outcome: TaskOutcome) -> None:
        dpu, rdma = task.dpu, task.rdma
        if self.job_after_reuse:
            outcome.warn("dpu.after_weight_reuse", "DPU: a DPU-only job right after one with WEIGHT_REUSE once "
                         "returned stale data on hardware (Q-X11)")
        self.job_after_reuse = False
        self._spend(task.work, outcome)
        pipeline = make_pipeline(snapshots["DPU"], dpu, rdma, snapshots["DPU_RDMA"], self.lut, space, base, outcome)
        unpooled = rdma.unpool_width * rdma.unpool_height > 1
        if unpooled or not fast.run_flying(task, pipeline, space, cancelled):
            run_flying(dpu, pipeline, rdma, space, cancelled)
