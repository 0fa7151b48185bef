"""Option chains=program from TFLite to the kernel: one interrupt for each job, or an error that says what to do."""
from __future__ import annotations

import pathlib

import numpy as np
import pytest

from cermet.compiler import compile_blob
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket import assemble
from cermet.errors import CermetError
from cermet.frontend.tflite_file import to_blob
from cermet.interpreter import make_interpreter
from cermet.program.plan_reader import decode_plan
from cermet.runtime import Device, RuntimeFailure
from tests.end_to_end.test_queues import driver, interrupts, outputs
from tests.kmd.client import ROOT

BUNDLED = sorted((ROOT / "src" / "cermet" / "demo").glob("*.tflite"))
HINT = r"job did not complete .*: job {} of {}; option chains=program needs an NPU on which cermet probe Q-X12 says " \
    r"runs, try chains=kernel"


def plan_of(model: bytes, **options: object) -> bytes:
    return compile_blob(to_blob(model), "rk3588", CompileOptions(**options))[0]        # type: ignore[arg-type]


def num_jobs(plan: bytes) -> int:
    return sum(len(partition.program.jobs) for partition in decode_plan(plan).partitions)


def run_first(plan: bytes) -> None:
    with Device("sim") as device, device.load(plan) as program:
        program.run([np.zeros(port.shape, port.dtype) for port in program.inputs])


@pytest.mark.parametrize("model", BUNDLED, ids=lambda path: path.stem)
def test_bundled_models_give_the_same_bytes(model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = model.read_bytes()
    plain, chained = plan_of(data), plan_of(data, chains="program", first_rows="least")
    assert num_jobs(chained) < 5 < sum(len(partition.program.tasks) for partition in decode_plan(plain).partitions)
    with driver(tmp_path / "plain"):
        expected = outputs(plain)
    with driver(tmp_path / "runs", "--silicon", "Q-X12=runs") as log:
        assert outputs(chained) == expected
        assert len(interrupts(log())) == 2 * num_jobs(chained) and " W " not in log()


@pytest.mark.parametrize("answer", ["ignored", "early", "masked"])
def test_other_silicon_is_an_error_that_says_what_to_do(answer: str, tmp_path: pathlib.Path) -> None:
    plan = plan_of(BUNDLED[-1].read_bytes(), chains="program")
    with driver(tmp_path, "--silicon", f"Q-X12={answer}") as log, \
            pytest.raises(RuntimeFailure, match=HINT.format(1, num_jobs(plan))):
        run_first(plan)
    assert ("pc.write" in log()) == (answer == "ignored")


def test_each_job_has_its_witness(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs are those of the last job, a single program. The first stops early, and later ones run on."""
    monkeypatch.setattr(assemble, "MAX_JOB_CYCLES", 450_000)
    plan = plan_of(BUNDLED[-1].read_bytes(), chains="program")
    (partition,) = decode_plan(plan).partitions
    lengths = [job.num_tasks for job in partition.program.jobs]
    assert max(lengths) > 2 and lengths[-1] == 1, lengths
    with driver(tmp_path, "--silicon", "Q-X12=early"), pytest.raises(RuntimeFailure, match=HINT.format(
            r"\d", num_jobs(plan))):
        run_first(plan)
    with driver(tmp_path / "runs", "--silicon", "Q-X12=runs") as log:
        run_first(plan)
        assert len(interrupts(log())) == num_jobs(plan)
    with driver(tmp_path / "last", "--silicon", "Q-X12=runs", "--faults", f"iommu-fault@{num_jobs(plan)}"), \
            pytest.raises(RuntimeFailure, match=rf"job {num_jobs(plan)} of {num_jobs(plan)}$"):      # no hint
        run_first(plan)


def test_a_job_that_fails_otherwise_is_noticed_and_the_next_is_right(tmp_path: pathlib.Path) -> None:
    plan = plan_of(BUNDLED[-1].read_bytes(), chains="program")
    with driver(tmp_path, "--silicon", "Q-X12=runs", "--faults", "iommu-fault@1"), Device("sim") as device, \
            device.load(plan) as program:
        inputs = [np.zeros(port.shape, port.dtype) for port in program.inputs]
        with pytest.raises(RuntimeFailure, match="did not complete"):
            program.run(inputs)
        assert len(program.run(inputs)) == len(program.outputs)


@pytest.mark.parametrize(("proposals", "silicon", "num_interrupts"), [
    ("", "Q-X12=runs", 1), ("queues", "Q-X12=ignored", 1), ("", "Q-X12=ignored", None)])
def test_delegate(proposals: str, silicon: str, num_interrupts: int | None, tmp_path: pathlib.Path) -> None:
    """Where the kernel chains by itself the option changes nothing."""
    model = BUNDLED[-1]
    with driver(tmp_path, "--proposals", proposals, "--silicon", silicon) as log:
        interpreter = make_interpreter(model, {"device": "sim", "chains": "program"})
        (given,) = interpreter.get_input_details()
        interpreter.set_tensor(given["index"], np.zeros(given["shape"], given["dtype"]))
        if num_interrupts is None:
            with pytest.raises((RuntimeError, CermetError), match="try chains=kernel"):
                interpreter.invoke()
        else:
            interpreter.invoke()
            assert len(interrupts(log())) == num_interrupts and "pc.write" not in log()


def test_missing_plan_for_a_kernel_that_chains(tmp_path: pathlib.Path) -> None:
    """It was made with the same options, but this kernel's is another one: the error says which."""
    folder, model = tmp_path / "plans", BUNDLED[-1]
    folder.mkdir(mode=0o700)
    options = {"device": "sim", "chains": "program", "cache_dir": str(folder)}
    with driver(tmp_path / "mainline"):
        make_interpreter(model, options)
        make_interpreter(model, {**options, "cache": "required"})
    with driver(tmp_path / "queues", "--proposals", "queues"), \
            pytest.raises(CermetError, match=r"missing; .* for this device with cores=1 and chains=kernel"):
        make_interpreter(model, {**options, "cache": "required"})
