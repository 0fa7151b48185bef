"""Which tasks form a job, so that each job leaves a witness: an atom that only its last task writes.

The kernel tells nobody that a job was dropped or timed out; later jobs of the same SUBMIT run all the same. The runtime
looks at the witnesses when all are over (struct cermet_plan_job).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.flying import Cube, FlyingTask, View, copy_stages, flying_program
from cermet.drivers.rocket.layout import ATOM_BYTES, ceil_div
from cermet.drivers.rocket.regcmd import Address, TaskProgram
from cermet.hw.registers import RegisterMap

DESTINATION = "DPU.DST_BASE_ADDR"


@dataclass(frozen=True)
class Written:
    """The atoms that a task writes: columns, rows, surfaces, groups of surfaces from an address on, pitches in bytes.

    num_surfaces        with the filler ones that complete a group
    num_real_surfaces   those with channels of the tensor
    """

    address: Address
    width: int
    height: int
    num_surfaces: int
    num_real_surfaces: int
    line_bytes: int
    surface_bytes: int
    group_bytes: int
    surfaces_per_group: int

    def _surface(self, number: int) -> int:
        """Where a surface begins, from the address on."""
        group, surface = divmod(number, self.surfaces_per_group)
        return group * self.group_bytes + surface * self.surface_bytes

    @property
    def last_atom(self) -> Address:
        """Last column, last row, last surface that holds channels."""
        return (self.address + self._surface(self.num_real_surfaces - 1)
                + (self.height - 1) * self.line_bytes + (self.width - 1) * ATOM_BYTES)

    def covers(self, atom: Address) -> bool:
        """Whether the task writes this atom."""
        distance = atom.offset_bytes - self.address.offset_bytes
        if atom.buffer != self.address.buffer or distance < 0:
            return False
        extent = (self.height - 1) * self.line_bytes + self.width * ATOM_BYTES
        if self.group_bytes == self.surfaces_per_group * self.surface_bytes and extent <= self.surface_bytes:
            surface, rest = divmod(distance, self.surface_bytes)
            return surface < self.num_surfaces and self._is_in_plane(rest)
        return any(self._is_in_plane(distance - self._surface(number)) for number in range(self.num_surfaces))

    def _is_in_plane(self, distance: int) -> bool:
        row, rest = divmod(distance, self.line_bytes)
        return 0 <= row < self.height and rest < self.width * ATOM_BYTES


def written_by(registers: RegisterMap, task: TaskProgram) -> Written:
    """What the DPU writes according to the task's own registers. Raises CompileError when it has no destination."""
    offsets = [word & 0xFFFF for word in task.words]
    values = {offset: word >> 16 & 0xFFFF_FFFF for offset, word in zip(offsets, task.words, strict=True)}

    def field(register: str, name: str) -> int:
        return registers[register].unpack(values[registers[register].offset])[name]

    wanted = registers[DESTINATION].offset
    addresses = [address for index, address in task.addresses.items() if offsets[index] == wanted]
    if len(addresses) != 1:
        raise CompileError(f"{task.layer}: {DESTINATION} is written {len(addresses)} times, must be once")
    width = field("DPU.WDMA_SIZE_1", "WIDTH_WDMA")
    return Written(
        addresses[0], width, field("DPU.WDMA_SIZE_1", "HEIGHT_WDMA"),
        num_surfaces=ceil_div(field("DPU.WDMA_SIZE_0", "CHANNEL_WDMA"), ATOM_BYTES),
        num_real_surfaces=ceil_div(field("DPU.DATA_CUBE_CHANNEL", "ORIG_CHANNEL"), ATOM_BYTES),
        line_bytes=(width + field("DPU.DATA_CUBE_NOTCH_ADDR", "NOTCH_ADDR_0")) * ATOM_BYTES,
        surface_bytes=field("DPU.DST_SURF_STRIDE", "DST_SURF_STRIDE") * ATOM_BYTES,
        group_bytes=field("DPU.SURFACE_ADD", "SURF_ADD") * ATOM_BYTES,
        surfaces_per_group=field("DPU.BS_OW_CFG", "SIZE_E_0"))


def is_witness(written: Sequence[Written], index: int) -> bool:
    """Whether no other task writes the last atom of this one."""
    atom = written[index].last_atom
    return not any(other.covers(atom) for other in (*written[:index], *written[index + 1:]))


def with_witness(context: Context, tasks: Sequence[TaskProgram]) -> list[TaskProgram]:
    """The tasks; behind a last one that writes what others write too (PAD: fill, then copy) one that copies an atom."""
    written = [written_by(context.soc.registers, task) for task in tasks]
    if is_witness(written, len(tasks) - 1):
        return list(tasks)
    atom = View(written[-1].last_atom, 1, 1)
    copy = FlyingTask(Cube(1, 1, 1), copy_stages(), atom, View(context.new_buffer("witness", ATOM_BYTES), 1, 1))
    return [*tasks, flying_program(context, context.subgraph.operations[-1], copy, "witness")]


def job_starts(tasks: Sequence[TaskProgram], written: Sequence[Written], max_cycles: int, max_tasks: int) -> list[int]:
    """The first task of each job: as few jobs as max_cycles and max_tasks allow, each with a witness.

    Tasks that share weights in the CBUF stay together, and so do those that write what others write too. The last job
    has a witness when the last task is one, see with_witness().
    """
    starts, cycles = [0], 0
    for index, task in enumerate(tasks):
        is_full = index > 0 and (cycles + task.cycles > max_cycles or index - starts[-1] >= max_tasks)
        if is_full and not task.needs_previous and is_witness(written, index - 1):
            starts.append(index)
            cycles = 0
        cycles += task.cycles
    return starts if is_witness(written, len(tasks) - 1) else starts[:1]
