"""`cermet bench`: latency, throughput, start and memory of models with the delegate, next to TFLite's own kernels."""
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cermet import build
from cermet.cli import bench_history
from cermet.cli.loading import check_options
from cermet.cli.setting import add_delegate_arguments, blob_of_model, make_setting

if TYPE_CHECKING:
    from cermet.benchmark import Benchmark

MAX_WORKERS = 64
EPILOG = """
On the simulated NPU an inference takes what simulating it takes; `cermet profile` estimates a board's time. Starting,
memory and the work around the NPU are the same on both. Overhead is all of an inference but the time in which the
simulated NPU executes tasks. p50: half of them took no longer.

--csv appends a line per model and holds it against the median of the last ones of the same model, device and number of
processors; SLOWER names what takes 1.25 times as long, with --peers also as a multiple of the reference kernels' time
in the same run.

examples:
  cermet bench mobilenet.tflite
  cermet bench model.tflite --workers 1,2,4 --seconds 5 --peers
  cermet bench *.tflite --repeat 100 --csv history.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.tflite")
    parser.add_argument("--repeat", type=number(1, 10**6), default=20, metavar="N", help="inferences (default: 20)")
    parser.add_argument("--starts", type=number(1, 1000), default=3, metavar="N",
                        help="starts with an empty cache (default: 3)")
    parser.add_argument("--warm-starts", type=number(1, 1000), default=10, metavar="N",
                        help="starts with the plan in the cache, by turns with as many of TFLite's (default: 10)")
    parser.add_argument("--workers", type=workers, default=(), metavar="N,N..",
                        help="threads with an interpreter each: inferences a second")
    parser.add_argument("--seconds", type=positive_seconds, default=2.0, metavar="S",
                        help="how long each number of workers runs (default: 2)")
    parser.add_argument("--peers", action="store_true",
                        help="also TFLite's reference kernels and XNNPACK, one thread, in the same run")
    add_delegate_arguments(parser)
    parser.add_argument("--csv", type=Path, metavar="F", help="append a line per model to this file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def number(low: int, high: int) -> Any:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} must be {low}..{high}")
        return int(text)
    return parse


def workers(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(number(1, MAX_WORKERS)(word) for word in text.split(",")))


def positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0 and at most 86400")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    from cermet.benchmark import measure
    load = os.getloadavg()[0]
    measured, changes = [], []
    for model in arguments.models:
        blob_of_model(model)        # a file that is no model: our one line, before TFLite's several
        arguments.compare, arguments.model = None, model
        setting = make_setting(arguments)
        check_options(setting)
        measured.append(measure(
            model, setting.options, runtime=setting.runtime, repeat=arguments.repeat, starts=arguments.starts,
            warm_starts=arguments.warm_starts, workers=arguments.workers, seconds=arguments.seconds,
            peers=peers(arguments.peers, setting.runtime), progress=progress(model)))
        clear_progress()
        if arguments.csv:
            changes += bench_history.append(arguments.csv, row(measured[-1], setting.options["device"], load))
    if arguments.json:
        print(json.dumps({"build_id": build.BUILD_ID, "processors": os.cpu_count(), "load": load,
                          "models": [asdict(one) for one in measured]}, indent=1))
    else:
        print("\n".join([*lines(measured, load), *changes]))
    return 0


def peers(wanted: bool, runtime: str) -> tuple[str, ...]:
    """XNNPACK is what ai-edge-litert runs by default; tflite-runtime has it too, yet not for quantised models."""
    if not wanted:
        return ()
    return ("ref", "xnnpack") if runtime == "litert" else ("ref",)


def progress(model: Path) -> Any:
    def show(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{model.name}: {text}")
            sys.stderr.flush()
    return show


def clear_progress() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


def lines(measured: Sequence[Benchmark], load: float) -> list[str]:
    """The tables. Ratios are this run's p50 over the peer's."""
    text = [f"{os.cpu_count()} processors, load {load:.2f} before the start; milliseconds, MiB"]
    for one in measured:
        start, latency, memory = one.start, one.latency, one.memory
        text += ["", Path(one.model).name,
                 f"  cold      p50 {start.cold:.0f}   min {start.cold_least:.0f}   (start with an empty cache)",
                 f"  warm      p50 {start.warm:.1f}   min {start.warm_least:.1f}   (start with the plan in the cache; "
                 f"over TFLite's p50 {start.added:+.1f}   min {start.added_least:+.1f})",
                 f"  inference p50 {latency.p50:.2f}   p90 {latency.p90:.2f}   p99 {latency.p99:.2f}   "
                 f"min {latency.min:.2f}   max {latency.max:.2f}   ({latency.count} of them)"]
        if around := one.overhead:
            text += [f"  overhead  p50 {around.p50:.2f}   p90 {around.p90:.2f}   min {around.min:.2f}   "
                     "(all but the simulated NPU's tasks)"]
        text += [f"  {count} worker{'s' if count > 1 else ' '} {rate:8.1f} inferences/s"
                 for count, rate in one.workers_per_s.items()]
        text += [f"  memory    interpreter {memory.interpreter:.1f} (TFLite's {memory.plain:.1f})   growth "
                 f"{memory.growth:.1f}   peak of the process {memory.peak:.0f}"]
        text += [f"  {name:9} p50 {peer.p50:.2f}   this one takes {latency.p50 / peer.p50:.2f} times as long"
                 for name, peer in one.peers.items()]
    return text


def row(one: Benchmark, device: str, load: float) -> dict[str, object]:
    """A line of the history."""
    made: dict[str, object] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "build_id": build.BUILD_ID, "device": device,
        "processors": os.cpu_count(), "load": f"{load:.2f}", "model": Path(one.model).name,
        "cold_ms": f"{one.start.cold:.1f}", "warm_added_ms": f"{one.start.added:.2f}",
        "p50_ms": f"{one.latency.p50:.3f}", "p99_ms": f"{one.latency.p99:.3f}",
        "overhead_p50_ms": f"{one.overhead.p50:.3f}" if one.overhead else "", "peak_mib": f"{one.memory.peak:.0f}"}
    made |= {f"{name}_p50_ms": f"{one.peers[name].p50:.3f}" if name in one.peers else "" for name in ("ref", "xnnpack")}
    made["workers_per_s"] = " ".join(f"{count}:{rate:.2f}" for count, rate in one.workers_per_s.items())
    return made
