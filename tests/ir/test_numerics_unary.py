"""Unary functions: every input value against TFLite's kernels, and against the real function rounded once."""
from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from cermet.frontend.tflite_file import read_tflite
from cermet.ir.numerics import evaluate
from cermet.ir.numerics_unary import FUNCTIONS as KINDS
from cermet.ir.numerics_unary import unary_table
from tests.support import interpreter
from tests.support.builders_unary import FUNCTIONS, INT8_ONLY, LINEAR, Ends, exact_table, likely_ends, unary

CASES = [(name, dtype) for name in FUNCTIONS for dtype in ("int8", "uint8") if name not in INT8_ONLY or dtype == "int8"]
# What tflite-runtime 2.14 has only in its optimised resolver, or not at all: (runtime, resolver) to ask instead.
ELSEWHERE = {"ELU": ("tflite", "default"), "LOG": ("litert", "ref")}
SLOPES = (0.1, 0.2, 0.01, 1.5, 0.0, -0.3)


def options_of(name: str, rng: np.random.Generator) -> Mapping[str, object]:
    drawn = {"LEAKY_RELU": {"Alpha": float(rng.choice(SLOPES))}, "GELU": {"Approximate": bool(rng.integers(2))}}
    return drawn.get(name, {})


def all_values(dtype: str) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.arange(info.min, int(info.max) + 1).astype(dtype).reshape(1, 256)


def tables(name: str, ends: Ends, options: Mapping[str, object]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(TFLite's outputs, ours, ours exact) for all inputs."""
    model = unary(name, ends, (1, 256), options)
    runtime, resolver = ELSEWHERE.get(name, ("tflite", "ref"))
    (theirs,) = interpreter.run(model.data, [all_values(ends.dtype)], runtime=runtime, resolver=resolver)
    subgraph = read_tflite(model.data)
    (operation,) = subgraph.operations
    mine = [evaluate(subgraph, operation, {subgraph.inputs[0]: all_values(ends.dtype)}, match)
            for match in ("tflite", "exact")]
    return theirs[0].astype(int), mine[0][0].astype(int), mine[1][0].astype(int)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_every_value_equals_tflite_s(name: str, dtype: str,
                                     record_table: Callable[[str, dict[str, object]], None]) -> None:
    rng = np.random.default_rng(zlib.crc32(f"{name} {dtype}".encode()))
    values = differing = off_exact = furthest = 0
    for _ in range(40):
        ends, options = likely_ends(name, rng, dtype), options_of(name, rng)
        theirs, mine, real = tables(name, ends, options)
        assert np.array_equal(real, exact_table(name, ends, options).astype(int))
        differing += int((theirs != mine).sum())
        off_exact += int((mine != real).sum())
        furthest = max(furthest, int(np.abs(mine - real).max()))
        values += mine.size
    record_table("unary functions, every input value", {
        "function": name, "dtype": dtype, "values": values, "differ from TFLite": differing,
        "TFLite 1 LSB from exact": f"{off_exact / values:.3%}"})
    assert differing == 0 and furthest <= 1


@pytest.mark.parametrize("name", ["RELU", "RELU6", "LEAKY_RELU", "QUANTIZE", "TANH", "GELU"])
@pytest.mark.parametrize(("scale", "out_scale"), [(1e-4, 3.0), (70.0, 0.01), (0.5, 0.5), (0.5, 0.25), (1.0, 3e-5)])
def test_unusual_scales_equal_tflite_s(name: str, scale: float, out_scale: float) -> None:
    """Shifts to the left, results that saturate or vanish, exact ties.

    Not EXP: TFLite casts steps beyond int32, which C leaves undefined.
    """
    if name == "TANH":
        out_scale = 1 / 128
    for zeros in ((-128, 127), (127, -128), (3, 0)):
        out_zero = 0 if name == "TANH" else zeros[1]
        ends = Ends("int8", scale, zeros[0], "int8", out_scale, out_zero)
        theirs, mine, _ = tables(name, ends, {"Alpha": 0.3} if name == "LEAKY_RELU" else {})
        assert np.array_equal(theirs, mine)


@pytest.mark.parametrize("seed", range(6))
def test_quantize_between_types(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for source in ("int8", "uint8"):
        for made in ("int8", "uint8"):
            zeros = [int(rng.integers(np.iinfo(t).min, np.iinfo(t).max + 1)) for t in (source, made)]
            ends = Ends(source, 0.02, zeros[0], made, float(rng.choice([0.02, 0.013, 0.2])), zeros[1])
            theirs, mine, real = tables("QUANTIZE", ends, {})
            assert np.array_equal(theirs, mine) and np.abs(mine - real).max() <= 1


def test_every_function_is_tested() -> None:
    assert {kind.value for kind in KINDS} == set(FUNCTIONS)
    assert {kind.value for kind, function in KINDS.items() if function.is_linear} == set(LINEAR)


def test_the_table_ascends_with_the_input() -> None:
    subgraph = read_tflite(unary("QUANTIZE", Ends("uint8", 1.0, 0, "int8", 1.0, -128), (1, 4)).data)
    table = unary_table(subgraph.tensors[0], subgraph.tensors[1], subgraph.operations[0])
    assert np.array_equal(table, np.arange(-128, 128))
