"""MEAN, SUM, REDUCE_MAX and REDUCE_MIN on the simulated core against exact arithmetic and TFLite's kernels."""
from __future__ import annotations

import zlib

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.adding import LARGEST_BAND, bands_of, rectangle
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.limits import MAX_KERNEL
from cermet.hw.soc import RK3588
from cermet.ir.reductions import Reduction, reduction
from tests.drivers.rocket.grid import Case, case_id, pairwise, run, subgraph_of
from tests.drivers.rocket.measure import Measured, measure, num_tasks, reason, summary
from tests.support import interpreter, model_builder
from tests.support.builders_reduce import reduce

SHAPES = ((1, 1, 1, 1), (1, 7, 7, 100), (1, 12, 9, 40), (1, 5, 33, 17), (1, 40, 3, 24), (1, 37, 6, 16), (3, 4, 6, 33),
          (1, 24, 24, 3), (2, 9, 5), (1, 14, 70), (7, 40, 20), (6, 50), (1, 130), (49, 16), (1, 20, 11, 130))
AXES = ((1,), (2,), (1, 2), (-1,), (-3, -2), (2, 3), (1, 2, 3), (0,), (0, 1), (0, 1, 2, 3), (2, 1), (1, -1))
FACTORS = {"name": ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), "shape": SHAPES, "axes": AXES, "keep": (True, False),
           "dtype": ("int8", "uint8"), "match": ("tflite", "exact")}
measured: dict[str, list[Measured]] = {name: [] for name in FACTORS["name"]}  # type: ignore[misc]


def _rng(case: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(case).encode()))


def _is_valid(case: Case) -> bool:
    rank = len(case["shape"])
    if any(not -rank <= axis < rank for axis in case["axes"]):
        return False
    if case["name"] == "SUM" and case["dtype"] == "int8":
        return False
    made = reduction(case["shape"], [axis % rank for axis in case["axes"]])
    if made is None:
        return False
    return case["name"].startswith("REDUCE") or not made.over_channels or made.count <= MAX_KERNEL or (
        made.inner == 1 and rectangle(made.count) is not None)


@pytest.mark.parametrize("case", pairwise(FACTORS, _is_valid, seed=3) + pairwise(FACTORS, _is_valid, seed=4),
                         ids=case_id)
def test_reductions(case: Case) -> None:
    rng = _rng(case)
    model = reduce(rng, case["name"], case["shape"], case["axes"], keep_dims=case["keep"], dtype=case["dtype"])
    result = measure(model, rng, case["match"])
    assert result.from_exact.max() <= 1 and result.from_tflite.max() <= 1
    if case["match"] == "tflite":
        measured[case["name"]].append(result)
    if case["name"].startswith("REDUCE"):
        assert result.from_tflite.max() == 0 and result.from_exact.max() == 0
    elif case["match"] == "exact":
        # At least 15 bits of multiplier on results below 256: only results so near to a tie may differ.
        assert np.all(result.distance_from_tie[result.from_exact > 0] < 256 * 2.0 ** -15)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("shape", [(1, 33, 33, 160), (1, 37, 41, 8), (1, 56, 56, 72), (1, 112, 112, 16),
                                   (1, 1087, 1, 20), (1, 5000, 32), (2, 64, 63, 20)], ids=str)
def test_means_of_large_planes(shape: tuple[int, ...], dtype: str) -> None:
    rng = _rng((shape, dtype))
    model = reduce(rng, "MEAN", shape, range(1, len(shape) - 1), dtype=dtype)
    result = measure(model, rng)
    measured["MEAN"].append(result)
    assert result.from_exact.max() <= 1 and result.from_tflite.max() <= 1
    assert (result.from_tflite > 0).mean() < 0.05
    assert num_tasks(model) <= 20


@pytest.mark.parametrize("name", ["MEAN", "SUM"])
@pytest.mark.parametrize("ratio", [0.004, 0.031, 0.5, 1.0, 1.7, 2.0, 30.0])
def test_scales_of_outputs(name: str, ratio: float) -> None:
    """ratio: output scale / input scale."""
    rng = _rng((name, ratio))
    for axes in ((1, 2), (3,)):
        result = measure(reduce(rng, name, (1, 6, 6, 40), axes, dtype="uint8", ratio=ratio), rng)
        measured[name].append(result)
        assert result.from_exact.max() <= 1 and result.from_tflite.max() <= 1


