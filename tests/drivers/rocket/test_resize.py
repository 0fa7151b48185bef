"""RESIZE_BILINEAR on the simulated core against TFLite's reference kernels and real arithmetic."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import run, subgraph_of
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


@pytest.mark.parametrize("size,mode,reason", [
    ((33, 33), "half", "no whole multiple"), ((5, 5), "half", "no whole multiple"), ((160, 160), "align", "multiple"),
    ((145, 145), "align", "8 bits")])
def test_other_sizes_are_refused(size: tuple, mode: str, reason: str) -> None:
    assert reason in refusal(b.resize("BILINEAR", (1, 10, 10, 8), size, mode))


def test_summary(record_table) -> None:  # type: ignore[no-untyped-def]
    for dtype, distances in RESULTS.items():
        each = np.concatenate(distances)
        record_table("RESIZE_BILINEAR", {"dtype": dtype, "cases": len(distances), "elements": each.size,
                                         "equal to TFLite": f"{np.mean(each == 0):.3%}", "largest": int(each.max())})
