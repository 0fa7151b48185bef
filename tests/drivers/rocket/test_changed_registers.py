"""Programs without the words that change nothing: fewer words, the same bytes, whatever ran on the core before.

A stranger has a turn wherever the kernel may give it one, before each job and each step: it runs a program of its own,
leaves noise in both groups of every register, and with some luck swaps the groups.
"""
from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import pytest

from cermet.compiler import compile_subgraph
from cermet.drivers.base import CompileOptions, Program
from cermet.drivers.rocket import assemble
from cermet.drivers.rocket.changed_registers import NUM_CONTROL_BYTES, PORTS, changed_only
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.execute import Machine
from cermet.drivers.rocket.regcmd import Address, Regcmd, TaskProgram
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.cycles import Conditions
from cermet.hw.soc import RK3588
from cermet.profile.setting import Setting
from cermet.profile.tasks import program_cycles, program_words, timed_tasks
from cermet.sim.core import Core
from cermet.sim.registers import BlockState
from tests.drivers.rocket.test_jobs import NETWORKS
from tests.drivers.rocket.test_lanes import ORDERS, in_order
from tests.support import model_builder
from tests.support.builders_unary import Ends, behind_gently, unary
from tests.support.model_builder import Model, TensorSpec
from tests.support.networks.draw import draw
from tests.support.other_groups import all_swap, one_group

NUM_RANDOM = 60
LONG, SHORT = assemble.MAX_JOB_CYCLES, 3000     # cycles of a job
TANH = Ends("int8", 0.02, 3, "int8", 1 / 128, 0)
KERNEL = {RK3588.registers[name].offset for name in ("CNA.S_POINTER", "CORE.S_POINTER")}


def _tables(rng: np.random.Generator) -> Model:
    """Look-ups in several bands, a convolution with one behind it."""
    return model_builder.chain(
        behind_gently(model_builder.conv2d(rng, (1, 40, 30, 16), 24), rng),
        lambda t: model_builder.conv2d(rng, t.shape, 40, input_zero_point=t.zero_point))


CASES: dict[str, Callable[[np.random.Generator], Model]] = {
    **NETWORKS, "tables": _tables, "tanh": lambda rng: unary("TANH", TANH, (1, 20, 60, 40)),
    "depthwise_bands": lambda rng: model_builder.chain(
        model_builder.depthwise(rng, (1, 100, 90, 64)),
        lambda t: model_builder.depthwise(rng, t.shape, input_zero_point=t.zero_point))}


def programs(model: Model, **options: object) -> tuple[Program, ...]:
    compiled = compile_subgraph(read_tflite(model.data), RocketDriver(RK3588), CompileOptions(
        prefer="npu", **options))      # type: ignore[arg-type]
    assert not compiled.faults
    return compiled.programs


def both(model: Model, **options: object) -> list[tuple[Program, Program]]:
    """Each of the model's programs with all words, and with those that change something."""
    return list(zip(programs(model, **options), programs(model, registers="changed", **options), strict=True))


def starts_of(program: Program) -> set[int]:
    return {job.first_task for job in program.jobs} | {step.first_task for step in program.steps}


