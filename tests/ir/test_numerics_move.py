"""Moving and resizing in the numerics: bit for bit TFLite's reference kernels, and within a step of real arithmetic."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from cermet.frontend.tflite_file import read_tflite
from cermet.ir.moves import MoveError, layout, nearest_indices, runs_of
from cermet.ir.numerics import evaluate_all
from cermet.ir.operation import Moving
from cermet.ir.problems import op_problem
from tests.support import builders_move as b
from tests.support import interpreter
from tests.support.model_builder import Model

MODES = ("", "align", "half")


def moving_models(dtype: str) -> dict[str, Model]:
    shape = (1, 5, 6, 7)
    return {
        "pad": b.pad(shape, [(0, 0), (1, 2), (3, 0), (0, 0)], dtype=dtype),
        "pad-channels": b.pad(shape, [(0, 0), (0, 0), (0, 0), (2, 1)], dtype=dtype),
        "pad-value": b.pad(shape, [(0, 0), (1, 1), (1, 1), (0, 0)], dtype=dtype, value=42),
        "reflect": b.pad(shape, [(0, 0), (2, 1), (0, 3), (0, 0)], dtype=dtype, mode="REFLECT"),
        "symmetric": b.pad(shape, [(0, 0), (2, 1), (0, 3), (0, 0)], dtype=dtype, mode="SYMMETRIC"),
        "concat-1": b.concatenation([(1, 2, 3, 4), (1, 5, 3, 4)], 1, dtype=dtype),
        "concat-3": b.concatenation([(1, 2, 3, 4), (1, 2, 3, 1), (1, 2, 3, 9)], 3, dtype=dtype),
        "split": b.split(shape, 2, [2, 2, 2], dtype=dtype),
        "split_v": b.split(shape, 3, [1, 4, 2], dtype=dtype, version="SPLIT_V"),
        "unpack": b.unpack((3, 4, 5), 1, dtype=dtype),
        "pack": b.pack((3, 4, 5), 3, 1, dtype=dtype),
        "gather": b.gather((1, 3, 4, 5), [[2, 0], [1, 1]], 2, dtype=dtype),
        "transpose": b.transpose((2, 3, 4, 5), (1, 3, 0, 2), dtype=dtype),
        "reverse": b.reverse((2, 3, 4, 5), (2,), dtype=dtype),
        "tile": b.tile((1, 3, 4, 5), (2, 2, 1, 3), dtype=dtype),
        "broadcast_to": b.broadcast_to((3, 1, 5), (2, 3, 4, 5), dtype=dtype),
        "slice": b.slice_(shape, (0, 1, 2, 3), (1, 3, -1, 2), dtype=dtype),
        "strided_slice": b.strided_slice(shape, (0, -4, 1, 6), (1, 5, 6, 2), (1, 2, 3, 1), dtype=dtype,
                                         end_mask=8, begin_mask=8),
        "shrink": b.strided_slice(shape, (0, -2, 0, 0), (1, 5, 6, 7), (1, 1, 1, 1), dtype=dtype, shrink_mask=2),
        "space_to_depth": b.blocks("SPACE_TO_DEPTH", (1, 6, 4, 3), 2, dtype=dtype),
        "depth_to_space": b.blocks("DEPTH_TO_SPACE", (1, 3, 2, 27), 3, dtype=dtype),
    }


def compare(model: Model, seed: int) -> None:
    data, inputs = model.data, model.random_inputs(np.random.default_rng(seed))
    subgraph = read_tflite(data)
    operation = subgraph.operations[0]
    assert op_problem(subgraph, operation) is None
    mine = evaluate_all(subgraph, operation, dict(zip(subgraph.inputs, inputs, strict=True)))
    for result, wanted in zip(mine, interpreter.run(data, inputs), strict=True):
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", moving_models("int8"))
def test_moves_equal_tflite(name: str, dtype: str) -> None:
    compare(moving_models(dtype)[name], 1)


@pytest.mark.parametrize("seed", range(8))
def test_uint8_concatenation_requantises_as_tflite(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [(float(np.exp(rng.uniform(-4, -2))), int(rng.integers(256))) for _ in range(4)]
    compare(b.concatenation([(1, 9, 9, 5), (1, 9, 9, 6), (1, 9, 9, 7)], 3, dtype="uint8", quantisations=pairs), seed)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [
    ((4, 5), (8, 10)), ((4, 6), (12, 6)), ((8, 9), (4, 3)), ((1, 3), (5, 5)), ((13, 3), (9, 31))], ids=str)
def test_nearest_equals_tflite(sizes: tuple, mode: str) -> None:
    compare(b.resize("NEAREST_NEIGHBOR", (1, *sizes[0], 3), sizes[1], mode), 2)


def test_nearest_index_tables_are_progressions_for_whole_factors() -> None:
    for size, factor, half in itertools.product(range(1, 40), range(1, 9), (False, True)):
        table = nearest_indices(size, size * factor, Moving(half_pixel=half))
        assert table == [x // factor for x in range(size * factor)]
        assert len(runs_of(table)) <= factor
    with pytest.raises(MoveError):
        runs_of(nearest_indices(1000, 1331, Moving()))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [
    ((6, 6), (12, 12)), ((5, 7), (33, 13)), ((1, 1), (4, 5)), ((9, 8), (4, 4)), ((3, 5), (9, 17))], ids=str)
def test_bilinear_equals_tflite_and_is_a_step_from_real(sizes: tuple, mode: str, dtype: str) -> None:
    model = b.resize("BILINEAR", (1, *sizes[0], 3), sizes[1], mode, dtype=dtype)
    compare(model, 3)
    subgraph, inputs = read_tflite(model.data), model.random_inputs(np.random.default_rng(3))
    operation, values = subgraph.operations[0], dict(zip(subgraph.inputs, inputs, strict=True))
    exact = evaluate_all(subgraph, operation, values, "exact")[0]
    real = bilinear(inputs[0].astype(np.float64), sizes[1], mode)
    assert np.abs(exact - real).max() <= 0.5 + 1e-9
    # positions in 1/1024 pixels add up along a side: far from real positions only beyond some hundred pixels
    assert np.abs(evaluate_all(subgraph, operation, values)[0] - real).max() <= (6 if sizes[1][0] > 20 else 2)


def bilinear(data: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """Straight from the definition, in float64."""
    for axis, out in zip((1, 2), size, strict=True):
        n = data.shape[axis]
        x = np.arange(out, dtype=np.float64)
        if mode == "half":
            x = (x + 0.5) * n / out - 0.5
        else:
            x = x * (n - 1) / (out - 1) if mode == "align" and out > 1 else x * n / out
        x = np.clip(x, 0, n - 1)
        low = np.floor(x).astype(int)
        part = (x - low).reshape([-1 if i == axis else 1 for i in range(4)])
        data = np.take(data, low, axis) * (1 - part) + np.take(data, np.minimum(low + 1, n - 1), axis) * part
    return data


@pytest.mark.parametrize("name,change", [
    ("pad", [(0, 0), (1, 1), (0, 0), (0, 0)]), ("pad", [(0, 0), (-1, 0), (0, 0), (0, 0)])])
def test_wrong_shapes_have_a_reason(name: str, change: list) -> None:
    model = moving_models("int8")[name]
    tensors = list(model.tensors)
    tensors[1] = b.numbers("paddings", change)
    subgraph = read_tflite(Model(tuple(tensors), model.operations, model.inputs, model.outputs).data)
    assert op_problem(subgraph, subgraph.operations[0])


@pytest.mark.parametrize("model", [
    b.pad((1, 1 << 20, 1, 1), [(0, 0), (1 << 20, 0), (0, 0), (0, 0)], mode="SYMMETRIC"),
    b.resize("NEAREST_NEIGHBOR", (1, 1, 1, 1), (1, 1 << 30))], ids=["mirrored", "resized"])
def test_sizes_beyond_reason_are_refused_at_once(model: Model) -> None:
    subgraph = read_tflite(model.data)
    with pytest.raises(MoveError, match=r"too many pieces|too large"):
        layout(subgraph, subgraph.operations[0])
