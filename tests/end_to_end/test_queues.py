"""Whole models where the kernel has the proposed queues: mainline's bytes, on one core in one interrupt or on three."""
from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from cermet.compiler import compile_blob
from cermet.drivers.base import CompileOptions
from cermet.frontend.tflite_file import to_blob
from cermet.interpreter import make_interpreter
from cermet.program.plan_reader import decode_plan
from cermet.runtime import Device, RuntimeFailure
from tests.kmd.client import ROOT, environ

MODELS = ("mobilenet_v1_0.25_128_quant", "mobilenet_v1_1.0_224_quant_rejoined", "mobilenet_v2_1.0_224_quant",
          "miniresnetv2_1stacks_64x50_tl_int8", "kws_ref_model", "split_concat")
SHARED = "mobilenet_v1_1.0_224_quant_rejoined"      # large enough for three cores
LIMIT_S = 60


@contextmanager
def driver(folder: pathlib.Path, *options: str) -> Iterator[Callable[[], str]]:
    """A simulated device of its own; what it has logged so far."""
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    with log.open("w") as stream, subprocess.Popen(
            [sys.executable, "-m", "cermet", "sim", "--socket", str(folder / "s"), "--caches", "--verbose", *options],
            stderr=stream) as process, environ(CERMET_SIM_SOCKET=str(folder / "s")):
        deadline = time.monotonic() + LIMIT_S
        while " cores at " not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        try:
            yield log.read_text
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def plans(models_dir: pathlib.Path) -> Callable[[str, int], bytes]:
    made: dict[tuple[str, int, str], bytes] = {}

    def plan(name: str, cores: int, registers: str = "all") -> bytes:
        key = name, cores, registers
        if key not in made:
            blob = to_blob((models_dir / f"{name}.tflite").read_bytes())
            made[key], _ = compile_blob(blob, "rk3588", CompileOptions(cores=cores, registers=registers))
        return made[key]
    return plan


def outputs(plan: bytes) -> list[bytes]:
    """Of all partitions, each run twice on the same random inputs."""
    made = []
    with Device("sim") as device:
        for number in range(len(decode_plan(plan).partitions)):
            rng = np.random.default_rng(number)
            with device.load(plan, number) as program:
                inputs = [rng.integers(0, 256, port.shape, np.uint8).view(port.dtype) for port in program.inputs]
                for _ in range(2):
                    made += [array.tobytes() for array in program.run(inputs)]
    return made


@pytest.fixture(scope="module")
def mainline(tmp_path_factory: pytest.TempPathFactory,
             plans: Callable[[str, int], bytes]) -> dict[tuple[str, int], list[bytes]]:
    with driver(tmp_path_factory.mktemp("m")):
        return {(name, cores): outputs(plans(name, cores)) for name in MODELS for cores in (1, 3)}


def test_plans_for_several_cores_run_on_mainline(mainline: dict[tuple[str, int], list[bytes]]) -> None:
    """One task after another, with the same bytes: a plan never needs what the kernel does not have."""
    for name in MODELS:
        assert mainline[name, 3] == mainline[name, 1]


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_same_bytes_with_queues(cores: int, tmp_path: pathlib.Path, plans: Callable[[str, int], bytes],
                                mainline: dict[tuple[str, int], list[bytes]]) -> None:
    with driver(tmp_path, "--proposals", "queues") as log:
        for name in MODELS:
            assert outputs(plans(name, cores)) == mainline[name, 1], name
        assert " W " not in log()


