"""What a probe is: programs, the memory they run on, and what each answer to a question predicts."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from cermet.drivers.rocket.regcmd import Address

SENTINEL = 0x5A             # fills what a program is to write
HANGS = "hangs"             # the hypothesis that a task never completes: needs no prediction


@dataclass(frozen=True)
class Program:
    """One task. addresses: word index -> a byte of a region."""

    words: tuple[int, ...]
    addresses: Mapping[int, Address]


@dataclass(frozen=True, eq=False)
class Case:
    """One run of some jobs on fresh memory.

    memory       region -> contents; all lie in one buffer, far apart
    jobs         lists of tasks, submitted one after another
    stored       region -> a program that lies in it, for programs that lead to another one
    region, places   the bytes looked at: offsets in a region, each of an element of `element_bytes`
    predictions  hypothesis -> the elements that it expects, as int64
    """

    label: str
    memory: Mapping[str, np.ndarray]
    jobs: tuple[tuple[Program, ...], ...]
    region: str
    places: np.ndarray
    predictions: Mapping[str, np.ndarray]
    element_bytes: int = 1
    stored: Mapping[str, Program] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """One question.

    hypotheses   name -> in words; the first is what the simulator takes for granted
    program      what is run, in words
    times_out    its jobs end in the kernel's time limit by design (half a second each, then the core is reset)
    """

    name: str
    question: str
    program: str
    hypotheses: Mapping[str, str]
    cases: Callable[[], list[Case]] = field(repr=False)
    times_out: bool = False

    @property
    def assumed(self) -> str:
        return next(iter(self.hypotheses))


# Roundings of value / 2**shift.
def floor(value: np.ndarray, shift: int) -> np.ndarray:
    return value >> shift


def half_even(value: np.ndarray, shift: int) -> np.ndarray:
    if not shift:
        return value
    low = value >> shift
    rest, half = value - (low << shift), 1 << shift - 1
    return low + ((rest > half) | ((rest == half) & (low & 1 == 1)))


def half_up(value: np.ndarray, shift: int) -> np.ndarray:
    return value + (1 << shift - 1) >> shift if shift else value


def half_down(value: np.ndarray, shift: int) -> np.ndarray:
    return -half_up(-value, shift)


def half_away(value: np.ndarray, shift: int) -> np.ndarray:
    return np.where(value < 0, half_down(value, shift), half_up(value, shift))


ROUNDINGS: Mapping[str, tuple[str, Callable[[np.ndarray, int], np.ndarray]]] = {
    "half-even": ("to nearest, ties to even", half_even),
    "half-away": ("to nearest, ties away from zero", half_away),
    "half-up": ("to nearest, ties up", half_up),
    "half-down": ("to nearest, ties down", half_down),
    "floor": ("down", floor),
}


def saturate(value: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(value, -(1 << bits - 1), (1 << bits - 1) - 1)


def wrap(value: np.ndarray, bits: int) -> np.ndarray:
    return (value + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1)


def to_byte(value: np.ndarray) -> np.ndarray:
    return saturate(value, 8)
