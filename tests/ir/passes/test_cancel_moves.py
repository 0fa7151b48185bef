"""Moves that undo each other vanish, whichever they are; results stay, and nothing else vanishes."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.compiler import compile_subgraph
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.operation import Kind
from cermet.ir.passes import run_passes
from cermet.ir.passes.cancel_moves import cancel_moves
from cermet.ir.subgraph import Subgraph
from tests.support import builders_move as moves
from tests.support import model_builder
from tests.support.model_builder import Model, TensorSpec

Step = Callable[[TensorSpec], Model]
SHAPE = (1, 4, 6, 8)


def _chain(first: Model, *steps: Step) -> Model:
    return model_builder.chain(first, *steps)


def _transposes(*orders: tuple[int, ...], shape: tuple[int, ...] = SHAPE) -> Model:
    return _chain(moves.transpose(shape, orders[0]), *(
        lambda t, order=order: moves.transpose(t.shape, order) for order in orders[1:]))


def _reshape(shape: tuple[int, ...], new: tuple[int, ...]) -> Model:
    return model_builder.reshape(np.random.default_rng(0), shape, new, zero_point=-7)


def _padded_and_cut() -> Model:
    return _chain(moves.pad(SHAPE, [(0, 0), (2, 1), (0, 3), (0, 0)]),
                  lambda t: moves.slice_(t.shape, (0, 2, 0, 0), SHAPE))


def _reshaped_in_between() -> Model:
    """Channels first, rows and columns counted as one, and back."""
    return _chain(moves.transpose(SHAPE, (0, 3, 1, 2)), lambda t: _reshape(t.shape, (1, 8, 24)),
                  lambda t: moves.transpose(t.shape, (0, 2, 1)))


def _split_and_joined(order: tuple[int, ...] = (0, 1, 2)) -> Model:
    split = moves.split(SHAPE, 3, (2, 2, 4) if order == (0, 1, 2) else (4, 4))
    parts = split.operations[0].outputs
    joined = TensorSpec("joined", SHAPE, split.tensors[parts[0]].dtype, split.tensors[parts[0]].scales,
                        split.tensors[parts[0]].zero_points)
    operation = model_builder.OperationSpec("CONCATENATION", tuple(parts[i] for i in order[:len(parts)]),
                                            (len(split.tensors),), {"Axis": 3})
    return Model((*split.tensors, joined), (*split.operations, operation), split.inputs, (len(split.tensors),))


NOTHING = {
    "transposes": _transposes((0, 3, 1, 2), (0, 2, 3, 1)), "padded and cut": _padded_and_cut(),
    "reshaped in between": _reshaped_in_between(), "split and joined": _split_and_joined(),
    "three": _transposes((0, 2, 3, 1), (0, 2, 3, 1), (0, 2, 3, 1)),
    "reversed": _chain(moves.reverse(SHAPE, (1,)), lambda t: moves.reverse(t.shape, (1,))),
    "blocks": _chain(moves.blocks("SPACE_TO_DEPTH", SHAPE, 2), lambda t: moves.blocks("DEPTH_TO_SPACE", t.shape, 2)),
    "nearest": moves.resize("NEAREST_NEIGHBOR", SHAPE, SHAPE[1:3]),
    "bilinear": moves.resize("BILINEAR", SHAPE, SHAPE[1:3], "half_pixel"),
    "pad of nothing": moves.pad(SHAPE, [(0, 0)] * 4), "whole slice": moves.slice_(SHAPE, (0,) * 4, SHAPE)}


def _same_results(before: Subgraph, after: Subgraph, model: Model) -> bool:
    given = dict(zip(before.inputs, model.random_inputs(np.random.default_rng(0)), strict=True))
    results = [SoftDriver().execute(graph, given) for graph in (before, after)]
    return all(np.array_equal(results[0][t], results[1][t]) for t in before.outputs)


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_nothing_is_one_reshape(name: str) -> None:
    model = NOTHING[name]
    before = read_tflite(model.data)
    after = run_passes(before, (cancel_moves,))
    (view,) = after.operations
    assert view.kind is Kind.RESHAPE and view.inputs == before.inputs
    assert {view.index, *view.fused} == {op.index for op in before.operations}
    assert _same_results(before, after, model)


def test_all_pairs_of_orders() -> None:
    """The last one vanishes exactly where it does nothing, or elements come back to their places."""
    for first, second in itertools.product(itertools.permutations(range(1, 4)), repeat=2):
        model = _transposes((0, *first), (0, *second))
        before = read_tflite(model.data)
        after = run_passes(before, (cancel_moves,))
        is_back = all(first[axis - 1] == i for i, axis in enumerate(second, 1))
        assert (after.operations[-1].kind is Kind.RESHAPE) == (is_back or second == (1, 2, 3))
        assert _same_results(before, after, model)


@pytest.mark.parametrize("model", [
    _transposes((0, 3, 1, 2), (0, 3, 1, 2)), _split_and_joined((1, 0, 2)),
    _chain(moves.pad(SHAPE, [(0, 0), (2, 1), (0, 0), (0, 0)]), lambda t: moves.slice_(t.shape, (0, 1, 0, 0), SHAPE)),
    _chain(moves.transpose(SHAPE, (0, 3, 1, 2)), lambda t: _reshape(t.shape, (1, 24, 8)),
           lambda t: moves.transpose(t.shape, (0, 2, 1)))], ids=("other order", "swapped", "other part", "mixed up"))
def test_what_moves_something_stays(model: Model) -> None:
    before = read_tflite(model.data)
    assert run_passes(before, (cancel_moves,)) is before


def test_elements_of_another_origin_are_not_taken_for_each_other() -> None:
    """Two frames around one tensor: what is inside is the same, what is around it is not."""
    amounts = [(0, 0), (1, 1), (1, 1), (0, 0)]
    first, second = moves.pad(SHAPE, amounts, value=5), moves.pad(SHAPE, amounts, value=6)
    number = len(first.tensors)
    _, _, value, out = second.tensors
    frame = model_builder.OperationSpec("PADV2", (0, 1, number), (number + 1,))
    model = Model((*first.tensors, value, replace(out, name="second")), (*first.operations, frame), first.inputs,
                  (*first.outputs, number + 1))
    before = read_tflite(model.data)
    assert run_passes(before, (cancel_moves,)) is before


def test_tensors_that_others_read_stay() -> None:
    model = NOTHING["transposes"]
    model = replace(model, outputs=(*model.operations[0].outputs, *model.outputs))
    before = read_tflite(model.data)
    after = run_passes(before, (cancel_moves,))
    assert [op.kind for op in after.operations] == [Kind.TRANSPOSE, Kind.RESHAPE]
    assert after.operations[1].inputs == before.inputs and after.operations[1].fused == ()
    assert _same_results(before, after, model)


def test_reshapes_behind_each_other_are_one() -> None:
    model = _chain(_reshape(SHAPE, (1, 24, 8)), lambda t: _reshape(t.shape, (4, 48)),
                   lambda t: _reshape(t.shape, (1, 192)))
    before = read_tflite(model.data)
    (view,) = run_passes(before, (cancel_moves,)).operations
    assert view.fused == (0, 1) and view.index == 2


def test_a_constants_quantisation_counts() -> None:
    """An input and an output quantised otherwise are not the same tensor."""
    model = NOTHING["transposes"]
    last = replace(model.tensors[-1], zero_points=(model.tensors[-1].zero_point + 1,))
    before = read_tflite(replace(model, tensors=(*model.tensors[:-1], last)).data)
    assert run_passes(before, (cancel_moves,)) is before


def _between_convolutions(*steps: Step) -> Model:
    rng = np.random.default_rng(3)
    return _chain(model_builder.conv2d(rng, (1, 12, 10, 5), 8, output_zero_point=-7), *steps,
                  lambda t: model_builder.conv2d(rng, t.shape, 16, input_zero_point=t.zero_point))


def test_on_the_npu_they_cost_no_task() -> None:
    model = _between_convolutions(lambda t: moves.transpose(t.shape, (0, 3, 1, 2)),
                                  lambda t: moves.transpose(t.shape, (0, 2, 3, 1)))
    subgraph = read_tflite(model.data)
    compiled = compile_subgraph(subgraph, RocketDriver(RK3588), CompileOptions())
    assert compiled.groups == ((0, 1, 2, 3),) and len(compiled.programs[0].tasks) == 2
    (given,) = model.random_inputs(np.random.default_rng(1))
    results = [driver.execute(subgraph, {subgraph.inputs[0]: given}) for driver in (RocketDriver(RK3588), SoftDriver())]
    (npu, soft) = (next(iter(result.values())) for result in results)
    assert np.array_equal(npu, soft)


def test_half_of_a_pair_is_asked_about_alone() -> None:
    """With the first one kept on the CPU the second one is a TRANSPOSE like any other."""
    subgraph = read_tflite(_between_convolutions(lambda t: moves.transpose(t.shape, (0, 3, 1, 2)),
                                                 lambda t: moves.transpose(t.shape, (0, 2, 3, 1))).data)
    compiled = compile_subgraph(subgraph, RocketDriver(RK3588), CompileOptions(deny=frozenset({"1"}), prefer="npu"))
    assert not compiled.faults and set(compiled.refusals) == {1}
    assert len(compiled.programs[1].tasks) > 1
