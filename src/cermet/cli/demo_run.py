"""One bundled model through TFLite with the delegate: what every demo runs, times and tells about it."""
from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cermet import interpreter, paths
from cermet.cli.devices import line
from cermet.cli.loading import held_stderr
from cermet.devices import real_devices
from cermet.errors import CermetError
from cermet.frontend.tflite_file import load
from cermet.program.cache import Cache
from cermet.program.plan import Plan
from cermet.report import Estimate, Summary, estimate, summarise

SOC = "rk3588"
INVOKES = 3     # the fastest is shown: the first one also fills caches and starts the simulated device's workers


@dataclass(frozen=True)
class Setting:
    """What one demo uses. device: the delegate's option; shown: what to tell about it."""

    picture: Path
    shows: str
    labels: list[str]
    models: list[tuple[str, Path]]
    device: str
    shown: str


@dataclass(frozen=True)
class Run:
    """One model's run; the interpreter holds its outputs."""

    interpreter: Any
    summary: Summary
    estimate: Estimate
    cold_s: float
    warm_s: float
    invoke_s: float

    def lines(self, device: str) -> list[str]:
        return [f"  on the NPU   {self.summary}",
                f"  compile      {self.cold_s:.2f} s the first time, {self.warm_s * 1000:.0f} ms from the cache",
                f"  invoke       {self.invoke_s * 1000:.0f} ms" + (" simulated" if device == "sim" else ""),
                f"  on a board   {self.estimate}"]


def make_setting(entry: dict[str, Any], wish: str, picture: Path | None) -> Setting:
    """From an entry of demo/manifest.toml, the device asked for, and a picture instead of the bundled one."""
    def bundled(part: dict[str, str]) -> Path:
        return paths.data_file(f"demo/{part['file']}")
    device, shown = choose_device(wish)
    shows = "" if picture else entry["picture"]["shows"]
    return Setting(picture or bundled(entry["picture"]), shows, bundled(entry["labels"]).read_text().splitlines(),
                   [(model["title"], bundled(model)) for model in entry["models"]], device, shown)


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


def run_model(model: Path, picture: Path, device: str) -> Run:
    """Compile with an empty cache, load again from the cache, invoke."""
    with quiet_runtime(), tempfile.TemporaryDirectory(prefix="cermet-demo-") as cache:
        options = {"device": device, "soc": SOC, "cache_dir": cache}
        started = time.perf_counter()
        interpreter.make_interpreter(model, options)
        compiled = time.perf_counter()
        warm = interpreter.make_interpreter(model, options)
        loaded = time.perf_counter()
        invoke_s = min(invoke(warm, picture) for _ in range(INVOKES))
        partitions = the_plan(Path(cache)).partitions
        summary = summarise(load(model), [partition.nodes for partition in partitions])
        board = estimate([partition.program for partition in partitions], SOC)
        return Run(warm, summary, board, compiled - started, loaded - compiled, invoke_s)


@contextlib.contextmanager
def quiet_runtime() -> Iterator[None]:
    """TFLite greets on stderr: what is written there is shown when something goes wrong."""
    held: list[str] = []
    try:
        with held_stderr() as held:
            yield
    except (CermetError, KeyboardInterrupt):    # the one says what is there too, the other is nothing wrong
        raise
    except BaseException:
        sys.stderr.write("".join(held))
        raise


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
