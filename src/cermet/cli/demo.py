"""`cermet demo`: the bundled picture through the bundled models, on the NPU of this machine or a simulated one."""
from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cermet import interpreter, paths
from cermet.cli.devices import line
from cermet.cli.run import top_classes
from cermet.devices import real_devices
from cermet.errors import CermetError
from cermet.frontend.tflite_file import load
from cermet.program.cache import Cache
from cermet.program.plan import Plan
from cermet.report import Estimate, Summary, estimate, summarise

SOC = "rk3588"
INVOKES = 3     # the fastest is shown: the first one also fills caches and starts the simulated device's workers


EPILOG = """
examples:
  cermet demo
  cermet demo --device sim
"""


@dataclass(frozen=True)
class Outcome:
    """One model's run. top: (label, probability), best first."""

    top: list[tuple[str, float]]
    summary: Summary
    estimate: Estimate
    cold_s: float
    warm_s: float
    invoke_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (default: a real NPU, else the simulated one), sim, "
                        "or a path like /dev/accel/accel0")


def run(arguments: argparse.Namespace) -> int:
    manifest = tomllib.loads(paths.data_file("demo/manifest.toml").read_text())
    device, shown = choose_device(arguments.device)
    picture = paths.data_file(f"demo/{manifest['picture']['file']}")
    labels = paths.data_file(f"demo/{manifest['labels']['file']}").read_text().splitlines()
    print(f"{picture.name}: {manifest['picture']['shows']}")
    print(f"device: {shown}")
    with quiet_runtime(), tempfile.TemporaryDirectory(prefix="cermet-demo-") as cache:
        for number, entry in enumerate(manifest["models"]):
            model = paths.data_file(f"demo/{entry['file']}")
            outcome = classify(model, picture, labels, device, Path(cache) / str(number))
            show(entry["title"], model.name, outcome, device)
    print(next_steps(f"demo/{manifest['models'][-1]['file']}"))
    return 0


def choose_device(wish: str) -> tuple[str, str]:
    """(the option's value, what to tell about it); auto: a real NPU where there is one that can be used."""
    if wish != "auto":
        return wish, wish
    real = real_devices()
    for device in real:
        if device.usable:
            return device.device, device.device
    why = "; ".join(line(device) for device in real) or "no NPU in this machine"
    return "sim", f"simulated RK3588 NPU ({why})"


@contextlib.contextmanager
def quiet_runtime() -> Iterator[None]:
    """TFLite greets on stderr, from C++: hold fd 2 back, and show it when something goes wrong."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def classify(model: Path, picture: Path, labels: list[str], device: str, cache: Path) -> Outcome:
    """Compile with an empty cache, load again from the cache, invoke."""
    options = {"device": device, "soc": SOC, "cache_dir": str(cache)}
    started = time.perf_counter()
    interpreter.make_interpreter(model, options)
    compiled = time.perf_counter()
    warm = interpreter.make_interpreter(model, options)
    loaded = time.perf_counter()
    invoke_s = min(invoke(warm, picture) for _ in range(INVOKES))
    partitions = the_plan(cache).partitions
    summary = summarise(load(model), [partition.nodes for partition in partitions])
    (output,) = warm.get_output_details()
    best = top_classes(output, warm.get_tensor(output["index"]), labels)
    board = estimate([partition.program for partition in partitions], SOC)
    return Outcome([(row["label"].split(",")[0], row["score"]) for row in best], summary, board,
                   compiled - started, loaded - compiled, invoke_s)


def invoke(model: Any, picture: Path) -> float:
    """Seconds of one inference."""
    detail = model.get_input_details()[0]
    model.set_tensor(detail["index"], interpreter.picture_tensor(picture, detail["shape"], detail["dtype"]))
    started = time.perf_counter()
    model.invoke()
    return time.perf_counter() - started


def the_plan(cache: Path) -> Plan:
    """The plan that the delegate put into a cache folder of its own."""
    (entry,) = Cache(cache).entries()
    if entry.plan is None:
        raise CermetError(f"{entry.path}: {entry.error}")
    return entry.plan


def show(title: str, name: str, outcome: Outcome, device: str) -> None:
    """One model's part of the output."""
    print(f"\n{title} ({name})")
    for label, probability in outcome.top:
        print(f"  {probability:6.1%}  {label}")
    print(f"  on the NPU   {outcome.summary}")
    print(f"  compile      {outcome.cold_s:.2f} s the first time, {outcome.warm_s * 1000:.0f} ms from the cache")
    print(f"  invoke       {outcome.invoke_s * 1000:.0f} ms" + (" simulated" if device == "sim" else ""))
    print(f"  on a board   {outcome.estimate}")


def next_steps(model: str) -> str:
    """Commands to try, as they can be typed where this was started: with ./run in a clone's own environment."""
    clone = Path(sys.prefix).parent
    is_clone = (clone / "run").is_file() and (clone / "src" / "cermet").is_dir()
    command = "./run cermet" if is_clone else "cermet"
    shown = Path("src/cermet", model) if is_clone else paths.data_file(model)
    return "\n".join(["", "Next:", f"  {command} report {shown}", f"  {command} run {shown} --random 1 --compare cpu",
                      f"  {command} --help"])
