"""Many processes and threads on the simulated NPU at once; long runs leave nothing behind."""
from __future__ import annotations

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from cermet import paths
from tests.support import model_builder

tflite = pytest.importorskip("tflite_runtime.interpreter")

NUM_PROCESSES = 8
NUM_THREADS = 4
INVOKES_EACH = 10
SOAK_INVOKES = 10_000


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("concurrency") / "small.tflite"
    path.write_bytes(model_builder.conv2d(np.random.default_rng(5), (1, 8, 8, 16), 16).data)
    return path


def make(path: pathlib.Path, delegated: bool = True):
    library = str(paths.library("libcermet_delegate.so"))
    delegates = [tflite.load_delegate(library, {"device": "sim"})] if delegated else []
    interpreter = tflite.Interpreter(str(path), experimental_delegates=delegates,
                                     experimental_op_resolver_type=tflite.OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    return interpreter


def invoke(interpreter, seed: int) -> np.ndarray:
    (detail,) = interpreter.get_input_details()
    info = np.iinfo(detail["dtype"])
    data = np.random.default_rng(seed).integers(info.min, info.max + 1, detail["shape"]).astype(detail["dtype"])
    interpreter.set_tensor(detail["index"], data)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()


def check_thread(path: pathlib.Path, expected: list[np.ndarray], barrier: threading.Barrier) -> int:
    interpreter = make(path)
    barrier.wait()
    return sum(not np.array_equal(invoke(interpreter, seed), reference) for seed, reference in enumerate(expected))


def check_threads(path: pathlib.Path) -> int:
    """Invokes of NUM_THREADS threads, each with its own interpreter, that differ from a lone run."""
    lone = make(path)
    expected = [invoke(lone, seed) for seed in range(INVOKES_EACH)]
    barrier = threading.Barrier(NUM_THREADS)
    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        return sum(pool.map(lambda _: check_thread(path, expected, barrier), range(NUM_THREADS)))


def test_lone_run_equals_the_cpu(model_path):
    on_npu, on_cpu = make(model_path), make(model_path, delegated=False)
    for seed in range(INVOKES_EACH):
        np.testing.assert_array_equal(invoke(on_npu, seed), invoke(on_cpu, seed))


def test_eight_processes_with_four_threads_each_get_right_results(model_path):
    program = f"import pathlib, sys; from tests.end_to_end.test_concurrency import check_threads; " \
              f"sys.exit(check_threads(pathlib.Path({str(model_path)!r})))"
    root = str(pathlib.Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    running = [subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE)
               for _ in range(NUM_PROCESSES)]
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()[-2000:]


def resident_kb() -> int:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def test_ten_thousand_invokes_leak_neither_memory_nor_file_descriptors(model_path, record_table):
    interpreter = make(model_path)
    for _ in range(500):
        interpreter.invoke()
    fds, memory = len(os.listdir("/proc/self/fd")), resident_kb()
    for _ in range(SOAK_INVOKES):
        interpreter.invoke()
    grown = resident_kb() - memory
    record_table("Soak", {"invokes": SOAK_INVOKES, "fds before/after": f"{fds}/{len(os.listdir('/proc/self/fd'))}",
                          "resident growth": f"{grown} KiB"})
    assert len(os.listdir("/proc/self/fd")) == fds
    assert grown < 1024     # a leak of 100 bytes per invoke would be 1 MB
