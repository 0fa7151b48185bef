"""Where a task wrote, told from the registers that it ran with."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.sim.dpu import Dpu, decode_dpu
from cermet.sim.dpu_checks import check_flying
from cermet.sim.dpu_run import Sink
from cermet.sim.memory import ADDRESS_MASK, AddressSpace
from cermet.sim.outcome import Hang, TaskOutcome
from cermet.sim.ppu import decode_pool
from cermet.sim.rdma import decode_rdma
from cermet.sim.registers import Snapshot

ATOM_BYTES = 16
MAX_ATOMS = 1 << 24         # of one task; more than the simulated CBUF could ever feed within the kernel's timeout


@dataclass(frozen=True)
class Written:
    """Atoms of 16 bytes: `surfaces` planes in groups, each `rows` lines of `columns` atoms. Pitches in bytes.

    element_bytes   1 or 4
    real_channels   the tensor's; what lies behind them fills up the last atom or group
    """

    unit: str
    address: int
    surfaces: int
    surfaces_per_group: int
    rows: int
    columns: int
    group_bytes: int
    surface_bytes: int
    line_bytes: int
    element_bytes: int
    real_channels: int

    @property
    def num_atoms(self) -> int:
        return self.surfaces * self.rows * self.columns

    def _surface_starts(self) -> np.ndarray:
        group, surface = np.divmod(np.arange(self.surfaces, dtype=np.int64), self.surfaces_per_group)
        return self.address + group * self.group_bytes + surface * self.surface_bytes

    def atoms(self) -> np.ndarray:
        """int64 addresses [surfaces][rows][columns]."""
        plane = (np.arange(self.rows, dtype=np.int64)[:, None] * self.line_bytes
                 + np.arange(self.columns, dtype=np.int64) * ATOM_BYTES)
        return (self._surface_starts()[:, None, None] + plane) & ADDRESS_MASK

    def position(self, address: int) -> tuple[int, int, int] | None:
        """(surface, row, column) of the last write to the atom at an address."""
        places = np.argwhere(self.atoms() == address)
        if not len(places):
            return None
        surface, row, column = places[-1].tolist()
        return surface, row, column

    def channel(self, surface: int, byte: int) -> int:
        """Of a byte of an atom of a surface."""
        return (surface * ATOM_BYTES + byte) // self.element_bytes

    def filler(self) -> np.ndarray:
        """bool [surfaces][16]: bytes of no channel of the tensor."""
        channels = np.arange(self.surfaces * ATOM_BYTES).reshape(self.surfaces, ATOM_BYTES) // self.element_bytes
        return channels >= self.real_channels


def written_by(launches: list[dict[str, Snapshot]]) -> list[Written]:
    """What the launches of a task that came to its end wrote."""
    return [written for blocks in launches for written in _of_launch(blocks) if written.num_atoms <= MAX_ATOMS]


def _of_launch(blocks: dict[str, Snapshot]) -> list[Written]:
    try:
        if "DPU" in blocks:
            return [_by_dpu(blocks)]
        if "PPU" in blocks:
            return [_by_ppu(blocks)]
    except Hang:        # a task that hung may have written anything
        pass
    return []


def _by_dpu(blocks: dict[str, Snapshot]) -> Written:
    outcome = TaskOutcome()
    dpu = decode_dpu(blocks["DPU"], 0, outcome)
    copies = 1
    if dpu.flying:
        rdma = decode_rdma(blocks["DPU_RDMA"], 0) if "DPU_RDMA" in blocks else None
        dpu = check_flying(dpu, rdma, outcome)
        copies = rdma.unpool_height if rdma else 1
    surfaces, rows, columns = _writer_size(dpu, copies)
    writer = dpu.writer
    real = blocks["DPU"]("DATA_CUBE_CHANNEL.ORIG_CHANNEL")
    is_whole = (rows, columns) == (dpu.height, dpu.width) and copies == 1
    return Written("DPU", writer.address, surfaces, writer.surfaces_per_group, rows, columns, writer.group_bytes,
                   writer.surface_bytes, writer.line_bytes, dpu.out_bytes,
                   real if is_whole and 0 < real <= dpu.channels else surfaces * ATOM_BYTES)


def _writer_size(dpu: Dpu, copies: int) -> tuple[int, int, int]:
    """The writer's own surfaces, rows and columns, which may be nested otherwise than the cube's."""
    surfaces = -(-dpu.channels * dpu.out_bytes // ATOM_BYTES) * copies
    return Sink(dpu, AddressSpace(), surfaces).own_size


def _by_ppu(blocks: dict[str, Snapshot]) -> Written:
    pool = decode_pool(blocks["PPU"], blocks["PPU_RDMA"], 0, TaskOutcome())
    return Written("PPU", pool.target, pool.surfaces, pool.surfaces, pool.out_height, pool.out_width, 0,
                   pool.out_surface_bytes, pool.out_line_bytes, 1, pool.channels)
