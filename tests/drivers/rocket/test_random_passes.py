"""Random networks of what passes look for, in all mixtures: every operation as the numerics, wherever tensors lie.

Channels-first networks between TRANSPOSEs, tensors taken apart and joined again, RESHAPEs and PADs undone, twins: most
of it undoes something, but inner tensors are read elsewhere or handed out now and then.
"""
from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.pipeline import deciding_passes, lowering_passes
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.passes import pass_name, run_passes
from tests.support.architectures import Builder
from tests.support.networks.check import check
from tests.support.networks.network import Invalid

NUM_SEEDS = 60
acted: Counter[str] = Counter()


class Walk:
    """A network that grows by random steps from any of its values; all have 4 dimensions and one image."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Builder(str(self.rng.choice(["int8", "uint8"])), int(self.rng.integers(3, 8)), self.pick(16, 32, 5))
        self.values = [self.b.input]

    def pick(self, *choices: int) -> int:
        return int(self.rng.choice(choices))

    def any(self) -> int:
        """Rather a recent one."""
        return self.values[max(len(self.values) - 1 - int(self.rng.exponential(2)), 0)]

    def shape(self, value: int) -> tuple[int, ...]:
        return tuple(self.b.net.tensor(value).shape)

    def turn(self) -> list[int]:
        order = ((0, 3, 1, 2), (0, 2, 3, 1), (0, 2, 1, 3))[self.pick(0, 0, 1, 1, 1, 2)]
        return [self.b.net.one("transpose", self.any(), order=order)]

    def between(self) -> list[int]:
        """Two values, or one, turned alike, a few steps from those, and the last result turned back."""
        first = self.any()
        alike = [value for value in self.values if self.shape(value) == self.shape(first)]
        outside = self.values
        self.values = [self.b.net.one("transpose", value, order=(0, 3, 1, 2))
                       for value in {first, int(self.rng.choice(alike))}]
        for _ in range(self.pick(1, 2, 3)):
            self.values += (self.function, self.total, self.constant, self.joined)[self.pick(0, 1, 2, 3)]()
        back = self.b.net.one("transpose", self.values[-1], order=(0, 2, 3, 1))
        made, self.values = self.values, outside
        return [back] if self.pick(0, 0, 1) == 0 else [made[-1], back]

    def function(self) -> list[int]:
        value, name = self.any(), str(self.rng.choice(["RELU", "LEAKY_RELU", "LOGISTIC", "TANH"]))
        if name != "RELU":
            return [self.b.unary(value, name)]
        tensor = self.b.net.tensor(value)
        return [self.b.net.one("unary", value, function=name, scale=tensor.scale, zero=tensor.zero_point)]

    def joined(self) -> list[int]:
        value = self.any()
        return [self.b.concatenation(value, value, axis=self.pick(1, 2, 3))]

    def total(self) -> list[int]:
        first = self.any()
        alike = [value for value in self.values if self.shape(value) == self.shape(first)]
        name = str(self.rng.choice(["ADD", "ADD", "MUL", "SUB"]))
        return [self.b.binary(name, first, int(self.rng.choice(alike)), str(self.rng.choice(["NONE", "RELU"])))]

    def constant(self) -> list[int]:
        return [self.b.constant(str(self.rng.choice(["ADD", "MUL"])), self.any(), per_channel=bool(self.pick(0, 1)))]

    def taken_apart(self) -> list[int]:
        value = self.any()
        axis, count = self.pick(1, 3, 3), self.pick(2, 2, 3)
        size = self.shape(value)[axis]
        step = 16 if size % 16 == 0 and size >= 16 * count else 1
        sizes = [step * max(size // step // count, 1)] * (count - 1)
        parts = self.b.net.apply("split", value, axis=axis, sizes=(*sizes, size - sum(sizes)))
        whole = self.b.concatenation(*parts, *((value,) if self.pick(0, 1) else ()), axis=axis)
        return [*parts[:self.pick(0, 1, 2)], whole]

    def undone(self) -> list[int]:
        value = self.any()
        _, height, width, channels = shape = self.shape(value)
        if self.pick(0, 1):
            flat = self.b.net.one("reshape", value, shape=(1, height * width, channels))
            return [self.b.net.one("reshape", flat, shape=shape)]
        padded = self.b.net.one("pad", value, amounts=((0, 0), (1, 0), (0, 2), (0, 0)))
        return [padded, self.b.net.one("slice", padded, begin=(0, self.pick(0, 1, 1), 0, 0), size=shape)]

    def pooled(self) -> list[int]:
        """With an activation of its own, alone or not."""
        pool = self.b.pool("MAX", self.any(), 2, 1)
        tensor = self.b.net.tensor(pool)
        relu = self.b.net.one("unary", pool, function="RELU", scale=tensor.scale, zero=tensor.zero_point)
        return [relu] if self.pick(0, 0, 1) == 0 else [pool, relu]

    def twins(self) -> list[int]:
        value = self.any()
        return [self.b.unary(value, "TANH") for _ in range(2)]

    def pixels(self) -> list[int]:
        value = self.any()
        kernel = self.pick(1, 3)
        return [self.b.conv(value, self.pick(16, 32, 20), kernel, 1, str(self.rng.choice(["NONE", "RELU"])))]

    def grow(self, steps: int) -> None:
        ways: list[Callable[[], list[int]]] = [self.turn, self.between, self.between, self.function, self.function,
                                               self.total, self.total, self.constant, self.taken_apart, self.undone,
                                               self.twins, self.pooled, self.pixels, self.pixels]
        for _ in range(steps):
            with contextlib.suppress(Invalid):
                self.values += ways[int(self.rng.integers(len(ways)))]()


@pytest.mark.parametrize("seed", range(NUM_SEEDS))
def test_agrees(seed: int) -> None:
    """check() raises where an operation is off by more than it may be, or where a place shows in a result."""
    walk = Walk(seed)
    walk.grow(int(walk.rng.integers(4, 16)))
    outputs = walk.b.net.unread()
    handed_out = [v for v in walk.values[1:] if walk.rng.random() < 0.1 and walk.b.net.values[v] not in outputs]
    model = walk.b.net.model([*outputs, *handed_out])
    options = CompileOptions(match=str(walk.rng.choice(["tflite", "exact"])))
    count_passes(model.data, options)
    check(model, seed, options.match)


def count_passes(data: bytes, options: CompileOptions) -> None:
    subgraph = read_tflite(data)
    for one in (*deciding_passes(RK3588, options), *lowering_passes(RK3588)):
        before, subgraph = subgraph, run_passes(subgraph, (one,))
        acted[pass_name(one)] += before is not subgraph


def test_the_passes_had_something_to_do() -> None:
    for name in ("tabulate", "join_transposes", "cancel_moves", "merge_duplicates", "rejoin_parts", "fold_activation"):
        assert acted[name] > NUM_SEEDS / 20, acted
