"""Small register programs for the subtests, made with the compiler's parts.

copy       the DPU moves atoms of 16 bytes from one place to another: shows that a job ran, and in which order
fill       the same with all bytes replaced by one value; still reads its source
endless    switches nothing on, so that no interrupt ever comes: the job runs into the kernel's timeout
"""
from __future__ import annotations

import struct

from cermet.drivers.rocket.dpu import Stages
from cermet.drivers.rocket.flying import Cube, FlyingTask, View, copy_stages, emit_flying, fill_stages
from cermet.drivers.rocket.regcmd import Address, BlockMask, Regcmd
from cermet.hw.soc import RK3588

ATOM = 16


def _flying(source: int, target: int, num_bytes: int, stages: Stages) -> bytes:
    """A DPU task over num_bytes (whole atoms, at most 8192 of them) in one row."""
    atoms = num_bytes // ATOM
    assert num_bytes % ATOM == 0 and 1 <= atoms <= 8192, num_bytes
    regcmd = Regcmd(RK3588.registers)
    views = [View(Address(name), atoms, atoms) for name in ("source", "target")]
    emit_flying(regcmd, FlyingTask(Cube(atoms, 1, 1), stages, *views))
    words, addresses = regcmd.finish(BlockMask.ELEMENTWISE)
    places = {"source": source, "target": target}
    made = list(words)
    for index, address in addresses.items():
        made[index] |= (places[address.buffer] + address.offset_bytes) << 16
    return struct.pack(f"<{len(made)}Q", *made)


def copy(source: int, target: int, num_bytes: int = 64) -> bytes:
    return _flying(source, target, num_bytes, copy_stages())


def fill(source: int, target: int, value: int, num_bytes: int = 64) -> bytes:
    """value: 0..127. The source is read and multiplied by 0."""
    return _flying(source, target, num_bytes, fill_stages(value))


def endless() -> bytes:
    """Four writes of 0 to a register that starts nothing, as a block of its own without operation enable."""
    regcmd = Regcmd(RK3588.registers)
    for _ in range(4):
        regcmd.emit("DPU.BS_OW_OP")
    return struct.pack("<4Q", *regcmd.words)
