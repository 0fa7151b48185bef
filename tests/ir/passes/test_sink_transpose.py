"""TRANSPOSE in front of reductions goes behind them, or vanishes; results stay."""
from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.operation import Kind
from cermet.ir.passes import run_passes
from cermet.ir.passes.sink_transpose import sink_transposes
from cermet.ir.subgraph import Subgraph
from tests.support import builders_move, interpreter, model_builder
from tests.support.builders_reduce import reduce
from tests.support.model_builder import Model


def _rng(case: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(case).encode()))


def _model(shape: tuple[int, ...], order: tuple[int, ...], *steps: tuple[str, tuple[int, ...], bool]) -> Model:
    rng = _rng((shape, order, steps))
    return model_builder.chain(builders_move.transpose(shape, order), *(
        lambda t, step=step: reduce(rng, step[0], t.shape, step[1], keep_dims=step[2], dtype=t.dtype,
                                    zero_point=t.zero_point) for step in steps))


def _sink(subgraph: Subgraph) -> Subgraph:
    return sink_transposes(subgraph, lambda _, operation: True)


def _kinds(subgraph: Subgraph) -> list[str]:
    return [operation.kind.value for operation in subgraph.operations]


def test_a_mean_of_channels_first_pictures_is_a_mean_of_pictures() -> None:
    """What a converter makes of a mean over the picture: two MEANs behind a TRANSPOSE."""
    subgraph = read_tflite(_model((1, 3, 5, 20), (0, 3, 1, 2), ("MEAN", (3,), False), ("MEAN", (2,), False)).data)
    sunk = run_passes(subgraph, (_sink,))
    assert _kinds(sunk) == ["MEAN", "MEAN"]
    first, second = sunk.operations
    assert sunk.tensor(first.inputs[1]).data.tolist() == [2] and sunk.tensor(second.inputs[1]).data.tolist() == [1]
    assert sunk.tensor(first.output).shape == (1, 3, 20)
    assert second.fused == (0,)


def test_what_is_left_of_a_transpose_stays_behind() -> None:
    subgraph = read_tflite(_model((1, 3, 5, 20), (0, 3, 1, 2), ("REDUCE_MAX", (3,), False)).data)
    sunk = run_passes(subgraph, (_sink,))
    assert _kinds(sunk) == ["REDUCE_MAX", "TRANSPOSE"]
    assert sunk.tensor(sunk.operations[1].inputs[1]).data.tolist() == [0, 2, 1]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("axes", [(1,), (3,), (1, 2), (2, 3), (-1, 0)], ids=str)
def test_results_stay(axes: tuple[int, ...], keep: bool) -> None:
    """All orders of four axes, before and after, in exact and in TFLite's arithmetic."""
    for order in itertools.permutations(range(4)):
        model = _model((2, 3, 4, 5), order, ("MEAN", axes, keep))
        subgraph = read_tflite(model.data)
        sunk = run_passes(subgraph, (_sink,))
        assert sunk.operations[0].kind is Kind.MEAN
        (given,) = model.random_inputs(_rng(order))
        for match in ("tflite", "exact"):
            results = [SoftDriver(match).execute(graph, {graph.inputs[0]: given}) for graph in (subgraph, sunk)]
            (before, after) = (result[subgraph.outputs[0]] for result in results)
            assert np.array_equal(before, after) and before.shape == after.shape


def test_others_that_read_the_transposed_tensor_keep_it() -> None:
    model = _model((1, 3, 5, 20), (0, 3, 1, 2), ("MEAN", (3,), False))
    shared = Model(model.tensors, model.operations, model.inputs, (*model.operations[0].outputs, *model.outputs))
    subgraph = read_tflite(shared.data)
    assert _sink(subgraph) is subgraph


def test_a_refused_operation_keeps_the_order() -> None:
    subgraph = read_tflite(_model((1, 3, 5, 20), (0, 3, 1, 2), ("MEAN", (3,), False)).data)
    assert sink_transposes(subgraph, lambda _, operation: operation.kind is not Kind.TRANSPOSE) is subgraph


def test_on_the_npu() -> None:
    """All three are claimed, run as two tasks, and equal TFLite."""
    model = _model((1, 3, 3, 160), (0, 3, 1, 2), ("MEAN", (3,), False), ("MEAN", (2,), False))
    subgraph, driver, options = read_tflite(model.data), RocketDriver(RK3588), CompileOptions()
    assert all(driver.refuse(subgraph, operation, options) is None for operation in subgraph.operations)
    assert len(driver.compile(subgraph, options).tasks) == 2
    inputs = model.random_inputs(_rng("npu"))
    result = driver.execute(subgraph, {subgraph.inputs[0]: inputs[0]}, options)
    assert np.array_equal(result[subgraph.outputs[0]], interpreter.run(model.data, inputs)[0])
