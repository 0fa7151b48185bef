"""A single operation on the simulated core against exact arithmetic and against TFLite's reference kernels."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cermet.drivers.base import CompileOptions, Refusal
from cermet.drivers.rocket.driver import RocketDriver
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import run, subgraph_of
from tests.support import exact, interpreter
from tests.support.model_builder import Model


@dataclass(frozen=True, eq=False)
class Measured:
    """Absolute differences of every output element, and how far exact arithmetic was from a tie there."""

    from_exact: np.ndarray
    from_tflite: np.ndarray
    distance_from_tie: np.ndarray


def measure(model: Model, rng: np.random.Generator, match: str = "tflite") -> Measured:
    inputs, (output,) = run(model, rng, match)
    expected = exact.run(model, inputs)[-1]
    (reference,) = interpreter.run(model.data, inputs)
    got = output.astype(np.int64)
    return Measured(np.abs(got - expected.quantised.astype(np.int64)), np.abs(got - reference.astype(np.int64)),
                    expected.distance_from_tie)


def summary(name: str, measured: Iterable[Measured]) -> dict[str, object]:
    """A row for the table at the end of the run."""
    cases = list(measured)
    from_exact = np.concatenate([m.from_exact.reshape(-1) for m in cases])
    from_tflite = np.concatenate([m.from_tflite.reshape(-1) for m in cases])
    return {"operation": name, "cases": len(cases), "elements": from_exact.size,
            "1 LSB from exact": f"{(from_exact == 1).mean():.4%}", "most": int(from_exact.max()),
            "differs from TFLite": f"{(from_tflite > 0).mean():.4%}", "most from TFLite": int(from_tflite.max())}


def num_tasks(model: Model, match: str = "tflite") -> int:
    """Tasks of the compiled model."""
    return len(RocketDriver(RK3588).compile(subgraph_of(model), CompileOptions(match=match)).tasks)


def refusal(model: Model) -> Refusal | None:
    """Why the last operation stays on the CPU."""
    subgraph = subgraph_of(model)
    return RocketDriver(RK3588).refuse(subgraph, subgraph.operations[-1], CompileOptions())


def reason(model: Model) -> str:
    """The same as a rule's name and its words; the operation must not run on the NPU."""
    found = refusal(model)
    assert found is not None
    return f"{found.rule}: {found.reason}"
