"""What the delegate adds to the start of an application: python tools/bench/start.py [MODEL.tflite ...] [--count N]

Each start is a process of its own, by turns without the delegate, and with it, the model's plan in the cache and the
simulated device there already. The clock runs from loading the delegate until the tensors are allocated; p50 and least
of each, their difference, page faults and processor time. `cermet bench` times starts inside one process.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from cermet import paths
from cermet.cli.bench import number
from cermet.errors import CermetError
from cermet.interpreter import make_interpreter

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = [ROOT / "tests/data/models/mobilenet_v1_0.25_128_quant.tflite",
          ROOT / "src/cermet/demo/mobilenet_v1_1.0_224_quant.tflite",
          ROOT / "src/cermet/demo/mobilenet_v2_1.0_224_quant.tflite"]
APPLICATION = """
import json, resource, sys, time
from cermet.interpreter import runtime_module
model, library, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
tflite = runtime_module()
before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
delegates = [tflite.load_delegate(library, options)] if options else []
made = tflite.Interpreter(model, experimental_delegates=delegates,
                          experimental_op_resolver_type=tflite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
made.allocate_tensors()
taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([taken * 1e3, after.ru_minflt - before.ru_minflt,
                  sum(after[:2]) * 1e3 - sum(before[:2]) * 1e3]))
"""


def start(model: pathlib.Path, options: dict[str, str]) -> list[float]:
    """Milliseconds, page faults, milliseconds of processor time of one start; without options without the delegate."""
    library = paths.library("libcermet_delegate.so")
    done = subprocess.run([sys.executable, "-c", APPLICATION, model, library, json.dumps(options)], check=True,
                          stdout=subprocess.PIPE, text=True)
    return list(json.loads(done.stdout))


def row(model: pathlib.Path, count: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        options = {"device": "sim", "cache_dir": folder, "log_level": "error"}
        kept = make_interpreter(model, options)         # fills the cache, keeps the simulated device
        pairs = [(start(model, {}), start(model, options)) for _ in range(count)]
        del kept
    plain, with_delegate = ([*zip(*starts, strict=True)] for starts in zip(*pairs, strict=True))

    def both(numbers: Sequence[Sequence[float]]) -> str:
        return f"{statistics.median(numbers[0]):7.2f} {min(numbers[0]):7.2f}"

    p50, least = (take(with_delegate[0]) - take(plain[0]) for take in (statistics.median, min))
    faults, processor = (statistics.median(with_delegate[i]) - statistics.median(plain[i]) for i in (1, 2))
    added = f"{p50:7.2f} {least:7.2f} {faults:7.0f} {processor:7.1f}"
    return f"{model.stem[:36]:36} {both(plain)} {both(with_delegate)} {added}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=pathlib.Path, nargs="*", default=MODELS)
    parser.add_argument("--count", type=number(1, 1000), default=15, help="starts of each kind (default: 15)")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f} before the start; milliseconds, p50 and least")
    print(f"{'':36} {'without':>15} {'with delegate':>15} {'added':>15} {'faults':>7} {'proc.':>7}")
    for model in arguments.models:
        try:
            print(row(model, arguments.count), flush=True)
        except CermetError as error:
            parser.error(str(error))


if __name__ == "__main__":
    main()
