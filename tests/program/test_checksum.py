"""The checksum of plans against its definition in whole numbers, and what it is for: damage is noticed."""
from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from cermet.program.checksum import checksum

STEP = 0x9E3779B97F4A7C15       # CERMET_PLAN_STEP
OWN_OFFSET = 16
NUM_TRIALS = 200
PAGE = 4096


def by_definition(data: bytes) -> tuple[int, int]:
    data = data[:OWN_OFFSET] + bytes(16) + data[OWN_OFFSET + 16:]
    data += bytes(-len(data) % 8)
    words = [int.from_bytes(data[at:at + 8], "little") for at in range(0, len(data), 8)]
    placed = [(word + (number + 1) * STEP) % 2**64 for number, word in enumerate(words)]
    return sum(words) % 2**64, sum((word % 2**32) * (word // 2**32) for word in placed) % 2**64


def taken(data: bytes) -> tuple[int, int]:
    return checksum(data, OWN_OFFSET, STEP)


@pytest.mark.parametrize("size", [136, 137, 143, 144, 1000, 8 * 32768, 8 * 32768 + 8, 8 * 32768 + 9, 600_001])
def test_is_what_the_format_says(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert taken(data) == by_definition(data)
    assert taken(data) == taken(data[:OWN_OFFSET] + bytes(16) + data[OWN_OFFSET + 16:])


def with_bytes(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new):]


def a_bit(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(32, len(data))
    return with_bytes(data, at, bytes([data[at] ^ 1 << rng.randrange(8)]))


def same_bit_twice(data: bytes, rng: random.Random) -> bytes:
    """As a broken line of memory does it: the same bit of two words; half of them the highest bit."""
    bit = rng.choice((63, rng.randrange(64)))
    for word in rng.sample(range(4, len(data) // 8), 2):
        value = int.from_bytes(data[8 * word:8 * word + 8], "little") ^ 1 << bit
        data = with_bytes(data, 8 * word, value.to_bytes(8, "little"))
    return data


def page_of(value: int) -> Callable[[bytes, random.Random], bytes]:
    return lambda data, rng: with_bytes(data, PAGE * rng.randrange(1, len(data) // PAGE), bytes([value]) * PAGE)


def swapped(size: int) -> Callable[[bytes, random.Random], bytes]:
    def swap(data: bytes, rng: random.Random) -> bytes:
        one, other = (size * place for place in rng.sample(range(PAGE // size, len(data) // size), 2))
        return with_bytes(with_bytes(data, one, data[other:other + size]), other, data[one:one + size])
    return swap


def zeros_behind(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(40, len(data) - 40)
    return with_bytes(data, at, bytes(len(data) - at))


def moved_by_a_word(data: bytes, rng: random.Random) -> bytes:
    at = 8 * rng.randrange(4, len(data) // 8 - 40)
    return data[:at] + data[at + 8:] + b"12345678"


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a bit": a_bit, "the same bit twice": same_bit_twice, "a page of zeros": page_of(0), "a page of ones": page_of(255),
    "two words swapped": swapped(8), "two pages swapped": swapped(PAGE), "zeros behind": zeros_behind,
    "moved by a word": moved_by_a_word}
NOISE = {"random": range(256), "like weights": (0, 0, 0, 0, 1, 2, 254, 255)}


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed(damage: str, noise: str) -> None:
    rng = random.Random(damage + noise)
    data = bytes(rng.choices(NOISE[noise], k=20 * PAGE))
    good = taken(data)
    num_damaged = 0
    for _ in range(NUM_TRIALS):
        damaged = DAMAGES[damage](data, rng)
        if damaged != data:
            num_damaged += 1
            assert taken(damaged) != good
    assert num_damaged > NUM_TRIALS // 2
