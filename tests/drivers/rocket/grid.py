"""Shape grids: cases that cover all pairs of levels, single-operation models, runs on the simulated core."""
from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.subgraph import Subgraph
from tests.drivers.rocket import whole_grid
from tests.support import exact
from tests.support.model_builder import Model, fit_output

Case = dict[str, object]


def pairwise(factors: Mapping[str, Sequence[object]], is_valid: Callable[[Case], bool], seed: int) -> list[Case]:
    """Cases in which every pair of levels of two factors occurs, where a valid case can have it.

    Greedy: of 60 random cases the valid one with most pairs not seen yet, until none has any.
    """
    rng = random.Random(seed)
    names = sorted(factors)
    missing = {((a, i), (b, j)) for a, b in itertools.combinations(names, 2)
               for i in range(len(factors[a])) for j in range(len(factors[b]))}
    cases: list[Case] = []
    while missing:
        wanted = sorted(missing)
        best, best_pairs = None, set()
        for _ in range(60):
            levels = {name: rng.randrange(len(factors[name])) for name in names} | dict(rng.choice(wanted))
            case = {name: factors[name][levels[name]] for name in factors}
            if not is_valid(case):
                continue
            pairs = missing.intersection(itertools.combinations([(name, levels[name]) for name in names], 2))
            if len(pairs) > len(best_pairs):
                best, best_pairs = case, pairs
        if best is None:
            break
        cases.append(best)
        missing -= best_pairs
    return cases


def case_id(case: Case) -> str:
    """The case in words, for the test's name."""
    return "-".join(f"{name}{_text(value)}" for name, value in case.items())


def _text(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def with_wild_scales(model: Model, rng: np.random.Generator, octaves: float) -> Model:
    """The same integers with weight scales that span some octaves between channels, and an output scale to match."""
    weights, *rest = model.tensors[1:]
    count = weights.shape[weights.axis]
    factors = np.exp2(-rng.uniform(0, octaves, count))
    factors[rng.integers(count)] = 1.0
    scales = tuple(float(np.float32(weights.scale * f)) for f in factors)
    made = [replace(weights, scales=scales, zero_points=(0,) * count)]
    if len(rest) == 2:
        bias_scales = tuple(float(np.float32(model.tensors[0].scale) * np.float32(s)) for s in scales)
        made.append(replace(rest[0], scales=bias_scales, zero_points=(0,) * count))
    probe = replace(model, tensors=(model.tensors[0], *made, replace(rest[-1], scales=(1.0,), zero_points=(0,))))
    real = exact.run(probe, probe.random_inputs(rng), clip=False)[-1].unrounded
    return replace(probe, tensors=(*probe.tensors[:-1], fit_output(rest[-1], real, None)))


@dataclass(frozen=True)
class Result:
    """Differences of one run: how many elements, how many off by one, the largest."""

    elements: int
    ones: int
    largest: int


def subgraph_of(model: Model) -> Subgraph:
    return read_tflite(model.data)


def run(model: Model, rng: np.random.Generator, match: str = "tflite") -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(inputs, outputs) of a model on the simulated core, the whole model as one program. Fails when it is refused."""
    subgraph = subgraph_of(model)
    driver, options = RocketDriver(RK3588), CompileOptions(match=match)
    for operation in subgraph.operations:
        refusal = driver.refuse(subgraph, operation, options)
        assert refusal is None, f"{operation}: {refusal}"
    inputs = model.random_inputs(rng)
    values = dict(zip(subgraph.inputs, inputs, strict=True))
    outputs = driver.execute(subgraph, values, options)
    whole_grid.count(model, inputs, outputs, SoftDriver(match).execute(subgraph, values))
    return inputs, [outputs[t] for t in subgraph.outputs]


def compare(model: Model, rng: np.random.Generator, match: str = "tflite") -> Result:
    """A single operation against exact arithmetic."""
    inputs, (output,) = run(model, rng, match)
    expected = exact.run(model, inputs)[-1].quantised
    difference = np.abs(output.astype(np.int64) - expected.astype(np.int64))
    return Result(difference.size, int((difference == 1).sum()), int(difference.max()))
