"""Random networks find what is broken on purpose, in lowerings, arithmetic and placement, and are made small."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.rocket import assemble, eltwise, operations
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.ir.operation import Kind, Operation
from tests.support.networks.check import Failure
from tests.support.networks.draw import draw
from tests.support.networks.recipe import Recipe, from_text, to_text
from tests.support.networks.shrink import checked, failure_of, shrink

Lower = Callable[[Context, Operation], list[TaskProgram]]


def found(kind: str, networks: int = 120) -> Recipe:
    """The first random network that fails in that way."""
    for seed in range(networks):
        recipe = draw(seed)
        failure = failure_of(recipe)
        if failure is not None:
            assert failure.kind.startswith(kind), failure
            return recipe
    raise AssertionError(f"{networks} random networks found nothing")


def shrunken(recipe: Recipe) -> Recipe:
    """Small, fails as before, also when read from its text."""
    small = from_text(to_text(shrink(recipe, seconds=20)))
    before, after = failure_of(recipe), failure_of(small)
    assert before is not None and after is not None and before.kind == after.kind
    return small


def computing(recipe: Recipe) -> list[str]:
    return [step.layer for step in recipe.steps if step.layer != "input"]


def broken(monkeypatch: pytest.MonkeyPatch, kind: Kind, change: Callable[[Lower], Lower]) -> None:
    entry = operations.OPERATIONS[kind]
    monkeypatch.setitem(operations.OPERATIONS, kind, replace(entry, lower=change(entry.lower)))   # type: ignore[arg-type]


def test_a_lowering_that_raises_is_found_with_the_smallest_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_for_wide_planes(lower: Lower) -> Lower:
        def lowered(context: Context, operation: Operation) -> list[TaskProgram]:
            if context.subgraph.tensor(operation.output).shape[2] > 3:
                raise KeyError("wide")
            return lower(context, operation)
        return lowered
    broken(monkeypatch, Kind.MAX_POOL, fails_for_wide_planes)
    small = shrunken(found("fault"))
    assert computing(small) == ["pool"]
    assert small.steps[0].parameters["shape"] == (1, 1, 4, 1)


def test_wrong_numbers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """SUB adds when there are many channels."""
    def adds(lower: Lower) -> Lower:
        def lowered(context: Context, operation: Operation) -> list[TaskProgram]:
            if context.subgraph.tensor(operation.output).shape[-1] > 20:
                operation = replace(operation, kind=Kind.ADD)
            return lower(context, operation)
        return lowered
    broken(monkeypatch, Kind.SUB, adds)
    small = shrunken(found("off SUB"))
    assert computing(small) in (["binary"], ["with_constant"])
    assert small.network().tensor(small.outputs[0]).shape[-1] == 21


def test_a_step_in_every_hundredth_case_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arithmetic that is off by two steps for scales of one region only."""
    original = eltwise.lower_binary
    def rounded(context: Context, operation: Operation) -> list[TaskProgram]:
        tensor = context.subgraph.tensor(operation.output)
        q = tensor.quantisation
        assert q is not None
        if operation.kind is Kind.MUL and q.scale < 0.002:
            moved = replace(tensor, quantisation=replace(q, zero_points=((q.zero_points[0] + 2 + 128) % 256 - 128,)))
            context.subgraph = replace(context.subgraph, tensors={**context.subgraph.tensors, tensor.index: moved})
        return original(context, operation)
    broken(monkeypatch, Kind.MUL, lambda lower: rounded)
    small = shrunken(found("off MUL"))
    assert len(computing(small)) == 1


def test_memory_that_is_reused_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One task before the last reader: the reader's own output over its operand would not show in the simulator."""
    original = assemble.lifetimes
    def shorter(*arguments):  # type: ignore[no-untyped-def]
        return [replace(life, last_task=max(life.first_task, life.last_task - 2)) for life in original(*arguments)]
    monkeypatch.setattr(assemble, "lifetimes", shorter)
    small = shrunken(found(""))
    assert len(computing(small)) <= 4


def test_what_does_not_fail_cannot_be_shrunken() -> None:
    with pytest.raises(ValueError, match="does not fail"):
        shrink(draw(0))


def test_a_failure_of_another_kind_is_not_taken() -> None:
    """Shrinking must not wander off to something else that is wrong."""
    def run(recipe: Recipe) -> object:
        recipe.model()
        names = {step.layer for step in recipe.steps}
        if "conv" in names and "binary" in names:
            raise Failure("both", "")
        if "conv" in names:
            raise Failure("one", "")
        return None
    recipe = next(r for r in map(draw, range(50)) if {"conv", "binary"} <= {s.layer for s in r.steps})
    small = shrink(recipe, run, seconds=20)
    assert sorted(computing(small)) == ["binary", "conv"]
    assert np.prod(small.steps[0].parameters["shape"]) == 1     # type: ignore[arg-type]
    checked(small)