@pytest.mark.parametrize("proposals", ["", "queues"])
@pytest.mark.parametrize("cores", [1, 3])
def test_shortened_programs_side_by_side(cores: int, proposals: str, tmp_path: pathlib.Path,
                                         plans: Callable[..., bytes],
                                         mainline: dict[tuple[str, int], list[bytes]]) -> None:
    """Jobs of four clients come to the same cores by turns, each with other values in their registers."""
    names = MODELS[3:] + MODELS[:1]
    made = [plans(name, cores, "changed") for name in names]
    assert all(len(short) < len(plans(name, cores)) for name, short in zip(names, made, strict=True))
    with driver(tmp_path, "--proposals", proposals) as log, ThreadPoolExecutor(len(names)) as pool:
        for _ in range(3):
            for name, found in zip(names, pool.map(outputs, made), strict=True):
                assert found == mainline[name, 1], name
        assert " W " not in log()


def interrupts(text: str) -> list[str]:
    """Core numbers, one for each task that the driver started."""
    return re.findall(r"core (\d) job \d+ task \d+ at 0x\w+: status", text)


def test_one_interrupt_for_an_inference(tmp_path: pathlib.Path, plans: Callable[[str, int], bytes]) -> None:
    """All programs of MobileNet V2 as one chain; on mainline each costs one."""
    plan = plans("mobilenet_v2_1.0_224_quant", 1)
    (partition,) = decode_plan(plan).partitions
    for options, expected in (("", len(partition.program.tasks)), ("queues", 1)):
        with driver(tmp_path / f"d{options}", "--proposals", options) as log:
            outputs(plan)
            assert len(interrupts(log())) == 2 * expected
    assert len(partition.program.tasks) > 50


def test_three_cores_work(tmp_path: pathlib.Path, plans: Callable[[str, int], bytes]) -> None:
    """Each step is one interrupt, on the core of its lane."""
    plan = plans(SHARED, 3)
    (partition,) = decode_plan(plan).partitions
    with driver(tmp_path, "--proposals", "queues") as log:
        outputs(plan)
        found = interrupts(log())
    steps = partition.program.steps
    assert sorted(found) == sorted(str(step.lane) for step in steps for _ in range(2))
    assert {step.lane for step in steps} == {0, 1, 2} and len(found) < 2 * len(partition.program.tasks) + 1


@pytest.mark.parametrize(("fault", "reason", "recovers"), [
    ("lost-interrupt@1", "Connection timed out", True), ("iommu-fault@4", "Bad address", True),
    ("hung-core=1", "Connection timed out", False), ("killed-in-task@5", "has ended", False)])
def test_faults(fault: str, reason: str, recovers: bool, tmp_path: pathlib.Path, plans: Callable[[str, int], bytes],
                mainline: dict[tuple[str, int], list[bytes]]) -> None:
    """The kernel says which job failed and why; the next run is right, or says why not."""
    plan = plans(SHARED, 3)
    with driver(tmp_path, "--proposals", "queues", "--faults", fault), Device("sim") as device, \
            device.load(plan) as program:
        inputs = [np.random.default_rng(0).integers(0, 256, port.shape, np.uint8).view(port.dtype)
                  for port in program.inputs]
        with pytest.raises(RuntimeFailure, match=reason):
            program.run(inputs)
        if recovers:
            assert program.run(inputs)[0].tobytes() == mainline[SHARED, 1][0]
        else:
            with pytest.raises(RuntimeFailure, match=reason):
                program.run(inputs)


def test_run_out_of_time(tmp_path: pathlib.Path, plans: Callable[[str, int], bytes],
                         mainline: dict[tuple[str, int], list[bytes]]) -> None:
    """timeout_ms is the caller's patience: jobs go on behind it, and the next run waits for them."""
    with driver(tmp_path, "--proposals", "queues", "--faults", "lost-interrupt@1"), Device("sim") as device, \
            device.load(plans(SHARED, 3), timeout_ms=200) as program:
        inputs = [np.random.default_rng(0).integers(0, 256, port.shape, np.uint8).view(port.dtype)
                  for port in program.inputs]
        with pytest.raises(RuntimeFailure, match="not done after 200 ms"):
            program.run(inputs)
        time.sleep(0.5)
        deadline = time.monotonic() + LIMIT_S
        while True:         # a busy machine may be slower than 200 ms once more
            try:
                assert program.run(inputs)[0].tobytes() == mainline[SHARED, 1][0]
                return
            except RuntimeFailure as failure:
                assert "not done after" in str(failure) and time.monotonic() < deadline


