"""Program words to text in the compiler's own spelling, one line per word."""
from __future__ import annotations

from collections.abc import Iterable

from cermet.hw.registers import Reg, RegisterMap
from cermet.hw.soc import RK3588

OP_ENABLE_TARGET = 0x0081
OP_ENABLE_OFFSET = 0x0008
SEPARATOR = 0x0041_0000_0000_0000
UNKNOWN = "?"
BLOCK_BITS = ((0, "CNA"), (2, "CORE"), (3, "DPU"), (4, "DPU_RDMA"), (5, "PPU"), (6, "PPU_RDMA"))
ADDRESS_FIELDS = ("ADDR", "VALUE", "OPERAND", "CMP_DAT", "START", "END")      # read better in hexadecimal when large


def disassemble(words: Iterable[int], registers: RegisterMap = RK3588.registers) -> list[str]:
    """One line per 64-bit word: its index, the register, the fields that are not 0; raw where no register fits."""
    return [f"{index:04d}  {describe(int(word), registers)}" for index, word in enumerate(words)]


def is_unknown(word: int, registers: RegisterMap) -> bool:
    """No register fits, and it is none of the words without one."""
    return describe(word, registers).startswith(UNKNOWN)


def describe(word: int, registers: RegisterMap) -> str:
    """Text of one word."""
    target, value, offset = word >> 48, (word >> 16) & 0xFFFF_FFFF, word & 0xFFFF
    if target & ~1 == 0 and value == 0 and offset == 0:
        return "NOP"
    if word == SEPARATOR:
        return "SEPARATOR"
    if target == OP_ENABLE_TARGET and offset == OP_ENABLE_OFFSET:
        return f"OP_ENABLE  {_blocks(value)}"
    block = registers.block_of_target.get(target)
    register = registers.by_offset.get(offset)
    if block is None or register is None or register.block != block.name:
        return f"{UNKNOWN}  {word:#018x}"
    return f"{register}  {_fields(register, value)}".rstrip()


def _blocks(mask: int) -> str:
    names = [name for bit, name in BLOCK_BITS if mask >> bit & 1]
    unknown = mask & ~sum(1 << bit for bit, _ in BLOCK_BITS)
    return "|".join(names + [f"{unknown:#x}"] * bool(unknown)) or "nothing"


def _fields(register: Reg, value: int) -> str:
    """NAME=value of every field whose stored bits are not 0; bits of no field as RESERVED.

    Of an all-zero word: the fields that store their value minus 1, for these are not 0.
    """
    parts = []
    for name, bits in register.fields.items():
        if (value >> bits.lo) & bits.mask or (value == 0 and bits.bias):
            number = bits.decode(value)
            large = abs(number) > 0xFFFF and any(word in name for word in ADDRESS_FIELDS)
            parts.append(f"{name}={number:#x}" if large else f"{name}={number}")
    reserved = value & ~register.known_mask()
    if reserved:
        parts.append(f"RESERVED={reserved:#x}")
    return " ".join(parts) or "0"