class Stranger:
    """Another client of the same cores."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(11)
        (self.program,) = programs(model_builder.conv2d(self.rng, (1, 5, 4, 16), 40))

    def runs_on(self, core: Core) -> None:
        machine = Machine(RK3588, self.program)
        machine.core = core
        machine.run()
        core.begin_job()
        for block in core.files.blocks.values():
            for group in block.groups:
                group.update({offset: int(self.rng.integers(1 << 32)) for offset in block.known})
            if self.rng.integers(2):
                block.pointer, block.executer = block.pointer ^ 1, block.executer ^ 1


@pytest.fixture(scope="module")
def stranger() -> Stranger:
    return Stranger()


def machine_of(program: Program) -> Machine:
    machine = Machine(RK3588, program)
    rng = np.random.default_rng(5)
    for bo, memory in zip(program.bos, machine.memory, strict=True):
        if bo.role == "input":
            memory[:bo.size_bytes] = rng.integers(0, 256, bo.size_bytes, np.uint8)
    return machine


def outputs(machine: Machine) -> list[bytes]:
    return [machine._surfaces(port).tobytes() for port in machine.program.outputs]


def by_jobs(program: Program, stranger: Stranger) -> list[bytes]:
    machine = machine_of(program)
    for job in program.jobs:
        stranger.runs_on(machine.core)
        for index in range(job.first_task, job.first_task + job.num_tasks):
            machine._run_task(index, program.tasks[index])
    return outputs(machine)


def by_steps(program: Program, order: str, stranger: Stranger) -> list[bytes]:
    machine = machine_of(program)
    cores = {step.lane: Core(RK3588, 0) for step in program.steps}
    for _, stage in groupby(program.steps, key=lambda step: step.stage):
        for core in cores.values():
            stranger.runs_on(core)
        for lane, index in in_order(list(stage), order):
            machine.core = cores[lane]
            machine._run_task(index, program.tasks[index])
    return outputs(machine)


def alone(program: Program) -> list[bytes]:
    """What the program gives on a core of its own."""
    machine = machine_of(program)
    machine.run()
    return outputs(machine)


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("assume", ["on", "replayed", "off"])
@pytest.mark.parametrize("max_cycles", [SHORT, LONG])
@pytest.mark.parametrize("name", CASES)
def test_same_bytes(name: str, max_cycles: int, assume: str, stranger: Stranger,
                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "MAX_JOB_CYCLES", max_cycles)
    for whole, short in both(CASES[name](np.random.default_rng(3)), assume=assume, match="exact"):
        expected = alone(whole)
        assert alone(short) == expected
        assert by_jobs(short, stranger) == expected


@pytest.mark.parametrize("name", CASES)
def test_same_bytes_on_several_cores(name: str, stranger: Stranger, always_shared: None) -> None:
    model = CASES[name](np.random.default_rng(3))
    for cores in (2, 3):
        for whole, short in both(model, cores=cores):
            expected = alone(whole)
            assert by_jobs(short, stranger) == expected
            for order in ORDERS:
                assert by_steps(short, order, stranger) == expected, (cores, order)


def test_same_bytes_of_random_networks(stranger: Stranger, always_shared: None, monkeypatch: pytest.MonkeyPatch,
                                       record_table: Callable) -> None:
    tasks = words = left = jobs = 0
    for seed in range(NUM_RANDOM):
        monkeypatch.setattr(assemble, "MAX_JOB_CYCLES", SHORT if seed % 4 == 0 else LONG)
        for whole, short in both(draw(seed).model(), cores=1 if seed % 2 else 3):
            expected = alone(whole)
            assert by_jobs(short, stranger) == expected, seed
            assert by_steps(short, ORDERS[seed % 3], stranger) == expected, seed
            tasks, jobs = tasks + len(short.tasks), jobs + len(short.jobs)
            words, left = words + num_words(whole), left + num_words(short)
    record_table("registers=changed: random networks", {
        "networks": NUM_RANDOM, "jobs": jobs, "tasks": tasks, "words, all": words, "words, changed": left})
    assert left < 0.9 * words and jobs > NUM_RANDOM


@pytest.mark.parametrize("npu", [one_group, all_swap])
@pytest.mark.parametrize("name", [*CASES, "alternating"])
def test_same_bytes_however_groups_swap(name: str, npu: Callable[[pytest.MonkeyPatch], None], stranger: Stranger,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that are there suffice for an NPU that does not double its registers, and for one whose blocks all swap."""
    model = alternating() if name == "alternating" else CASES[name](np.random.default_rng(3))
    for whole, short in both(model):
        expected = alone(whole)
        with monkeypatch.context() as patch:
            npu(patch)
            assert alone(short) == by_jobs(short, stranger) == expected


# --- words ------------------------------------------------------------------------------------------------------------


def num_words(program: Program) -> int:
    return sum(task.num_words for task in program.tasks)


def relocated(program: Program, iovas: list[int]) -> list[dict[tuple[int, int], int]]:
    """Of each task: (target, offset) -> value of its last word for this register, at the addresses of a machine."""
    added = {(item.bo, item.offset_bytes): iovas[item.target_bo] + item.addend_bytes for item in program.relocations}
    return [{(word >> 48, word & 0xFFFF): (word >> 16 & 0xFFFF_FFFF) + added.get(
        (task.bo, task.offset_bytes + 8 * number), 0) for number, word in enumerate(words.tolist())}
        for task, words in zip(program.tasks, program_words(program), strict=True)]


