"""Register programs: real ones, and changes to them that know words, registers and fields.

Sources: this project's compiler on the small reference models, and programs of two other compilers (tests/data).
All addresses are brought into the first ARENA_BYTES of the NPU's address space, which is the memory that is mapped.
"""
from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from cermet.compiler import compile_subgraph, driver_for
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.execute import Machine
from cermet.frontend import tflite_file
from cermet.hw.registers import Bits
from cermet.hw.soc import RK3588
from tests.sim.support import DATA, Capture, vendor_program

ARENA_BYTES = 4 << 20
MODELS = ("kws_ref_model", "split_concat", "dilated_conv", "v2_vad", "ad01_int8", "pretrainedResnet_quant")
CAPTURE = DATA / "mobilenet_v1_0.25_128_quant.grace.npz"
VALUE_MASK = 0xFFFF_FFFF << 16
MAX_WORDS = 4000
REGISTERS = RK3588.registers.by_offset
ADDRESSES = {offset for offset, register in REGISTERS.items()
             if register.name.endswith("_ADDR") and "NOTCH" not in register.name or register.name == "DCOMP_ADDR0"}
TARGETS = [*(block.target for block in RK3588.registers.blocks.values() if block.target is not None),
           0x0041, 0x0081, 0, 0xFFFF]
Words = list[int]


def relocated(words: Words) -> Words:
    """Addresses into the arena."""
    return [word & ~VALUE_MASK | ((word >> 16) % ARENA_BYTES) << 16 if word & 0xFFFF in ADDRESSES else word
            for word in words]


def compiled_programs() -> Iterator[Words]:
    for name in MODELS:
        compiled = compile_subgraph(tflite_file.load(DATA / "models" / f"{name}.tflite"), driver_for("rk3588"),
                                    CompileOptions(prefer="npu"))
        for program in compiled.programs:
            machine = Machine(RK3588, program)
            for task in program.tasks:
                text = machine.memory[task.bo][task.offset_bytes:task.offset_bytes + 8 * task.num_words]
                yield text.view("<u8").tolist()


def foreign_programs() -> Iterator[Words]:
    for path in sorted((DATA / "vendor_rk3588").glob("*.json.gz")):
        for task in vendor_program(path)[:6]:
            yield [target << 48 | value << 16 | offset for target, offset, value in task]
    capture = Capture(CAPTURE)
    for submit, job in capture.jobs():
        for task in job["tasks"]:
            handle, offset = task["bo"]
            text = capture.contents(submit, handle)[offset:offset + 8 * task["regcmd_count"]]
            yield np.frombuffer(text.tobytes(), "<u8").tolist()


def real_programs() -> list[Words]:
    """Each once."""
    made = {tuple(relocated(words)) for source in (compiled_programs(), foreign_programs()) for words in source}
    return [list(words) for words in sorted(made) if len(words) <= MAX_WORDS]


# --- changes ----------------------------------------------------------------------------------------------------------


def with_field(word: int, bits: Bits, held: int) -> int:
    return word & ~(bits.mask << bits.lo + 16) | (held & bits.mask) << bits.lo + 16


def change_field(chance: random.Random, words: Words, at: int) -> None:
    """A field of the register that this word writes: its ends, a little more or less, twice as much, anything."""
    register = REGISTERS.get(words[at] & 0xFFFF)
    if register is None or not register.fields:
        return change_value(chance, words, at)
    bits = chance.choice(list(register.fields.values()))
    held = words[at] >> 16 + bits.lo & bits.mask
    words[at] = with_field(words[at], bits, chance.choice((
        0, bits.mask, held + 1, held - 1, held * 2, held >> 1, chance.getrandbits(32),
        chance.getrandbits(chance.randrange(1, 33)), bits.mask >> 1)))


def change_value(chance: random.Random, words: Words, at: int) -> None:
    value = chance.getrandbits(chance.randrange(1, 33))
    words[at] = words[at] & ~VALUE_MASK | value << 16


def flip_bit(chance: random.Random, words: Words, at: int) -> None:
    words[at] ^= 1 << chance.randrange(64)


def move_address(chance: random.Random, words: Words, at: int) -> None:
    """Of any word that holds one: elsewhere in the arena, at its end, behind it, anywhere."""
    places = [index for index, word in enumerate(words) if word & 0xFFFF in ADDRESSES]
    if places:
        address = chance.choice((0, chance.randrange(ARENA_BYTES), ARENA_BYTES - 16, ARENA_BYTES, 0xFFFF_FFF0,
                                 chance.getrandbits(32)))
        words[chance.choice(places)] = words[chance.choice(places)] & ~VALUE_MASK | address << 16


def drop(chance: random.Random, words: Words, at: int) -> None:
    if len(words) > 4:
        del words[at:at + chance.choice((1, 1, 1, 4, 40))]


def repeat(chance: random.Random, words: Words, at: int) -> None:
    words[at:at] = words[at:at + chance.choice((1, 2, 8))]


def swap(chance: random.Random, words: Words, at: int) -> None:
    other = chance.randrange(len(words))
    words[at], words[other] = words[other], words[at]


def retarget(chance: random.Random, words: Words, at: int) -> None:
    words[at] = words[at] & (1 << 48) - 1 | chance.choice(TARGETS) << 48


def insert(chance: random.Random, words: Words, at: int) -> None:
    """A write to any register."""
    offset = chance.choice(list(REGISTERS))
    target = next((block.target for block in RK3588.registers.blocks.values() if block.base == offset & ~0xFFF), 0)
    words.insert(at, (target or 0) << 48 | chance.getrandbits(chance.randrange(1, 33)) << 16 | offset)


CHANGES = (*[change_field] * 8, change_value, flip_bit, move_address, move_address, drop, repeat, swap, retarget,
           insert)


def changed(chance: random.Random, programs: list[Words]) -> Words:
    """One real program with a few changes, or the front of one and the end of another."""
    words = list(chance.choice(programs))
    if chance.random() < 0.1:
        other = chance.choice(programs)
        words = words[:chance.randrange(1, len(words) + 1)] + other[chance.randrange(len(other)):]
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6, 12))):
        chance.choice(CHANGES)(chance, words, chance.randrange(len(words)))
        words = words or [0]
    return words[:MAX_WORDS]
