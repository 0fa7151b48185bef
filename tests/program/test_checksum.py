"""The checksum of plans against its definition in whole numbers, and what it is for: damage is noticed."""
from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from cermet.program.checksum import checksum

STEPS = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9      # CERMET_PLAN_STEP, CERMET_PLAN_OTHER_STEP
OWN_OFFSET = 16
NUM_TRIALS = 500
PAGE = 4096
NUM_BYTES = 20 * PAGE


def place(number: int) -> int:
    one, other = (number * step % 2**64 for step in STEPS)
    return one ^ other


def by_definition(data: bytes) -> tuple[int, int]:
    data = data[:OWN_OFFSET] + bytes(16) + data[OWN_OFFSET + 16:]
    data += bytes(-len(data) % 8)
    words = [int.from_bytes(data[at:at + 8], "little") for at in range(0, len(data), 8)]
    placed = [(word + place(number + 1)) % 2**64 for number, word in enumerate(words)]
    return sum(words) % 2**64, sum((word % 2**32) * (word // 2**32) for word in placed) % 2**64


def taken(data: bytes) -> tuple[int, int]:
    return checksum(data, OWN_OFFSET, STEPS)


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


def same_bit_of_a_burst(data: bytes, rng: random.Random) -> bytes:
    """As a broken line of memory does it to a cache line or more."""
    words = np.frombuffer(data, "<u8").copy()
    start = 8 * rng.randrange(1, len(words) // 8 - 64)
    words[start:start + rng.choice((4, 8, 64, 512))] ^= np.uint64(1 << rng.randrange(64))
    return words.tobytes()


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


def turned(data: bytes, rng: random.Random) -> bytes:
    """The words of a block in the opposite order."""
    size = rng.choice((16, 64, PAGE))
    start = size * rng.randrange(PAGE // size, len(data) // size)
    words = np.frombuffer(data, "<u8", size // 8, start)
    return with_bytes(data, start, words[::-1].tobytes())


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "a bit": a_bit, "the same bit twice": same_bit_twice, "a page of zeros": page_of(0), "a page of ones": page_of(255),
    "the same bit of a burst": same_bit_of_a_burst, "two words swapped": swapped(8), "two lines swapped": swapped(64),
    "two pages swapped": swapped(PAGE), "a block turned": turned, "zeros behind": zeros_behind,
    "moved by a word": moved_by_a_word}


def bytes_among(values: Sequence[int]) -> Callable[[random.Random], bytes]:
    return lambda rng: bytes(rng.choices(values, k=NUM_BYTES))


def words_among(values: Sequence[int]) -> Callable[[random.Random], bytes]:
    return lambda rng: np.array(rng.choices(values, k=NUM_BYTES // 8), "<u8").tobytes()


NOISE: dict[str, Callable[[random.Random], bytes]] = {
    "random": bytes_among(range(256)), "like weights": bytes_among((0, 0, 0, 0, 1, 2, 254, 255)),
    "few words": words_among(range(4)), "two words": words_among((0, 0x0001_0001_0001_0001)),
    "offsets": lambda rng: (64 * np.arange(NUM_BYTES // 8, dtype="<u8")).tobytes()}


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed(damage: str, noise: str) -> None:
    rng = random.Random(damage + noise)
    data = NOISE[noise](rng)
    good = taken(data)
    num_damaged = 0
    for _ in range(NUM_TRIALS):
        damaged = DAMAGES[damage](data, rng)
        if damaged != data:
            num_damaged += 1
            assert taken(damaged) != good
    assert num_damaged > NUM_TRIALS // 4
