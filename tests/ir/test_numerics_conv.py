"""TRANSPOSE_CONV and BATCH_MATMUL: numerics against both TFLite runtimes and against the oracle, bit for bit."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cermet.frontend.tflite_file import read_tflite
from cermet.ir.numerics import evaluate
from cermet.ir.problems import op_problem
from tests.ir.test_numerics import QUANTISATIONS, RUNTIMES
from tests.support import exact, interpreter
from tests.support.builders_conv import batch_matmul, transpose_conv
from tests.support.model_builder import Model

CASES = [   # input shape, output channels, kernel, stride, padding, extra
    ((1, 4, 5, 8), 6, (3, 3), (2, 2), "SAME", (0, 0)), ((1, 4, 5, 8), 6, (3, 3), (2, 2), "SAME", (1, 1)),
    ((1, 3, 3, 5), 4, (2, 2), (2, 2), "VALID", (0, 0)), ((1, 3, 4, 5), 4, (4, 3), (2, 3), "VALID", (1, 2)),
    ((1, 5, 4, 3), 7, (1, 2), (3, 1), "SAME", (2, 0)), ((2, 3, 3, 2), 3, (5, 5), (1, 1), "SAME", (0, 0)),
    ((1, 2, 2, 17), 5, (7, 4), (4, 4), "SAME", (0, 3)), ((1, 1, 1, 4), 9, (3, 3), (2, 2), "VALID", (0, 0))]


def _model(case: tuple, quantisation: str, seed: int = 0, **options: object) -> Model:
    shape, channels, kernel, stride, padding, extra = case
    return transpose_conv(np.random.default_rng(seed), shape, channels, kernel, stride=stride, padding=padding,
                          extra=extra, **QUANTISATIONS[quantisation], **options)


def _check(model: Model, runtimes: tuple[str, ...] = RUNTIMES) -> None:
    inputs = model.random_inputs(np.random.default_rng(1))
    subgraph = read_tflite(model.data)
    (operation,) = subgraph.operations
    assert op_problem(subgraph, operation) is None
    values = dict(zip(subgraph.inputs, inputs, strict=True))
    oracle = exact.run(model, inputs)[-1].quantised
    np.testing.assert_array_equal(evaluate(subgraph, operation, values, "exact"), oracle)
    for runtime in runtimes:
        np.testing.assert_array_equal(evaluate(subgraph, operation, values, "tflite"),
                                      interpreter.run(model.data, inputs, runtime=runtime)[0], runtime)


@pytest.mark.parametrize("quantisation", QUANTISATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal_to_reference_kernels_and_to_the_oracle(case: tuple, quantisation: str) -> None:
    _check(_model(case, quantisation))
    _check(_model(case, quantisation, bias=False))


@pytest.mark.parametrize("activation", ["RELU", "RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize("quantisation", QUANTISATIONS)
def test_fused_activations(quantisation: str, activation: str) -> None:
    """Version 4, which tflite-runtime 2.14's reference kernels do not know: they take one in version 3."""
    model = _model(CASES[0], quantisation, activation=activation)
    _check(model)
    _check(replace(model, operations=(replace(model.operations[0], version=4),)), ("litert",))


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("adjoint", [(False, False), (False, True), (True, False), (True, True)], ids=str)
@pytest.mark.parametrize("shape,other", [((5, 20), (20, 7)), ((2, 3, 64), (64, 33)), ((2, 3, 4, 8), (2, 3, 8, 5)),
                                         ((1, 3, 4, 300), (2, 1, 300, 5))], ids=str)
def test_batch_matmul(shape: tuple, other: tuple, adjoint: tuple, constant: bool) -> None:
    model = batch_matmul(np.random.default_rng(len(shape)), shape, other, adjoint=adjoint, constant=constant)
    subgraph = read_tflite(model.data)
    if adjoint[0] and len(shape) == len(other) and shape[:-2] != other[:-2]:
        assert "mixes up its images" in str(op_problem(subgraph, subgraph.operations[0]))
    else:
        _check(model)


def test_reasons() -> None:
    subgraph = read_tflite(_model(CASES[0], "int8").data)
    (operation,) = subgraph.operations
    assert "must be 4..4" in str(op_problem(subgraph, replace(operation, inputs=operation.inputs[:3])))
    assert "padding is unknown" in str(op_problem(subgraph, replace(operation, window=None)))
    weights = subgraph.tensor(operation.inputs[1])
    other = replace(weights, shape=(*weights.shape[:3], 9))
    changed = replace(subgraph, tensors={**subgraph.tensors, weights.index: other})
    assert "must have 8 input channels" in str(op_problem(changed, operation))
