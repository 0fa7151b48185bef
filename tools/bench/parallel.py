"""How much more the simulated NPU does when its cores work at the same time: python tools/bench/parallel.py [MODEL ...]

On mainline, 1 to 3 interpreters, each with a file of its own, in a thread each: inferences a second. With the proposed
queues, one interpreter whose compiler shares layers between 1 to 3 lanes: milliseconds. Wall time of this machine.
Settings take turns of a short time each, and the best turn counts: what else runs on the machine disturbs some of them.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from cermet.benchmark import invoke, throughput
from cermet.interpreter import make_interpreter

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = [ROOT / "tests/data/models/mobilenet_v1_0.25_128_quant.tflite",
          ROOT / "src/cermet/demo/mobilenet_v1_1.0_224_quant.tflite",
          ROOT / "src/cermet/demo/mobilenet_v2_1.0_224_quant.tflite"]
CORES = (1, 2, 3)


@contextlib.contextmanager
def device(*options: str) -> Iterator[None]:
    """A simulated device of its own for the interpreters that are made meanwhile."""
    with tempfile.TemporaryDirectory(prefix="cermet-bench-") as folder:
        socket = f"{folder}/socket"
        ready, write = os.pipe()
        command = [sys.executable, "-m", "cermet", "sim", "--socket", socket, "--ready-fd", str(write), *options]
        with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as process:
            os.close(write)
            os.read(ready, 1)
            os.close(ready)
            os.environ["CERMET_SIM_SOCKET"] = socket
            try:
                yield
            finally:
                del os.environ["CERMET_SIM_SOCKET"]
                process.terminate()


def turns(count: int, best: Callable[..., float], measure: Callable[[int], float]) -> list[float]:
    """The best result for each number of cores."""
    found: dict[int, list[float]] = {cores: [] for cores in CORES}
    for _ in range(count):
        for cores in CORES:
            found[cores].append(measure(cores))
    return [best(found[cores]) for cores in CORES]


def on_mainline(model: pathlib.Path, count: int, seconds: float) -> list[float]:
    """Inferences a second."""
    with device():
        made = [interpreter(model) for _ in CORES]
        return turns(count, max, lambda cores: throughput(made[:cores], seconds))


def with_queues(model: pathlib.Path, count: int) -> list[float]:
    """Milliseconds of an inference."""
    with device("--proposals", "queues"):
        made = {cores: interpreter(model, cores=cores) for cores in CORES}
        return turns(count, min, lambda cores: min(invoke(made[cores], 3)))


def interpreter(model: pathlib.Path, **options: object) -> Any:
    return make_interpreter(model, {"device": "sim", "log_level": "error", **options})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path, metavar="MODEL.tflite", default=MODELS)
    parser.add_argument("--turns", type=int, default=8, help="of each setting (default: 8)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn on mainline (default: 0.5)")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f} before the start; best of {arguments.turns}")
    heads = ["model", "inferences/s, 1 file", "2", "3", "2 to 1", "3 to 1", "ms, 1 lane", "2", "3", "1 to 2", "1 to 3"]
    print("| " + " | ".join(heads) + " |")
    print("| " + " | ".join(["---"] * len(heads)) + " |")
    for model in arguments.models:
        rates = on_mainline(model, arguments.turns, arguments.seconds)
        times = with_queues(model, arguments.turns)
        cells = [*(f"{rate:.1f}" for rate in rates), *(f"{rate / rates[0]:.2f}" for rate in rates[1:]),
                 *(f"{ms:.1f}" for ms in times), *(f"{times[0] / ms:.2f}" for ms in times[1:])]
        print(f"| {model.stem} | " + " | ".join(cells) + " |", flush=True)
    print(f"load {os.getloadavg()[0]:.2f} at the end")


if __name__ == "__main__":
    main()
