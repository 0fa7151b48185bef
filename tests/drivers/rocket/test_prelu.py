"""PRELU on the simulated core: within 1 LSB of exact, and how often it equals TFLite's kernel."""
from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.hw.soc import RK3588
from cermet.ir.numerics import evaluate
from tests.drivers.rocket.grid import Case, case_id, pairwise, run, subgraph_of
from tests.drivers.rocket.measure import reason, refusal
from tests.support import interpreter
from tests.support.builders_unary import likely_ends
from tests.support.model_builder import Model, OperationSpec, TensorSpec

SHAPES = ((1, 7, 7, 3), (1, 8, 8, 16), (1, 5, 3, 17), (1, 13, 29, 33), (1, 56, 56, 64), (1, 2, 3, 100), (3, 130), (40,),
          (1, 14, 14, 512))
CASES = pairwise({"shape": SHAPES, "dtype": ("int8", "uint8"), "per_channel": (True, False),
                  "slope": (1e-4, 0.002, 0.01, 0.05, 1.0), "zero": (0, 1, 2), "match": ("tflite", "exact")},
                 lambda case: True, seed=8)
counted: list[tuple[int, int]] = []


def build(case: Case, rng: np.random.Generator) -> Model:
    """slope: the slopes' scale, so that 1.0 means slopes of -255..255."""
    shape, dtype = case["shape"], str(case["dtype"])
    ends, info = likely_ends("LEAKY_RELU", rng, dtype), np.iinfo(dtype)
    count = shape[-1] if case["per_channel"] else 1         # type: ignore[index]
    alpha = rng.integers(info.min, int(info.max) + 1, (1,) * (len(shape) - 1) + (count,)).astype(dtype)  # type: ignore
    zero = (int(info.min), int(info.max), 5)[case["zero"]]  # type: ignore[index]
    tensors = (TensorSpec("input", shape, dtype, (float(np.float32(ends.scale)),), (ends.zero_point,)),     # type: ignore
               TensorSpec("slopes", alpha.shape, dtype, (float(np.float32(case["slope"])),), (zero,), data=alpha),
               TensorSpec("output", shape, dtype, (float(np.float32(1.2 * ends.out_scale)),),       # type: ignore
                          (ends.out_zero_point,)))
    return Model(tensors, (OperationSpec("PRELU", (0, 1), (2,)),), (0,), (2,))


def exact_results(model: Model, value: np.ndarray) -> np.ndarray:
    """Rational arithmetic for every distinct pair of input and slope, rounded half away from zero."""
    source, slopes, out = model.tensors
    x, alpha = np.broadcast_arrays(value.astype(int) - source.zero_point, slopes.data.astype(int) - slopes.zero_point)
    pairs, inverse = np.unique(np.stack([x.reshape(-1), alpha.reshape(-1)]), axis=1, return_inverse=True)
    made = []
    for given, slope in pairs.T.tolist():
        real = Fraction(source.scale) * given * (1 if given >= 0 else Fraction(slopes.scale) * slope)
        steps = real / Fraction(out.scale)
        rounded = int(abs(steps) + Fraction(1, 2))
        made.append((rounded if steps >= 0 else -rounded) + out.zero_point)
    info = np.iinfo(out.dtype)
    return np.clip(made, info.min, info.max)[inverse.reshape(-1)].reshape(out.shape)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_within_1_lsb_of_exact(case: Case) -> None:
    rng = np.random.default_rng(zlib.crc32(case_id(case).encode()))
    model = build(case, rng)
    inputs, (output,) = run(model, rng, str(case["match"]))
    (reference,) = interpreter.run(model.data, inputs)
    subgraph = subgraph_of(model)
    mine = {match: evaluate(subgraph, subgraph.operations[0], {subgraph.inputs[0]: inputs[0]}, match)
            for match in ("tflite", "exact")}
    assert np.array_equal(mine["tflite"], reference)
    expected = exact_results(model, inputs[0])
    assert np.array_equal(mine["exact"], expected)
    assert np.abs(output.astype(int) - expected).max() <= 1
    counted.append((output.size, int((output != reference).sum())))


def test_summary(record_table: Callable[[str, dict[str, object]], None]) -> None:
    """Slopes have 15 bits at most and the scale 15: TFLite's second rounding is the larger difference."""
    elements, differing = (sum(c[i] for c in counted) for i in (0, 1))
    record_table("PRELU", {"cases": len(counted), "elements": elements,
                           "differs from TFLite": f"{differing / max(elements, 1):.3%}"})
    assert differing < 0.03 * elements + 1


def test_registers_are_those_of_working_programs() -> None:
    """Recipes §10: BS shifts the signs differently, BN multiplies what is below 0."""
    case = {"shape": (1, 6, 7, 20), "dtype": "int8", "per_channel": True, "slope": 0.002, "zero": 2}
    program = RocketDriver(RK3588).compile(subgraph_of(build(case, np.random.default_rng(0))), CompileOptions())
    (task,) = program.tasks
    words = np.frombuffer(program.bos[task.bo].data, "<u8", task.num_words, task.offset_bytes).tolist()
    values = {w & 0xFFFF: w >> 16 & 0xFFFFFFFF for w in words if w >> 48 in (0x1001, 0x2001)}
    expected = {0x4010: 14 << 4, 0x4040: 0x20040, 0x4048: 16384 << 16, 0x4060: 0x62, 0x4068: 1, 0x5028: 8}
    assert {r: values[r] for r in expected} == expected


def test_reasons_of_refused_slopes() -> None:
    case = {"shape": (1, 4, 4, 8), "dtype": "int8", "per_channel": True, "slope": 0.01, "zero": 2}
    sound = build(case, np.random.default_rng(0))
    source, slopes, out = sound.tensors

    def reason_of(changed: TensorSpec) -> str:
        return reason(replace(sound, tensors=(source, changed, out)))

    assert refusal(sound) is None
    wide = np.arange(128, dtype=np.int8).reshape(1, 4, 4, 8)
    assert reason_of(replace(slopes, shape=wide.shape, data=wide)) == (
        "slopes_are_per_channel: its slopes have shape [1, 4, 4, 8], must be one for each channel or one for all")
    assert reason_of(replace(slopes, scales=(3000.0,))).startswith("slopes_are_exact_to_one_step: ")
    assert reason_of(replace(slopes, scales=(), zero_points=())) == (
        "slopes_are_constant: its slopes are not quantised per tensor")
