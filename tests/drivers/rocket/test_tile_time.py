"""What the compiler expects tasks to take, from shapes, against what their registers say (cermet.sim.timer)."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cermet.compiler import compile_subgraph
from cermet.drivers.base import CompileOptions, Program
from cermet.drivers.rocket import driver, lanes
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.tile_time import COPY_WORDS, TASK_WORDS, Pace, mainline_pace, pace_of
from cermet.drivers.rocket.tiling import Plan, Share, all_plans, plan
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.cycles import Conditions, LaunchTime
from cermet.hw.soc import RK3588, Soc
from cermet.sim.timer import time_programs
from tests.support.builders_conv import transpose_conv
from tests.support.model_builder import Model, add, conv2d, depthwise

RNG = np.random.default_rng
# (input, output channels, kernel, stride): one task; bands; bands and parts; streamed weights; a column; odd channels.
CONVOLUTIONS = {
    "one task": ((1, 14, 14, 64), 96, (3, 3), (1, 1)),
    "bands": ((1, 112, 112, 48), 32, (3, 3), (2, 2)),
    "parts": ((1, 60, 60, 96), 512, (3, 3), (1, 1)),
    "streamed weights": ((1, 7, 7, 512), 1024, (3, 3), (1, 1)),
    "column": ((1, 300, 1, 40), 17, (5, 1), (1, 1)),
    "odd channels": ((1, 33, 21, 19), 45, (2, 3), (1, 2)),
}


def programs_of(model: Model, **options: object) -> tuple[Program, ...]:
    compiled = compile_subgraph(read_tflite(model.data), RocketDriver(RK3588), CompileOptions(
        prefer="npu", **options))      # type: ignore[arg-type]
    assert compiled.programs and not compiled.faults
    return compiled.programs


def timed(program: Program) -> list[LaunchTime]:
    words = [np.frombuffer(program.bos[task.bo].data, "<u8", task.num_words, task.offset_bytes)
             for task in program.tasks]
    return time_programs(RK3588, words, Conditions(RK3588.mainline_clock_mhz))


def expected(program: Program) -> list[int]:
    return [task["cycles"] for task in program.debug["tasks"]]      # type: ignore[attr-defined, index]


@pytest.fixture
def all_reuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights stay where they may: the pass that loads some again changes words only."""
    monkeypatch.setattr(driver, "reload_weights", lambda tasks, _: tasks)


@pytest.mark.usefixtures("all_reuse")
@pytest.mark.parametrize("first_rows", ["proven", "least"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_shapes_and_registers_give_the_same_cycles_for_a_convolution(name: str, first_rows: str) -> None:
    shape, outputs, kernel, stride = CONVOLUTIONS[name]
    model = conv2d(RNG(1), shape, outputs, kernel=kernel, stride=stride, per_channel=True)
    (program,) = programs_of(model, first_rows=first_rows)
    assert expected(program) == [launch.total for launch in timed(program)]


@pytest.mark.usefixtures("all_reuse")
@pytest.mark.parametrize("shape", [(1, 14, 14, 64), (1, 112, 112, 96), (1, 9, 5, 23), (1, 40, 40, 600)])
def test_shapes_and_registers_give_the_same_cycles_for_a_depthwise_convolution(shape: tuple[int, ...]) -> None:
    (program,) = programs_of(depthwise(RNG(2), shape, kernel=(3, 3), stride=(1, 1), per_channel=True))
    assert expected(program) == [launch.total for launch in timed(program)]


@pytest.mark.parametrize("model", [add(RNG(3), (1, 20, 31, 40)), transpose_conv(RNG(4), (1, 8, 8, 32), 32, (3, 3))],
                         ids=["add", "transpose_conv"])
def test_shapes_and_registers_give_the_same_cycles_for_other_tasks(model: Model) -> None:
    (program,) = programs_of(model)
    assert expected(program) == [launch.total for launch in timed(program)]


def test_programs_have_as_many_words_as_plans_count() -> None:
    (multiplying,) = programs_of(conv2d(RNG(6), (1, 4, 4, 16), 16))
    (adding,) = programs_of(add(RNG(7), (1, 4, 4, 16)))
    assert (multiplying.tasks[0].num_words, adding.tasks[0].num_words) == (TASK_WORDS, COPY_WORDS)


@pytest.fixture
def plan_number(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The compiler takes the plan of this number, whatever it costs."""
    wanted: list[int] = []

    def take(soc: Soc, geometry: Geometry, share: Share | None = None, pace: Pace | None = None) -> Plan | None:
        if not wanted:
            return plan(soc, geometry, share, pace)
        return list(all_plans(soc, geometry, Share.whole(geometry)))[wanted[0]]

    monkeypatch.setattr(lanes, "plan", take)
    yield wanted


@pytest.mark.parametrize("options", [{}, {"first_rows": "least"}, {"chains": "program"}], ids=str)
@pytest.mark.parametrize("shape, outputs", [((1, 60, 60, 96), 512), ((1, 28, 28, 256), 512), ((1, 10, 90, 200), 300)])
def test_the_plan_that_is_taken_is_the_fastest_by_its_registers(
        shape: tuple[int, int, int, int], outputs: int, options: dict[str, object], plan_number: list[int]) -> None:
    model = conv2d(RNG(5), shape, outputs, kernel=(3, 3), stride=(1, 1))
    geometry = Geometry.of(read_tflite(model.data).operations[0].window, shape[1:], outputs)  # type: ignore[arg-type]

    def mainline_us() -> float:
        (program,) = programs_of(model, **options)
        launches = timed(program)
        if options.get("chains") == "program":      # the operation before hides the first fetch
            return sum(launch.run for launch in launches) / RK3588.mainline_clock_mhz
        return sum(launch.total for launch in launches) / RK3588.mainline_clock_mhz \
            + len(launches) * RK3588.interrupt_us

    taken = mainline_us()
    others = []
    for number in range(len(list(all_plans(RK3588, geometry, Share.whole(geometry))))):
        plan_number[:] = [number]
        others.append(mainline_us())
    assert len(set(others)) > 1
    assert taken == pytest.approx(min(others))


def test_programs_that_chain_themselves_wait_for_no_interrupt() -> None:
    """At mainline's clock; where the option does nothing, one core is mainline's and several are chained anyhow."""
    plain = mainline_pace(RK3588)
    assert plain.task_us == RK3588.interrupt_us and not plain.is_chained
    for options, expected in (
            ({"chains": "program"}, Pace(plain.clock_mhz, is_chained=True)), ({}, plain),
            ({"chains": "program", "assume": "replayed"}, plain)):
        assert pace_of(RK3588, CompileOptions(**options)) == expected      # type: ignore[arg-type]
    assert pace_of(RK3588, CompileOptions(chains="program", cores=2)) == pace_of(RK3588, CompileOptions(cores=2))