@pytest.mark.parametrize("max_cycles", [SHORT, LONG])
@pytest.mark.parametrize("name", CASES)
def test_what_is_left_out_is_in_both_groups(name: str, max_cycles: int, stranger: Stranger,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "MAX_JOB_CYCLES", max_cycles)
    for whole, short in both(CASES[name](np.random.default_rng(3))):
        machine, num_left_out = machine_of(short), 0
        every, kept = (relocated(program, machine.iovas) for program in (whole, short))
        for job in short.jobs:
            stranger.runs_on(machine.core)
            for index in range(job.first_task, job.first_task + job.num_tasks):
                assert kept[index].items() <= every[index].items()
                left_out = every[index].keys() - kept[index].keys()
                for target, offset in left_out:
                    for group in machine.core.files.by_target[target].groups:
                        assert group[offset] == every[index][target, offset], (index, hex(offset))
                num_left_out += len(left_out)
                machine._run_task(index, short.tasks[index])
                launched = machine.core.launches[0]
                for (target, offset), value in every[index].items():
                    block = machine.core.files.by_target.get(target)
                    if block is not None and block.name in launched and not acts(block, offset):
                        assert launched[block.name].values[offset] == value
        assert num_left_out == num_words(whole) - num_words(short)
        assert num_left_out > 0 or max(job.num_tasks for job in short.jobs) < 3


def acts(block: BlockState, offset: int) -> bool:
    """Whether writing a register does more than setting it."""
    return offset - (block.s_pointer & ~0xFFF) < NUM_CONTROL_BYTES or offset in {
        RK3588.registers[name].offset for name in PORTS}


def test_words_that_act_stay() -> None:
    """Pointers, table ports, what ends a program: as often as before."""
    blocks = Core(RK3588, 0).files.by_target

    def acting(program: Program) -> list[list[int]]:
        return [[word for word in words.tolist() if word >> 48 not in blocks
                 or acts(blocks[word >> 48], word & 0xFFFF)] for words in program_words(program)]

    for name in CASES:
        for whole, short in both(CASES[name](np.random.default_rng(3)), match="exact"):
            assert acting(short) == acting(whole)


def tall() -> Model:
    """One convolution in many bands."""
    return model_builder.conv2d(np.random.default_rng(3), (1, 240, 120, 64), 16)


def test_most_words_go_where_a_layer_has_many_tasks() -> None:
    ((whole, short),) = both(tall())
    counts = [task.num_words for task in short.tasks]
    (job,) = short.jobs
    assert counts[:2] == [task.num_words for task in whole.tasks][:2]       # both groups are filled
    assert job.num_tasks == len(counts) > 5
    assert max(counts[2:-1]) < 30           # the last band may have other sizes


