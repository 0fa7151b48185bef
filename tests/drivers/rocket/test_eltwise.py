"""ADD on the simulated core: never more than 1 LSB from the exact sum, whatever the scales."""
from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.eltwise_arithmetic import AddArithmetic, AddRange, add_arithmetic
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import Case, case_id, pairwise, run, subgraph_of
from tests.drivers.rocket.measure import Measured, measure, num_tasks, reason, summary
from tests.support import interpreter, model_builder
from tests.support.model_builder import ACTIVATIONS, Model, OperationSpec, TensorSpec

SHAPES = ((1, 1, 1, 1), (1, 7, 7, 3), (1, 1, 1, 1001), (1, 8, 8, 16), (1, 5, 3, 17), (1, 13, 29, 33), (1, 56, 56, 64),
          (1, 2, 3, 100), (1, 112, 112, 5), (1, 2047, 1, 15), (2, 4, 6, 40), (3, 130), (40,), (1, 14, 14, 512))
ZERO_POINTS = {"int8": (-128, 127, 0, -7), "uint8": (0, 255, 128, 11)}
# (first scale, second scale) in output steps
RATIOS = ((1.0, 1.0), (0.5, 0.5), (0.75, 0.75), (0.37, 1.21), (1.0, 0.001), (0.0007, 1.4), (3.0, 2.9), (61.0, 0.2),
          (1000.0, 1.0), (1.7, 1e-7), (1e-4, 2e-4), (900.0, 901.0), (20000.0, 3.0), (0.02, 12000.0), (1e-9, 1e-9))
ACTIVATION_NAMES = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
CASES = pairwise({"shape": SHAPES, "ratio": RATIOS, "dtype": ("int8", "uint8"), "activation": ACTIVATION_NAMES,
                  "zero": (0, 1, 2, 3), "output_zero": (0, 1, 2, 3)}, lambda case: True, seed=4)
measured: dict[str, list[Measured]] = {"wild scales": [], "ordinary scales": []}


def _rng(case: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(case).encode()))


def _scaled_add(shape: tuple[int, ...], scales: tuple[float, float, float], zero_points: tuple[int, int, int],
                dtype: str, activation: str = "NONE") -> Model:
    tensors = [TensorSpec(name, shape, dtype, (float(np.float32(scale)),), (point,))
               for name, scale, point in zip(("first", "second", "output"), scales, zero_points, strict=True)]
    op = OperationSpec("ADD", (0, 1), (2,), {"FusedActivationFunction": ACTIVATIONS[activation]})
    return Model(tuple(tensors), (op,), (0, 1), (2,))


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_sums_are_within_one_step(case: Case) -> None:
    first, second = case["ratio"]
    points = ZERO_POINTS[case["dtype"]]
    zeros = (points[case["zero"]], points[3 - case["zero"]], points[case["output_zero"]])
    model = _scaled_add(case["shape"], (0.05 * first, 0.05 * second, 0.05), zeros, case["dtype"], case["activation"])
    result = measure(model, _rng(case))
    measured["wild scales"].append(result)
    assert result.from_exact.max() <= 1
    assert result.from_tflite.max() <= 1


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_ordinary_scales_are_equal_to_tflite_nearly_everywhere(dtype: str, activation: str) -> None:
    rng = _rng((dtype, activation))
    results = [measure(model_builder.add(rng, (1, 31, 17, 48), dtype=dtype, activation=activation), rng)
               for _ in range(8)]
    measured["ordinary scales"] += results
    differing = np.mean([(r.from_tflite > 0).mean() for r in results])
    assert max(r.from_exact.max() for r in results) <= 1
    # The bound |D| is below 1e-4 steps for ratios near 1: about twice that share of all sums lies so near to a tie.
    assert differing < 2e-4


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_exact_ties_round_as_in_tflite(dtype: str) -> None:
    """Output scale twice the input scale: half of all sums are ties."""
    middle = 0 if dtype == "int8" else 128
    model = _scaled_add((1, 64, 64, 16), (0.1, 0.1, 0.2), (middle, middle + 3, middle - 5), dtype)
    assert measure(model, _rng(dtype)).from_tflite.max() == 0


