"""The compiler above the drivers: who decides, what a fault does, and that equal inputs give equal plans."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cermet import paths
from cermet.compiler import CompileRequestError, compile_blob, compile_subgraph, driver_for
from cermet.drivers.base import CompileOptions, Program, Refusal, Refused
from cermet.frontend.tflite_file import read_tflite, to_blob
from cermet.ir.dynamic import dynamic_tensors
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph
from cermet.program.cache import cache_key
from cermet.program.plan_reader import decode_plan
from tests.program.test_plan import program
from tests.support import model_builder
from tests.support.model_builder import OperationSpec, TensorSpec, build_model

UNPROVEN = Refusal("parts_are_proven", "needs more")


class FakeDriver:
    """Takes all but SOFTMAX; compile fails for groups with an operation in `faulty`."""

    name = "fake"

    def __init__(self, faulty: set[int] | None = None, faulty_rules: set[int] | None = None,
                 unproven: set[int] | None = None) -> None:
        self.unproven = unproven or set()
        self.faulty = faulty or set()
        self.faulty_rules = faulty_rules or set()
        self.compiled: list[tuple[int, ...]] = []

    def refuse(self, subgraph: Subgraph, operation: Operation, options: CompileOptions) -> Refusal | None:
        if operation.index in self.faulty_rules:
            raise KeyError("no such table")
        return Refusal("kind", "no softmax") if operation.name == "SOFTMAX" else None

    def compile(self, subgraph: Subgraph, options: CompileOptions) -> Program:
        group = tuple(operation.index for operation in subgraph.operations)
        self.compiled.append(group)
        if self.faulty.intersection(group):
            raise ZeroDivisionError("stride\nis 0")
        refused = {index: UNPROVEN for index in self.unproven.intersection(group)}
        if refused:
            raise Refused(refused)
        return program()

    def execute(self, subgraph: Subgraph, inputs: object) -> dict[int, np.ndarray]:
        raise NotImplementedError

    def npu_us(self, program: Program) -> float:
        return 0.0


def chain(*names: str) -> bytes:
    """A model of int8 operations, one after another, on 1x4x4x2 tensors."""
    tensors = [TensorSpec(f"t{i}", (1, 4, 4, 2), "int8", (0.5,), (0,)) for i in range(len(names) + 1)]
    operations = [OperationSpec(name, (i, i) if name == "ADD" else (i,), (i + 1,)) for i, name in enumerate(names)]
    return build_model(tensors, operations, [0], [len(names)])


def compiled(driver: FakeDriver, *names: str, **options: object):      # type: ignore[no-untyped-def]
    return compile_subgraph(read_tflite(chain(*names)), driver, CompileOptions(**options))    # type: ignore[arg-type]


def test_each_group_gets_a_program_and_the_rest_reasons() -> None:
    made = compiled(FakeDriver(), "ADD", "ADD", "SOFTMAX", "ADD")
    assert made.groups == ((0, 1), (3,))
    assert len(made.programs) == 2
    assert made.refusals == {2: Refusal("kind", "no softmax")}
    assert made.faults == ()


def test_fault_of_the_compiler_leaves_its_group_on_the_cpu() -> None:
    made = compiled(FakeDriver(faulty={1}), "ADD", "ADD", "SOFTMAX", "ADD")
    assert made.groups == ((3,),)
    assert made.faults == ("partition of operation 0 (add) to operation 1 (add): fault of the compiler, stays on the "
                           "CPU: ZeroDivisionError: stride is 0",)
    assert made.refusals[0] == Refusal("compiler_fault", "fault of the compiler: stride is 0")


def test_fault_in_a_support_rule_leaves_the_operation_on_the_cpu() -> None:
    made = compiled(FakeDriver(faulty_rules={0}), "ADD", "ADD")
    assert made.groups == ((1,),)
    assert made.faults[0].startswith("support rules of operation 0 (add): fault of the compiler")


def test_fault_is_raised_when_a_traceback_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERMET_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        compiled(FakeDriver(faulty={1}), "ADD", "ADD")


def test_unchanged_groups_are_not_compiled_again_after_a_fault() -> None:
    driver = FakeDriver(faulty={0})
    compiled(driver, "ADD", "SOFTMAX", "ADD", "SOFTMAX", "ADD")
    assert driver.compiled == [(0,), (2,), (4,)]


def test_allow_and_deny_name_operations() -> None:
    assert compiled(FakeDriver(), "ADD", "RESHAPE", "ADD", deny=frozenset({"ADD"})).groups == ()
    made = compiled(FakeDriver(), "ADD", "MEAN", "ADD", allow=frozenset({"ADD"}))
    assert made.groups == ((0,), (2,))
    assert made.refusals[1] == Refusal("option_allow", "option allow names only ADD")


def test_allow_and_deny_name_numbers_and_ranges() -> None:
    made = compiled(FakeDriver(), "ADD", "ADD", "ADD", "ADD", deny=frozenset({"1-2"}))
    assert made.groups == ((0,), (3,))
    assert made.refusals[2] == Refusal("option_deny", "option deny names 1-2")
    made = compiled(FakeDriver(), "ADD", "ADD", "ADD", "ADD", allow=frozenset({"0-1", "3"}), deny=frozenset({"0"}))
    assert made.groups == ((1,), (3,)) and set(made.refusals) == {0, 2}


def test_small_partitions_stay_on_the_cpu() -> None:
    """Also those that a denied operation has made small."""
    made = compiled(FakeDriver(), "ADD", "ADD", "SOFTMAX", "ADD", "ADD", "ADD", min_partition_nodes=2,
                    deny=frozenset({"4"}))
    assert made.groups == ((0, 1),)
    assert made.refusals[3].rule == made.refusals[5].rule == "group_has_min_nodes"


@pytest.mark.parametrize("option", ["allow", "deny"])
def test_unknown_operation_names_are_an_error_that_lists_the_known(option: str) -> None:
    with pytest.raises(CompileRequestError, match=f"option {option}: CONV2D must be among ABS, ADD, AVERAGE_POOL_2D, "):
        compiled(FakeDriver(), "ADD", **{option: frozenset({"CONV2D"})})


def test_a_group_that_nobody_reads_stays_on_the_cpu() -> None:
    tensors = [TensorSpec(name, (1, 2), "int8", (0.5,), (0,)) for name in ("in", "out", "unread")]
    model = build_model(tensors, [OperationSpec("ABS", (0,), (1,)), OperationSpec("ABS", (0,), (2,))], [0], [1])
    assert compile_subgraph(read_tflite(model), FakeDriver(), CompileOptions()).groups == ((0, 1),)
    made = compile_subgraph(read_tflite(model), FakeDriver(), CompileOptions(groups=((0,), (1,))))
    assert (made.groups, made.faults) == (((0,),), ())
    assert made.refusals == {1: Refusal("result_is_read", "nobody reads what it computes")}


def test_a_model_without_outputs_stays_on_the_cpu() -> None:
    tensors = [TensorSpec(name, (1, 2), "int8", (0.5,), (0,)) for name in ("in", "out")]
    made = compile_subgraph(read_tflite(build_model(tensors, [OperationSpec("ABS", (0,), (1,))], [0], [])),
                            driver_for("rk3588"), CompileOptions())
    assert (made.groups, made.faults, made.refusals[0].rule) == ((), (), "result_is_read")


def test_groups_are_taken_as_given() -> None:
    made = compiled(FakeDriver(), "ADD", "ADD", "ADD", groups=((0,), (2,)))
    assert made.groups == ((0,), (2,))
    assert made.refusals == {1: Refusal("option_groups", "option groups leaves it out")}


@pytest.mark.parametrize(("groups", "words"), [
    (((0, 9),), "option groups: operation 9 must be below 2"),
    (((1,),), r"option groups: operation 1 \(softmax\) stays on the CPU: no softmax")])
def test_impossible_groups_are_an_error(groups: tuple[tuple[int, ...], ...], words: str) -> None:
    with pytest.raises(CompileRequestError, match=words):
        compiled(FakeDriver(), "ADD", "SOFTMAX", groups=groups)


def test_given_groups_survive_a_fault_in_another() -> None:
    made = compiled(FakeDriver(faulty={0}), "ADD", "ADD", "ADD", groups=((0,), (2,)))
    assert made.groups == ((2,),)


def test_what_the_lowering_refuses_is_left_out_and_the_rest_grouped_anew() -> None:
    driver = FakeDriver(unproven={1})
    made = compiled(driver, "ADD", "ADD", "ADD", prefer="npu")
    assert made.groups == ((0,), (2,)) and made.refusals == {1: UNPROVEN} and made.faults == ()
    assert driver.compiled == [(0, 1, 2), (0,), (2,)]


def test_a_given_group_is_refused_whole() -> None:
    made = compiled(FakeDriver(unproven={1}), "ADD", "ADD", "ADD", groups=((0, 1), (2,)))
    assert made.groups == ((2,),) and made.refusals == {0: UNPROVEN, 1: UNPROVEN}


def test_unknown_soc_names_the_known_ones() -> None:
    with pytest.raises(CompileRequestError, match="soc: 'rk9999' must be one of rk3588"):
        driver_for("rk9999")


def test_variables_stay_on_the_cpu() -> None:
    tensors = [TensorSpec("in", (1, 2), "int8", (0.5,), (0,)), TensorSpec("out", (1, 2), "int8", (0.5,), (0,)),
               TensorSpec("state", (1, 2), "int8", (0.5,), (0,), is_variable=True)]
    model = build_model(tensors, [OperationSpec("ADD", (0, 2), (1,))], [0], [1])
    made = compile_subgraph(read_tflite(model), FakeDriver(), CompileOptions())
    assert made.refusals == {0: Refusal("value_is_not_kept", "tensor 'state' keeps its value between invocations")}


def test_shapes_computed_at_run_time_stay_on_the_cpu_and_open_batches_do_not() -> None:
    tensors = [TensorSpec("in", (1, 4), "int8", (0.5,), (0,), signature=(-1, 4)), TensorSpec("shape", (2,), "int32"),
               TensorSpec("reshaped", (2, 2), "int8", (0.5,), (0,)), TensorSpec("sum", (2, 2), "int8", (0.5,), (0,)),
               TensorSpec("other", (1, 4), "int8", (0.5,), (0,), signature=(-1, 4))]
    operations = [OperationSpec("RESHAPE", (0, 1), (2,)), OperationSpec("ADD", (2, 2), (3,)),
                  OperationSpec("ADD", (0, 0), (4,))]
    subgraph = read_tflite(build_model(tensors, operations, [0, 1], [3, 4]))
    assert {subgraph.tensor(number).name for number in dynamic_tensors(subgraph)} == {"reshaped", "sum"}
    made = compile_subgraph(subgraph, FakeDriver(), CompileOptions())
    assert made.groups == ((2,),)
    assert made.refusals[1].rule == "shape_is_known"


def test_plan_says_what_was_compiled_under_the_right_key(models_dir: Path) -> None:
    blob = to_blob((models_dir / "mobilenet_v2_1.0_224_quant.tflite").read_bytes())
    data, made = compile_blob(blob, "rk3588", CompileOptions())
    plan = decode_plan(data)
    assert plan.key == cache_key(blob, "rk3588", CompileOptions())
    assert tuple(partition.nodes for partition in plan.partitions) == made.groups
    assert {index: node.refusal for index, node in enumerate(plan.nodes) if node.refusal} == made.refusals


def test_equal_models_give_equal_plans_in_every_process(tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(model_builder.conv2d(np.random.default_rng(1), (1, 9, 9, 5), 7).data)
    code = ("import sys; from cermet.compiler import *; from cermet.frontend.tflite_file import *; "
            "sys.stdout.buffer.write(compile_blob(to_blob(read_file(sys.argv[1])), 'rk3588', CompileOptions())[0])")
    plans = [subprocess.run([sys.executable, "-c", code, model], check=True, capture_output=True,
                            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(paths.PACKAGE.parent)}).stdout
             for seed in ("1", "2", "3")]
    assert plans[0] == plans[1] == plans[2] != b""
