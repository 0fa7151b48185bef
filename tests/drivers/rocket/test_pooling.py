"""Pools and means on the simulated core: equal to TFLite, and why."""
from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions, Program
from cermet.drivers.rocket.adding import rectangle
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.max_pooling import pairs_see_every_pixel, shifts
from cermet.drivers.rocket.pooling import regions
from cermet.drivers.rocket.pooling_arithmetic import Scaling, division_gain, scaling_gain, sum_gain
from cermet.hw.soc import RK3588
from cermet.ir.fixed_point import multiply_by_quantised_multiplier, quantize_multiplier
from cermet.ir.operation import Padding, Pair, Window
from tests.drivers.rocket.grid import Case, case_id, pairwise, run, subgraph_of
from tests.drivers.rocket.measure import Measured, measure, num_tasks, reason, summary
from tests.support import interpreter, model_builder
from tests.support.model_builder import Model, TensorSpec

CHANNELS = (1, 3, 5, 16, 17, 33, 64, 100)
PLANES = ((1, 1), (1, 9), (9, 1), (2, 3), (3, 2), (4, 4), (7, 7), (8, 8), (13, 29), (14, 16), (56, 57), (112, 112))
KERNELS = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (7, 7), (1, 3), (3, 1), (2, 5), (6, 2))
STRIDES = ((1, 1), (2, 2), (3, 3), (2, 1), (1, 3))
FACTORS = {"c": CHANNELS, "plane": PLANES, "kernel": KERNELS, "stride": STRIDES, "padding": ("SAME", "VALID"),
           "dtype": ("int8", "uint8"), "activation": ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")}
MAX_DIVISORS = 25
measured: dict[str, list[Measured]] = {"AVERAGE": [], "MAX": [], "MEAN": []}


def _rng(case: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(case).encode()))


def _fits(case: Case) -> bool:
    """VALID windows inside the plane."""
    (height, width), (ky, kx) = case["plane"], case["kernel"]
    return case["padding"] == "SAME" or (ky <= height and kx <= width)


def _has_few_divisors(case: Case) -> bool:
    window = Window(Pair(*case["kernel"]), Pair(*case["stride"]), Padding(case["padding"].lower()))
    return _fits(case) and len(regions(window, *case["plane"])) <= MAX_DIVISORS


def _pool(case: Case, kind: str) -> Model:
    return model_builder.pool(_rng(case), (1, *case["plane"], case["c"]), kind, case["kernel"], stride=case["stride"],
                              padding=case["padding"], activation=case["activation"], dtype=case["dtype"])


AVERAGES = pairwise(FACTORS, _has_few_divisors, seed=5) + pairwise(FACTORS, _has_few_divisors, seed=6)
MAXIMA = pairwise(FACTORS, _fits, seed=7) + pairwise(FACTORS, _fits, seed=8)
LARGE = [
    {"c": 16, "plane": (40, 40), "kernel": (31, 31), "stride": (1, 1), "padding": "VALID"},
    {"c": 5, "plane": (64, 48), "kernel": (13, 9), "stride": (7, 5), "padding": "VALID"},
    {"c": 3000, "plane": (9, 9), "kernel": (3, 3), "stride": (2, 2), "padding": "SAME"},
    {"c": 64, "plane": (200, 150), "kernel": (3, 3), "stride": (2, 2), "padding": "SAME"},
    {"c": 8, "plane": (2047, 6), "kernel": (3, 2), "stride": (2, 2), "padding": "SAME"},
    {"c": 8, "plane": (6, 2047), "kernel": (2, 3), "stride": (2, 2), "padding": "SAME"},
    {"c": 24, "plane": (7, 7), "kernel": (7, 7), "stride": (9, 9), "padding": "VALID"},
    {"c": 100, "plane": (17, 17), "kernel": (7, 7), "stride": (7, 7), "padding": "SAME"},
    {"c": 40, "plane": (5, 4), "kernel": (3, 2), "stride": (8, 8), "padding": "VALID"},
]
LARGE = [{**case, "dtype": dtype, "activation": "NONE"} for case in LARGE for dtype in ("int8", "uint8")]


