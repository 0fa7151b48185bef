"""Registers and their fields: declared once, used by the compiler, the simulator and the disassembler."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property


class FieldError(ValueError):
    """A value does not fit its register field; the text names block, register, field, value and range."""


@dataclass(frozen=True)
class Bits:
    """Bits hi..lo of a register, both inclusive; the hardware holds value + bias, in two's complement if signed."""

    hi: int
    lo: int
    bias: int = 0
    signed: bool = False

    @cached_property
    def mask(self) -> int:
        return (1 << (self.hi - self.lo + 1)) - 1

    @cached_property
    def range(self) -> tuple[int, int]:
        """Lowest and highest value, both inclusive."""
        lowest = -(self.mask + 1 >> 1) if self.signed else 0
        return lowest - self.bias, lowest + self.mask - self.bias

    def decode(self, word: int) -> int:
        held = (word >> self.lo) & self.mask
        if self.signed and held > self.mask >> 1:
            held -= self.mask + 1
        return held - self.bias


@dataclass(frozen=True)
class Reg:
    """One 32-bit register: full offset inside the core, and its named fields."""

    block: str
    name: str
    offset: int
    shadowed: bool
    fields: Mapping[str, Bits] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.block}.{self.name}"

    def pack(self, **values: int) -> int:
        """The register's word; bits of fields not named are 0. Raises FieldError: nothing is ever masked."""
        word = 0
        for name, value in values.items():
            bits = self.fields.get(name)
            if bits is None:
                raise FieldError(f"{self}.{name}: no such field, has {', '.join(self.fields)}")
            value = int(value)
            lowest, highest = bits.range
            if not lowest <= value <= highest:
                raise FieldError(f"{self}.{name}: {value} must be {lowest}..{highest}")
            word |= ((value + bits.bias) & bits.mask) << bits.lo
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """Field values of a word, bias removed, sign extended."""
        return {name: bits.decode(word) for name, bits in self.fields.items()}

    def known_mask(self) -> int:
        """The bits that belong to a named field."""
        mask = 0
        for bits in self.fields.values():
            mask |= bits.mask << bits.lo
        return mask


@dataclass(frozen=True)
class Block:
    """One unit of the core: its register window and the target tag that addresses it in a program word."""

    name: str
    base: int
    target: int | None
    registers: Mapping[str, Reg]

    def __getitem__(self, name: str) -> Reg:
        return self.registers[name]


@dataclass(frozen=True)
class RegisterMap:
    """All registers of one SoC's core."""

    soc: str
    blocks: Mapping[str, Block]
    by_offset: Mapping[int, Reg]
    block_of_target: Mapping[int, Block]

    def __getitem__(self, path: str) -> Reg:
        """Look up "BLOCK.REGISTER"."""
        return self._by_path[path]

    @cached_property
    def _by_path(self) -> Mapping[str, Reg]:
        return {str(register): register for block in self.blocks.values() for register in block.registers.values()}


def register_map(soc: str, blocks: Mapping[str, tuple[int, int | None, Mapping[str, tuple]]]) -> RegisterMap:
    """Build a map from the generated table: block -> (base, target, register -> (offset, shadowed, fields))."""
    made = {}
    for block_name, (base, target, registers) in blocks.items():
        made[block_name] = Block(block_name, base, target, {
            name: Reg(block_name, name, offset, shadowed, {f: Bits(*bits) for f, bits in fields.items()})
            for name, (offset, shadowed, fields) in registers.items()})
    by_offset = {reg.offset: reg for block in made.values() for reg in block.registers.values()}
    targets = {block.target: block for block in made.values() if block.target is not None}
    return RegisterMap(soc, made, by_offset, targets)
