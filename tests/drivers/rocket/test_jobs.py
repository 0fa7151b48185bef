"""Jobs: each leaves a witness that no other job touches, whatever the network and wherever it is cut."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions, Job
from cermet.drivers.rocket import assemble
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.execute import Machine
from cermet.drivers.rocket.jobs import Written, job_starts
from cermet.drivers.rocket.regcmd import Address, TaskProgram
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import subgraph_of
from tests.support import builders_move, model_builder
from tests.support.model_builder import Model

ATOM_BYTES = 16


def _residual(rng: np.random.Generator) -> Model:
    return model_builder.chain(
        model_builder.conv2d(rng, (1, 12, 9, 5), 20),
        lambda t: model_builder.depthwise(rng, t.shape, input_zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, 70, (1, 1), input_zero_point=t.zero_point))


def _pools(kind: str) -> Callable[[np.random.Generator], Model]:
    return lambda rng: model_builder.chain(
        model_builder.conv2d(rng, (1, 12, 11, 5), 40),
        lambda t: model_builder.pool(rng, t.shape, kind, (3, 3), padding="SAME", zero_point=t.zero_point),
        lambda t: model_builder.pool(rng, t.shape, kind, (2, 2), stride=(2, 2), zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, 7, input_zero_point=t.zero_point))


NETWORKS: dict[str, Callable[[np.random.Generator], Model]] = {
    "convolutions": _residual, "max_pooling": _pools("MAX"), "average_pooling": _pools("AVERAGE"),
    "bands": lambda rng: model_builder.chain(
        model_builder.conv2d(rng, (1, 120, 60, 64), 16),
        lambda t: model_builder.conv2d(rng, t.shape, 8, input_zero_point=t.zero_point)),
    "add": lambda rng: model_builder.add(rng, (1, 6, 7, 37)),
    "mean": lambda rng: model_builder.chain(
        model_builder.conv2d(rng, (1, 9, 9, 5), 20),
        lambda t: model_builder.mean(rng, t.shape, zero_point=t.zero_point)),
    "pad": lambda rng: builders_move.pad((1, 6, 7, 20), [(0, 0), (1, 2), (2, 1), (0, 0)]),
    "concatenation": lambda rng: builders_move.concatenation([(1, 5, 5, 16), (1, 5, 5, 32)], 3),
    "concatenation_inside_atoms": lambda rng: builders_move.concatenation([(1, 5, 5, 20), (1, 5, 5, 7)], 3),
    "split": lambda rng: builders_move.split((1, 5, 5, 48), 3, [16, 32]),
    "depth_to_space": lambda rng: builders_move.blocks("DEPTH_TO_SPACE", (1, 4, 4, 64), 2),
}
LONE = {"add", "pad"}     # one task, or tasks that write the same atoms and a witness behind them


def _atom(machine: Machine, job: Job) -> np.ndarray:
    return machine.memory[job.witness_bo][job.witness_offset_bytes:job.witness_offset_bytes + ATOM_BYTES]


@pytest.mark.parametrize("max_cycles", [1, 3000])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_job_overwrites_its_own_witness_and_no_other(name: str, max_cycles: int,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "MAX_JOB_CYCLES", max_cycles)
    model = NETWORKS[name](np.random.default_rng(3))
    program = RocketDriver(RK3588).compile(subgraph_of(model), CompileOptions())
    assert max_cycles > 1 or len(program.jobs) > 1 or len(program.tasks) == 1 or name in LONE
    machine = Machine(RK3588, program)
    canary = np.random.default_rng(4).integers(0, 256, ATOM_BYTES, np.uint8)
    for job in program.jobs:
        _atom(machine, job)[:] = canary
    for number, job in enumerate(program.jobs):
        machine.core.begin_job()
        for index in range(job.first_task, job.first_task + job.num_tasks):
            assert (_atom(machine, job) == canary).all(), f"task {index} of job {number}: not the first"
            machine._run_task(index, program.tasks[index])
        overwritten = [not (_atom(machine, other) == canary).all() for other in program.jobs]
        assert overwritten == [True] * (number + 1) + [False] * (len(program.jobs) - number - 1)


def _task(**changes: object) -> TaskProgram:
    return TaskProgram((), {}, frozenset(), frozenset(), "task", (0,), cycles=10, **changes)    # type: ignore[arg-type]


def _map(buffer: str, offset_bytes: int = 0, width: int = 4, height: int = 4) -> Written:
    """A part of a map of 4 x 4 atoms and two surfaces."""
    return Written(Address(buffer, offset_bytes), width, height, 2, 2, 4 * ATOM_BYTES, 16 * ATOM_BYTES,
                   32 * ATOM_BYTES, 2)


def test_tasks_that_write_one_place_stay_in_one_job() -> None:
    tasks = [_task() for _ in range(4)]
    assert job_starts(tasks, [_map("a"), _map("b"), _map("c"), _map("d")], 10, 9) == [0, 1, 2, 3]
    assert job_starts(tasks, [_map("a"), _map("b"), _map("b"), _map("c")], 10, 9) == [0, 1]
    assert job_starts(tasks, [_map("a"), _map("b"), _map("c"), _map("a")], 10, 9) == [0]
    assert job_starts(tasks, [_map("a"), _map("b"), _map("c"), _map("b")], 10, 9) == [0]
    assert job_starts(tasks, [_map("a"), _map("b"), _map("c"), _map("d")], 20, 9) == [0, 2]


def test_bands_and_columns_of_one_map_are_different_places() -> None:
    upper, lower = _map("a", height=2), _map("a", 8 * ATOM_BYTES, height=2)
    left, right = _map("a", width=2), _map("a", 2 * ATOM_BYTES, width=2)
    assert job_starts([_task(), _task()], [upper, lower], 10, 9) == [0, 1]
    assert job_starts([_task(), _task()], [left, right], 10, 9) == [0, 1]
    assert job_starts([_task(), _task()], [upper, _map("a")], 10, 9) == [0]
    assert job_starts([_task(), _task(needs_previous=True)], [upper, lower], 10, 9) == [0]