@pytest.mark.parametrize("case", AVERAGES + LARGE, ids=case_id)
def test_averages_are_equal_to_tflite(case: Case) -> None:
    result = measure(_pool(case, "AVERAGE"), _rng(case))
    measured["AVERAGE"].append(result)
    assert result.from_tflite.max() == 0
    # TFLite's ties go away from q = 0, exact arithmetic's away from the zero point: nothing else may differ.
    assert result.from_exact.max() <= 1
    assert np.all(result.distance_from_tie[result.from_exact > 0] < 1e-9)


@pytest.mark.parametrize("case", MAXIMA + LARGE, ids=case_id)
def test_maxima_are_equal_to_tflite(case: Case) -> None:
    result = measure(_pool(case, "MAX"), _rng(case))
    measured["MAX"].append(result)
    assert result.from_tflite.max() == 0
    assert result.from_exact.max() == 0


@pytest.mark.parametrize("kernel", [*range(2, 14), 17, 31])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_maxima_of_large_windows_in_small_planes(kernel: int, padding: str) -> None:
    rng = _rng((kernel, padding))
    for plane in ((kernel, kernel + 1), (kernel + 5, kernel + 2), (max(kernel // 2, 1), kernel * 2), (33, 34)):
        if padding == "VALID" and min(plane) < kernel:
            continue
        for stride in ((1, 1), (2, 2), (3, 1)):
            model = model_builder.pool(rng, (1, *plane, 20), "MAX", (kernel, kernel), stride=stride, padding=padding)
            result = measure(model, rng)
            measured["MAX"].append(result)
            assert result.from_tflite.max() == 0


def test_maxima_between_all_negative_pixels_and_borders() -> None:
    """Padding must not win over -128."""
    rng = _rng("negative")
    model = model_builder.pool(rng, (1, 6, 6, 16), "MAX", (3, 3), stride=(1, 1), padding="SAME")

    class Lowest:
        @staticmethod
        def integers(low: int, high: int, size: object, dtype: object = None, endpoint: bool = False) -> np.ndarray:
            return np.full(size, -128, np.int8)

    _, (output,) = run(replace(model), Lowest())     # type: ignore[arg-type]
    assert np.all(output == -128)


@pytest.mark.parametrize(("plane", "kernel", "stride", "padding", "tasks"), [
    (112, 2, 2, "VALID", 3), (112, 3, 2, "SAME", 6), (14, 3, 1, "SAME", 5), (13, 3, 2, "VALID", 5),
    (14, 5, 1, "SAME", 7), (14, 9, 1, "SAME", 9), (14, 13, 1, "SAME", 10), (14, 3, 1, "VALID", 4),
    (14, 1, 2, "VALID", 1)])
def test_number_of_tasks_of_a_maximum(plane: int, kernel: int, stride: int, padding: str, tasks: int) -> None:
    model = model_builder.pool(_rng(0), (1, plane, plane, 32), "MAX", (kernel, kernel), stride=(stride, stride),
                               padding=padding)
    assert num_tasks(model) == tasks


@pytest.mark.parametrize(("kernel", "stride", "padding", "tasks"), [
    (2, 2, "VALID", 1), (3, 1, "SAME", 9), (3, 2, "SAME", 4), (7, 1, "VALID", 1), (2, 2, "SAME", 1)])
def test_number_of_tasks_of_an_average(kernel: int, stride: int, padding: str, tasks: int) -> None:
    model = model_builder.pool(_rng(0), (1, 14, 14, 32), "AVERAGE", (kernel, kernel), stride=(stride, stride),
                               padding=padding)
    assert num_tasks(model) == tasks


def test_registers_of_a_rectangle_in_the_middle() -> None:
    """Window reads and writes with a notch, as data layouts §3 and §4 have them: 12x12 of 14x14 outputs."""
    program = RocketDriver(RK3588).compile(
        subgraph_of(model_builder.pool(_rng(4), (1, 14, 14, 20), "AVERAGE", (3, 3), stride=(1, 1), padding="SAME")),
        CompileOptions())
    layers = [task["layer"] for task in program.debug["tasks"]]     # type: ignore[index,attr-defined]
    assert layers[3:6] == [f"operation 0 (average_pool_2d), 12x{columns} outputs at (1, {first})"
                           for columns, first in ((1, 0), (12, 1), (1, 13))]
    left, middle = (_registers(program, i) for i in (3, 4))
    assert middle[0x100C] == 3 and middle[0x4038] == 2 << 16 | 2                        # all columns read, 12 written
    assert left[0x100C] == 3 | 1 << 29 and left[0x4038] == 13 << 16 | 13                # 2 columns read, 1 written
    assert (left[0x107C], left[0x1080]) == (14, 14 * 14 - 2)
    assert (left[0x1068], middle[0x1068]) == (1 << 4, 0)
    assert {r[0x1184] for r in (left, middle)} == {0}
    assert {r[0x4024] for r in (left, middle)} == {14 * 14 << 4}


def _registers(program: Program, index: int) -> dict[int, int]:
    task = program.tasks[index]
    words = np.frombuffer(program.bos[task.bo].data, "<u8", task.num_words, task.offset_bytes).tolist()
    return {word & 0xFFFF: word >> 16 & 0xFFFFFFFF for word in words[:-4]}


# ---- mean ----------------------------------------------------------------------------------------------------------

MEAN_PLANES = ((1, 1), (1, 8), (5, 1), (2, 2), (4, 4), (7, 7), (13, 29), (31, 31), (49, 1), (48, 10), (112, 4))
MEANS = pairwise({"c": (*CHANNELS, 1280), "plane": MEAN_PLANES, "dtype": ("int8", "uint8"), "keep": (True, False),
                  "same": (True, False), "match": ("tflite", "exact"), "axes": ((1, 2), (2, 1), (-3, -2))},
                 lambda case: True, seed=9)


@pytest.mark.parametrize("case", MEANS, ids=case_id)
def test_means(case: Case) -> None:
    rng = _rng(case)
    model = model_builder.mean(rng, (1, *case["plane"], case["c"]), case["axes"], keep_dims=case["keep"],
                               dtype=case["dtype"], same_quantisation=case["same"])
    result = measure(model, rng, case["match"])
    assert result.from_exact.max() <= 1
    assert result.from_tflite.max() <= 1
    if case["match"] == "exact":
        # Up to 22 bits of multiplier: the error is below 256 * 2**-20 steps, only results so near to a tie may differ.
        assert np.all(result.distance_from_tie[result.from_exact > 0] < 256 * 2.0 ** -20)
    else:
        measured["MEAN"].append(result)
        assert result.from_tflite.max() == 0


@pytest.mark.parametrize("ratio", [1e-3, 0.3, 0.75, 1.0, 2.0, 7.71234, 41.7])
@pytest.mark.parametrize("pixels", [1, 2, 16, 49, 64, 961])
def test_means_imitate_both_roundings_of_tflite(ratio: float, pixels: int) -> None:
    """All sums of a plane's bytes: registers against TFLite's multiplier, integers only."""
    made = sum_gain(Scaling(ratio, pixels, divides=True), "tflite")
    assert made is not None
    sums = np.arange(-pixels * 255, pixels * 255 + 1, dtype=np.int64)
    q31, shift = quantize_multiplier(ratio)
    gained = pixels.bit_length() - 1
    expected = multiply_by_quantised_multiplier(sums, (q31 << gained) // pixels, shift - gained)
    gain, second = made.gain, made.second_shift
    got = np.rint((sums * gain.weight + made.extra_bias) * gain.multiplier / 2.0 ** gain.shift)
    if second is not None:
        got = np.copysign(np.floor(np.abs(got) / 2.0 ** second + 0.5), got)
    inside = np.abs(expected) <= 256
    assert np.abs(got - expected)[inside].max() <= 1
    if second is not None:
        assert (got != expected)[inside].mean() < 2e-3


def test_mean_of_one_image_inside_a_chain() -> None:
    rng = _rng("chain")

    def pool(kind: str, stride: int) -> Callable[[TensorSpec], Model]:
        return lambda t: model_builder.pool(rng, t.shape, kind, (3, 3), stride=(stride, stride), padding="SAME",
                                            zero_point=t.zero_point)

    model = model_builder.chain(
        model_builder.conv2d(rng, (1, 20, 20, 3), 48, (3, 3), activation="RELU6"), pool("MAX", 2), pool("AVERAGE", 1),
        lambda t: model_builder.mean(rng, t.shape, zero_point=t.zero_point))
    inputs, (output,) = run(model, rng)
    (reference,) = interpreter.run(model.data, inputs)
    assert np.abs(output.astype(int) - reference.astype(int)).max() <= 1


# ---- arithmetic ----------------------------------------------------------------------------------------------------

def test_divisions_are_exact_for_every_sum() -> None:
    """All windows of up to 31 by 31, all sums of bytes, both dtypes: TFLite's (sum + count / 2) / count."""
    for count in sorted({a * b for a in range(1, 32) for b in range(1, 32)}):
        for largest in (128, 255):
            gain = division_gain(count, largest)
            assert gain is not None, count
            sums = np.arange(largest * count + 1, dtype=np.int64)
            half = 1 << gain.shift - 1
            got = (sums * gain.weight * gain.multiplier + half) >> gain.shift
            assert np.array_equal(got, (2 * sums + count) // (2 * count)), count
            assert gain.weight <= 127 and gain.multiplier <= 32767 and gain.shift <= 63


@pytest.mark.parametrize("real", [1e-9, 3e-5, 1 / 49, 0.5, 0.99999, 1.0, 3.7, 30000.0])
def test_scaling_gain_has_at_least_15_bits(real: float) -> None:
    gain = scaling_gain(real)
    assert abs(gain.real / real - 1) <= 2.0 ** -15


def test_shifts_add_up_to_the_window() -> None:
    for kernel in range(1, 64):
        reached = {0}
        for shift in shifts(kernel):
            reached |= {r + shift for r in reached}
        assert reached == set(range(kernel))
        assert len(shifts(kernel)) == (kernel - 1).bit_length()


def test_pairs_see_every_pixel_only_where_they_do() -> None:
    assert pairs_see_every_pixel(14, 3, 1, 1, 14)
    assert pairs_see_every_pixel(14, 5, 1, 2, 14)
    assert not pairs_see_every_pixel(14, 4, 1, 1, 14)       # window -1..2 would be joined from pairs (-1, 0) and (1, 2)
    assert not pairs_see_every_pixel(14, 2, 1, 0, 14)       # the last window has one pixel
    assert not pairs_see_every_pixel(1, 3, 1, 1, 1)


def test_regions_cover_every_output_once() -> None:
    for size, kernel, stride in ((14, 3, 1), (14, 5, 2), (4, 7, 1), (1, 3, 1), (9, 4, 3)):
        window = Window(Pair(kernel, kernel), Pair(stride, stride), Padding.SAME)
        out = window.output_size(size, size)
        seen = np.zeros((out.y, out.x), int)
        for region in regions(window, size, size):
            rows, columns = region.rows, region.columns
            seen[rows.first:rows.first + rows.count, columns.first:columns.first + columns.count] += 1
        assert np.all(seen == 1)


# ---- rules ---------------------------------------------------------------------------------------------------------

def _average(plane: tuple[int, int], kernel: int, stride: int = 1, padding: str = "VALID", kind: str = "AVERAGE",
             channels: int = 8) -> Model:
    return model_builder.pool(_rng(1), (1, *plane, channels), kind, (kernel, kernel), stride=(stride, stride),
                              padding=padding)


@pytest.mark.parametrize("kind", ["MAX", "AVERAGE"])
@pytest.mark.parametrize("plane,window,stride,padding", [
    ((40, 40), (8, 8), (8, 8), "VALID"), ((41, 30), (3, 9), (9, 8), "SAME"), ((40, 38), (1, 1), (10, 10), "VALID"),
    ((40, 60), (2, 2), (20, 3), "VALID"), ((9, 61), (3, 5), (1, 12), "VALID"), ((200, 3), (50, 3), (50, 1), "VALID")],
    ids=str)
@pytest.mark.parametrize("channels,activation", [(3, "NONE"), (40, "RELU6")])
def test_large_strides(channels: int, activation: str, plane: tuple, window: tuple, stride: tuple, padding: str,
                       kind: str) -> None:
    rng = _rng(3)
    result = measure(model_builder.pool(rng, (1, *plane, channels), kind, window, stride=stride, padding=padding,
                                        activation=activation), rng)
    assert result.from_exact.max() <= (kind == "AVERAGE") and result.from_tflite.max() == 0


def test_reasons_of_refused_pools() -> None:
    wide = model_builder.pool(_rng(1), (1, 40, 1200, 3), "MAX", (2, 1), stride=(8, 1), padding="VALID")
    assert reason(wide) == "max_stride_fits: rows to select are 9600 pixels apart, must be at most 8191"
    assert reason(_average((40, 40), 32)) == (
        "average_has_few_divisors: window is 32x32 with 81 outputs: at most 25 above 31 a side")
    assert reason(_average((256, 256), 256)) == "average_kernel_fits: window has 65536 taps, which are too many"
    assert reason(_average((80, 80), 3, 8)) == (
        "average_has_few_divisors: strides of 8x8 leave 100 rectangles of outputs that one task can make, at most 25 "
        "are worth it")
    assert reason(_average((14, 14), 13, padding="SAME")) == (
        "average_has_few_divisors: padding gives 169 rectangles of outputs that one task can make, at most 25 are "
        "worth it")
    assert reason(_average((31, 2047), 31, channels=64)).startswith("average_fits_the_cbuf: 31 rows of 2047 pixels")
    assert reason(_average((4, 4), 2, kind="MAX", channels=8193)) == "max_fits_the_cube: channels 8193 must be 1..8192"
    model = _average((4, 4), 2)
    other = replace(model.tensors[1], scales=(model.tensors[0].scale * 2,))
    assert reason(replace(model, tensors=(model.tensors[0], other))).startswith("pool_keeps_the_quantisation: input")
    batch = model_builder.pool(_rng(1), (65, 5, 5, 8), window=(3, 3))
    assert reason(batch) == "batch_is_one: batch is 65, must be 1..64 images that are computed one by one"


def test_windows_larger_than_31_over_the_whole_plane() -> None:
    """The pixels of a plane are those of another rectangle with sides up to 31, if there is one."""
    assert rectangle(64 * 67) is None and rectangle(37) is None
    shape = rectangle(49)
    assert shape is not None and shape.y * shape.x == 49 and max(shape.y, shape.x) <= 31
    rng = _rng(3)
    model = model_builder.pool(rng, (1, 48, 10, 33), "AVERAGE", (48, 10), stride=(1, 1))
    assert measure(model, rng).from_tflite.max() == 0


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("plane", "kernel", "channels", "activation"), [
    ((33, 33), (33, 33), 160, "NONE"), ((37, 41), (37, 41), 17, "NONE"), ((56, 56), (56, 56), 40, "RELU"),
    ((64, 64), (64, 64), 16, "RELU6"), ((112, 112), (112, 112), 33, "NONE"), ((240, 240), (240, 240), 3, "NONE"),
    ((1, 37), (1, 37), 64, "RELU_N1_TO_1"), ((40, 50), (33, 35), 20, "NONE"), ((40, 50), (33, 50), 20, "NONE")])
def test_averages_of_larger_windows(plane: tuple[int, int], kernel: tuple[int, int], channels: int, activation: str,
                                    dtype: str) -> None:
    rng = _rng((plane, kernel, dtype))
    model = model_builder.pool(rng, (1, *plane, channels), "AVERAGE", kernel, stride=(99, 99), padding="VALID",
                               activation=activation, dtype=dtype)
    result = measure(model, rng)
    measured["AVERAGE"].append(result)
    assert result.from_tflite.max() == 0
    assert result.from_exact.max() <= 1
    assert num_tasks(model) <= 20


def test_a_larger_window_at_the_border() -> None:
    """SAME: four outputs with a number of taps each."""
    rng = _rng("border")
    model = model_builder.pool(rng, (1, 60, 60, 20), "AVERAGE", (50, 50), stride=(30, 30), padding="SAME")
    assert measure(model, rng).from_tflite.max() == 0


def test_summary(record_table: Callable[[str, dict[str, object]], None]) -> None:
    """Not a check: the table of how often results differ."""
    for kind, results in measured.items():
        if results:
            record_table("element-wise and pooling", summary(kind, results))
