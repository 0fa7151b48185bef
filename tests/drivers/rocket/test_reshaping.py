"""RESHAPE between operations that see other channels on either side, on the simulated core: equal to TFLite."""
from __future__ import annotations

import zlib

import numpy as np
import pytest

from cermet.compiler import compile_subgraph
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.frontend.tflite_file import load, read_tflite
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import run
from tests.end_to_end.reference_models import load_manifest
from tests.support import builders_move as b
from tests.support import interpreter
from tests.support.model_builder import Model


def check(model: Model) -> None:
    inputs, outputs = run(model, np.random.default_rng(zlib.crc32(model.data)))
    for mine, theirs in zip(outputs, interpreter.run(model.data, inputs), strict=True):
        np.testing.assert_array_equal(mine, theirs)


PLANES = [(1, 1), (1, 9), (5, 3), (19, 19)]


@pytest.mark.parametrize("plane", PLANES, ids=str)
@pytest.mark.parametrize("parts,kept", [(2, 3), (3, 4), (6, 4), (3, 91), (6, 91), (2, 16), (3, 32), (4, 48), (5, 33),
                                        (9, 7), (21, 1), (2, 40)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_channels_become_pixels_and_back(plane: tuple, parts: int, kept: int, dtype: str) -> None:
    merged, split = (1, *plane, parts * kept), (1, plane[0] * plane[1] * parts, kept)
    check(b.reshape(merged, split, dtype=dtype))
    check(b.reshape(split, merged, dtype=dtype))


@pytest.mark.parametrize("shape,new", [
    ((1, 4, 6), (1, 3, 8)), ((1, 6, 6, 10), (1, 9, 10, 4)), ((1, 5, 4, 12), (1, 6, 5, 8)), ((2, 3, 5, 8), (15, 16)),
    ((1, 7, 48), (1, 3, 7, 16)), ((1, 14, 96), (1, 28, 48)), ((1, 1, 288), (1, 3, 3, 32)), ((1, 3, 3, 32), (1, 1, 288)),
    ((6, 24), (9, 16)), ((1, 28, 5, 8), (1, 1120)), ((1, 20, 33, 9), (20, 297)),
    ((1, 12, 32, 6), (1, 2304)),
    ((1, 2, 2, 6), (1, 1, 1, 24)), ((1, 60), (4, 15)), ((4, 15), (1, 60))], ids=str)
def test_other_changes(shape: tuple, new: tuple) -> None:
    check(b.reshape(shape, new))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("channels", [3, 16, 40])
@pytest.mark.parametrize("shape,axis", [((4, 6), 0), ((4, 6), 1), ((7,), 0), ((1, 9), 1)], ids=str)
def test_axes_of_size_1_come_and_go(shape: tuple, axis: int, channels: int, dtype: str) -> None:
    """EXPAND_DIMS and SQUEEZE."""
    short, long = (*shape, channels), (*shape[:axis], 1, *shape[axis:], channels)
    check(b.between("EXPAND_DIMS", b.activation("input", short, dtype), [b.numbers("axis", [axis])], [long]))
    check(b.between("SQUEEZE", b.activation("input", long, dtype), [], [short], {"SqueezeDims": (axis,)}))


HEADS = [((1, 9, 9), (1, 5, 5)), ((1, 6, 6), (1, 3, 3), (1, 2, 2), (1, 1, 1)), ((1, 4, 7), (1, 3, 3))]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("kept", [4, 16, 21, 91])
@pytest.mark.parametrize("parts", [(3, 6), (6, 6), (2, 1)], ids=str)
@pytest.mark.parametrize("planes", HEADS, ids=str)
def test_heads_of_a_detector(planes: tuple, parts: tuple, kept: int, dtype: str) -> None:
    """The CONCATENATION does the RESHAPEs: no task of theirs."""
    shapes = [(*plane, kept * parts[min(i, 1)]) for i, plane in enumerate(planes)]
    model = b.heads(shapes, kept, dtype=dtype)
    check(model)
    program = RocketDriver(RK3588).compile(read_tflite(model.data), CompileOptions())
    reshapes = [i for i, operation in enumerate(model.operations) if operation.name == "RESHAPE"]
    done = [task["operations"] for task in program.debug["tasks"]]      # type: ignore[index]
    assert not any(i in operations for i in reshapes for operations in done)


@pytest.mark.parametrize("seed", range(12))
def test_heads_requantise_within_a_step(seed: int) -> None:
    """As CONCATENATION alone: one rounding, each element within half a step of real arithmetic."""
    draw = np.random.default_rng(seed)
    kept = int(draw.choice([4, 21, 40]))
    shapes = [(1, *draw.integers(1, 8, 2), kept * int(n)) for n in draw.choice([2, 3, 6], 3)]
    pairs = [(float(np.exp(draw.uniform(-5, -2))), int(draw.integers(256))) for _ in range(4)]
    model = b.heads([tuple(map(int, shape)) for shape in shapes], kept, dtype="uint8", quantisations=pairs)
    inputs, (output,) = run(model, draw)
    tflite = interpreter.run(model.data, inputs)[0]
    assert np.abs(output.astype(int) - tflite.astype(int)).max() <= 1
    assert np.mean(output == tflite) > 0.999


def test_a_ssd_runs_in_one_partition() -> None:
    found = [model for model in load_manifest() if model.name.startswith("coco_ssd") and model.path.exists()]
    if not found:
        pytest.skip("no detector among the models here")
    compiled = compile_subgraph(load(found[0].path), RocketDriver(RK3588), CompileOptions())
    assert len(compiled.groups) == 1
    left = [op.name for op in compiled.subgraph.operations if op.index in compiled.refusals]
    assert left == ["CUSTOM:TFLite_Detection_PostProcess"]
    assert len(compiled.programs[0].tasks) <= 90
