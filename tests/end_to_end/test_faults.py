"""Whatever goes wrong at whichever step: the right result or a clear error in time, then right results again.

Each case is an application of its own on a device of its own: the faults are counted from the device's start.
"""
from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable

import pytest

from cermet import paths
from tests.support.model_builder import three_convolutions

tflite = pytest.importorskip("tflite_runtime.interpreter")

TIMEOUT_MS = 2000
NUM_INVOKES = 4
START_MS = 15_000       # how long a client tries to reach or start a simulated device
SLACK_MS = 3000         # a busy machine's own delays; the kernel's 500 ms per job and TIMEOUT_MS come first
APPLICATION = """
import hashlib, json, os, sys, time
import numpy as np
import tflite_runtime.interpreter as tflite
model, library, cache = sys.argv[1:4]
def step(name, function):
    start = time.monotonic()
    try:
        value, error = function(), ""
    except (RuntimeError, ValueError) as problem:
        value, error = None, str(problem)
    print(json.dumps([name, value, error, (time.monotonic() - start) * 1000]), flush=True)
def make():
    global interpreter
    interpreter = None
    delegate = tflite.load_delegate(library, {"device": "sim", "cache_dir": cache, "timeout_ms": "TIMEOUT_MS"})
    made = tflite.Interpreter(model_path=model, experimental_delegates=[delegate])
    made.allocate_tensors()
    interpreter = made
def invoke(seed):
    data = np.random.default_rng(seed).integers(-128, 128, (1, 8, 8, 16)).astype(np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], data)
    interpreter.invoke()
    result = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return hashlib.sha256(result.tobytes()).hexdigest()
interpreter = None
step("make", make)
if interpreter is None:
    step("make again", make)
for seed in range(NUM_INVOKES if interpreter else 0):
    step(f"invoke {seed}", lambda: invoke(seed))
    if seed == 0:
        fds = len(os.listdir("/proc/self/fd"))
print(json.dumps(["fds", len(os.listdir("/proc/self/fd")) - fds if interpreter else 0, "", 0]))
""".replace("TIMEOUT_MS", str(TIMEOUT_MS)).replace("NUM_INVOKES", str(NUM_INVOKES))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("model") / "network.tflite"
    path.write_bytes(three_convolutions())
    return path


@pytest.fixture(scope="module")
def application(model: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list]:
    """Runs the application on a device with these faults: its steps."""
    cache = tmp_path_factory.mktemp("cache", numbered=True)
    cache.chmod(0o700)

    def run(faults: str) -> list:
        with tempfile.TemporaryDirectory(prefix="f") as folder:
            variables = {"CERMET_SIM_SOCKET": f"{folder}/s", "CERMET_SIM_FAULTS": faults, "CERMET_SIM_CACHES": "1"}
            done = subprocess.run(
                [sys.executable, "-c", APPLICATION, model, paths.library("libcermet_delegate.so"), cache],
                env=os.environ | variables, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{faults}: exit status {done.returncode}\n{done.stderr[-2000:]}"
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return run


@pytest.fixture(scope="module")
def expected(application: Callable[[str], list]) -> list[str]:
    """Digests of the results without a fault."""
    steps = application("")
    assert [error for _, _, error, _ in steps] == [""] * (NUM_INVOKES + 2)
    return [digest for what, digest, _, _ in steps if what.startswith("invoke")]


# Of the calls and tasks from opening the node to the third inference. A device that fails or dies at the very first
# call is tried for START_MS; that case is left out for its time.
STAGES = (1, 2, 3, 5, 7)
KINDS = {
    "open-fails": [1, 2], "create-fails": STAGES, "mmap-fails": STAGES, "submit-fails": [1, 2, 3],
    "prep-fails": STAGES, "fini-fails": STAGES, "prep-fails=EIO": [1, 2, 3], "removed": [2, 4, 8, 16, 24],
    "killed": [2, 4, 8, 16, 24], "job-dropped": [1, 2, 3], "start-fails": [1, 2, 3],
    "iommu-fault": [1, 2, 3, 5, 9],
    "lost-interrupt": [1, 2, 3, 5, 9], "spurious-interrupt": [1, 2, 3, 5, 9], "hung-core": [1, 4],
    "slow-core=1000000": [1, 2, 5], "killed-in-task": [1, 2, 3, 5],
}
LASTING = {"removed", "killed", "killed-in-task", "hung-core"}      # what follows may fail too, and says why


@pytest.mark.parametrize("kind", KINDS)
def test_fault(kind: str, application: Callable[[str], list], expected: list[str],
               record_table: Callable[..., None]) -> None:
    """At every stage: no crash, no wrong result, errors that name the device or the job, in time, no fd left over."""
    name, _, value = kind.partition("=")
    num_errors = num_right = 0
    slowest_ms = 0.0
    for stage in KINDS[kind]:
        steps = application(f"{name}@{stage}" + (f"={value}" if value else ""))
        for what, digest, error, spent_ms in steps:
            place = f"{kind}@{stage}, {what}: {error}"
            if what == "fds":
                assert digest <= 0, f"{place}: {digest} fds more than after the first invoke"
                continue
            limit_ms = START_MS if what.startswith("make") else TIMEOUT_MS
            assert spent_ms < limit_ms + SLACK_MS, place
            slowest_ms = max(slowest_ms, spent_ms)
            if error:
                num_errors += 1
                assert "cermet" in error.lower() or "delegate" in error.lower(), place
            elif what.startswith("invoke"):
                num_right += 1
                assert digest == expected[int(what.split()[1])], f"{place}: wrong result"
        if name not in LASTING:
            assert not steps[-2][2], f"{kind}@{stage}: the last invoke still fails: {steps[-2][2]}"
    record_table("Faults on purpose (3 tasks per inference)", {
        "fault": kind, "stages": len(KINDS[kind]), "right results": num_right, "errors": num_errors,
        "slowest step": f"{slowest_ms:.0f} ms"})
