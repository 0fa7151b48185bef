"""How much more the simulated NPU does when its cores work at the same time: python tools/bench/parallel.py [MODEL ...]

First simulated cores alone, a thread each in this process, each running the model's tasks: milliseconds of a run on a
processor, and stopped, which is waiting for the interpreter's lock; both from the kernel's books of each thread. The
time for which a thread could run but found no processor is left out. On a busy machine "stopped" is too long all the
same: who holds the lock may be without a processor.
Then all of it, which wants a quiet machine: on mainline, 1 to 3 interpreters, each with a file of its own, in a thread
each: inferences a second. With the proposed queues, one interpreter whose compiler shares layers between 1 to 3 lanes:
milliseconds. Settings take turns of a short time each, and the best turn counts.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from cermet.benchmark import invoke, throughput
from cermet.cli.bench import number, positive_seconds
from cermet.compiler import compile_subgraph, driver_for
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.execute import Machine
from cermet.errors import CermetError
from cermet.frontend.tflite_file import load
from cermet.hw.soc import RK3588
from cermet.interpreter import make_interpreter
from cermet.kmd.server import SWITCH_INTERVAL_S

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


@dataclass(frozen=True)
class Spent:
    """Milliseconds of a thread, mean of its runs."""

    running: float
    stopped: float

    @property
    def rate(self) -> float:
        """Runs a second of a thread that always finds a processor."""
        return 1000 / (self.running + self.stopped)


def cores_alone(model: pathlib.Path, count: int) -> dict[int, list[Spent]]:
    """By the number of cores, for each of them."""
    made = compile_subgraph(load(model), driver_for(RK3588.name), CompileOptions())
    machines = [Machine(RK3588, made.programs[0]) for _ in CORES]
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return {cores: together(machines[:cores], count) for cores in CORES}


def together(machines: Sequence[Machine], count: int) -> list[Spent]:
    spent: list[Spent] = []
    barrier = threading.Barrier(len(machines))

    def work(machine: Machine) -> None:
        machine.run()
        barrier.wait()
        (ran, waited), start = processor_ns(), time.perf_counter_ns()
        for _ in range(count):
            machine.run()
            machine.outcomes.clear()
        wall, (ran_since, waited_since) = time.perf_counter_ns() - start, processor_ns()
        running, waiting = ran_since - ran, waited_since - waited
        spent.append(Spent(running / count / 1e6, (wall - running - waiting) / count / 1e6))

    threads = [threading.Thread(target=work, args=(machine,)) for machine in machines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spent


def processor_ns() -> tuple[int, int]:
    """Of this thread: on a processor; able to run, but without one."""
    ran, waited, _ = pathlib.Path("/proc/thread-self/schedstat").read_text().split()
    return int(ran), int(waited)


def print_cores_alone(models: Sequence[pathlib.Path], count: int) -> None:
    print("\n| model | " + " | ".join(f"{cores}: running, stopped ms" for cores in CORES) + " | 2 to 1 | 3 to 1 |")
    print("| --- " * (len(CORES) + 3) + "|")
    for model in models:
        found = cores_alone(model, count)
        cells = [f"{mean(one.running for one in spent):.1f}, {mean(one.stopped for one in spent):.1f}"
                 for spent in found.values()]
        rates = {cores: sum(one.rate for one in spent) for cores, spent in found.items()}
        cells += [f"{rates[cores] / rates[1]:.2f}" for cores in CORES[1:]]
        print(f"| {model.stem} | " + " | ".join(cells) + " |", flush=True)


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
    parser.add_argument("--turns", type=number(1, 1000), default=8, help="of each setting (default: 8)")
    parser.add_argument("--runs", type=number(1, 1000), default=30, help="of each core alone (default: 30)")
    parser.add_argument("--seconds", type=positive_seconds, default=0.5, help="of a turn on mainline (default: 0.5)")
    try:
        print_all(parser.parse_args())
    except CermetError as error:
        parser.error(str(error))


def print_all(arguments: argparse.Namespace) -> None:
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f} before the start; best of {arguments.turns}")
    print_cores_alone(arguments.models, arguments.runs)
    print()
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