def test_number_of_tasks() -> None:
    rng = _rng("tasks")
    for name, shape, axes, count in (("MEAN", (1, 14, 14, 64), (1, 2), 1), ("MEAN", (4, 14, 14, 64), (1, 2), 1),
                                     ("MEAN", (1, 14, 14, 64), (1,), 1), ("MEAN", (1, 14, 14, 64), (3,), 1),
                                     ("MEAN", (1, 14, 14, 64), (1, 2, 3), 1), ("MEAN", (1, 40, 40, 16), (1, 2), 5),
                                     ("REDUCE_MAX", (1, 8, 8, 64), (1, 2), 6), ("REDUCE_MIN", (1, 8, 8, 64), (3,), 7),
                                     ("REDUCE_MAX", (1, 8, 8, 16), (3,), 5)):
        assert num_tasks(reduce(rng, name, shape, axes)) == count


def test_a_mean_without_channels_feeds_what_sees_pixels() -> None:
    """[1, 6, 5] from [1, 6, 5, 20] has one channel on the NPU; a RESHAPE to [1, 6, 5, 1] and a convolution agree."""
    rng = _rng("chain")
    model = model_builder.chain(
        reduce(rng, "MEAN", (1, 6, 5, 20), (3,)),
        lambda t: model_builder.reshape(rng, t.shape, (1, 6, 5, 1), zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, 8, (3, 3), input_zero_point=t.zero_point))
    inputs, (output,) = run(model, rng)
    (reference,) = interpreter.run(model.data, inputs)
    np.testing.assert_array_equal(output, reference)


def _reason(*args: object, **options: object) -> str:
    return reason(reduce(_rng("reason"), *args, **options))       # type: ignore[arg-type]


def test_reasons_of_refused_reductions() -> None:
    assert _reason("SUM", (1, 4, 5, 8), (1, 2)) == (
        "reduction_makes_sense: TFLite's kernel takes int8 elements for uint8 ones, so that there is no result to "
        "agree with")
    assert _reason("MEAN", (3, 4, 5, 8), (0, 2)) == (
        "reduced_dimensions_are_neighbours: keeps a dimension between those it goes over")
    assert _reason("MEAN", (1, 300, 300, 8), (1, 2)) == (
        "sum_is_not_too_large: adds 90000 pixels for each of 1: too many, or too many copies")
    assert _reason("MEAN", (1, 40, 40, 8), (1, 2, 3)) == (
        "sum_is_not_too_large: adds 1600 pixels and their channels: not the pixels of one window of 31 by 31")
    assert _reason("REDUCE_MAX", (1, 2, 2, 8200), (3,)).startswith("extreme_channels_fit: goes over 8200 channels")


def test_a_dropped_channel_dimension_must_not_matter_behind() -> None:
    rng = _rng("layout")
    first = reduce(rng, "MEAN", (1, 6, 5, 20), (3,))
    model = model_builder.chain(first, lambda t: reduce(rng, "REDUCE_MAX", t.shape, (1,), zero_point=t.zero_point))
    subgraph = subgraph_of(model)
    found = RocketDriver(RK3588).refuse(subgraph, subgraph.operations[0], CompileOptions())
    assert found is not None and found.rule == "output_layout_is_free"


# ---- arithmetic ----------------------------------------------------------------------------------------------------

def test_reductions_by_blocks_of_dimensions() -> None:
    assert reduction((1, 4, 5, 8), (1, 2)) == Reduction(1, 20, 1, 8, over_channels=False)
    assert reduction((3, 4, 5, 8), (1,)) == Reduction(3, 4, 5, 8, over_channels=False)
    assert reduction((3, 4, 5, 8), (2, 3)) == Reduction(12, 5, 1, 8, over_channels=True)
    assert reduction((3, 1, 5, 8), (0, 2)) == Reduction(1, 15, 1, 8, over_channels=False)
    assert reduction((3, 4, 5, 8), (3,)) == Reduction(60, 1, 1, 8, over_channels=True)
    assert reduction((3, 4, 5, 8), (0, 2)) is None
    assert reduction((8,), (0,)) == Reduction(1, 1, 1, 8, over_channels=True)


def test_bands_hold_all_pixels_in_bytes() -> None:
    for pixels in range(962, 20000, 37):
        bands = bands_of(pixels)
        assert bands is not None
        assert bands.count * bands.size >= pixels
        assert max(bands.rows + 1, bands.columns, bands.digits.y, bands.digits.x) <= MAX_KERNEL
        assert bands.columns >= 2 and bands.size <= LARGEST_BAND and bands.digits.y * bands.digits.x == 2 * bands.count
    assert bands_of(61000) is None and rectangle(962) is None and rectangle(961) is not None


def test_summary(record_table) -> None:  # type: ignore[no-untyped-def]
    for name, results in measured.items():
        if results:
            record_table("reductions", summary(name, results))
