"""Programs as a whole: golden register text, BOs, jobs, ports, views, errors."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.base import CompileError, CompileOptions, Program
from cermet.drivers.rocket import assemble
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.rocket.execute import ExecutionError, Machine
from cermet.hw.disasm import disassemble
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import run, subgraph_of
from tests.support import exact, model_builder
from tests.support.model_builder import Model


def _compile(model: Model, match: str = "tflite") -> Program:
    return RocketDriver(RK3588).compile(subgraph_of(model), CompileOptions(match=match))


def _listing(program: Program) -> str:
    """All tasks; addresses are 0 before relocation, so they follow as lines of their own."""
    lines = []
    for task, described in zip(program.tasks, program.debug["tasks"], strict=True):
        data = program.bos[task.bo].data[task.offset_bytes:task.offset_bytes + 8 * task.num_words]
        lines += [f"# {described['layer']}", *disassemble(np.frombuffer(data, "<u8").tolist())]
    for item in program.relocations:
        role = program.bos[item.target_bo].role
        lines.append(f"# word at {item.offset_bytes:#x} += {role} + {item.addend_bytes:#x}")
    return "\n".join(lines) + "\n"


GOLDEN = {
    "conv_3x3_uint8_relu6": lambda rng: model_builder.conv2d(rng, (1, 8, 8, 20), 40, dtype="uint8", activation="RELU6",
                                                            weight_zero_point=120, input_zero_point=130),
    "conv_in_blocks": lambda rng: model_builder.conv2d(rng, (1, 9, 9, 3), 8, stride=(2, 2), dtype="uint8"),
    "conv_stride_2_per_channel": lambda rng: model_builder.conv2d(rng, (1, 9, 9, 20), 8, stride=(2, 2),
                                                                  per_channel=True),
    "conv_two_bands": lambda rng: model_builder.conv2d(rng, (1, 120, 60, 64), 16, (3, 3)),
    "depthwise_5x5": lambda rng: model_builder.depthwise(rng, (1, 10, 12, 70), (5, 5), per_channel=True),
    "fully_connected": lambda rng: model_builder.fully_connected(rng, (2, 40), 10),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_registers_are_those_of_the_golden_text(name: str, golden_text: Callable[[str, str], None]) -> None:
    golden_text(f"rocket/{name}.txt", _listing(_compile(GOLDEN[name](np.random.default_rng(7)))))


def test_buffers_and_jobs() -> None:
    """One job; what is written is only listed as written; programs lie 64 bytes aligned in the constant BO."""
    rng = np.random.default_rng(0)
    model = model_builder.chain(model_builder.conv2d(rng, (1, 8, 8, 4), 8),
                                lambda t: model_builder.conv2d(rng, t.shape, 8, input_zero_point=t.zero_point))
    program = _compile(model)
    assert [bo.role for bo in program.bos] == ["constant", "arena", "input", "output"]
    (job,) = program.jobs
    assert (job.first_task, job.num_tasks, job.in_bos, job.out_bos) == (0, 2, (0, 2), (1, 3))
    assert all(task.offset_bytes % 64 == 0 and task.bo == 0 for task in program.tasks)


def test_long_work_is_cut_into_jobs_but_not_between_tasks_that_share_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    model = model_builder.chain(model_builder.conv2d(rng, (1, 120, 60, 64), 16),
                                lambda t: model_builder.conv2d(rng, t.shape, 8, input_zero_point=t.zero_point))
    monkeypatch.setattr(assemble, "MAX_JOB_CYCLES", 1)
    program = _compile(model)
    operations = [task["operations"] for task in program.debug["tasks"]]
    groups = [operations[job.first_task:job.first_task + job.num_tasks] for job in program.jobs]
    assert len(groups) >= 2 and all(len({tuple(o) for o in group}) == 1 for group in groups)


def test_uint8_is_moved_to_the_signed_domain_at_the_ports() -> None:
    rng = np.random.default_rng(0)
    program = _compile(model_builder.conv2d(rng, (1, 4, 4, 3), 5, dtype="uint8", input_zero_point=7))
    (port,) = program.inputs
    assert (port.flip, port.fill, port.layout, port.channels) == (0x80, (7 - 128) & 0xFF, "atoms", 3)


@pytest.mark.parametrize("outputs", [3, 40])
def test_a_flattened_map_feeds_a_fully_connected_layer_without_a_copy(outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    model = model_builder.chain(
        model_builder.conv2d(rng, (1, 9, 9, 5), 20, (3, 3), stride=(2, 2), output_zero_point=3),
        lambda t: model_builder.reshape(rng, t.shape, (1, 500), zero_point=t.zero_point),
        lambda t: model_builder.fully_connected(rng, t.shape, outputs, input_zero_point=t.zero_point))
    assert len(_compile(model).tasks) == 2
    _check(model, rng)


def test_a_flattened_map_leaves_the_program_without_a_copy() -> None:
    rng = np.random.default_rng(0)
    model = model_builder.chain(model_builder.conv2d(rng, (1, 6, 6, 5), 20, output_zero_point=3),
                                lambda t: model_builder.reshape(rng, t.shape, (1, 720), zero_point=t.zero_point))
    assert len(_compile(model).tasks) == 1
    _check(model, rng)


def test_a_vector_that_becomes_a_map_enters_without_a_copy() -> None:
    rng = np.random.default_rng(0)
    model = model_builder.chain(model_builder.reshape(rng, (1, 96), (1, 4, 6, 4), zero_point=3),
                                lambda t: model_builder.conv2d(rng, t.shape, 7, input_zero_point=t.zero_point))
    assert len(_compile(model).tasks) == 1
    _check(model, rng)


def _check(model: Model, rng: np.random.Generator) -> None:
    inputs, (output,) = run(model, rng)
    difference = np.abs(output.astype(int) - exact.run(model, inputs)[-1].quantised.astype(int))
    assert difference.max() <= len(model.operations)


def test_a_failure_of_ours_names_the_operation() -> None:
    """A subgraph that the rules refuse is not compiled: the error says where it stopped."""
    model = model_builder.conv2d(np.random.default_rng(0), (1, 7, 2000, 64), 1, (7, 1), padding="VALID")
    with pytest.raises(CompileError, match=r"operation 0 \(conv_2d\): the rows of one window do not fit"):
        _compile(model)


def test_a_program_over_the_end_of_a_buffer_faults() -> None:
    """The machine of the tests is not kinder than an IOMMU."""
    program = _compile(model_builder.conv2d(np.random.default_rng(0), (1, 8, 8, 300), 16))
    short = replace(program, bos=tuple(replace(bo, size_bytes=64) if bo.role == "input" else bo for bo in program.bos))
    with pytest.raises(ExecutionError, match="task 0"):
        Machine(RK3588, short).run()


def test_equal_constants_are_stored_once() -> None:
    subgraph = subgraph_of(model_builder.conv2d(np.random.default_rng(0), (1, 4, 4, 3), 5))
    context = Context(RK3588, subgraph, CompileOptions())
    assert context.constant("a", b"1234") == context.constant("b", b"1234")
    assert context.constant("a", b"5678") != context.constant("a", b"1234")
