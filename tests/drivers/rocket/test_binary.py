"""ADD, SUB, MUL, MAXIMUM, MINIMUM with constants and broadcast operands, on the simulated core.

Never more than 1 LSB from the exact result, whatever the scales; equal to TFLite's reference where the stages can
imitate its roundings.
"""
from __future__ import annotations

import gzip
import json
import pathlib
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.eltwise_affine import affine, question_of
from cermet.drivers.rocket.eltwise_arithmetic import AddRange, add_arithmetic
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import Case, case_id, pairwise, run, subgraph_of
from tests.drivers.rocket.measure import Measured, measure, num_tasks, reason, refusal, summary
from tests.support import interpreter, model_builder
from tests.support.builders_binary import Operand, binary
from tests.support.model_builder import Model, OperationSpec

SHAPES = ((1, 1, 1, 40), (1, 7, 7, 3), (1, 1, 1, 1001), (1, 8, 8, 16), (1, 5, 3, 17), (1, 13, 29, 33), (1, 28, 28, 64),
          (1, 2047, 1, 15), (2, 4, 6, 40), (3, 130), (14, 14, 24), (1, 9, 11, 1))
ZERO_POINTS = {"int8": (-128, 127, 0, -7), "uint8": (0, 255, 128, 11)}
# (first scale, second scale, output scale) in units of 0.05
SCALES = ((1.0, 1.0, 1.0), (0.5, 0.5, 1.0), (0.37, 1.21, 0.9), (1.0, 0.001, 1.0), (0.0007, 1.4, 1.0), (3.0, 2.9, 4.0),
          (61.0, 0.2, 30.0), (900.0, 1.0, 10.0), (1.7, 1e-7, 1.0), (1e-9, 1e-9, 1.0), (144.0, 0.003, 1.03),
          (20.0, 2e-5, 20.0))
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
FORMS = ("map", "vector", "pixels", "scalar", "scalar constant", "channel constant", "pixel constant", "map constant",
         "row", "column", "row of one channel")
COMMON = {"shape": SHAPES, "form": FORMS, "first": (False, True), "dtype": ("int8", "uint8"), "zero": (0, 1, 2, 3)}
SCALED = {**COMMON, "scales": SCALES, "activation": ACTIVATIONS, "output_zero": (0, 1, 2, 3)}
UNSCALED = {**COMMON, "scales": SCALES[:1], "activation": ("NONE",), "output_zero": (0,)}
CASES = [case for seed, (name, factors) in enumerate((("ADD", SCALED), ("SUB", SCALED), ("MUL", SCALED),
                                                      ("MAXIMUM", UNSCALED), ("MINIMUM", UNSCALED)))
         for case in pairwise({"name": (name,), **factors}, lambda case: True, seed)]
measured: dict[str, list[Measured]] = {}


def _rng(case: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(case).encode()))


