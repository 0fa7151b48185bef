"""Every single operation that the tests of this folder run on the simulated core: how many cases, how far off."""
from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.support import exact
from tests.support.model_builder import Model

AROUND = "LEAKY_RELU"       # what builders put in front of and behind operations that are mere views elsewhere


@dataclass
class Differences:
    """Differences of elements from what was expected."""

    elements: int = 0
    ones: int = 0
    largest: int = 0

    def add(self, made: np.ndarray, expected: np.ndarray) -> None:
        off = np.abs(made.astype(np.int64) - expected)
        self.elements += off.size
        self.ones += int((off == 1).sum())
        self.largest = max(self.largest, int(off.max()))

    @property
    def share(self) -> str:
        """Of those that are off by one."""
        return f"{self.ones / self.elements:.4%}" if self.elements else "other tests"


@dataclass
class Cases:
    """Of one operation. exact: of the cases whose operation tests/support/exact.py knows."""

    count: int = 0
    numerics: Differences = field(default_factory=Differences)
    exact: Differences = field(default_factory=Differences)


started = time.monotonic()
counted: dict[str, Cases] = {}


def count(model: Model, inputs: Sequence[np.ndarray], made: Mapping[int, np.ndarray],
          expected: Mapping[int, np.ndarray]) -> None:
    """One more case, if the model is one operation. expected: the outputs by the numerics, in the order of `made`."""
    names = [operation.name for operation in model.operations]
    inner = [name for name in names if name != AROUND] if len(names) > 1 and names[0] == names[-1] == AROUND else names
    if len(inner) != 1:
        return
    cases = counted.setdefault(inner[0], Cases())
    cases.count += 1
    for tensor, value in expected.items():
        cases.numerics.add(made[tensor], value)
    if len(names) == 1 and names[0] in exact.REAL:
        (output,) = made.values()
        cases.exact.add(output, exact.run(model, inputs)[0].quantised)
