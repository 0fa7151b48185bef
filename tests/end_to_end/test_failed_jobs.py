"""Jobs that never complete: an error that says so, whatever the other jobs wrote; nothing else suffers."""
from __future__ import annotations

import pathlib
import struct
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from cermet import paths
from cermet.compiler import compile_blob
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket import assemble
from cermet.drivers.rocket.regcmd import BlockMask
from cermet.frontend.tflite_file import to_blob
from cermet.program.plan import Plan
from cermet.program.plan_reader import decode_plan
from cermet.program.plan_writer import encode_plan
from tests.support.model_builder import three_convolutions

tflite = pytest.importorskip("tflite_runtime.interpreter")

KERNEL_TIMEOUT_MS = 500
# The PPU alone: mainline masks its interrupt, so the job times out (execution model §6).
NEVER_COMPLETES = 0x0081 << 48 | (BlockMask.PPU | BlockMask.PPU_RDMA) << 16 | 0x0008


def make(folder: pathlib.Path) -> object:
    """An interpreter with what the cache has."""
    options = {"device": "sim", "cache_dir": str(folder), "cache": "required", "log_level": "error"}
    delegate = tflite.load_delegate(str(paths.library("libcermet_delegate.so")), options)
    interpreter = tflite.Interpreter(model_content=three_convolutions(), experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    return interpreter


def invoke(interpreter: object, seed: int = 0) -> np.ndarray:
    data = np.random.default_rng(seed).integers(-128, 128, (1, 8, 8, 16)).astype(np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], data)       # type: ignore[attr-defined]
    interpreter.invoke()        # type: ignore[attr-defined]
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()      # type: ignore[attr-defined]


def store(folder: pathlib.Path, plan: Plan) -> pathlib.Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / f"{plan.key.hex()}.plan").write_bytes(encode_plan(plan))
    return folder


def with_hanging_job(plan: Plan, number: int) -> Plan:
    """The same, but the last task of that job starts a block whose interrupt nobody sees."""
    (partition,) = plan.partitions
    program = partition.program
    job = program.jobs[number]
    task = program.tasks[job.first_task + job.num_tasks - 1]
    data = bytearray(program.bos[task.bo].data)
    struct.pack_into("<Q", data, task.offset_bytes + 8 * (task.num_words - 1), NEVER_COMPLETES)
    bos = list(program.bos)
    bos[task.bo] = replace(bos[task.bo], data=bytes(data))
    return replace(plan, partitions=(replace(partition, program=replace(program, bos=tuple(bos))),))


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """One job per task."""
    monkeypatch.setattr(assemble, "MAX_JOB_CYCLES", 1)
    made = decode_plan(compile_blob(to_blob(three_convolutions()), "rk3588", CompileOptions())[0])
    assert [len(partition.program.jobs) for partition in made.partitions] == [3]
    return made


def test_several_jobs_compute_the_same_as_one(plan: Plan, tmp_path: pathlib.Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    lone = decode_plan(compile_blob(to_blob(three_convolutions()), "rk3588", CompileOptions())[0])
    assert len(lone.partitions[0].program.jobs) == 1
    one, three = make(store(tmp_path / "one", lone)), make(store(tmp_path / "three", plan))
    for seed in range(20):
        np.testing.assert_array_equal(invoke(one, seed), invoke(three, seed))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_job_that_never_completes_is_an_error_though_later_ones_write_all_outputs(
        number: int, plan: Plan, tmp_path: pathlib.Path) -> None:
    good = make(store(tmp_path / "good", plan))
    expected = invoke(good)
    bad = make(store(tmp_path / "bad", with_hanging_job(plan, number)))
    for _ in range(2):
        start = time.monotonic()
        with pytest.raises(RuntimeError, match=rf"partition 0 on sim: job did not complete \(timeout or dropped\) "
                                               rf"after \d+ ms: job {number + 1} of 3"):
            invoke(bad)
        assert time.monotonic() - start >= KERNEL_TIMEOUT_MS / 1000
        np.testing.assert_array_equal(invoke(good), expected)


def test_a_client_whose_jobs_hang_leaves_others_alone(plan: Plan, tmp_path: pathlib.Path) -> None:
    good = make(store(tmp_path / "good", plan))
    expected = [invoke(good, seed) for seed in range(5)]
    bad = store(tmp_path / "bad", with_hanging_job(plan, 1))
    program = f"""if True:
        import pathlib
        from tests.end_to_end.test_failed_jobs import invoke, make
        interpreter = make(pathlib.Path({str(bad)!r}))
        print("ready", flush=True)
        for _ in range(1000):
            try:
                invoke(interpreter)
            except RuntimeError:
                pass"""
    root = pathlib.Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as hanging:
        try:
            assert hanging.stdout is not None and hanging.stdout.readline() == b"ready\n"
            for _ in range(10):
                for seed, wanted in enumerate(expected):
                    np.testing.assert_array_equal(invoke(good, seed), wanted)
            assert hanging.poll() is None
        finally:
            hanging.kill()
    np.testing.assert_array_equal(invoke(good), expected[0])