def test_tensor_added_to_itself() -> None:
    model = model_builder.add(_rng(1), (1, 9, 5, 24))
    op = replace(model.operations[0], inputs=(0, 0))
    alone = Model((model.tensors[0], replace(model.tensors[2], scales=(model.tensors[0].scale * 2,))),
                  (replace(op, outputs=(1,)),), (0,), (1,))
    result = measure(alone, _rng(2))
    assert result.from_exact.max() <= 1


def test_operands_that_other_operations_made() -> None:
    rng = _rng(3)
    first = model_builder.conv2d(rng, (1, 10, 12, 3), 24, (3, 3))
    made = first.tensors[first.outputs[0]]
    both = replace(made, name="sum", scales=(made.scale * 2,))
    pooled = replace(made, name="pooled")
    options = {"Padding": 0, "StrideH": 1, "StrideW": 1, "FilterHeight": 3, "FilterWidth": 3}
    count = len(first.tensors)
    pool = OperationSpec("MAX_POOL_2D", first.outputs, (count,), options)
    op = OperationSpec("ADD", (count, first.outputs[0]), (count + 1,), {})
    model = Model((*first.tensors, pooled, both), (*first.operations, pool, op), first.inputs, (count + 1,))
    inputs, (output,) = run(model, rng)
    (reference,) = interpreter.run(model.data, inputs)
    difference = np.abs(output.astype(int) - reference.astype(int))
    assert difference.max() <= 1 and (difference == 0).mean() > 0.98


def test_more_than_8192_rows_or_channels_are_split() -> None:
    rng = _rng(4)
    for shape, tasks in (((9000, 3), 2), ((2, 10000), 2), ((8192, 16), 1)):
        model = model_builder.add(rng, shape)
        assert num_tasks(model) == tasks
        assert measure(model, rng).from_exact.max() <= 1


# ---- register values -----------------------------------------------------------------------------------------------

def test_registers_are_those_of_working_programs() -> None:
    """The table of recipes §6, values that do not depend on shapes or scales."""
    program = RocketDriver(RK3588).compile(subgraph_of(model_builder.add(_rng(5), (1, 6, 7, 20))), CompileOptions())
    (task,) = program.tasks
    words = np.frombuffer(program.bos[task.bo].data, "<u8", task.num_words, task.offset_bytes).tolist()
    values = {w & 0xFFFF: w >> 16 & 0xFFFFFFFF for w in words if w >> 48 in (0x1001, 0x2001)}
    assert {r: values[r] for r in EXPECTED} == EXPECTED
    assert words[-1] == 0x0081_0000_0018_0008
    assert values[0x4010] >> 4 & 63 == values[0x4048] >> 8 & 63     # one shift for both signs


EXPECTED = {
    0x4004: 0xE, 0x5004: 0xE, 0x400C: 0x1E5, 0x4024: 42 << 4, 0x4030: 6, 0x4034: 5, 0x4038: 0, 0x403C: 31 << 16 | 31,
    0x4040: 0x20040, 0x4050: 2, 0x4058: 31, 0x405C: 5 << 16 | 6, 0x4060: 0x53, 0x4070: 0x904202C0, 0x40C0: 42 << 4,
    0x500C: 6, 0x5010: 5, 0x5014: 31, 0x501C: 0, 0x5034: 0x40000004, 0x5040: 42 << 4, 0x5044: 0x7801, 0x5048: 0,
    0x504C: 0, 0x5068: 0x01010101, 0x506C: 0, 0x4100: 0,
}


