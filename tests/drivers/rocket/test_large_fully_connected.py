"""FULLY_CONNECTED with many inputs, outputs or rows on the simulated core: at most 1 LSB from exact."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cermet.drivers.rocket.flattening import flatten
from cermet.drivers.rocket.views import MapShape
from tests.drivers.rocket.measure import Measured, measure, num_tasks, refusal, summary
from tests.drivers.rocket.test_grid import _rng
from tests.support import interpreter, model_builder
from tests.support.builders_conv import batch_matmul
from tests.support.model_builder import Model

# Inputs beyond what one register holds, not divisible by 16 or by the number of rows; outputs beyond one task; rows
# beyond one task and beyond the CBUF.
SHAPES = [((1, 16353), 40), ((1, 20000), 33), ((1, 32768), 100), ((4, 32768), 64), ((1, 40003), 7), ((3, 16400), 33),
          ((40, 20016), 17), ((1, 100000), 10), ((2, 16368), 20), ((1, 190000), 4), ((1, 64), 32768), ((2, 100), 20000),
          ((3000, 16), 8), ((5000, 40), 33), ((1, 11264), 64), ((7, 12800), 128)]
CASES = [{"rows": shape[0], "ic": shape[1], "oc": outputs, "dtype": dtype}
         for shape, outputs in SHAPES for dtype in ("int8", "uint8")]
measured: list[Measured] = []
matmuls: list[Measured] = []


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(f"{k}{v}" for k, v in case.items()))
def test_within_1_lsb_of_exact(case: dict) -> None:
    model = model_builder.fully_connected(_rng(case), (case["rows"], case["ic"]), case["oc"], dtype=case["dtype"],
                                          weight_zero_point=None if case["dtype"] == "uint8" else 3)
    measured.append(measure(model, _rng(case)))
    assert measured[-1].from_exact.max() <= 1


def _flattened(shape: tuple[int, ...], outputs: int, dtype: str) -> Model:
    """A convolution, flattened, and a FULLY_CONNECTED: the map stays as it is."""
    rng = np.random.default_rng(1)
    size = int(np.prod(shape))
    conv = model_builder.conv2d(rng, (*shape[:3], 3), shape[3], (1, 1), dtype=dtype)
    return model_builder.chain(
        conv,
        lambda t: model_builder.reshape(rng, t.shape, (1, size), zero_point=t.zero_point, dtype=dtype),
        lambda t: model_builder.fully_connected(rng, (1, size), outputs, input_zero_point=t.zero_point, dtype=dtype))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("shape", [(1, 40, 40, 8), (1, 33, 2, 100), (1, 50, 50, 20)], ids=str)
def test_a_map_too_large_for_a_window_is_flattened_without_moving_it(shape: tuple[int, ...], dtype: str) -> None:
    model = _flattened(shape, 10, dtype)
    assert num_tasks(model) == 2
    made = _against_tflite(model)
    assert made.max() <= 1


def _against_tflite(model: Model) -> np.ndarray:
    from tests.drivers.rocket.grid import run
    inputs, (output,) = run(model, np.random.default_rng(2))
    (reference,) = interpreter.run(model.data, inputs)
    return np.abs(output.astype(int) - reference.astype(int))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape,other", [((5, 20), (20, 7)), ((2, 3, 64), (64, 33)), ((2, 3, 4, 8), (1, 1, 8, 40)),
                                         ((1, 49, 100), (1, 100, 300)), ((3, 20000), (20000, 9)), ((1, 1), (1, 16)),
                                         ((7, 33), (33, 1)), ((4, 5, 15), (15, 31))], ids=str)
def test_batch_matmul_by_a_constant(shape: tuple, other: tuple, turned: bool) -> None:
    rng = np.random.default_rng(3)
    matmuls.append(measure(batch_matmul(rng, shape, other, adjoint=(False, turned)), rng))
    assert matmuls[-1].from_exact.max() <= 1


@pytest.mark.parametrize("options,text", [
    ({"constant": False}, "both operands are computed at run time"), ({"adjoint": (True, False)}, "the columns of the"),
    ({"other": (2, 8, 5)}, "must be one matrix")], ids=str)
def test_reasons_of_batch_matmul(options: dict, text: str) -> None:
    found = refusal(batch_matmul(np.random.default_rng(0), (2, 3, 8), **{"other": (8, 5), **options}))
    assert found is not None and text in found.reason


def test_rows_overlap_where_atoms_are_no_multiple() -> None:
    """1251 atoms in two rows of 626, the second one from atom 625 on."""
    flat = flatten(MapShape(1, 1, 20016), 20016)
    assert flat is not None and (flat.height, flat.step, flat.channels, flat.atoms) == (2, 625, 626 * 16, 1251)


def test_differences_are_rare(record_table: Callable[[str, dict[str, object]], None]) -> None:
    record_table("large FULLY_CONNECTED", summary("FULLY_CONNECTED", measured))
    record_table("large FULLY_CONNECTED", summary("BATCH_MATMUL by a constant", matmuls))
    assert np.mean(np.concatenate([m.from_exact.reshape(-1) for m in measured]) > 0) < 0.03
