"""What became of a task, and what it wrote held against what was recorded."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cermet.trace.machine import ATOM_BYTES, Buffer
from cermet.trace.written import Written


@dataclass(frozen=True)
class Difference:
    """The first byte, by address, that is not what was recorded."""

    handle: int
    address: int
    offset: int                 # in the buffer
    recorded: int               # element values, signed
    simulated: int
    surface: int
    row: int
    column: int
    channel: int


@dataclass
class TaskResult:
    """One task. Counts are of atoms of 16 bytes and of bytes.

    failure        why the kernel never sees its end, says the simulator, or None
    is_hung        it does not come to its end, so that nothing is known of what it wrote
    hung_there     the recorded job ran into the kernel's time limit too
    duration_ns    of the recorded job, from its SUBMIT to the end of the first wait for it; 0: nobody waited
    cycles         what the simulator estimates for the task
    num_written    atoms that the simulator wrote
    num_compared   of these, those that could still be seen when the buffer was recorded
    num_different  bytes of the tensor that differ; num_filler: bytes of no channel
    """

    number: int
    job: int
    index: int
    file: int
    regcmd: int
    regcmd_count: int
    label: str
    words: tuple[int, ...] = field(repr=False, default=())
    registers: dict[int, int] = field(repr=False, default_factory=dict)     # what the last launch found
    written: list[Written] = field(repr=False, default_factory=list)
    diagnostics: tuple[str, ...] = ()
    failure: str | None = None
    is_hung: bool = False
    hung_there: bool = False
    duration_ns: int = 0
    cycles: int = 0
    num_written: int = 0
    num_compared: int = 0
    num_different: int = 0
    num_filler: int = 0
    largest: int = 0
    first: Difference | None = None

    @property
    def verdict(self) -> str:
        """differs, hangs, equal, unseen."""
        if self.num_different:
            return "differs"
        if self.is_hung:
            return "equal" if self.hung_there else "hangs"
        return "equal" if self.num_compared else "unseen"


def owners_of(written: list[Written], address: int) -> Iterator[tuple[Written, tuple[int, int, int]]]:
    """The last launch first."""
    for one in reversed(written):
        position = one.position(address)
        if position is not None:
            yield one, position


def filler_mask(task: TaskResult, buffer: Buffer, atoms: np.ndarray) -> np.ndarray:
    """bool [atoms][16]: bytes of no channel of the tensor that the task wrote."""
    mask = np.zeros((len(atoms), ATOM_BYTES), bool)
    for written in task.written:
        filler = written.filler()
        if not filler.any():
            continue
        places = (written.atoms() - buffer.address) // ATOM_BYTES
        surface_of = np.full(buffer.writer.size, -1, np.int32)
        for surface in range(written.surfaces):
            inside = places[surface][(places[surface] >= 0) & (places[surface] < surface_of.size)]
            surface_of[inside] = surface
        surfaces = surface_of[atoms]
        mask |= np.where((surfaces >= 0)[:, None], filler[surfaces], False)
    return mask


def compare(task: TaskResult, buffer: Buffer, atoms: np.ndarray, different: np.ndarray) -> None:
    """Count the differing bytes of a task's atoms, and keep the first of the tensor's."""
    filler = filler_mask(task, buffer, atoms)
    real = different[atoms] & ~filler
    task.num_filler += int((different[atoms] & filler).sum())
    task.num_different += int(real.sum())
    rows = np.flatnonzero(real.any(axis=1))
    if not len(rows):
        return
    simulated, recorded = (side.reshape(-1, ATOM_BYTES)[atoms].view(np.int8).astype(np.int16)
                           for side in (buffer.memory, buffer.recorded))
    distance = np.abs(simulated - recorded)[real]
    task.largest = max(task.largest, int(distance.max()))
    atom = int(atoms[rows[0]])
    if task.first is None:
        task.first = difference_at(task, buffer, atom * ATOM_BYTES + int(np.argmax(real[rows[0]])))


def difference_at(task: TaskResult, buffer: Buffer, offset: int) -> Difference:
    address = buffer.address + offset
    byte = offset % ATOM_BYTES
    written, (surface, row, column) = next(owners_of(task.written, address - byte))
    start = offset - offset % written.element_bytes
    recorded, simulated = (int.from_bytes(side[start:start + written.element_bytes].tobytes(), "little", signed=True)
                           for side in (buffer.recorded, buffer.memory))
    return Difference(buffer.handle, address, offset, recorded, simulated, surface, row, column,
                      written.channel(surface, byte))
