"""RESIZE_BILINEAR on the simulated core against TFLite's reference kernels and real arithmetic."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.drivers.rocket.grid import run
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


def measure(shape: tuple, size: tuple, mode: str, dtype: str, record_table) -> None:  # type: ignore[no-untyped-def]
    model = b.resize("BILINEAR", shape, size, mode, dtype=dtype)
    inputs, (output,) = run(model, rng((shape, size, mode)))
    tflite = interpreter.run(model.data, inputs)[0]
    real = bilinear(inputs[0].astype(np.float64), size, mode)
    from_real = np.abs(output - real).max()
    different = np.abs(output.astype(int) - tflite.astype(int))
    record_table("RESIZE_BILINEAR", {"shape": shape, "size": size, "mode": mode or "-", "dtype": dtype,
                                     "equal to TFLite": f"{np.mean(different == 0):.2%}", "max": int(different.max())})
    assert from_real <= 0.5 + 1e-6
    factors = [s / n for s, n in zip(size, shape[1:3], strict=True)]
    if dtype == "uint8":        # in float32, which errs at ties only
        is_tie = np.abs(np.abs(real - np.floor(real)) - 0.5) < 1e-4
        assert different.max() <= 1 and not different[~is_tie].any()
    elif mode != "align" and all(f in (1, 2, 4) for f in factors):
        # 1/1024 holds these positions; others drift away from the real ones, by a step and more (numerics_move.py)
        assert not different.any()


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("plane,size,mode", cases(), ids=str)
def test_whole_factors(plane: tuple, size: tuple, mode: str, dtype: str,
                       record_table) -> None:  # type: ignore[no-untyped-def]
    measure((1, *plane, 20), size, mode, dtype, record_table)


@pytest.mark.parametrize("channels", [1, 16, 33, 64, 200])
def test_channels(channels: int, record_table) -> None:  # type: ignore[no-untyped-def]
    measure((1, 12, 12, channels), (24, 24), "half", "int8", record_table)


def test_one_pixel_and_same_size(record_table) -> None:  # type: ignore[no-untyped-def]
    measure((1, 1, 1, 256), (33, 33), "align", "uint8", record_table)
    measure((1, 33, 33, 21), (33, 33), "align", "uint8", record_table)


@pytest.mark.parametrize("size,mode,reason", [
    ((33, 33), "half", "no whole multiple"), ((5, 5), "half", "no whole multiple"), ((160, 160), "align", "multiple"),
    ((145, 145), "align", "8 bits")])
def test_other_sizes_are_refused(size: tuple, mode: str, reason: str) -> None:
    assert reason in refusal(b.resize("BILINEAR", (1, 10, 10, 8), size, mode))