def test_nothing_is_left_behind(tmp_path: pathlib.Path, plans: Callable[[str, int], bytes]) -> None:
    """Address spaces and buffers are given back when programs are unloaded."""
    with driver(tmp_path, "--proposals", "queues") as log, Device("sim") as device:
        for _ in range(3):
            with device.load(plans(SHARED, 3)):
                pass
        freed = [line for line in log().splitlines() if ": freed" in line]
        created = [line for line in log().splitlines() if "CREATE_BO" in line]
        assert len(freed) == len(created) > 0


@pytest.mark.parametrize(("proposals", "cores"), [("", "1"), ("", "3"), ("queues", "1"), ("queues", "3")])
def test_delegate(proposals: str, cores: str, tmp_path: pathlib.Path, models_dir: pathlib.Path,
                  capfd: pytest.CaptureFixture[str]) -> None:
    """The option cores of an unchanged application."""
    model = models_dir / f"{SHARED}.tflite"
    with driver(tmp_path, "--proposals", proposals) as log:
        plain = run_once(model, {"device": "sim"})
        assert run_once(model, {"device": "sim", "cores": cores}) == plain
        used = set(interrupts(log()))
    warned = "one core at a time" in capfd.readouterr().err
    assert warned == (cores == "3" and not proposals)
    assert (used == {"0", "1", "2"}) == (cores == "3" and bool(proposals))


def run_once(model: pathlib.Path, options: dict[str, object]) -> bytes:
    interpreter = make_interpreter(model, options)
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], np.random.default_rng(2).integers(0, 256, given["shape"], np.uint8))
    interpreter.invoke()
    return bytes(interpreter.get_tensor(wanted["index"]).tobytes())


def test_estimates(models_dir: pathlib.Path) -> None:
    """One chain beats mainline by the interrupts that it saves; three cores do not lose at mainline's clock."""
    command = [sys.executable, str(ROOT / "tools" / "bench" / "cores.py"), "--clocks", "200"]
    done = subprocess.run([*command, str(models_dir / f"{SHARED}.tflite")], capture_output=True, text=True, check=True)
    latency = re.search(r"\| 200 \| ([\d.]+) \((\d+)\) \| ([\d.]+) \((\d+)\) \| ([\d.]+) \(\d+\) \| ([\d.]+)",
                        done.stdout)
    assert latency is not None, done.stdout
    mainline_ms, tasks, chain_ms, interrupts, two_ms, three_ms = (float(text) for text in latency.groups())
    assert interrupts == 1 and mainline_ms - chain_ms > (tasks - 1) * 0.034
    assert chain_ms > two_ms > three_ms > chain_ms / 3
    rates = [float(text) for text in re.findall(r"[\d.]+", done.stdout.split("3 to 1 |")[1].splitlines()[2])[-5:-1]]
    assert rates == sorted(rates) and 2.5 * rates[0] < rates[2] <= 3.01 * rates[0] and rates[3] < 1.1 * rates[2]


def test_cores_side_by_side(models_dir: pathlib.Path) -> None:
    """The program that measures them prints a line for the model in each table; how fast they are is not asserted."""
    command = [sys.executable, str(ROOT / "tools" / "bench" / "parallel.py"), "--turns", "1", "--seconds", "0.1"]
    done = subprocess.run([*command, "--runs", "1", str(models_dir / "mobilenet_v1_0.25_128_quant.tflite")],
                          capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("| mobilenet")]
    assert [line.count("|") for line in lines] == [7, 12], done.stdout
    assert all(float(text) > 0 for text in re.findall(r" (\d+\.\d+) ", lines[1]))
