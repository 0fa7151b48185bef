"""One inference on several cores: the same bytes, in whatever order the cores come to their shares.

Lanes of a stage are run backwards and by turns, task by task, each on a core of its own: what depended on another
lane's work would find noise or old contents of the memory.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, groupby, zip_longest

import numpy as np
import pytest

from cermet.compiler import compile_subgraph
from cermet.drivers.base import CompileOptions, Program, Step
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.execute import Machine
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.lanes import divisions, plan_lanes, slowest_us, worth_sharing
from cermet.drivers.rocket.layout import ceil_div
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.steps import stage_numbers, steps_of
from cermet.drivers.rocket.tile_time import Pace, pace_of
from cermet.drivers.rocket.tiling import Share, plan
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.ir.operation import Pair
from cermet.sim.core import Core
from tests.drivers.rocket.test_jobs import NETWORKS
from tests.support import model_builder
from tests.support.model_builder import Model
from tests.support.networks.draw import draw

NUM_RANDOM = 60
ORDERS = ("forward", "backward", "by turns")


def programs_of(model: Model, cores: int) -> tuple[Program, ...]:
    options = CompileOptions(cores=cores, prefer="npu")
    compiled = compile_subgraph(read_tflite(model.data), RocketDriver(RK3588), options)
    assert not compiled.faults
    return compiled.programs


def run(program: Program, order: str, contents: bytes) -> list[bytes]:
    """The outputs' bytes. contents: of the input BO, repeated."""
    machine = Machine(RK3588, program)
    for bo, memory in zip(program.bos, machine.memory, strict=True):
        if bo.role == "input":
            memory[:bo.size_bytes] = np.resize(np.frombuffer(contents, np.uint8), bo.size_bytes)
    if order == "jobs":
        machine.run()
    else:
        cores = {step.lane: Core(RK3588, 0) for step in program.steps}
        for _, stage in groupby(program.steps, key=lambda step: step.stage):
            for core in cores.values():
                core.begin_job()
            for lane, index in in_order(list(stage), order):
                machine.core = cores[lane]
                machine._run_task(index, program.tasks[index])
    return [machine._surfaces(port).tobytes() for port in program.outputs]


def in_order(stage: list[Step], order: str) -> Iterator[tuple[int, int]]:
    """(lane, task) of all tasks of a stage."""
    runs = [[(step.lane, step.first_task + k) for k in range(step.num_tasks)] for step in stage]
    if order == "by turns":
        yield from (task for turn in zip_longest(*runs) for task in turn if task is not None)
    else:
        yield from (task for run in (runs if order == "forward" else runs[::-1]) for task in run)


def check(model: Model) -> int:
    """The largest number of lanes in a stage."""
    contents = np.random.default_rng(5).integers(0, 256, 4099, np.uint8).tobytes()
    widest = 1
    alone = programs_of(model, 1)
    for cores in (2, 3):
        for one, several in zip(alone, programs_of(model, cores), strict=True):
            expected = run(one, "jobs", contents)
            assert all(step.lane < cores for step in several.steps)
            for order in ("jobs", *ORDERS):
                assert run(several, order, contents) == expected, (cores, order)
            widest = max(widest, 1 + max(step.lane for step in several.steps))
    return widest


@pytest.mark.parametrize("name", NETWORKS)
def test_any_order_of_lanes(name: str, always_shared: None) -> None:
    widest = check(NETWORKS[name](np.random.default_rng(3)))
    assert widest == 3 or name not in ("convolutions", "bands", "max_pooling", "mean")


def test_random_networks(always_shared: None) -> None:
    widths = [check(draw(seed).model()) for seed in range(NUM_RANDOM)]
    assert widths.count(3) > NUM_RANDOM / 3


def test_one_core_is_what_it_was() -> None:
    """Nobody who does not ask for it gets other programs."""
    (program,) = programs_of(NETWORKS["convolutions"](np.random.default_rng(3)), 1)
    assert program.steps == (Step(0, len(program.tasks), 0, 0),)


def test_small_operations_are_not_shared() -> None:
    """An interrupt costs more than they take."""
    (program,) = programs_of(NETWORKS["convolutions"](np.random.default_rng(3)), 3)
    assert len(program.steps) == 1


def test_large_operations_are_shared() -> None:
    model = model_builder.conv2d(np.random.default_rng(1), (1, 56, 56, 64), 64)
    (program,) = programs_of(model, 3)
    assert [(step.lane, step.stage) for step in program.steps] == [(0, 0), (1, 0), (2, 0)]


def stages_saved_us(order: list[int], shared: frozenset[int], saved_us: dict[int, float]) -> float:
    """What sharing some of them saves, less an interrupt for each stage; counted stage by stage."""
    stages = [list(run) for _, run in groupby(order, key=lambda number: number if number in shared else 0)]
    return sum(saved_us[number] for number in shared) - RK3588.interrupt_us * (len(stages) - 1)


