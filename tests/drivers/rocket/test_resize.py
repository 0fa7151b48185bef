"""RESIZE_BILINEAR on the simulated core against TFLite's reference kernels and real arithmetic."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.resize_plan import plan_resize
from cermet.hw.soc import RK3588
from cermet.ir.moves import MoveError
from tests.drivers.rocket.grid import run, subgraph_of
from tests.drivers.rocket.measure import num_tasks
from tests.drivers.rocket.test_moving import refusal, rng
from tests.ir.test_numerics_move import bilinear
from tests.support import builders_move as b
from tests.support import interpreter

PLANES = [(1, 1), (2, 3), (6, 6), (1, 5), (13, 4), (24, 24)]
FACTORS = [(2, 2), (1, 2), (3, 3), (4, 4), (5, 2), (1, 7)]


def cases() -> list[tuple]:
    made = []
    for plane, factor, mode in itertools.product(PLANES, FACTORS, ("", "half", "align")):
        size = tuple(f * (n - 1) + 1 if mode == "align" else f * n for f, n in zip(factor, plane, strict=True))
        if mode == "align" and 1 in plane and plane != (1, 1):
            continue
        made.append((plane, size, mode))
    return made


REFUSED: list[tuple[tuple, tuple, str]] = []
RESULTS: dict[str, list[np.ndarray]] = {}     # by dtype: distances from TFLite


def held_exactly(shape: tuple, size: tuple, mode: str, dtype: str) -> bool:
    """Whether TFLite's arithmetic holds the positions: float32, or 1/1024 pixels at these factors."""
    factors = [wanted / side for side, wanted in zip(shape[1:3], size, strict=True)]
    return dtype == "uint8" or (mode != "align" and all(f in (1, 2, 4) for f in factors))


def measure(shape: tuple, size: tuple, mode: str, dtype: str) -> None:
    model = b.resize("BILINEAR", shape, size, mode, dtype=dtype)
    subgraph = subgraph_of(model)
    refused = RocketDriver(RK3588).refuse(subgraph, subgraph.operations[0], CompileOptions())
    if refused is not None:
        assert refused.rule == "positions_are_those_of_tflite" and not held_exactly(shape, size, mode, dtype)
        return
    inputs, (output,) = run(model, rng((shape, size, mode)))
    tflite = interpreter.run(model.data, inputs)[0]
    real = bilinear(inputs[0].astype(np.float64), size, mode)
    from_real = np.abs(output - real).max()
    different = np.abs(output.astype(int) - tflite.astype(int))
    RESULTS.setdefault(dtype, []).append(different.ravel())
    assert from_real <= 0.5 + 1e-6
    assert different.max() <= 1
    if dtype == "uint8":        # in float32, which errs at ties only
        is_tie = np.abs(np.abs(real - np.floor(real)) - 0.5) < 1e-4
        assert different.max() <= 1 and not different[~is_tie].any()
    elif held_exactly(shape, size, mode, dtype):
        assert not different.any()


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("plane,size,mode", cases(), ids=str)
def test_whole_factors(plane: tuple, size: tuple, mode: str, dtype: str) -> None:
    measure((1, *plane, 20), size, mode, dtype)


@pytest.mark.parametrize("channels", [1, 16, 33, 64, 200])
def test_channels(channels: int) -> None:
    measure((1, 12, 12, channels), (24, 24), "half", "int8")


def test_one_pixel_and_same_size() -> None:
    measure((1, 1, 1, 256), (33, 33), "align", "uint8")
    measure((1, 33, 33, 21), (33, 33), "align", "uint8")


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("mode", ["", "half", "align"])
@pytest.mark.parametrize("plane,size", [
    ((6, 6), (9, 9)), ((9, 9), (6, 6)), ((8, 12), (4, 6)), ((13, 10), (26, 15)), ((5, 25), (4, 20)), ((7, 9), (4, 5)),
    ((9, 9), (13, 17)), ((20, 21), (4, 3)), ((3, 14), (5, 4)), ((10, 10), (7, 15)), ((64, 5), (48, 3)),
    ((7, 13), (10, 5)), ((5, 11), (7, 16)), ((13, 7), (9, 3)), ((21, 31), (29, 11))], ids=str)
def test_fractions(plane: tuple, size: tuple, mode: str, dtype: str) -> None:
    """Growing and shrinking; sizes whose positions do not repeat soon enough are refused in words."""
    model = b.resize("BILINEAR", (1, *plane, 20), size, mode, dtype=dtype)
    try:
        plan_resize(subgraph_of(model), subgraph_of(model).operations[0])
    except MoveError as error:
        assert "repeats after" in str(error)
        REFUSED.append((plane, size, mode))
        return
    measure((1, *plane, 20), size, mode, dtype)


def test_half_of_the_fractions_are_simple() -> None:
    """The others are so in another mode: aligned corners divide one pixel less."""
    assert len(set(REFUSED)) <= 22


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("plane,size,mode", [
    ((8, 8), (64, 64), "half"), ((8, 8), (64, 64), ""), ((9, 9), (65, 65), "align"), ((65, 65), (513, 513), "align"),
    ((7, 20), (49, 30), "half"), ((7, 7), (56, 21), "")], ids=str)
def test_large_factors(plane: tuple, size: tuple, mode: str, dtype: str) -> None:
    """Weights of up to 225, and copies in two stages."""
    measure((1, *plane, 7), size, mode, dtype)


def test_copies_go_in_two_stages_where_that_takes_few_tasks() -> None:
    """A border of 3 tasks, the convolution, 8 columns and 8 rows; directly it would be 64 copies."""
    assert num_tasks(b.resize("BILINEAR", (1, 8, 8, 16), (64, 64), "half")) == 3 + 1 + 8 + 8
    assert num_tasks(b.resize("BILINEAR", (1, 8, 8, 16), (16, 16), "half")) == 3 + 1 + 4


@pytest.mark.parametrize("size,mode,reason", [
    ((33, 33), "half", "repeats after 10 to 33 pixels, must be at most 7 to 64"), ((620, 10), "", "needs 66 tasks"),
    ((160, 160), "half", "8 bits"),
    ((800, 800), "", "repeats after 1 to 80")])
def test_other_sizes_are_refused(size: tuple, mode: str, reason: str) -> None:
    assert reason in refusal(b.resize("BILINEAR", (1, 10, 10, 8), size, mode))


def test_summary(record_table) -> None:  # type: ignore[no-untyped-def]
    for dtype, distances in RESULTS.items():
        each = np.concatenate(distances)
        record_table("RESIZE_BILINEAR", {"dtype": dtype, "cases": len(distances), "elements": each.size,
                                         "equal to TFLite": f"{np.mean(each == 0):.3%}", "largest": int(each.max())})
