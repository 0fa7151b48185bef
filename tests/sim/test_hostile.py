"""Random and mutated programs: never an exception, a crash or a wait without end."""
from __future__ import annotations

import time

import numpy as np
import pytest

from cermet.hw.soc import RK3588
from cermet.sim.core import AddressSpace, TaskOutcome
from tests.sim.programs import CONV_MASK, FLYING_MASK, POOL_MASK, Conv, flying, pooling
from tests.sim.support import TARGET_OF_PAGE, Memory, kick, new_core, program

NUM_PROGRAMS = 700          # of each kind
SECONDS_PER_PROGRAM = 0.25  # then cancelled() says stop, as the simulated kernel does
LARGEST_STEP_SECONDS = 5.0  # from cancel to return, with other work on the machine
OFFSETS = [offset for offset, register in RK3588.registers.by_offset.items() if offset >> 12 in TARGET_OF_PAGE]


def run(words: list[int], space: AddressSpace, code: int, array: np.ndarray, tasks: int) -> TaskOutcome:
    core = new_core()
    array[:len(words) * 8] = np.array(words, "<u8").view(np.uint8)
    deadline = time.monotonic() + SECONDS_PER_PROGRAM
    core.begin_job()
    for pointer in (0x1004, 0x3004):
        core.write(pointer, 0xE)
    for offset, value in ((0x10, code), (0x14, (len(words) + 1) // 2 - 1), (0x30, 0x7000 | tasks), (8, 1)):
        core.write(offset, value)
    outcome = core.run(space, lambda: time.monotonic() > deadline)
    assert time.monotonic() < deadline + LARGEST_STEP_SECONDS
    assert outcome.hang or outcome.fault or outcome.interrupts & 0xF00
    return outcome


@pytest.fixture(scope="module")
def arena() -> tuple[Memory, int, np.ndarray]:
    """Memory where most addresses that programs use are mapped, and a place for code."""
    memory = Memory()
    memory.space.map(0, np.random.default_rng(0).integers(0, 256, 0x10000, dtype=np.uint8))
    code = memory.add(1 << 16)
    return memory, code, memory.arrays[code]


def good_programs(memory: Memory) -> list[list[int]]:
    rng = np.random.default_rng(2)
    x, w = rng.integers(-128, 128, (6, 6, 32), dtype=np.int8), rng.integers(-128, 128, (40, 3, 3, 32), dtype=np.int8)
    direct = Conv(x, w, pads=(1, 1, 1, 1), memory=memory)
    depthwise = Conv(x, w[0], True, pads=(1, 1, 1, 1), memory=memory)
    a, b = memory.add(8192), memory.add(8192)
    add = flying(memory, a, b, (6, 6, 32), {0x4070: 0x904202C0, 0x5034: 0x40000004, 0x5038: a, 0x5040: 36 * 16,
                                            0x4040: 0x20040, 0x4048: 0x4000 << 16, 0x4060: 0x20040})
    lut = flying(memory, a, b, (6, 6, 32), {0x4070: 0x300, 0x4060: 0x20040, 0x4068: 3 << 16, 0x4108: 0x68,
                                            0x410C: 0x50500, 0x4110: 0xFFFFC000, 0x411C: 0x4000})
    pool, _ = pooling(a, b, (6, 6, 32), 0, 3, 1, (1, 1, 1, 1))
    return [program(direct.program(), CONV_MASK), program(depthwise.program(), CONV_MASK), program(add, FLYING_MASK),
            program(lut, FLYING_MASK), program(pool, POOL_MASK)]


def test_mutated_programs(arena: tuple[Memory, int, np.ndarray]) -> None:
    memory, code, array = arena
    programs, rng, completed = good_programs(memory), np.random.default_rng(41), 0
    for number in range(NUM_PROGRAMS):
        words = list(programs[number % len(programs)])
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(len(words)))
            if rng.integers(2):
                words[at] ^= 1 << int(rng.integers(64))
            else:
                words[at] = words[at] & ~(0xFFFFFFFF << 16) | int(rng.integers(1 << 32)) << 16
        outcome = run(words, memory.space, code, array, int(rng.integers(1, 4)) if number % 7 == 0 else 1)
        completed += outcome.hang is None and outcome.fault is None
    assert NUM_PROGRAMS // 20 < completed < NUM_PROGRAMS, "mutations must reach both ends"


def test_several_registers_at_once(arena: tuple[Memory, int, np.ndarray]) -> None:
    """Sizes and strides scaled together, so that programs stay plausible and grow."""
    memory, code, array = arena
    programs, rng = good_programs(memory), np.random.default_rng(42)
    for number in range(NUM_PROGRAMS):
        words = list(programs[number % len(programs)])
        for at, held in enumerate(words[:-4]):
            if rng.random() < 0.08:
                shift = int(rng.integers(-3, 12))
                value = held >> 16 & 0xFFFFFFFF
                value = (value << shift if shift >= 0 else value >> -shift) & 0xFFFFFFFF
                words[at] = held & ~(0xFFFFFFFF << 16) | value << 16
        run(words, memory.space, code, array, 1)


def test_random_register_writes(arena: tuple[Memory, int, np.ndarray]) -> None:
    memory, code, array = arena
    rng = np.random.default_rng(43)
    for _ in range(NUM_PROGRAMS):
        registers = []
        for _ in range(int(rng.integers(1, 150))):
            bits = int(rng.integers(1, 33))
            registers.append((OFFSETS[int(rng.integers(len(OFFSETS)))], int(rng.integers(1 << bits))))
        run(program(registers, int(rng.integers(0, 128))), memory.space, code, array, int(rng.integers(1, 3)))


def test_random_words(arena: tuple[Memory, int, np.ndarray]) -> None:
    memory, code, array = arena
    rng = np.random.default_rng(44)
    for _ in range(NUM_PROGRAMS):
        words = rng.integers(0, 1 << 63, int(rng.integers(1, 300))).tolist()
        run([*words, 0x0041 << 48, 0x0081_0000_007F_0008], memory.space, code, array, int(rng.integers(1, 4096)))


def test_huge_announced_programs_and_odd_addresses(arena: tuple[Memory, int, np.ndarray]) -> None:
    memory, code, _ = arena
    for address, count in ((code, 1), (code, 131072), (0xFFFFFFF0, 131072), (code + 8, 100), (1, 4), (0, 70)):
        outcome = kick(new_core(), memory.space, address, count)
        assert outcome.hang or outcome.fault


def test_random_mmio_writes() -> None:
    core, rng = new_core(), np.random.default_rng(45)
    for _ in range(5000):
        core.write(int(rng.integers(1 << 17)), int(rng.integers(1 << 40)))
        core.read(int(rng.integers(1 << 17)))
    assert core.run(AddressSpace()).interrupts & 0x300 == 0
