"""Parameters of TRANSPOSE_CONV and BATCH_MATMUL: captured by the delegate as the file says them."""
from __future__ import annotations

import numpy as np
import pytest

from cermet.frontend.blob import read_blob
from cermet.frontend.tflite_file import to_blob
from cermet.ir.operation import Activation, Padding, Pair, Window
from tests.frontend.test_same_as_delegate import captured  # noqa: F401
from tests.support import builders_conv as b


@pytest.mark.parametrize("runtime", ["tflite", "litert"])
@pytest.mark.parametrize("adjoint", [(False, True), (True, False)])
def test_batch_matmul(adjoint: tuple, runtime: str, captured) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    data = b.batch_matmul(np.random.default_rng(0), (2, 3), (3, 4), adjoint=adjoint).data
    assert captured(data, runtime) == to_blob(data)
    (operation,) = read_blob(to_blob(data)).operations
    assert operation.adjoint == adjoint


@pytest.mark.parametrize("runtime", ["tflite", "litert"])
@pytest.mark.parametrize("bias", [True, False])
def test_transpose_conv(bias: bool, runtime: str, captured) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    data = b.transpose_conv(np.random.default_rng(0), (1, 4, 5, 3), 6, (3, 2), stride=(2, 3), padding="VALID",
                            activation="RELU6", bias=bias).data
    assert captured(data, runtime) == to_blob(data)
    subgraph = read_blob(to_blob(data))
    (operation,) = subgraph.operations
    assert operation.window == Window(Pair(3, 2), Pair(2, 3), Padding.VALID)
    assert operation.activation is Activation.RELU6
    source, weights, given, shape = operation.inputs
    assert subgraph.inputs == (source,) and subgraph.tensor(weights).shape == (6, 3, 2, 3)
    assert (given is not None) is bias and subgraph.tensor(shape).data.tolist() == [1, 9, 14, 6]
