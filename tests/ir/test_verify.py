"""The verifier names the operation or tensor that breaks a rule."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cermet.frontend.tflite_file import read_tflite
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Quantisation, Tensor
from cermet.ir.verify import VerifyError, verify
from tests.support import model_builder


@pytest.fixture
def subgraph() -> Subgraph:
    """%0 conv(%1, %2) -> %3 max_pool -> %4."""
    rng = np.random.default_rng(1)
    return read_tflite(model_builder.chain(
        model_builder.conv2d(rng, (1, 4, 4, 3), 8, per_channel=True),
        lambda t: model_builder.pool(rng, t.shape, "MAX", zero_point=t.zero_point)).data)


def with_tensor(subgraph: Subgraph, number: int, **changes: object) -> Subgraph:
    tensor = replace(subgraph.tensors[number], **changes)    # type: ignore[arg-type]
    return replace(subgraph, tensors={**subgraph.tensors, number: tensor})


def complaint(subgraph: Subgraph) -> str:
    with pytest.raises(VerifyError) as caught:
        verify(subgraph)
    return str(caught.value)


def test_a_good_subgraph_passes(subgraph: Subgraph) -> None:
    verify(subgraph)


def test_tensors(subgraph: Subgraph) -> None:
    assert complaint(with_tensor(subgraph, 3, index=9)) == "tensor 3: its index is 9, must be 3"
    assert complaint(with_tensor(subgraph, 3, shape=(1, -4))) == "tensor 3: shape (1, -4), must be 0 or more each"
    two = Quantisation((0.1, 0.2), (0, 0, 0), 0)
    assert complaint(with_tensor(subgraph, 1, quantisation=two)) == (
        "tensor 1: 2 scales and 3 zero points, must be as many or one zero point")
    assert complaint(with_tensor(subgraph, 1, quantisation=replace(two, zero_points=(0,)))) == (
        "tensor 1: 2 scales on axis 0, must be one for each index of it, shape (8, 3, 3, 3)")
    assert complaint(with_tensor(subgraph, 1, dtype=DType.INT16)) == (
        "tensor 1: contents (8, 3, 3, 3) int8, must be (8, 3, 3, 3) int16")


def test_operations(subgraph: Subgraph) -> None:
    conv, pool = subgraph.operations
    assert complaint(replace(subgraph, operations=(pool, conv))) == (
        "operation 1 (max_pool_2d): reads tensor 3 before it is written, must be an input, a constant or an earlier "
        "output")
    assert complaint(replace(subgraph, operations=(conv, replace(pool, index=0)))) == (
        "operation 0 (max_pool_2d): a second operation with that index, must be unique")
    assert complaint(replace(subgraph, operations=(conv, replace(pool, outputs=(3,))))) == (
        "operation 1 (max_pool_2d): writes tensor 3 again, must be written once")
    assert complaint(replace(subgraph, operations=(conv, replace(pool, outputs=(0,))))) == (
        "operation 1 (max_pool_2d): writes tensor 0 again, must be written once")
    assert complaint(replace(subgraph, operations=(conv, replace(pool, inputs=(77,))))) == (
        "operation 1 (max_pool_2d): tensor 77 does not exist")


def test_ends(subgraph: Subgraph) -> None:
    assert complaint(replace(subgraph, outputs=(4, 3))) == "graph outputs: (4, 3), must ascend"
    assert complaint(replace(subgraph, outputs=(4, 50))) == "graph outputs: tensor 50 does not exist"
    assert complaint(replace(subgraph, outputs=(0, 4))) == "graph outputs: tensor 0 is not written by any operation"
    assert complaint(replace(subgraph, inputs=(0, 1))) == (
        "graph inputs: tensor 1 is constant or written, must come from outside")


def test_raw_constants_of_other_types_are_not_measured(subgraph: Subgraph) -> None:
    raw = Tensor(9, "sparse", (100,), DType.OTHER, data=np.zeros(3, np.uint8))
    verify(replace(subgraph, tensors={**subgraph.tensors, 9: raw}))
