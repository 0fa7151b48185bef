"""Register files of one core: two shadow groups per block, pointers, stale values (execution model §5)."""
from __future__ import annotations

from cermet.hw.registers import Block, RegisterMap

# S_POINTER bits; the same in every block
POINTER = 1 << 0
POINTER_PP_EN = 1 << 1
EXECUTER_PP_EN = 1 << 2
POINTER_PP_CLEAR = 1 << 4
EXECUTER_PP_CLEAR = 1 << 5
EXECUTER_SHIFT = 16
CORE_ID_SHIFT = 28

# Bits of op_en (execution model §3).
BIT_OF_BLOCK = {"CNA": 1 << 0, "CORE": 1 << 2, "DPU": 1 << 3, "DPU_RDMA": 1 << 4, "PPU": 1 << 5, "PPU_RDMA": 1 << 6}
S_POINTER_OFFSET = 0x4          # inside each block
OPERATION_ENABLE_OFFSET = 0x8

FieldPlace = tuple[int, int, int, bool, int]     # offset, low bit, mask, signed, bias


class Snapshot:
    """The registers of one group as a task sees them: snapshot("CONV_CON1.DECONV") is a field's value.

    A register never written reads 0.
    """

    __slots__ = ("_places", "values")

    def __init__(self, places: dict[str, FieldPlace], values: dict[int, int]) -> None:
        self._places = places
        self.values = values

    def __call__(self, path: str) -> int:
        offset, low, mask, signed, bias = self._places[path]
        held = (self.values.get(offset, 0) >> low) & mask
        if signed and held > mask >> 1:
            held -= mask + 1
        return held - bias


class BlockState:
    """One block's two register groups, write pointer and executer pointer."""

    def __init__(self, block: Block) -> None:
        self.name = block.name
        self.places: dict[str, FieldPlace] = {
            f"{reg.name}.{name}": (reg.offset, bits.lo, bits.mask, bits.signed, bits.bias)
            for reg in block.registers.values() for name, bits in reg.fields.items()}
        self.known = {reg.offset for reg in block.registers.values()}
        self.s_pointer = block.base + S_POINTER_OFFSET
        self.operation_enable = block.base + OPERATION_ENABLE_OFFSET
        self.reset()

    def reset(self) -> None:
        """State after a core reset: everything 0, ping-pong off."""
        self.groups: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.pointer = 0
        self.executer = 0
        self.pointer_pp = False
        self.executer_pp = False
        self.core_id = 0

    def write_s_pointer(self, value: int) -> None:
        self.pointer_pp = bool(value & POINTER_PP_EN)
        self.executer_pp = bool(value & EXECUTER_PP_EN)
        self.core_id = (value >> CORE_ID_SHIFT) & 3
        if value & POINTER_PP_CLEAR:
            self.pointer = 0
        elif not self.pointer_pp:
            self.pointer = value & POINTER
        if value & EXECUTER_PP_CLEAR:
            self.executer = 0

    def read_s_pointer(self) -> int:
        return (self.core_id << CORE_ID_SHIFT | self.executer << EXECUTER_SHIFT | self.pointer
                | self.pointer_pp * POINTER_PP_EN | self.executer_pp * EXECUTER_PP_EN)

    def write(self, offset: int, value: int) -> None:
        """A register write of the program or the kernel."""
        if offset == self.s_pointer:
            self.write_s_pointer(value)
        else:
            self.groups[self.pointer][offset] = value

    def write_registers(self, values: dict[int, int]) -> None:
        """Writes to registers other than the pointer's."""
        self.groups[self.pointer].update(values)

    def read(self, offset: int) -> int:
        if offset == self.s_pointer:
            return self.read_s_pointer()
        return self.groups[self.pointer].get(offset, 0)

    def launch(self) -> tuple[int, int]:
        """op_en for this block: the group just written, and the group that the executer will take. Pointers move."""
        written, executed = self.pointer, self.executer
        if self.pointer_pp:
            self.pointer ^= 1
        if self.executer_pp:
            self.executer ^= 1
        return written, executed

    def snapshot(self, group: int) -> Snapshot:
        return Snapshot(self.places, self.groups[group])


class RegisterFile:
    """All blocks that programs write."""

    def __init__(self, registers: RegisterMap) -> None:
        self.blocks = {block.name: BlockState(block) for block in registers.blocks.values()
                       if block.target is not None and block.name != "PC"}
        self.by_target = {block.target: self.blocks[block.name] for block in registers.blocks.values()
                          if block.name in self.blocks}
        self.by_page = {block.base >> 12: self.blocks[block.name] for block in registers.blocks.values()
                        if block.name in self.blocks}

    def reset(self) -> None:
        for block in self.blocks.values():
            block.reset()
