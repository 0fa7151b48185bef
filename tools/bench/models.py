"""Time compiling, loading and invoking of models on the simulated NPU: ./run bench [MODEL.tflite ...]

cold     interpreter with the delegate, empty cache: start of the compiler, compiling, loading
warm     the same with the plan in the cache, less the time of an interpreter without the delegate
invoke   one inference, on random input
ref, xnn the same inference by TFLite's reference kernels and by XNNPACK with one thread, in the same run
All medians; the machine's load is printed with them.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from cermet import interpreter

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = [ROOT / "tests/data/models/mobilenet_v1_0.25_128_quant.tflite",
          ROOT / "src/cermet/demo/mobilenet_v1_1.0_224_quant.tflite",
          ROOT / "src/cermet/demo/mobilenet_v2_1.0_224_quant.tflite"]
COLUMNS = ("cold", "warm", "invoke", "ref", "xnn")


def seconds(action: Callable[[], object], repeat: int) -> float:
    """Median duration."""
    durations = []
    for _ in range(repeat):
        started = time.perf_counter()
        action()
        durations.append(time.perf_counter() - started)
    return statistics.median(durations)


def without_delegate(model: pathlib.Path, resolver: str = "BUILTIN_WITHOUT_DEFAULT_DELEGATES") -> Any:
    module = interpreter.runtime_module()
    made = module.Interpreter(str(model), num_threads=1,
                              experimental_op_resolver_type=module.OpResolverType[resolver])
    made.allocate_tensors()
    return made


def fill_inputs(made: Any) -> None:
    generator = np.random.default_rng(1)
    for detail in made.get_input_details():
        info = np.iinfo(detail["dtype"])
        made.set_tensor(detail["index"], generator.integers(info.min, info.max + 1, detail["shape"], detail["dtype"]))


def measure(model: pathlib.Path, repeat: int) -> dict[str, float]:
    """Seconds by column."""
    def cold() -> None:
        with tempfile.TemporaryDirectory() as cache:
            interpreter.make_interpreter(model, {"device": "sim", "cache_dir": cache, "log_level": "error"})

    with tempfile.TemporaryDirectory() as cache:
        options = {"device": "sim", "cache_dir": cache, "log_level": "error"}
        made = interpreter.make_interpreter(model, options)     # keeps the simulated device alive, fills the cache
        fill_inputs(made)
        made.invoke()
        warm = seconds(lambda: interpreter.make_interpreter(model, options), repeat)
        plain = seconds(lambda: without_delegate(model), repeat)
        times = {"cold": seconds(cold, repeat), "warm": warm - plain, "invoke": seconds(made.invoke, repeat)}
    for column, resolver in (("ref", "BUILTIN_REF"), ("xnn", "BUILTIN")):     # BUILTIN of ai-edge-litert: XNNPACK
        peer = without_delegate(model, resolver)
        fill_inputs(peer)
        peer.invoke()
        times[column] = seconds(peer.invoke, repeat)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path, default=MODELS)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f} before the start; milliseconds\n")
    print("| model | " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS))
    for model in arguments.models:
        measured = measure(model, arguments.repeat)
        row = " | ".join(f"{measured[column] * 1000:.1f}" for column in COLUMNS)
        print(f"| {model.stem} | {row} |", flush=True)


if __name__ == "__main__":
    main()
