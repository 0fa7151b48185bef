"""Numbers that decide what a fuzzed call looks like, and sequences of calls made of them.

A call is its name, which of the open files makes it, and plain numbers: whatever they are, they mean something. So
sequences can be drawn, changed, cut and joined blindly, and replayed from text.
"""
from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")
NUMBERS = 48            # of one call; what is needed beyond them is 0
SLOTS = 4               # files that a sequence may have open at the same time
WORD = 1 << 32
WORDS = struct.Struct(f"<{NUMBERS}I")


class Step(NamedTuple):
    """One call."""

    name: str
    slot: int
    numbers: tuple[int, ...]


class Choices:
    """The numbers of one call, taken in turn."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = iter(numbers)

    def word(self) -> int:
        return next(self._numbers, 0)

    def below(self, limit: int) -> int:
        return self.word() % limit if limit > 0 else 0

    def one_in(self, count: int) -> bool:
        """Rarely true; False when no number is left."""
        return self.word() % count == 1

    def of(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]


def draw_step(chance: random.Random, weights: dict[str, int]) -> Step:
    name = chance.choices(list(weights), list(weights.values()))[0]
    return Step(name, chance.randrange(SLOTS), WORDS.unpack(chance.randbytes(WORDS.size)))


def draw(chance: random.Random, weights: dict[str, int], length: int) -> list[Step]:
    """Files are opened first, so that most calls reach one."""
    start = [Step("open", slot, draw_step(chance, weights).numbers) for slot in range(chance.randrange(1, SLOTS))]
    return start + [draw_step(chance, weights) for _ in range(length)]


def change(chance: random.Random, weights: dict[str, int], steps: list[Step], other: list[Step]) -> list[Step]:
    """A few changes: a number, a call more, less or twice, an end from another sequence."""
    made = list(steps)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(made))
        kind = chance.randrange(5)
        if kind == 0:
            numbers = list(made[at].numbers)
            numbers[chance.randrange(len(numbers))] = chance.randrange(WORD)
            made[at] = made[at]._replace(numbers=tuple(numbers))
        elif kind == 1:
            made.insert(at, draw_step(chance, weights))
        elif kind == 2 and len(made) > 2:
            del made[at]
        elif kind == 3:
            made.insert(chance.randrange(len(made)), made[at])
        else:
            made[at:] = other[chance.randrange(len(other)):]
            made = made or list(steps)
    return made[:4 * NUMBERS]