def _shape(form: object, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of the second operand."""
    ones, row = (1,) * (len(shape) - 1), (*shape[:-3], 1, *shape[-2:])
    return {"vector": (*ones, shape[-1]), "pixels": (*shape[:-1], 1), "scalar": (*ones, 1), "scalar constant": (),
            "channel constant": (shape[-1],), "pixel constant": (*shape[:-1], 1), "row": row,
            "row of one channel": (*row[:-1], 1), "column": (*shape[:-2], 1, shape[-1])}.get(str(form), shape)


def _model(case: Case, rng: np.random.Generator) -> Model:
    points = ZERO_POINTS[str(case["dtype"])]
    zeros = [points[case["zero"]], points[3 - case["zero"]], points[case["output_zero"]]]     # type: ignore
    scales = [0.05 * float(s) for s in case["scales"]]      # type: ignore[attr-defined]
    if case["name"] in ("MAXIMUM", "MINIMUM"):
        zeros, scales = zeros[:1] * 3, scales[:1] * 3
    if case["name"] == "MUL":
        scales[2] *= 0.05 * 128
    operands = [Operand(case["shape"], scales[0], zeros[0]),        # type: ignore[arg-type]
                Operand(_shape(case["form"], case["shape"]), scales[1], zeros[1],      # type: ignore[arg-type]
                        is_constant="constant" in str(case["form"]))]
    first, second = reversed(operands) if case["first"] else operands
    return binary(rng, str(case["name"]), first, second, output=(scales[2], zeros[2]), dtype=str(case["dtype"]),
                  activation=str(case["activation"]))


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_results_are_within_one_step(case: Case) -> None:
    rng = _rng(case)
    model = _model(case, rng)
    found = refusal(model)
    if found is not None:
        assert _may_be_refused(case, found.rule), found
        return
    for match in ("tflite", "exact"):
        result = measure(model, rng, match)
        assert result.from_exact.max() <= 1
        assert result.from_tflite.max() <= 1
        measured.setdefault(f"{case['name']}, {match}", []).append(result)


def _may_be_refused(case: Case, rule: str) -> bool:
    """Only what the rules say: a product clamped below zero, and scales far from the output's."""
    if rule == "product_is_exact_to_one_step" and case["activation"] == "RELU_N1_TO_1":
        return True
    scales = case["scales"]
    assert isinstance(scales, tuple)
    return rule.endswith("_is_exact_to_one_step") and max(scales[:2]) > 50 * scales[2]


def test_hardly_anything_of_the_grid_is_refused() -> None:
    asked = CASES[::4]
    assert sum(refusal(_model(case, _rng(case))) is not None for case in asked) < len(asked) / 10


ORDINARY = [(name, form, dtype) for name in ("ADD", "SUB", "MUL") for form in FORMS for dtype in ("int8", "uint8")]


@pytest.mark.parametrize("name,form,dtype", ORDINARY)
def test_ordinary_scales_are_equal_to_tflite_nearly_everywhere(name: str, form: str, dtype: str) -> None:
    """Products and constants per channel: everywhere."""
    rng = _rng((name, form, dtype))
    shape = (1, 29, 17, 48)
    points = rng.integers(*((-128, 127) if dtype == "int8" else (0, 255)), 2, endpoint=True)
    scales = rng.uniform(0.01, 0.2, 2)
    model = binary(rng, name, Operand(shape, scales[0], int(points[0])),
                   Operand(_shape(form, shape), scales[1], int(points[1]), is_constant="constant" in form),
                   output=None, dtype=dtype)
    result = measure(model, rng)
    assert result.from_exact.max() <= 1
    is_equal = name == "MUL" or form in ("scalar constant", "channel constant")
    assert (result.from_tflite > 0).mean() <= (0 if is_equal else 2e-4)
    measured.setdefault(f"{name} by {form}, ordinary scales", []).append(result)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("activation,zero_point", [("NONE", 3), ("NONE", -128), ("RELU", -40), ("RELU6", -100)])
@pytest.mark.parametrize("real", [0.00416349, 0.0203, 0.09, 0.31, 0.77])
def test_all_products_of_two_bytes_are_tflites(real: float, activation: str, zero_point: int, dtype: str) -> None:
    """The multiplier is `real`; 0.00416 is MoveNet's."""
    rng = _rng((real, zero_point))
    offset = 128 if dtype == "uint8" else 0
    points = [int(p) + offset for p in rng.integers(-128, 127, 2, endpoint=True)]
    model = binary(rng, "MUL", Operand((256, 256, 1), 0.05, points[0]), Operand((256, 256, 1), real, points[1]),
                   output=(0.05, zero_point + offset), dtype=dtype, activation=activation)
    every = np.arange(-128 + offset, 128 + offset).astype(dtype)
    inputs = [np.ascontiguousarray(np.broadcast_to(v, (256, 256))).reshape(256, 256, 1)
              for v in (every[:, None], every)]
    subgraph = subgraph_of(model)
    outputs = RocketDriver(RK3588).execute(subgraph, dict(zip(subgraph.inputs, inputs, strict=True)), CompileOptions())
    assert np.array_equal(outputs[subgraph.outputs[0]], interpreter.run(model.data, inputs)[0])


def test_movenets_grid_minus_vector() -> None:
    """A constant that differs between pixels minus a computed value per channel, both broadcast."""
    rng = _rng(1)
    model = binary(rng, "SUB", Operand((48, 48, 1), 0.18431372, -128, is_constant=True),
                   Operand((1, 17), 0.21009913, -128), output=(0.38818967, 10))
    result = measure(model, rng)
    assert result.from_exact.max() <= 1 and (result.from_tflite > 0).mean() < 1e-3


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_squeeze_and_excite(dtype: str) -> None:
    """A convolution times the LOGISTIC of two small ones behind its mean, in one program.

    One step of the convolution or of the gate is worth at most 1 / 0.8 output steps (gates are below 1, the other
    operand's 255 steps times 1/256), the product adds one of its own: less than 4 when all three are off by one.
    """
    rng, channels = _rng(dtype), 40
    conv = model_builder.conv2d(rng, (1, 14, 10, 16), channels, (3, 3), dtype=dtype)
    model = model_builder.chain(
        conv, lambda t: model_builder.mean(rng, t.shape, keep_dims=True, dtype=dtype, zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, 8, (1, 1), activation="RELU", dtype=dtype,
                                       input_zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, channels, (1, 1), dtype=dtype, input_zero_point=t.zero_point))
    (before,), (scaled,), count = model.outputs, conv.outputs, len(model.tensors)
    gate = replace(model.tensors[before], name="gate", scales=(1 / 256,), zero_points=(-128 if dtype == "int8" else 0,))
    product = replace(model.tensors[scaled], name="product", scales=(model.tensors[scaled].scale * 0.8,))
    model = Model((*model.tensors, gate, product),
                  (*model.operations, OperationSpec("LOGISTIC", (before,), (count,), {}, 2),
                   OperationSpec("MUL", (scaled, count), (count + 1,), {})), model.inputs, (count + 1,))
    inputs, (output,) = run(model, rng)
    (reference,) = interpreter.run(model.data, inputs)
    difference = np.abs(output.astype(int) - reference.astype(int))
    assert difference.max() < 4 and (difference > 0).mean() < 0.05


def test_both_operands_broadcast() -> None:
    """One value per pixel times one per channel."""
    rng = _rng(7)
    model = binary(rng, "MUL", Operand((1, 9, 7, 1), 0.03, 5), Operand((1, 1, 1, 40), 0.02, -9), output=(0.1, 3))
    assert num_tasks(model) == 2
    assert measure(model, rng).from_exact.max() <= 1


PAIRS = [((1, 13, 1, 15), (1, 1, 16, 15)), ((1, 13, 1, 1), (1, 1, 16, 40)), ((5, 13, 16, 15), (1, 13, 1, 15)),
         ((5, 1, 16, 15), (5, 13, 16, 15)), ((5, 13, 16, 15), (5, 1, 1, 15)), ((2, 56, 56, 40), (2, 1, 1, 40)),
         ((5, 1, 1, 15), (1, 13, 16, 1)), ((9, 40), (7, 1, 40)), ((3, 1, 40), (1, 9, 1)), ((16, 33), (1, 70, 16, 33)),
         ((1, 56, 56, 64), (1, 56, 1, 64)), ((1, 1, 40, 100), (1, 61, 40, 100)), ((1, 8, 1, 33), (33,))]


@pytest.mark.parametrize("first,second", PAIRS, ids=str)
@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL", "MAXIMUM"])
def test_operands_that_repeat_along_some_axes(name: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """As near as operands of the output's shape are: they are written out, byte by byte."""
    rng = _rng((name, first, second))
    alike = name == "MAXIMUM"
    model = binary(rng, name, Operand(first, 0.03, 5), Operand(second, 0.03 if alike else 0.021, 5 if alike else -9),
                   output=(0.03, 5) if alike else (0.05, 3))
    result = measure(model, rng)
    assert result.from_exact.max() <= 1
    assert result.from_tflite.max() <= 1 and (result.from_tflite > 0).mean() < 0.04
    assert num_tasks(model) <= 13
    measured.setdefault(f"{name} of repeated operands", []).append(result)


def test_square() -> None:
    rng = _rng(2)
    operand = Operand((48, 48, 17), 0.388, 10)
    model = binary(rng, "MUL", operand, operand, output=(11.256, -128))
    op = replace(model.operations[0], inputs=(0, 0), outputs=(1,))
    alone = Model((model.tensors[0], model.tensors[2]), (op,), (0,), (1,))
    assert measure(alone, rng).from_exact.max() <= 1


def test_constant_behind_a_convolution_is_not_fused_as_a_residual() -> None:
    rng = _rng(3)
    first = model_builder.conv2d(rng, (1, 10, 12, 8), 16, (1, 1))
    made = first.tensors[first.outputs[0]]
    second = binary(rng, "ADD", Operand(made.shape, 0.05, made.zero_point),
                    Operand(made.shape, 0.03, 5, is_constant=True), output=(0.06, -3))
    model = model_builder.chain(first, lambda _: second)
    assert num_tasks(model) == 2
    assert measure_chain(model, rng) <= 1


def measure_chain(model: Model, rng: np.random.Generator) -> int:
    return int(measure(model, rng).from_tflite.max())


def test_more_than_8192_rows_or_channels_are_split() -> None:
    rng = _rng(4)
    for form in ("vector", "channel constant", "pixel constant"):
        for shape, tasks in (((9000, 3), 2), ((2, 10000), 2)):
            for name in ("ADD", "MUL"):
                model = binary(rng, name, Operand(shape, 0.05, 3),
                               Operand(_shape(form, shape), 0.02, 9, is_constant="constant" in form), output=(0.2, 0))
                assert num_tasks(model) == tasks
                assert measure(model, rng).from_exact.max() <= 1


# ---- register values -----------------------------------------------------------------------------------------------

VENDOR = {      # the vendor's program -> (name, second operand); registers with shapes and scales are left out
    "ew_add_bcast_c32h16": ("ADD", Operand((1, 1, 1, 32), 0.05, 9)),
    "ew_mulconst_c32h16": ("MUL", Operand((32,), 0.02, 9, is_constant=True)),
    "ew_addconst_c32h16": ("ADD", Operand((32,), 0.05, 9, is_constant=True)),
}
CONTROL = {0x400C, 0x4024, 0x4030, 0x4034, 0x403C, 0x4040, 0x4050, 0x4058, 0x405C, 0x4060, 0x4070, 0x40C0, 0x500C,
           0x5010, 0x5014, 0x501C, 0x5028, 0x5034, 0x5040, 0x5044, 0x504C, 0x5068, 0x506C}


@pytest.mark.parametrize("program", VENDOR)
def test_programs_have_the_form_of_the_vendors(program: str, shared_dir: pathlib.Path) -> None:
    with gzip.open(shared_dir / "programs" / "vendor" / "rk3588" / f"{program}.json.gz") as file:
        task = json.load(file)["regions"][0]["tasks"][0]
    theirs = {offset: value for target, offset, value, _ in task["cmds"] if target in (0x1001, 0x2001)}
    name, second = VENDOR[program]
    model = binary(_rng(program), name, Operand((1, 16, 16, 32), 0.05, 3), second, output=(0.1, 1))
    program_made = RocketDriver(RK3588).compile(subgraph_of(model), CompileOptions(match="exact"))
    (made,) = program_made.tasks
    words = np.frombuffer(program_made.bos[made.bo].data, "<u8", made.num_words, made.offset_bytes).tolist()
    ours = {w & 0xFFFF: w >> 16 & 0xFFFFFFFF for w in words if w >> 48 in (0x1001, 0x2001)}
    differing = {hex(r): (hex(ours[r]), hex(theirs.get(r, 0))) for r in CONTROL if ours[r] != theirs.get(r, 0)}
    assert not differing


# ---- arithmetic ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(40))
def test_bound_of_a_main_operand_that_was_not_chosen(seed: int) -> None:
    """The scales decide otherwise: the main operand may be the one with the larger scale."""
    rng = np.random.default_rng(seed)
    ratios = np.exp(rng.uniform(np.log(1e-4), np.log(300), 2))
    z = tuple(int(v) for v in rng.integers(-128, 128, 3))
    q = np.arange(-128, 128, dtype=np.int64)
    real = ratios[0] * (q - z[0])[:, None] + ratios[1] * (q - z[1])[None, :]
    for main in (0, 1):
        made = add_arithmetic(*ratios, AddRange(z), main)
        assert made is not None and made.swapped == bool(main)
        c = (made.second_multiplier, made.first_multiplier) if main else (made.first_multiplier, made.second_multiplier)
        terms = [(q - z[i]) * c[i] for i in (0, 1)]
        terms[main] = np.rint(terms[main] / 2.0 ** made.first_shift).astype(np.int64)
        steps = (terms[0][:, None] + terms[1][None, :]) * made.unit
        inside = np.abs(real) <= 256
        assert np.abs(steps - real)[inside].max(initial=0) <= made.error_steps * (1 + 1e-9) + 1e-9 < 0.5


def test_numbers_of_a_constant_are_those_of_its_distinct_values() -> None:
    model = binary(_rng(5), "MUL", Operand((1, 4, 4, 6), 0.05, 3),
                   Operand((6,), 0.02, 2, data=np.array([5, -7, 5, 2, 100, -7], np.int8)), output=(0.1, 1))
    subgraph = subgraph_of(model)
    made = affine(question_of(subgraph, subgraph.operations[0], 1, np.array([-7, 2, 5, 100], np.int8)), "tflite")
    assert made is not None
    picked = made.of(np.array([2, 0, 2, 1, 3, 0]))
    assert picked.factors.tolist() == made.factors[[2, 0, 2, 1, 3, 0]].tolist()
    assert made.factors[1] == 0 and len(picked.addends) == 1


# ---- rules ---------------------------------------------------------------------------------------------------------

def test_reasons() -> None:
    rng = _rng(6)
    shape = (1, 4, 4, 8)
    both = binary(rng, "ADD", Operand(shape, is_constant=True), Operand(shape, is_constant=True), output=(0.1, 0))
    assert reason(both) == "an_operand_is_computed: both operands are constants"
    assert reason(binary(rng, "MUL", Operand((1, 4, 2, 20_000)), Operand((1, 4, 1, 1)), output=(0.1, 0))) == (
        "repeated_operand_can_be_written_out: operand of shape [1, 4, 1, 1] cannot be repeated to [1, 4, 2, 20000]: "
        "more than 16352 channels change their places")
    assert reason(binary(rng, "MUL", Operand((1, 2, 3000, 8)), Operand((1, 2, 3000, 1)), output=(0.1, 0))) == (
        "spread_operand_fits: an operand is repeated over channels, for which the output 2x3000x8 is too large")
    assert reason(binary(rng, "MAXIMUM", Operand(shape), Operand(shape, 0.06), output=(0.05, 0))) == (
        "operands_make_sense: operands and output are quantised differently, must be alike (the kernels compare the "
        "integers)")
    assert reason(binary(rng, "MUL", Operand(shape), Operand(shape), output=(0.05, 0), activation="RELU_N1_TO_1")) == (
        "product_is_exact_to_one_step: its fused activation clamps below zero, which the product's stage cannot")
    assert reason(binary(rng, "ADD", Operand(shape, 1e6), Operand((8,), 1.0, is_constant=True), output=(1.0, 0))
                   ).startswith("sum_is_exact_to_one_step: input scales 1e+06 and 1 are too large for the output")
    constant = binary(rng, "ADD", Operand(shape), Operand((8,), is_constant=True), output=(0.1, 0))
    bare = replace(constant, tensors=(constant.tensors[0], replace(constant.tensors[1], scales=(), zero_points=()),
                                      constant.tensors[2]))
    assert reason(bare) == "operands_make_sense: second operand is not quantised, must have a scale"


def test_summary(record_table: Callable[[str, dict[str, object]], None]) -> None:
    """Not a check: the table of how often results differ."""
    for name, results in measured.items():
        record_table("two operands", summary(name, results))
