"""Draws sequences, keeps those that met something new, and makes a sequence that breaks the driver short.

New is a line of the driver that no sequence has reached before, or an answer that followed another for the first time.
"""
from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.kmd.fuzz.arena import Broken
from tests.kmd.fuzz.choices import Step, change, draw
from tests.kmd.fuzz.local import BEHAVIOURS, LocalDriver
from tests.kmd.fuzz.queues import QUEUE_WEIGHTS
from tests.kmd.fuzz.reached import Tracer

SEQUENCE_STEPS = 200
SEQUENCES_PER_DEVICE = 50
SHRINK_S = 30.0
KEPT = 2000
TRACED_ONE_IN = 7       # devices after the first of each behaviour; tracing makes calls three times as slow


@dataclass
class Corpus:
    """Sequences that met something new."""

    chance: random.Random
    tracer: Tracer
    kept: list[list[Step]] = field(default_factory=list)
    seen: set[object] = field(default_factory=set)
    num_lines: int = 0

    def next(self) -> list[Step]:
        if self.kept and self.chance.random() < 0.6:
            return change(self.chance, QUEUE_WEIGHTS, self.chance.choice(self.kept), self.chance.choice(self.kept))
        return draw(self.chance, QUEUE_WEIGHTS, self.chance.randrange(4, SEQUENCE_STEPS))

    def learn(self, steps: list[Step], answers: list[tuple[str, int | None]]) -> None:
        met = set(answers) | set(itertools.pairwise(answers))
        num_lines = sum(map(len, self.tracer.reached.values()))
        if met <= self.seen and num_lines == self.num_lines:
            return
        self.seen |= met
        self.num_lines = num_lines
        self.kept.append(steps)
        if len(self.kept) > KEPT:
            del self.kept[self.chance.randrange(len(self.kept))]


@dataclass
class Result:
    """What a search did and found."""

    calls: int = 0
    devices: int = 0
    sequences: int = 0
    seconds: float = 0.0
    answers: int = 0
    lines: int = 0
    kept: int = 0
    failure: str = ""
    steps: list[Step] = field(default_factory=list)


def breaks(steps: list[Step], number: int) -> str:
    """What goes wrong on a device of its own, "" when nothing does."""
    driver = LocalDriver(BEHAVIOURS[number % len(BEHAVIOURS)])
    try:
        driver.run(steps)
        driver.end()
    except Broken as error:
        driver.device.stop()
        return str(error)
    return ""


def shrink(steps: list[Step], is_broken: Callable[[list[Step]], bool]) -> list[Step]:
    """Without what is not needed, as far as the time goes."""
    deadline = time.monotonic() + SHRINK_S
    size = len(steps) // 2
    while size and time.monotonic() < deadline:
        at = 0
        while at < len(steps) and time.monotonic() < deadline:
            shorter = steps[:at] + steps[at + size:]
            if shorter and is_broken(shorter):
                steps = shorter
            else:
                at += size
        size //= 2
    return steps


def search(num_calls: int, seed: int, tracer: Tracer, report: Callable[[Result], None] = lambda result: None) -> Result:
    """At least so many calls, or until something breaks."""
    corpus, result, start = Corpus(random.Random(seed), tracer), Result(), time.monotonic()
    while result.calls < num_calls and not result.failure:
        is_traced = result.devices < len(BEHAVIOURS) or result.devices % TRACED_ONE_IN == 0
        with tracer if is_traced else contextlib.nullcontext():
            search_one_device(corpus, result, num_calls)
        result.seconds, result.answers = time.monotonic() - start, len(corpus.seen)
        result.lines, result.kept = corpus.num_lines, len(corpus.kept)
        report(result)
    return result


def search_one_device(corpus: Corpus, result: Result, num_calls: int) -> None:
    """Some sequences; what breaks goes into the result, made short."""
    number = result.devices
    result.devices += 1
    driver = LocalDriver(BEHAVIOURS[number % len(BEHAVIOURS)], verbose=number % 8 == 7)
    steps: list[Step] = []
    try:
        for _ in range(SEQUENCES_PER_DEVICE):
            steps = corpus.next()
            corpus.learn(steps, driver.run(steps))
            result.sequences += 1
            if result.calls + driver.world.num_calls >= num_calls:
                break
        driver.end()
    except Broken as error:
        driver.device.stop()
        result.failure = str(error)
        result.steps = shrink(steps, lambda shorter: bool(breaks(shorter, number)))
    result.calls += driver.world.num_calls
