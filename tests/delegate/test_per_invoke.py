"""What the delegate does for one inference: counted by a library that stands between its code and the C library."""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from cermet import paths
from tests.end_to_end.test_queues import driver

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ("allocations", "mappings", "copied_bytes", "messages", "submits", "waits", "sync_waits", "finishes",
         "other_calls")
NUM_TIMES = 5
ATOM_BYTES = 16
WEIGHT_BYTES_OF_V2 = 3_400_000
HOST = """
import ctypes, importlib, json, sys
module, model, library, counted, options = *sys.argv[1:5], json.loads(sys.argv[5])
num_counters, num_times = map(int, sys.argv[6:])
module = importlib.import_module(module)
counter, counts = ctypes.CDLL(None), (ctypes.c_uint64 * num_counters)()
counter.counting_start.restype = ctypes.c_bool
def make():
    made = module.Interpreter(model, experimental_delegates=[module.load_delegate(library, options)],
                              experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    made.allocate_tensors()
    return made
made = make()
count = {"invoke": made.invoke, "make": make}[counted]
for _ in range(2):
    made.invoke()
assert counter.counting_start()
for _ in range(num_times):
    count()
counter.counting_stop(counts)
num_bytes = sum(made.tensor(each["index"])().nbytes for each in made.get_input_details() + made.get_output_details())
print(json.dumps([list(counts), num_bytes]))
"""
Count = Callable[..., tuple[dict[str, float], int]]


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    compiler = shutil.which("gcc")
    if not compiler:
        pytest.skip("needs gcc")
    library = tmp_path_factory.mktemp("counting") / "counting.so"
    subprocess.run([compiler, "-std=gnu11", "-shared", "-fPIC", "-O2", "-fno-builtin", "-Wall", "-Wextra", "-Werror",
                    "-fno-tree-loop-distribute-patterns", f"-I{ROOT / 'kernel-uapi'}",
                    f"-I{ROOT / 'kernel-uapi/proposals/queues'}", ROOT / "tests/delegate/counting.c", "-o", library,
                    "-ldl"], check=True)
    return library


@pytest.fixture
def count(counting: pathlib.Path, models_dir: pathlib.Path) -> Count:
    """(what the delegate called for one inference, or to make an interpreter; bytes of its inputs and outputs)."""
    def run(model: str, runtime: str = "tflite_runtime.interpreter", counted: str = "invoke",
            **options: str) -> tuple[dict[str, float], int]:
        pytest.importorskip(runtime)
        preloaded = f"{counting}:{paths.library('libcermet_shim.so')}"
        done = subprocess.run(
            [sys.executable, "-c", HOST, runtime, models_dir / f"{model}.tflite",
             paths.library("libcermet_delegate.so"), counted, json.dumps({"log_level": "error", **options}),
             str(len(NAMES)), str(NUM_TIMES)],
            env={**os.environ, "LD_PRELOAD": preloaded}, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        counts, num_bytes = json.loads(done.stdout.splitlines()[-1])
        return {name: value / NUM_TIMES for name, value in zip(NAMES, counts, strict=True)}, num_bytes
    return run


@pytest.mark.parametrize("runtime", ["tflite_runtime.interpreter", "ai_edge_litert.interpreter"])
@pytest.mark.parametrize(("model", "more", "partitions"), [
    ("mobilenet_v1_0.25_128_quant", {}, 1), ("mobilenet_v2_1.0_224_quant", {}, 1),
    ("mobilenet_v1_0.25_128_quant", {"deny": "AVERAGE_POOL_2D", "prefer": "npu"}, 2)])
def test_calls_of_an_inference(count: Count, model: str, more: dict[str, str], partitions: int, runtime: str) -> None:
    """Per partition one SUBMIT, one wait, and one cleaning of the caches for each buffer that the CPU has written."""
    counts, num_bytes = count(model, runtime, device="/dev/accel/accel0", **more)
    assert (counts["submits"], counts["waits"], counts["finishes"]) == (partitions, partitions, 2 * partitions)
    assert (counts["allocations"], counts["mappings"], counts["other_calls"], counts["sync_waits"]) == (0, 0, 0, 0)
    assert counts["copied_bytes"] < num_bytes + 64 * ATOM_BYTES


@pytest.mark.parametrize("cores", [1, 3])
def test_calls_with_queues(count: Count, cores: int, tmp_path: pathlib.Path) -> None:
    """One submit and one wait however many cores work; then the end of each queue's last job is looked at."""
    with driver(tmp_path, "--proposals", "queues"):
        counts, num_bytes = count("mobilenet_v1_1.0_224_quant_rejoined", device="/dev/accel/accel0", cores=str(cores))
    assert (counts["submits"], counts["sync_waits"], counts["waits"], counts["finishes"]) == (1, 1, 1, 2)
    assert (counts["allocations"], counts["mappings"], counts["other_calls"]) == (0, 0, cores)
    assert counts["copied_bytes"] < num_bytes + 64 * ATOM_BYTES


def test_messages_to_the_simulated_device(count: Count) -> None:
    """The client that is linked into the delegate sends one for each of the calls."""
    counts, num_bytes = count("mobilenet_v1_0.25_128_quant", device="sim")
    assert (counts["messages"], counts["allocations"], counts["mappings"]) == (4, 0, 0)
    assert counts["copied_bytes"] < num_bytes + 64 * ATOM_BYTES


def test_calls_of_a_start(count: Count) -> None:
    """Making an interpreter takes all that an inference does not. The weights are copied once, to where the NPU reads
    them, and only that buffer is cleaned from the caches: the others are zeros.
    """
    counts, _ = count("mobilenet_v2_1.0_224_quant", device="/dev/accel/accel0", counted="make")
    assert counts["allocations"] and counts["mappings"] and counts["other_calls"]
    assert WEIGHT_BYTES_OF_V2 < counts["copied_bytes"] < 1.25 * WEIGHT_BYTES_OF_V2
    assert counts["finishes"] == 1
    assert not counts["submits"] and not counts["waits"]
