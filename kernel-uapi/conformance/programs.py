"""Small register programs for the subtests, made with the compiler's parts.

copy       the DPU moves atoms of 16 bytes from one place to another: shows that a job ran, and in which order
fill       the same with all bytes replaced by one value; still reads its source
pool       the PPU takes the maximum of windows; ends in the PPU's interrupt, which mainline never looks at
endless    switches nothing on, so that no interrupt ever comes: the job runs into the kernel's timeout
"""
from __future__ import annotations

import struct
from collections.abc import Sequence

from cermet.drivers.rocket.dpu import Stages
from cermet.drivers.rocket.flying import Cube, FlyingTask, View, copy_stages, emit_flying, fill_stages
from cermet.drivers.rocket.regcmd import Address, BlockMask, Regcmd
from cermet.hw.soc import RK3588

ATOM = 16
PC_TAG, PPU_TAG, PPU_RDMA_TAG, OP_ENABLE_TAG = 0x0101, 0x4001, 0x8001, 0x0081
SEPARATOR = 0x0041_0000_0000_0000
BASE_ADDRESS, AMOUNTS = 0x10, 0x14
POOL_BLOCKS = 0x60
MAXIMUM = 1


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


def pool(source: int, target: int, width: int) -> bytes:
    """The maximum of each two neighbouring atoms of a row; width is even."""
    assert width % 2 == 0
    registers = {0x6004: 0xE, 0x7004: 0xE, 0x600C: width - 1, 0x6010: 0, 0x6014: ATOM - 1, 0x6018: width // 2 - 1,
                 0x601C: 0, 0x6020: ATOM - 1, 0x6024: 1 << 4 | MAXIMUM, 0x6034: 1 | 1 << 16, 0x6038: 0, 0x603C: 0,
                 0x6040: 0, 0x6044: 0x7FF80, 0x6048: 0, 0x6070: target, 0x607C: width // 2 * ATOM,
                 0x6084: width // 2 * ATOM, 0x60DC: 3, 0x700C: width - 1, 0x7010: 0, 0x7014: ATOM - 1, 0x701C: source,
                 0x7024: width * ATOM, 0x7028: width * ATOM, 0x7030: 1}
    tags = {0x6: PPU_TAG, 0x7: PPU_RDMA_TAG}
    words = [tags[offset >> 12] << 48 | value << 16 | offset for offset, value in registers.items()]
    words += [0, PC_TAG << 48 | AMOUNTS, SEPARATOR, OP_ENABLE_TAG << 48 | POOL_BLOCKS << 16 | 0x8]
    return struct.pack(f"<{len(words)}Q", *words)


def chained(texts: Sequence[bytes], addresses: Sequence[int]) -> list[bytes]:
    """Programs at these addresses, each but the last with the way to the next one in its trailer."""
    made = []
    for index, text in enumerate(texts[:-1]):
        words = list(struct.unpack(f"<{len(text) // 8}Q", text))
        amount = (len(texts[index + 1]) // 8 + 1) // 2 - 1
        words[-4] = PC_TAG << 48 | addresses[index + 1] << 16 | BASE_ADDRESS
        words[-3] = PC_TAG << 48 | amount << 16 | AMOUNTS
        made.append(struct.pack(f"<{len(words)}Q", *words))
    return [*made, texts[-1]]


def endless() -> bytes:
    """Four writes of 0 to a register that starts nothing, as a block of its own without operation enable."""
    regcmd = Regcmd(RK3588.registers)
    for _ in range(4):
        regcmd.emit("DPU.BS_OW_OP")
    return struct.pack("<4Q", *regcmd.words)