def _all_sums(made: AddArithmetic, limits: AddRange) -> tuple[np.ndarray, np.ndarray]:
    """(before the last rounding, output) of the device for all pairs of bytes, integers only."""
    q = np.arange(-128, 128, dtype=np.int64)
    z = limits.zero_points
    main, other = (q - z[1], q - z[0]) if made.swapped else (q - z[0], q - z[1])
    product = main * made.first_multiplier
    shifted = np.rint(product / 2.0 ** made.first_shift).astype(np.int64)       # even ties; exact below 2**53
    v = shifted[:, None] + other[None, :] * made.second_multiplier
    base = z[2]
    if made.lower is not None:
        v, base = np.maximum(v - made.lower, 0), limits.lowest
    if made.upper is not None:
        v = np.minimum(v, made.upper)
    assert np.abs(v).max() < 1 << 31
    steps = v * made.out_multiplier / 2.0 ** made.out_shift
    rounded = np.copysign(np.floor(np.abs(steps) + 0.5), steps)
    output = np.clip(rounded + base, -128, 127)
    return (steps.T, output.T) if made.swapped else (steps, output)


@pytest.mark.parametrize("seed", range(60))
def test_error_bound_holds_for_all_pairs_of_bytes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = np.exp(rng.uniform(np.log(1e-6), np.log(3e4), 2))
    z = tuple(int(v) for v in rng.integers(-128, 128, 3))
    limits = AddRange(z)
    made = add_arithmetic(first, second, limits)
    assert made is not None
    q = np.arange(-128, 128, dtype=np.float64)
    real = first * (q - z[0])[:, None] + second * (q - z[1])[None, :]
    steps, output = _all_sums(made, limits)
    inside = np.abs(real) <= 256
    assert np.abs(steps - real)[inside].max(initial=0) <= made.error_steps * (1 + 1e-9) + 1e-9
    assert np.abs(output - np.clip(np.rint(real) + z[2], -128, 127)).max() <= 1
    assert 0 <= made.first_shift < 64 and 0 <= made.out_shift < 64
    assert max(made.first_multiplier, made.second_multiplier, made.out_multiplier) <= 32767


@pytest.mark.parametrize("seed", range(40))
def test_clamps_cut_where_the_activation_does(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    first, second = np.exp(rng.uniform(np.log(1e-3), np.log(30), 2))
    z = tuple(int(v) for v in rng.integers(-128, 128, 3))
    lowest, highest = sorted(int(v) for v in rng.integers(-128, 128, 2))
    limits = AddRange(z, lowest, highest)
    made = add_arithmetic(first, second, limits)
    assert made is not None
    q = np.arange(-128, 128, dtype=np.float64)
    real = first * (q - z[0])[:, None] + second * (q - z[1])[None, :]
    _, output = _all_sums(made, limits)
    assert np.abs(output - np.clip(np.rint(real) + z[2], lowest, highest)).max() <= 1
    assert output.min() >= lowest and output.max() <= highest


def test_equal_scales_are_exact() -> None:
    made = add_arithmetic(0.75, 0.75, AddRange((0, 0, 0)))
    assert made is not None and made.error_steps < 2e-5
    made = add_arithmetic(0.5, 0.25, AddRange((0, 0, 0)))
    assert made is not None and made.error_steps == 0.0


# ---- rules ---------------------------------------------------------------------------------------------------------

def test_reasons_of_refused_additions() -> None:
    rng = _rng(6)
    shape = (1, 4, 4, 8)
    assert reason(_scaled_add(shape, (1e6, 777777.7, 1.0), (0, 0, 0), "int8")).startswith(
        "sum_is_exact_to_one_step: input scales 1e+06 and 7.778e+05 are too large for the output scale 1")
    model = model_builder.add(rng, shape)
    mixed = replace(model, tensors=(model.tensors[0], replace(model.tensors[1], dtype="int16"), model.tensors[2]))
    assert reason(mixed) == "activations_are_8_bit: tensor 1 is int16, must be int8 or uint8"
    wide = model_builder.add(rng, (1, 2, 9000, 4))
    assert reason(wide) == "rows_fit_the_cube: width 9000 must be 1..8192"


def test_summary(record_table: Callable[[str, dict[str, object]], None]) -> None:
    """Not a check: the table of how often sums differ."""
    for name, results in measured.items():
        if results:
            record_table("element-wise and pooling", summary(f"ADD, {name}", results))
