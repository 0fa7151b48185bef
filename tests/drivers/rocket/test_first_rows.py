"""Option first_rows=least: as few FEATURE_GRAINS as the register's description allows, and the same results."""
from __future__ import annotations

import numpy as np
import pytest

from cermet.compiler import compile_subgraph
from cermet.drivers.base import CompileOptions, Program
from cermet.drivers.rocket.assumed import TaskRegisters
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.execute import run_program
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.profile.tasks import program_words
from tests.drivers.rocket import grid
from tests.drivers.rocket.test_grid import CONVOLUTIONS, DEPTHWISE, LARGE, LARGE_DEPTHWISE, _common, _rng
from tests.support import model_builder
from tests.support.builders_conv import transpose_conv
from tests.support.model_builder import Model

EVERY = 6           # of the grids' cases
PROVEN_ROWS = 12


def built(case: grid.Case) -> Model:
    rng = _rng(case)
    if "oc" in case:
        return model_builder.conv2d(rng, (1, *case["plane"], case["ic"]), case["oc"], case["kernel"],   # type: ignore
                                    **_common(case))
    return model_builder.depthwise(rng, (1, *case["plane"], case["c"]), case["kernel"], **_common(case))  # type: ignore


def program_of(model: Model, **options: object) -> Program:
    compiled = compile_subgraph(read_tflite(model.data), RocketDriver(RK3588), CompileOptions(
        prefer="npu", **options))      # type: ignore[arg-type]
    assert not compiled.faults
    (program,) = compiled.programs
    return program


def convolutions(program: Program) -> list[TaskRegisters]:
    tasks = [TaskRegisters(RK3588, [int(word) for word in words]) for words in program_words(program)]
    return [task for task in tasks if task.is_convolution]


def least(task: TaskRegisters) -> int:
    """A stride, a window and one, by the task's own registers; windows with the pixels that dilation leaves out."""
    extent = (task("CNA.WEIGHT_SIZE2", "WEIGHT_HEIGHT") - 1) * task("CNA.CONV_CON3", "ATROUS_Y_DILATION") + 1
    return task("CNA.CONV_CON3", "CONV_Y_STRIDE") + extent + 1


def grains(task: TaskRegisters) -> int:
    return task("CNA.CONV_CON2", "FEATURE_GRAINS")


@pytest.mark.parametrize("case", [*CONVOLUTIONS[::EVERY], *LARGE[::2], *DEPTHWISE[::EVERY], *LARGE_DEPTHWISE],
                         ids=grid.case_id)
def test_the_least_rows_give_the_same_results(case: grid.Case) -> None:
    """On a simulated NPU that never completes a task which waits for fewer."""
    model = built(case)
    match = case.get("match", "tflite")
    few, many = (program_of(model, first_rows=rows, match=match) for rows in ("least", "proven"))
    assert [grains(task) for task in convolutions(few)] == [least(task) for task in convolutions(few)]
    assert all(grains(task) >= PROVEN_ROWS for task in convolutions(many))
    subgraph = read_tflite(model.data)
    inputs = dict(zip(subgraph.inputs, model.random_inputs(np.random.default_rng(1)), strict=True))
    found, expected = (run_program(RK3588, subgraph, program, inputs) for program in (few, many))
    for tensor in subgraph.outputs:
        np.testing.assert_array_equal(found[tensor], expected[tensor])


def test_fewer_hang() -> None:
    """What the grid above relies on."""
    from cermet.drivers.rocket.execute import ExecutionError
    from cermet.drivers.rocket.geometry import Geometry
    model = model_builder.conv2d(np.random.default_rng(0), (1, 16, 9, 16), 16, (3, 3))
    subgraph = read_tflite(model.data)
    inputs = dict(zip(subgraph.inputs, model.random_inputs(np.random.default_rng(1)), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Geometry, "first_rows", property(lambda geometry: geometry.kernel_height_extent + 1))
        program = program_of(model)
    with pytest.raises(ExecutionError, match="FEATURE_GRAINS"):
        run_program(RK3588, subgraph, program, inputs)


def test_transposed_convolutions_wait_for_all_rows() -> None:
    model = transpose_conv(np.random.default_rng(4), (1, 8, 8, 32), 32, (3, 3))
    few, many = (program_of(model, first_rows=rows) for rows in ("least", "proven"))
    native = [(grains(one), grains(other)) for one, other in zip(convolutions(few), convolutions(many), strict=True)
              if one("CNA.CONV_CON1", "DECONV")]
    assert native and all(pair == (9, 9) for pair in native)


@pytest.mark.parametrize("assume", ["replayed", "off"])
def test_only_where_the_description_is_taken_for_granted(assume: str) -> None:
    model = model_builder.conv2d(np.random.default_rng(0), (1, 40, 40, 16), 16, (3, 3))
    assert program_of(model, first_rows="least", assume=assume) == program_of(model, assume=assume)


@pytest.mark.parametrize(("rows", "height", "is_listed"), [
    ("proven", 40, False), ("least", 40, True), ("least", 5, True), ("least", 4, False), ("proven", 4, False)])
def test_the_part_is_listed_where_rows_come_behind(rows: str, height: int, is_listed: bool) -> None:
    """A task that waits for all rows and one shows nothing new."""
    model = model_builder.conv2d(np.random.default_rng(0), (1, height, 20, 16), 16, (3, 3), padding="VALID")
    tasks = program_of(model, first_rows=rows).debug["tasks"]
    assert ["first_rows" in task["assumed"] for task in tasks] == [is_listed]      # type: ignore[attr-defined]
