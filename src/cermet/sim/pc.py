"""Program control: fetches program words and turns them into register writes and block starts.

Word format, trailer, chaining: execution model §2, §4.
"""
from __future__ import annotations

import numpy as np

from cermet.sim.memory import ADDRESS_MASK, AddressSpace
from cermet.sim.outcome import TaskOutcome

OP_ENABLE_TARGET = 0x0081
SEPARATOR_TARGET = 0x0041
PC_TARGET = 0x0101
PC_OPERATION_ENABLE = 0x0008
PC_BASE_ADDRESS = 0x0010
PC_REGISTER_AMOUNTS = 0x0014
WORD_BYTES = 8
BASE_ADDRESS_MASK = 0xFFFF_FFF0
AMOUNT_MASK = 0xFFFF


def decode(words: np.ndarray) -> list[tuple[int, int, int]]:
    """(target, offset, value) of each 64-bit word."""
    targets = (words >> np.uint64(48)).tolist()
    offsets = (words & np.uint64(0xFFFF)).tolist()
    values = ((words >> np.uint64(16)) & np.uint64(ADDRESS_MASK)).tolist()
    return list(zip(targets, offsets, values, strict=True))


def num_words(register_amounts: int) -> int:
    """Words fetched: the amount field counts beats of two words, minus 1."""
    return ((register_amounts & AMOUNT_MASK) + 1) * 2


def fetch(space: AddressSpace, base_address: int, register_amounts: int) -> bytes:
    """The words of a program. Raises IommuFault when a word of it is not mapped."""
    return space.read(base_address & BASE_ADDRESS_MASK, num_words(register_amounts) * WORD_BYTES).tobytes()


def is_nop(target: int, offset: int, value: int) -> bool:
    """Words without the write bit (48) do nothing; programs use 0 and 0x0001_0000_0000_0000."""
    return target & ~1 == 0


def warn_unknown(outcome: TaskOutcome, target: int, offset: int) -> None:
    outcome.warn("pc.unknown_word", f"program word: target {target:#06x} offset {offset:#06x} names no register")
