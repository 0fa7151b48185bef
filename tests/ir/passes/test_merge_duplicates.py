"""Operations that compute the same are computed once."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.passes import run_passes
from cermet.ir.passes.merge_duplicates import merge_duplicates
from tests.support.model_builder import Model
from tests.support.sketch import Sketch

Branch = Callable[[Sketch, int], int]


def both(first: Branch, second: Branch) -> Model:
    """Two branches from one input, and their sum."""
    made = Sketch()
    x = made.input((1, 5, 4, 24))
    return made.model(made.op("ADD", (first(made, x), second(made, x)), 0.02, -3))


def logistic(made: Sketch, x: int) -> int:
    return made.op("LOGISTIC", (x,), 1 / 256, -128)


def tanh_of_sum(made: Sketch, x: int) -> int:
    return made.op("TANH", (made.op("ADD", (x, made.constant(5, 0.1)), 0.05, 3),), 1 / 128, 0)


def tanh_of_another_sum(made: Sketch, x: int) -> int:
    return made.op("TANH", (made.op("ADD", (x, made.constant(6, 0.1)), 0.05, 3),), 1 / 128, 0)


@pytest.mark.parametrize("branch", [logistic, tanh_of_sum])
def test_one_of_two_stays(branch: Branch) -> None:
    """Of chains too: the ends are alike once the beginnings are one. Constants are compared by what they hold."""
    model = both(branch, branch)
    before = read_tflite(model.data)
    after = run_passes(before, (merge_duplicates,))
    assert len(after.operations) == (len(before.operations) + 1) // 2
    assert sorted(i for op in after.operations for i in (op.index, *op.fused)) == list(range(len(before.operations)))
    (given,) = model.random_inputs(np.random.default_rng(0))
    expected = SoftDriver().execute(before, {0: given})
    for driver, graph in ((SoftDriver(), after), (RocketDriver(RK3588), before)):
        (result,) = driver.execute(graph, {0: given}).values()
        assert np.abs(result.astype(int) - next(iter(expected.values()))).max() <= (driver.name != SoftDriver().name)


def test_other_constants_are_another_operation() -> None:
    before = read_tflite(both(tanh_of_sum, tanh_of_another_sum).data)
    assert run_passes(before, (merge_duplicates,)) is before


def test_another_quantisation_is_another_operation() -> None:
    before = read_tflite(both(logistic, lambda made, x: made.op("LOGISTIC", (x,), 1 / 128, -128)).data)
    assert run_passes(before, (merge_duplicates,)) is before


def test_outputs_of_the_graph_stay() -> None:
    made = Sketch()
    x = made.input()
    before = read_tflite(made.model(logistic(made, x), logistic(made, x)).data)
    assert run_passes(before, (merge_duplicates,)) is before


def test_unknown_operations_stay() -> None:
    """They may keep something from one run to the next."""
    def custom(made: Sketch, x: int) -> int:
        return made.op("CUSTOM:Noise", (x,))
    before = read_tflite(both(custom, custom).data)
    assert run_passes(before, (merge_duplicates,)) is before
