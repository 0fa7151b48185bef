"""Option chains=program: whole jobs as one kernel task, right where the NPU plays along, noticed where it does not."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cermet.compiler import compile_subgraph
from cermet.drivers.base import CompileOptions, Program
from cermet.drivers.rocket import assemble
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.execute import ExecutionError, Machine
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.cycles import Conditions
from cermet.hw.soc import RK3588
from cermet.profile.tasks import program_cycles, program_words
from cermet.sim.silicon import Silicon, parse_silicon
from tests.drivers.rocket.test_jobs import ATOM_BYTES, NETWORKS
from tests.support.networks.draw import draw

NUM_RANDOM = 40
TASK_CON = 0x0101 << 48 | 0x30
RUNS, EARLY = parse_silicon("Q-X12=runs"), parse_silicon("Q-X12=early")


def programs(model: bytes, **options: object) -> tuple[Program, ...]:
    compiled = compile_subgraph(read_tflite(model), RocketDriver(RK3588), CompileOptions(
        prefer="npu", **options))      # type: ignore[arg-type]
    assert not compiled.faults
    return compiled.programs


def of_network(name: str, **options: object) -> Program:
    (program,) = programs(NETWORKS[name](np.random.default_rng(3)).data, **options)
    return program


def outputs(program: Program, silicon: Silicon = Silicon(), witnesses: list[bool] | None = None) -> bytes:   # noqa: B008
    """What all outputs hold after a run on random inputs; which witnesses were overwritten."""
    machine = Machine(RK3588, program, silicon)
    for port in program.inputs:
        memory = machine.memory[port.bo]
        memory[:] = np.random.default_rng(port.bo).integers(0, 256, memory.size, np.uint8)
    canary = np.random.default_rng(4).integers(0, 256, ATOM_BYTES, np.uint8)
    atoms = [machine.memory[job.witness_bo][job.witness_offset_bytes:job.witness_offset_bytes + ATOM_BYTES]
             for job in program.jobs]
    for atom in atoms:
        atom[:] = canary
    machine.run()
    if witnesses is not None:
        witnesses += [not (atom == canary).all() for atom in atoms]
    return b"".join(_written(machine, program))


def _written(machine: Machine, program: Program) -> Iterator[bytes]:
    for port in program.outputs:
        surfaces = machine._surfaces(port)
        real = np.ascontiguousarray(surfaces.transpose(1, 0, 2)).reshape(surfaces.shape[1], -1)[:, :port.channels]
        yield real.tobytes()


def numbers_of(program: Program) -> dict[int, int]:
    """Task -> the number that it writes into TASK_CON, whole."""
    found = {}
    for index, words in enumerate(program_words(program)):
        mine = [int(word) >> 16 & 0xFFFF_FFFF for word in words if int(word) & 0xFFFF_0000_0000_FFFF == TASK_CON]
        assert len(mine) <= 1
        found.update(dict.fromkeys([index] * len(mine), mine[0] if mine else 0))
    return found


@pytest.mark.parametrize("max_cycles", [assemble.MAX_JOB_CYCLES, 3000])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_bytes_in_one_kernel_task_for_each_job(name: str, max_cycles: int,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "MAX_JOB_CYCLES", max_cycles)
    plain, chained = of_network(name), of_network(name, chains="program")
    assert chained.steps == ()
    assert [(chain.start, len(chain)) for chain in chained.chains] == [
        (job.first_task, job.num_tasks) for job in chained.jobs]
    assert numbers_of(chained) == {chain.start: 0x7000 | len(chain) for chain in chained.chains if len(chain) > 1}
    written: list[bool] = []
    assert outputs(chained, RUNS, written) == outputs(plain)
    assert all(written)


def test_random_networks() -> None:
    count = 0
    for seed in range(NUM_RANDOM):
        model = draw(seed).model().data
        pairs = zip(programs(model), programs(model, chains="program"), strict=True)
        for plain, chained in pairs:
            count += len(chained.tasks) > 1
            assert outputs(chained, RUNS) == outputs(plain), seed
    assert count > NUM_RANDOM / 2


@pytest.mark.parametrize("name", ["convolutions", "max_pooling", "average_pooling"])
def test_a_chain_that_ends_early_leaves_its_witness(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an NPU that runs two programs of a chain, jobs of two are complete, longer ones are not."""
    monkeypatch.setattr(assemble, "MAX_JOB_CYCLES", 30_000)
    program = of_network(name, chains="program")
    lengths = [len(chain) for chain in program.chains]
    assert max(lengths) > 2, lengths
    written: list[bool] = []
    outputs(program, EARLY, written)
    assert written == [length <= 2 for length in lengths]


def test_an_npu_that_takes_no_task_number_says_so() -> None:
    with pytest.raises(ExecutionError, match=r"pc\.write: program word: PC register 0x0030 cannot be written"):
        outputs(of_network("convolutions", chains="program"))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_job_is_no_longer_than_a_task_number_holds(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no witness allows a cut the kernel starts each of its tasks, as ever."""
    from cermet.drivers.rocket import self_chains
    plain = {name: outputs(of_network(name)) for name in NETWORKS}
    for module in (assemble, self_chains):
        monkeypatch.setattr(module, "MAX_PROGRAMS", most)
    for name in NETWORKS:
        program = of_network(name, chains="program")
        for job in program.jobs:
            mine = [chain for chain in program.chains if chain.start in range(
                job.first_task, job.first_task + job.num_tasks)]
            assert len(mine) == 1 if job.num_tasks <= most else len(mine) == job.num_tasks
        assert outputs(program, RUNS) == plain[name]
        assert program.jobs[0].num_tasks <= most or name in ("bands", "pad", "max_pooling")


@pytest.mark.parametrize("options", [{"assume": "off"}, {"assume": "replayed"}, {"cores": 3}], ids=str)
def test_what_the_option_does_not_reach(options: dict[str, object]) -> None:
    """Parts without proof that are not taken for granted, and cores that wait for each other."""
    assert of_network("convolutions", chains="program", **options) == of_network("convolutions", **options)


def test_shortened_programs_chain_too() -> None:
    both = of_network("convolutions", chains="program", registers="changed")
    assert sum(task.num_words for task in both.tasks) < sum(
        task.num_words for task in of_network("convolutions", chains="program").tasks)
    assert outputs(both, RUNS) == outputs(of_network("convolutions"))


def test_the_part_is_listed() -> None:
    program = of_network("convolutions", chains="program")
    listed = [index for index, task in enumerate(program.debug["tasks"])        # type: ignore[arg-type, var-annotated]
              if "task_number" in task["assumed"]]
    assert listed == [chain.start for chain in program.chains if len(chain) > 1] != []


def test_the_estimate_has_an_interrupt_for_each_job() -> None:
    driver = RocketDriver(RK3588)
    plain, chained = of_network("convolutions"), of_network("convolutions", chains="program")
    assert len(chained.tasks) == len(plain.tasks) > 1
    at, machine = Conditions(RK3588.clock_mhz), Machine(RK3588, chained, RUNS)
    machine.run()
    (outcome,) = machine.outcomes
    runs = [launch.run for launch in outcome.launches]
    hidden = sum(min(launch.fetch, before) for launch, before in zip(outcome.launches[1:], runs, strict=False))
    assert program_cycles(RK3588, chained, at) == outcome.cycles - hidden < program_cycles(RK3588, plain, at)
    saved = (len(plain.tasks) - len(chained.jobs)) * RK3588.interrupt_us
    assert driver.npu_us(plain) - driver.npu_us(chained) == pytest.approx(saved, abs=0.1)
