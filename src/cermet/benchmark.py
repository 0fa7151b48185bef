"""How fast a model starts and runs with the delegate, measured in this process; and the same by TFLite's own kernels.

Wall time of this machine. On the simulated NPU an inference takes what simulating it takes; what a board would take is
estimated (`cermet profile`). Starting, memory and the work around the NPU are the same on both.
"""
from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cermet.cli.inputs import random_inputs
from cermet.errors import CermetError
from cermet.interpreter import make_interpreter, reason_of, runtime_module
from cermet.runtime import Device

WARM_UP = 2             # inferences before the first one that counts
PEERS = {"ref": "BUILTIN_REF", "xnnpack": "BUILTIN"}      # TFLite's plain kernels; XNNPACK (litert only), one thread
Options = Mapping[str, object]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of an inference, over `count` of them."""

    count: int
    mean: float
    min: float
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Latency:
        p50, p90, p99 = (float(np.percentile(times_ms, share)) for share in (50, 90, 99))
        return cls(len(times_ms), float(np.mean(times_ms)), min(times_ms), p50, p90, p99, max(times_ms))


@dataclass(frozen=True)
class Start:
    """Milliseconds until a model is ready: with an empty cache (compiler's process included), with its plan in the
    cache, and without the delegate. p50 of several starts, and the least."""

    cold: float
    warm: float
    plain: float
    cold_least: float
    warm_least: float
    plain_least: float

    @classmethod
    def of(cls, cold: Sequence[float], warm: Sequence[float], plain: Sequence[float]) -> Start:
        kinds = (cold, warm, plain)
        return cls(*(float(np.median(times_ms)) for times_ms in kinds), *(min(times_ms) for times_ms in kinds))

    @property
    def added(self) -> float:
        """What the delegate adds to a start when the plan is in the cache."""
        return self.warm - self.plain

    @property
    def added_least(self) -> float:
        return self.warm_least - self.plain_least


@dataclass(frozen=True)
class Memory:
    """MiB resident: what the interpreter with the delegate added, without it, growth over the inferences, the
    process's peak."""

    interpreter: float
    plain: float
    growth: float
    peak: float


@dataclass(frozen=True)
class Benchmark:
    """What was measured of a model.

    overhead        what an inference takes besides the time in which the simulated NPU has a task, from the first
                    register that is written for it to its end, on one core or several: so TFLite and its operations on
                    the CPU, the delegate, conversions, calls of the driver, the simulated driver itself; None on a
                    real device
    workers_per_s   inferences a second with so many threads, each with an interpreter of its own
    """

    model: str
    start: Start
    latency: Latency
    overhead: Latency | None
    workers_per_s: dict[int, float]
    memory: Memory
    peers: dict[str, Latency]


def measure(model: Path, options: Options, *, runtime: str = "", repeat: int = 20, starts: int = 3,
            warm_starts: int = 10, workers: Sequence[int] = (), seconds: float = 2.0, peers: Sequence[str] = (),
            progress: Progress = lambda text: None) -> Benchmark:
    """Times one model. options: the delegate's. Raises CermetError when it does not load or an inference fails.

    starts: with an empty cache; warm_starts: with the plan in the cache, and as many without the delegate.
    """
    progress("starting")
    before = resident_mib()
    without = plain_interpreter(model, runtime)
    plain_mib = resident_mib() - before
    with tempfile.TemporaryDirectory(prefix="cermet-bench-") as folder:
        cached = {**options, "cache_dir": folder}
        make_interpreter(model, cached, runtime=runtime)        # starts a simulated device, fills the cache
        before = resident_mib()
        made = make_interpreter(model, cached, runtime=runtime)
        interpreter_mib = resident_mib() - before
        start = timed_starts(model, options, cached, runtime, starts, warm_starts)
        progress("inferences one after the other")
        before = resident_mib()
        with busy_clock(options) as busy_ns:
            times = timed(made, repeat, busy_ns)
        growth = resident_mib() - before
        latency = Latency.of([time.wall_ms for time in times])
        overhead = Latency.of([time.wall_ms - time.npu_ms for time in times]) if busy_ns else None
        per_s = {}
        for count in workers:
            progress(f"{count} worker{'s' * (count > 1)} for {seconds:g} s")
            per_s[count] = throughput([make_interpreter(model, cached, runtime=runtime) for _ in range(count)], seconds)
    del made, without
    beside = {}
    for name in peers:
        progress(f"TFLite's kernels ({name})")
        beside[name] = Latency.of(invoke(plain_interpreter(model, runtime, PEERS[name]), repeat))
    return Benchmark(str(model), start, latency, overhead, per_s,
                     Memory(interpreter_mib, plain_mib, growth, peak_mib()), beside)


def timed_starts(model: Path, options: Options, cached: Options, runtime: str, starts: int, warm_starts: int) -> Start:
    cold = [start_ms(lambda: cold_start(model, options, runtime)) for _ in range(starts)]
    warm, plain = [], []
    for _ in range(warm_starts):        # by turns: what else the machine does meanwhile meets both alike
        warm.append(start_ms(lambda: make_interpreter(model, cached, runtime=runtime)))
        plain.append(start_ms(lambda: plain_interpreter(model, runtime)))
    return Start.of(cold, warm, plain)


def cold_start(model: Path, options: Options, runtime: str) -> Any:
    with tempfile.TemporaryDirectory(prefix="cermet-bench-") as folder:
        return make_interpreter(model, {**options, "cache_dir": folder}, runtime=runtime)


def plain_interpreter(model: Path, runtime: str = "", resolver: str = "BUILTIN_WITHOUT_DEFAULT_DELEGATES") -> Any:
    """An interpreter on one thread without the delegate, tensors allocated."""
    module = runtime_module(runtime)
    try:
        made = module.Interpreter(str(model), num_threads=1,
                                  experimental_op_resolver_type=module.OpResolverType[resolver])
        made.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise CermetError(f"{model}: {reason_of(error)}") from error
    return made


@contextlib.contextmanager
def busy_clock(options: Options) -> Iterator[Callable[[], int] | None]:
    """How long the simulated NPU has worked so far, in nanoseconds, as a function; None on a real device."""
    if options["device"] != "sim":
        yield None
        return
    with Device("sim", str(options["soc"])) as device:
        yield lambda: device.busy_ns() or 0


@dataclass(frozen=True)
class Time:
    """Of one inference; npu_ms: in which the simulated NPU had a task."""

    wall_ms: float
    npu_ms: float


def timed(interpreter: Any, count: int, busy_ns: Callable[[], int] | None = None) -> list[Time]:
    """Each of `count` inferences on random inputs, setting them not included."""
    details = interpreter.get_input_details()
    inputs = random_inputs(details, 0)
    times = []
    for _ in range(WARM_UP + count):
        for detail, array in zip(details, inputs, strict=True):
            interpreter.set_tensor(detail["index"], array)
        before = busy_ns() if busy_ns else 0
        wall_ms = duration_ms(interpreter.invoke)
        times.append(Time(wall_ms, ((busy_ns() if busy_ns else 0) - before) / 1e6))
    return times[WARM_UP:]


def invoke(interpreter: Any, count: int) -> list[float]:
    """Milliseconds of each."""
    return [time.wall_ms for time in timed(interpreter, count)]


def throughput(interpreters: Sequence[Any], seconds: float) -> float:
    """Inferences a second, each interpreter in a thread of its own. Raises what an inference raised."""
    counts = [0] * len(interpreters)
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(interpreters) + 1)
    stop = threading.Event()

    def work(number: int, interpreter: Any) -> None:
        try:
            invoke(interpreter, 0)
            barrier.wait()
            while not stop.is_set():
                interpreter.invoke()
                counts[number] += 1
        except BaseException as error:
            errors.append(error)
            stop.set()
            barrier.abort()

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(interpreters)]
    for thread in threads:
        thread.start()
    started = 0.0
    try:
        barrier.wait()
        started = time.perf_counter()
        stop.wait(seconds)
    except threading.BrokenBarrierError:
        pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    taken = time.perf_counter() - started
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise CermetError(f"inference: {error}") from error
    return sum(counts) / taken


def duration_ms(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    try:
        action()
    except RuntimeError as error:
        raise CermetError(f"inference: {reason_of(error)}") from error
    return (time.perf_counter() - started) * 1000


def start_ms(make: Callable[[], object]) -> float:
    """What was made ends after the clock has been stopped."""
    started = time.perf_counter()
    made = make()
    taken = time.perf_counter() - started
    del made
    return taken * 1000


def resident_mib() -> float:
    return _status_mib("VmRSS")


def peak_mib() -> float:
    return _status_mib("VmHWM")


def _status_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")