@pytest.mark.parametrize(("max_cycles", "num_jobs"), [(20_000, 7), (LONG, 1)])
def test_each_job_and_step_begins_with_whole_programs(max_cycles: int, num_jobs: int,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    model = model_builder.chain(tall(), *[lambda t: model_builder.conv2d(
        rng, t.shape, 32, (1, 1), stride=(3, 3) if t.shape[1] > 20 else (1, 1), input_zero_point=t.zero_point)] * 9)
    monkeypatch.setattr(assemble, "MAX_JOB_CYCLES", max_cycles)
    ((whole, short),) = both(model, cores=2)
    starts = starts_of(short)
    assert (len(short.jobs), len(short.steps)) == (num_jobs, 5)
    for index, (task, before) in enumerate(zip(short.tasks, whole.tasks, strict=True)):
        assert (task.num_words == before.num_words) == (index in starts or index - 1 in starts)


def alternating() -> Model:
    """Convolution, function, convolution and so on, then three convolutions."""
    rng = np.random.default_rng(3)

    def conv(t: TensorSpec) -> Model:
        return model_builder.conv2d(rng, t.shape, 16, input_zero_point=t.zero_point)

    def tanh(t: TensorSpec) -> Model:
        return unary("TANH", Ends("int8", t.scale, t.zero_point, "int8", 1 / 128, 0), t.shape)

    return model_builder.chain(model_builder.conv2d(rng, (1, 9, 9, 16), 16), *(tanh, conv) * 3, conv, conv, conv)


def test_a_block_that_a_task_does_not_start_may_swap_or_not() -> None:
    """DPU tasks between convolutions: a convolution's words stay until both groups are filled for certain."""
    ((_, short),) = both(alternating())
    convolutions = [words for words in program_words(short) if int(words[-1]) >> 16 & 1]
    kept = [sum(int(word) >> 48 == 0x0201 for word in words) for words in convolutions]
    assert len(convolutions) < len(short.tasks)
    assert kept[:5] == [kept[0]] * 5 and max(kept[5:]) < kept[0] / 2


# --- what else looks at programs --------------------------------------------------------------------------------------


def test_all_is_what_it_was_and_the_default() -> None:
    model = CASES["bands"](np.random.default_rng(3))
    assert programs(model) == programs(model, registers="all")


def test_the_model_of_time_sees_the_words_that_are_gone_and_nothing_else() -> None:
    ((whole, short),) = both(CASES["bands"](np.random.default_rng(3)))
    saved = round((num_words(whole) - num_words(short)) * RK3588.timing.fetch_cycles.value)
    at = Conditions(RK3588.clock_mhz)
    assert program_cycles(RK3588, whole, at) - program_cycles(RK3588, short, at) == saved > 0
    for kernel in ("mainline", "queues"):
        setting = Setting(RK3588, RK3588.clock_mhz, 1, kernel)
        for one, other in zip(timed_tasks(whole, setting), timed_tasks(short, setting), strict=True):
            assert [launch.work for launch in one.launches] == [launch.work for launch in other.launches]
    expected = [sum(task["cycles"] for task in notes_of(program)) for program in (whole, short)]
    assert expected[0] - expected[1] == saved


def notes_of(program: Program) -> list[dict[str, Any]]:
    notes: Any = program.debug["tasks"]
    return list(notes)


def parts_of(program: Program) -> list[set[str]]:
    return [{part for part in task["assumed"] if part.startswith("registers_")} for task in notes_of(program)]


def test_what_programs_rely_on_is_said_and_refused() -> None:
    model = model_builder.chain(tall(), lambda t: model_builder.conv2d(
        np.random.default_rng(4), t.shape, 8, input_zero_point=t.zero_point))
    made = {assume: both(model, assume=assume)[0] for assume in ("on", "replayed", "off")}
    whole, off = made["off"]
    assert whole == off
    for assume in ("on", "replayed"):
        whole, short = made[assume]
        for task, before, parts in zip(short.tasks, whole.tasks, parts_of(short), strict=True):
            assert bool(parts) == (task.num_words < before.num_words)
    found = {assume: set().union(*parts_of(short)) for assume, (_, short) in made.items()}
    assert found == {"on": {"registers_of_operation", "registers_of_others"},
                     "replayed": {"registers_of_operation"}, "off": set()}
    assert num_words(made["on"][1]) < num_words(made["replayed"][1]) < num_words(whole)


def test_addresses_count() -> None:
    """A word is the same only when the same address will be added to it."""
    def task(*addresses: Address) -> TaskProgram:
        regcmd = Regcmd(RK3588.registers)
        for name, address in zip(("DPU.DST_BASE_ADDR", "DPU_RDMA.RDMA_SRC_BASE_ADDR"), addresses, strict=True):
            regcmd.emit_address(name, address)
        words, made = regcmd.finish(0x18)
        return TaskProgram(words, made, frozenset(), frozenset(), "", (0,))

    a, b = Address("a"), Address("b")
    tasks = [task(a, b), task(a, b), task(a + 16, b), task(a, b), task(a, b), task(a, b), task(a, a)]
    made = changed_only(RK3588, CompileOptions(registers="changed"), tasks, {0})
    assert [list(one.addresses.values()) for one in made] == [
        [a, b], [a, b], [a + 16], [a], [a], [], [a]]
    assert [list(one.addresses) for one in made] == [[0, 1], [0, 1], [0], [0], [0], [], [0]]
    assert [one.words for one in made[4:]] == [
        (tasks[4].words[0], *tasks[4].words[2:]), tasks[5].words[2:], tasks[6].words[1:]]
