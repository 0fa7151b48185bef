"""Register programs with symbolic addresses: what lowerings produce, before buffers have places.

Program words and the trailer: hardware document, execution model §2.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cermet.hw.registers import Reg, RegisterMap

OP_ENABLE_TARGET = 0x0081
SEPARATOR = 0x0041_0000_0000_0000
PC_OPERATION_ENABLE = 0x0008
PC_BASE_ADDRESS = 0x0010
PC_REGISTER_AMOUNTS = 0x0014
PC_TARGET = 0x0101


class BlockMask:
    """Blocks that one op_en word starts together (execution model §3)."""

    CNA = 1 << 0
    CORE = 1 << 2
    DPU = 1 << 3
    DPU_RDMA = 1 << 4
    PPU = 1 << 5
    PPU_RDMA = 1 << 6
    CONV = CNA | CORE | DPU | DPU_RDMA      # 0x1D, hw-verified
    ELEMENTWISE = DPU | DPU_RDMA            # 0x18, hw-verified


@dataclass(frozen=True)
class Buffer:
    """A stretch of NPU memory that gets its place later.

    name   unique in a program: "tensor 12", "weights 3"
    role   constant (data is its contents), arena (activations), input, output
    """

    name: str
    size_bytes: int
    role: str
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Address:
    """A byte inside a buffer."""

    buffer: str
    offset_bytes: int = 0

    def __add__(self, offset_bytes: int) -> Address:
        return Address(self.buffer, self.offset_bytes + offset_bytes)


@dataclass(frozen=True)
class TaskProgram:
    """One task: words, and which of them take an address (word index -> address).

    reads, writes   names of the arena, input and output buffers touched: the arena's lifetimes come from these
    layer           what the task computes, for people: "operation 3 (conv_2d), rows 0..55"
    operations      indices of the subgraph's operations that it belongs to
    macs            multiply-accumulates of the real (unpadded) work
    cycles          of a core at mainline's clock, by the cycle model, without what the kernel does
    assumed         names of the parts that nobody has shown on silicon (assumed.py); the driver fills it in
    needs_previous  it reuses weights, or look-up tables, that the task before loaded: both go into one job
    lane            the core that it is for, when there are several for one inference
    shared          tasks with the same number, not 0, are shares of one operation that lanes run at the same time
    unshared        it does alone what those with this number share: either it stays or they do
    """

    words: tuple[int, ...]
    addresses: Mapping[int, Address]
    reads: frozenset[str]
    writes: frozenset[str]
    layer: str
    operations: tuple[int, ...]
    macs: int = 0
    cycles: int = 0
    assumed: tuple[str, ...] = ()
    needs_previous: bool = False
    lane: int = 0
    shared: int = 0
    unshared: int = 0


class Regcmd:
    """Collects the words of one task."""

    def __init__(self, registers: RegisterMap) -> None:
        self.registers = registers
        self.words: list[int] = []
        self.addresses: dict[int, Address] = {}

    def emit(self, path: str, **fields: int) -> None:
        """Write a register, "BLOCK.REGISTER", from its fields. Raises FieldError when a value does not fit."""
        register = self.registers[path]
        self._append(register, register.pack(**fields))

    def emit_repeatedly(self, path: str, field_name: str, values: Iterable[int]) -> None:
        """Write one field of a register with one value after another: a port with auto-increment."""
        register = self.registers[path]
        for value in values:
            self._append(register, register.pack(**{field_name: value}))

    def emit_address(self, path: str, address: Address) -> None:
        """Write a register that holds a whole 32-bit NPU address."""
        self.addresses[len(self.words)] = address
        self._append(self.registers[path], 0)

    def finish(self, block_mask: int) -> tuple[tuple[int, ...], dict[int, Address]]:
        """Add the four trailer words of a task that is not chained; return words and addresses."""
        self.words += [0, PC_TARGET << 48 | PC_REGISTER_AMOUNTS, SEPARATOR,
                       OP_ENABLE_TARGET << 48 | block_mask << 16 | PC_OPERATION_ENABLE]
        return tuple(self.words), dict(self.addresses)

    def _append(self, register: Reg, value: int) -> None:
        target = self.registers.blocks[register.block].target
        if target is None:
            raise ValueError(f"{register}: not reachable from a program")
        self.words.append(target << 48 | value << 16 | register.offset)
