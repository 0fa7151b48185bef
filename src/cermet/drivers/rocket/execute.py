"""Runs a compiled program on one simulated core in this process: no kernel, no runtime, only the simulator.

The steps are the runtime's and the kernel's (plan header, execution model §4), small and slow, for tests and reports.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cermet.drivers.base import Bo, Program, Task, TensorPort
from cermet.drivers.rocket.layout import ATOM_BYTES, ceil_div, round_up
from cermet.hw.soc import Soc
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import Tensor
from cermet.sim.core import AddressSpace, Core, TaskOutcome
from cermet.sim.silicon import Silicon

PAGE_BYTES = 4096
FIRST_IOVA = 0x10_0000
POINTER_BOTH_AUTOMATIC = 0xE
DPU_INTERRUPTS = 0x300
TASK_CON = 1 << 14 | 1 << 13 | 1 << 12 | 1
# Not the noise of _memory(), which a copy may take from one BO to another.
CANARY = np.random.default_rng(0).integers(0, 256, ATOM_BYTES, np.uint8)
# What the compiler itself lists as assumed (assumed.py), so that the simulator's warning is no news.
EXPECTED_DIAGNOSTICS = frozenset({"cna.kernel_group_streamed"})


class ExecutionError(RuntimeError):
    """A task did not finish, or did something that hardware would not take."""


@dataclass
class Machine:
    """BOs of one program in an address space, and a core. silicon: what its NPU does where nobody knows."""

    soc: Soc
    program: Program
    silicon: Silicon = field(default_factory=Silicon)

    def __post_init__(self) -> None:
        self.core = Core(self.soc, 0, self.silicon)
        self.space = AddressSpace()
        self.outcomes: list[TaskOutcome] = []
        self.memory = [_memory(bo) for bo in self.program.bos]
        self.iovas: list[int] = []
        iova = FIRST_IOVA
        for array in self.memory:
            self.space.map(iova, array)
            self.iovas.append(iova)
            iova += len(array) + PAGE_BYTES     # an unmapped page between them: what runs over the end faults
        self._relocate()

    def _relocate(self) -> None:
        for item in self.program.relocations:
            word = self.memory[item.bo][item.offset_bytes:item.offset_bytes + 8].view("<u8")
            word += np.uint64(self.iovas[item.target_bo] + item.addend_bytes << 16)
        for chain in self.program.chains:
            for index in chain[:-1]:
                self._lead(self.program.tasks[index], self.program.tasks[index + 1])

    def _lead(self, task: Task, behind: Task) -> None:
        """From a task's program to the next one: its last words but two."""
        address, amount = task.next_words
        end = task.offset_bytes + task.num_words * 8
        trailer = self.memory[task.bo][end - 32:end - 16].view("<u8")
        trailer[:] = address + (self.iovas[behind.bo] + behind.offset_bytes << 16), amount

    def run(self) -> None:
        """All tasks of all jobs in order. Raises ExecutionError for a hang, a fault or a diagnostic."""
        starts = {job.first_task for job in self.program.jobs}
        for chain in self.program.chains:
            if chain.start in starts:
                self.core.begin_job()
            self._run_task(chain.start, self.program.tasks[chain.start])

    def run_to_the_end(self) -> None:
        """The same. Also raises ExecutionError when a job was over before its last task, as the runtime finds out."""
        jobs = self.program.jobs
        witnesses = [self.memory[job.witness_bo][job.witness_offset_bytes:job.witness_offset_bytes + ATOM_BYTES]
                     for job in jobs]
        for atom in witnesses:
            atom[:] = CANARY
        self.run()
        for job, atom in zip(jobs, witnesses, strict=True):
            if (atom == CANARY).all():
                last = job.first_task + job.num_tasks - 1
                raise ExecutionError(f"task {last} ({self._layer(last)}): its result is missing when its job is over; "
                                     "a chain needs an NPU that runs it to its end (Q-X12)")

    def _run_task(self, index: int, task: Task) -> None:
        write = self.core.write
        registers = self.soc.registers
        write(registers["PC.BASE_ADDRESS"].offset, 1)
        write(registers["CNA.S_POINTER"].offset, POINTER_BOTH_AUTOMATIC)
        write(registers["CORE.S_POINTER"].offset, POINTER_BOTH_AUTOMATIC)
        write(registers["PC.BASE_ADDRESS"].offset, self.iovas[task.bo] + task.offset_bytes)
        write(registers["PC.REGISTER_AMOUNTS"].offset, (task.num_words + 1) // 2 - 1)
        write(registers["PC.INTERRUPT_MASK"].offset, DPU_INTERRUPTS)
        write(registers["PC.INTERRUPT_CLEAR"].offset, DPU_INTERRUPTS)
        write(registers["PC.TASK_CON"].offset, TASK_CON)
        write(registers["PC.TASK_DMA_BASE_ADDR"].offset, 0)
        write(registers["PC.OPERATION_ENABLE"].offset, 1)
        outcome = self.core.run(self.space)
        self.outcomes.append(outcome)
        write(registers["PC.OPERATION_ENABLE"].offset, 0)
        write(registers["PC.INTERRUPT_CLEAR"].offset, 0x1FFFF)
        if outcome.hang or outcome.fault or not outcome.interrupts & DPU_INTERRUPTS:
            reason = outcome.hang or outcome.fault or "no DPU interrupt"
            raise ExecutionError(f"task {index} ({self._layer(index)}): {reason}")
        unexpected = [d for d in outcome.diagnostics if d.rule not in EXPECTED_DIAGNOSTICS]
        if unexpected:
            first = unexpected[0]
            raise ExecutionError(f"task {index} ({self._layer(index)}): {first.rule}: {first.text}")

    def _layer(self, index: int) -> object:
        tasks = self.program.debug.get("tasks", [])
        return tasks[index]["layer"] if isinstance(tasks, list) and index < len(tasks) else "?"

    def store(self, port: TensorPort, value: np.ndarray) -> None:
        """A tensor into its BO."""
        pixels = _pixels(port, np.ascontiguousarray(value).view(np.uint8) ^ np.uint8(port.flip))
        surfaces = ceil_div(pixels.shape[1], ATOM_BYTES)
        full = np.full((len(pixels), surfaces * ATOM_BYTES), port.fill, np.uint8)
        full[:, :pixels.shape[1]] = pixels
        atoms = full.reshape(-1, surfaces, ATOM_BYTES).transpose(1, 0, 2)
        self._surfaces(port)[...] = atoms

    def load(self, port: TensorPort, tensor: Tensor) -> np.ndarray:
        """A tensor out of its BO."""
        atoms = self._surfaces(port).transpose(1, 0, 2).reshape(port.height * port.width, -1)
        flat = np.ascontiguousarray(atoms[:, :port.channels]) ^ np.uint8(port.flip)
        return flat.view(tensor.dtype.numpy).reshape(tensor.shape)

    def _surfaces(self, port: TensorPort) -> np.ndarray:
        """uint8[surface, pixel, 16] view of the port's feature map, whose rows and images are dense."""
        images, rows, columns, channels = port.map_sizes
        surfaces, pixels = ceil_div(channels, ATOM_BYTES), images * rows * columns
        assert port.surface_stride_bytes == pixels * ATOM_BYTES
        size = surfaces * port.surface_stride_bytes
        part = self.memory[port.bo][port.offset_bytes:port.offset_bytes + size]
        return part.reshape(surfaces, pixels, ATOM_BYTES)


def _pixels(port: TensorPort, value: np.ndarray) -> np.ndarray:
    """uint8[pixel, channel] of the feature map: the tensor's own pixels, or blocks of them."""
    images, rows, columns, channels = port.map_sizes
    full = np.full((images, rows * port.fold_y, columns * port.fold_x, port.channels), port.fill, np.uint8)
    full[:, :port.height, :port.width] = value.reshape(images, port.height, port.width, port.channels)
    blocks = full.reshape(images, rows, port.fold_y, columns, port.fold_x, port.channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(-1, channels)


def _memory(bo: Bo) -> np.ndarray:
    """The BO's pages; what no initial content covers holds noise, as memory handed out by a kernel may."""
    size = round_up(bo.size_bytes, PAGE_BYTES)
    array = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    if bo.role == "constant":
        array[:] = 0
    array[:len(bo.data)] = np.frombuffer(bo.data, np.uint8)
    return array


def run_program(soc: Soc, subgraph: Subgraph, program: Program,
                inputs: Mapping[int, np.ndarray], silicon: Silicon | None = None) -> dict[int, np.ndarray]:
    """Outputs of a program by tensor number. Raises ExecutionError."""
    machine = Machine(soc, program, silicon or Silicon())
    for port in program.inputs:
        machine.store(port, inputs[port.tensor])
    machine.run_to_the_end()
    return {port.tensor: machine.load(port, subgraph.tensor(port.tensor)) for port in program.outputs}