def test_the_best_of_all_choices_is_taken() -> None:
    """Against all subsets, on random sequences with savings around the price of an interrupt."""
    rng = np.random.default_rng(11)
    several = 0
    for _ in range(200):
        count = int(rng.integers(1, 8))
        saved_us = {number + 1: float(rng.normal(1.2, 1.0)) * RK3588.interrupt_us for number in range(count)}
        order = [number for number in saved_us for number in ([0, number] if rng.random() < 0.5 else [number])]
        order += [0] if rng.random() < 0.5 else []
        subsets = (frozenset(subset) for size in range(count + 1) for subset in combinations(saved_us, size))
        best = max(stages_saved_us(order, subset, saved_us) for subset in subsets)
        chosen = worth_sharing(RK3588, order, saved_us)
        assert stages_saved_us(order, chosen, saved_us) == pytest.approx(best)
        several += 0 < len(chosen) < count
    assert several > 50


# --- divisions --------------------------------------------------------------------------------------------------------

CONV = Geometry(30, 31, 40, 30, 31, 100, Pair(3, 3), Pair(1, 1), Pair(1, 1), 1, 1)
GEOMETRIES = {
    "direct": CONV, "strided": replace(CONV, output_height=15, output_width=16, stride=Pair(2, 2)),
    "depthwise": replace(CONV, input_channels=200, output_channels=200, is_depthwise=True),
    "one row": replace(CONV, input_height=3, output_height=1, pad_top=0),
    "few channels": replace(CONV, output_channels=5), "tall": replace(CONV, input_height=400, output_height=400)}


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_tiles_of_all_lanes_are_the_whole_output_once(name: str, count: int) -> None:
    """For every division, and for the one that is chosen."""
    geometry = GEOMETRIES[name]
    chosen = plan_lanes(RK3588, geometry, pace_of(RK3588, CompileOptions(cores=count))) or [plan(RK3588, geometry)]
    assert len(chosen) <= count
    divided = [[plan(RK3588, geometry, share) for share in shares] for shares in divisions(RK3588, geometry, count)]
    for made in (chosen, *divided):
        seen = np.zeros((geometry.output_height, geometry.output_channels), int)
        for lane in made:
            assert lane is not None and not lane[0].reuses_weights     # its core has loaded nothing before
            for tile in lane:
                seen[tile.first_output_row:tile.first_output_row + tile.output_rows,
                     tile.first_channel:tile.first_channel + tile.channels] += 1
        assert (seen == 1).all()


def test_lanes_share_the_memory_with_those_that_take_part() -> None:
    """Two rows are for two cores: the third one waits, and takes nothing from them."""
    two_rows = replace(CONV, input_height=2, output_height=2, output_channels=32)
    us = []
    for cores in (2, 3):
        pace = Pace(RK3588.clock_mhz, cores, is_chained=True)
        lanes = plan_lanes(RK3588, two_rows, pace)
        assert lanes is not None and len(lanes) == 2
        us.append(slowest_us(RK3588, two_rows, lanes, pace))
    assert us[0] == us[1]


@pytest.mark.parametrize("name", GEOMETRIES)
def test_divisions_are_even_and_keep_groups_whole(name: str) -> None:
    """Channels of one group are completed by one task: another that began inside it would write its filler."""
    geometry = GEOMETRIES[name]
    group = geometry.group(RK3588)
    for shares in divisions(RK3588, geometry, 3):
        assert all(share.first_channel % group == 0 for share in shares)
        rows = [share.rows for share in shares]
        groups = [ceil_div(share.channels, group) for share in shares]
        assert max(rows) - min(rows) <= 1 and max(groups) - min(groups) <= 1 and min(*rows, *groups) > 0


def test_share_of_everything_is_the_plan() -> None:
    assert plan(RK3588, CONV) == plan(RK3588, CONV, Share(0, 30, 0, 100))


# --- stages -----------------------------------------------------------------------------------------------------------


def tasks_like(text: str) -> list[TaskProgram]:
    """Of each word: its lane, and a letter for the operation that is shared."""
    letters = {"": 0}
    return [TaskProgram((0, 0, 0, 0), {}, frozenset(), frozenset(), "", (0,), lane=int(word[0]),
                        shared=letters.setdefault(word[1:], len(letters))) for word in text.split()]


@pytest.mark.parametrize(("text", "stages"), [
    ("0 0 0", "0 0 0"), ("0 0a 1a 2a 0 0", "0 1 1 1 2 2"), ("0a 0a 1a 0b 1b 1b", "0 0 0 1 1 1"), ("0a 1a 0", "0 0 1")])
def test_stages(text: str, stages: str) -> None:
    tasks = tasks_like(text)
    assert stage_numbers(tasks) == [int(number) for number in stages.split()]
    steps = steps_of(tasks)
    assert sum(step.num_tasks for step in steps) == len(tasks)
    assert len({(step.stage, step.lane) for step in steps}) == len(steps)
