"""`cermet run`: a model through a TFLite interpreter with the delegate, as an application would use it."""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cermet.cli.models import COMPILE_OPTIONS, compile_options, option_values, read_model
from cermet.errors import CermetError

if TYPE_CHECKING:
    import numpy as np

    from cermet.cli.comparison import Difference
    from cermet.program.plan import Plan
    from cermet.report import Estimate, Summary

TOP = 5
GREETINGS = ("INFO: ",)     # what TFLite says when all is well
EPILOG = """
Without --image, --input or --random the inputs are random (seed 0). --device auto takes a real NPU where there is one,
else the simulated one, and says which. --compare cpu runs TFLite's reference kernels too, and both runs leave to those
kernels what the NPU does not take, so that every difference comes from the NPU.

examples:
  cermet run mobilenet.tflite --image cat.jpg --labels labels.txt
  cermet run model.tflite --random 1 --compare cpu
  cermet run model.tflite --input batch.npy --output result.npz --repeat 20 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.tflite")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--image", type=Path, metavar="F", help="a picture, resized to the input")
    source.add_argument("--input", type=Path, metavar="F", action="append",
                        help="a .npy for each input, in order, or one .npz")
    source.add_argument("--random", type=int, metavar="SEED", help="random inputs")
    parser.add_argument("--crop", action="store_true",
                        help="cut the picture to the input's proportions instead of stretching it")
    parser.add_argument("--labels", type=Path, metavar="F", help="names of the classes, one a line: prints the best 5")
    add_delegate_arguments(parser)
    parser.add_argument("--compare", choices=("cpu",), help="compare the outputs with TFLite's reference kernels")
    parser.add_argument("--repeat", type=positive, default=1, metavar="N", help="invoke N times (default: 1)")
    parser.add_argument("--output", type=Path, metavar="F.npz", help="write the outputs, by their names")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines (docs/run-json.md)")


def add_delegate_arguments(parser: argparse.ArgumentParser) -> None:
    """How the delegate is used: see make_setting."""
    parser.add_argument("--soc", help="whose NPU (default: $CERMET_SOC, else rk3588)")
    parser.add_argument("--device", default="auto", help="auto (default), sim, or a path like /dev/accel/accel0")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                        help="any option of the delegate; may be repeated: allow and deny are joined")
    parser.add_argument("--runtime", choices=("litert", "tflite"), default="",
                        help="ai-edge-litert or tflite-runtime (default: the first of them that is installed)")


def positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} must be 1..1000000000")
    return int(text)


@dataclass(frozen=True)
class Timings:
    """Milliseconds. compile_ms: what an empty cache cost on top of load_ms; 0 when the plan was in the cache already,
    None when the cache is off (then load_ms has it)."""

    compile_ms: float | None
    load_ms: float
    first_invoke_ms: float
    median_invoke_ms: float
    invokes: int


@dataclass(frozen=True)
class Outcome:
    """What one run gave."""

    model: Path
    soc: str
    device: str
    runtime: str
    summary: Summary
    estimate: Estimate
    timings: Timings
    outputs: list[dict[str, Any]]       # name, shape, dtype, scale, zero_point
    arrays: list[np.ndarray] = field(repr=False)
    top: list[dict[str, Any]]
    differences: list[Difference]


@dataclass(frozen=True)
class Setting:
    """How the delegate is used: its options as given on the command line, and what follows from them."""

    model: Path
    options: dict[str, str]
    runtime: str
    resolver: str

    @property
    def soc(self) -> str:
        return self.options["soc"]


def run(arguments: argparse.Namespace) -> int:
    outcome = execute(arguments)
    if arguments.output:
        save(arguments.output, outcome)
    print(json.dumps(to_json(outcome), indent=1) if arguments.json else "\n".join(to_lines(outcome)))
    return 0


def execute(arguments: argparse.Namespace) -> Outcome:
    """Load, invoke, and compare when asked to."""
    from cermet.report import estimate, summarise
    blob_of_model(arguments.model)      # a file that is no model: our one line, before TFLite's several
    labels = read_labels(arguments.labels)
    setting = make_setting(arguments)
    interpreter, plan, compile_ms, load_ms = load(setting)
    inputs = make_inputs(arguments, interpreter.get_input_details())
    times_ms = invoke(interpreter, inputs, arguments.repeat)
    arrays = outputs_of(interpreter)
    details = interpreter.get_output_details()
    differences = compare_with_cpu(setting, inputs, arrays, details) if arguments.compare else []
    groups = [partition.nodes for partition in plan.partitions]
    return Outcome(
        arguments.model, setting.soc, setting.options["device"], setting.runtime,
        summarise(subgraph_of(arguments.model), groups),
        estimate([partition.program for partition in plan.partitions], setting.soc),
        Timings(compile_ms, load_ms, times_ms[0], statistics.median(times_ms), len(times_ms)),
        [describe_output(detail, array) for detail, array in zip(details, arrays, strict=True)], arrays,
        top_classes(details[0], arrays[0], labels) if labels else [], differences)


# The model and the delegate


def make_setting(arguments: argparse.Namespace) -> Setting:
    """Options of the delegate from the command line. Raises CermetError for one that is not NAME=VALUE."""
    from cermet.compiler import driver_for
    soc = arguments.soc or os.environ.get("CERMET_SOC") or "rk3588"
    options = {"device": choose_device(arguments.device), "soc": soc, "log_level": "error",
               **option_values(arguments.option)}
    driver_for(options["soc"])
    use_own_command(options)
    return Setting(arguments.model, options, runtime_name(arguments.runtime),
                   "BUILTIN_REF" if arguments.compare else "BUILTIN_WITHOUT_DEFAULT_DELEGATES")


def use_own_command(options: dict[str, str]) -> None:
    """The delegate and the simulated device start this very command, not another installation's."""
    command = own_command()
    if not command:
        return
    if not os.environ.get("CERMET_COMPILER"):
        options.setdefault("compiler", command)
    os.environ.setdefault("CERMET_COMMAND", command)


def own_command() -> str:
    """Path of the running command, empty when it has no file of its own (python -m cermet in a source tree)."""
    beside = Path(sys.executable).with_name("cermet")
    started = Path(sys.argv[0])
    for path in (started if started.name == "cermet" else beside, beside):
        if found := shutil.which(path):
            return str(Path(found).absolute())
    return ""


def choose_device(wish: str) -> str:
    """A real NPU where there is one, else the simulated one; CERMET_DEVICE decides when nothing else is asked for."""
    from cermet.interpreter import has_real_device
    if wish != "auto":
        return wish
    return os.environ.get("CERMET_DEVICE") or ("auto" if has_real_device() else "sim")


def runtime_name(wish: str) -> str:
    """The runtime to use. Raises CermetError when it is not installed."""
    from cermet.interpreter import RUNTIMES, runtime_module
    module = runtime_module(wish).__name__
    return next(name for name, module_name in RUNTIMES.items() if module_name == module)


def blob_of_model(path: Path) -> bytes:
    from cermet.frontend.tflite_file import to_blob
    return to_blob(read_model(path), place=str(path))


def subgraph_of(path: Path) -> Any:
    from cermet.frontend.tflite_file import load as load_subgraph
    return load_subgraph(path)


def load(setting: Setting) -> tuple[Any, Plan, float | None, float]:
    """(interpreter, plan it runs, compile ms, load ms).

    With an empty cache it loads twice: the second time shows what loading takes, the difference is the compiler's.
    """
    from cermet.program.cache import Cache, CacheError, cache_key, default_directory
    options = compile_options([f"{name}={value}" for name, value in setting.options.items() if name in COMPILE_OPTIONS])
    blob = blob_of_model(setting.model)
    key = cache_key(blob, setting.soc, options)
    directory = setting.options.get("cache_dir")
    cache = Cache(Path(directory) if directory else default_directory())
    was_there = is_there(cache, key)
    interpreter, first_ms = timed_load(setting)
    is_cached = is_there(cache, key)
    compile_ms: float | None = 0.0 if was_there else None
    load_ms = first_ms
    if is_cached and not was_there:
        interpreter, load_ms = timed_load(setting)
        compile_ms = max(first_ms - load_ms, 0.0)
    try:
        plan = cache.load(key)
    except CacheError:
        plan = plan_without_cache(blob, setting.soc, options)
    check_applied(interpreter, plan)
    return interpreter, plan, compile_ms, load_ms


def is_there(cache: Any, key: bytes) -> bool:
    from cermet.program.cache import CacheError
    try:
        cache.load(key)
    except CacheError:
        return False
    return True


def plan_without_cache(blob: bytes, soc: str, options: Any) -> Plan:
    from cermet.compiler import compile_blob
    from cermet.program.plan import decode_plan
    return decode_plan(compile_blob(blob, soc, options)[0])


def timed_load(setting: Setting) -> tuple[Any, float]:
    started = time.perf_counter()
    interpreter = make_interpreter(setting)
    return interpreter, (time.perf_counter() - started) * 1000


def make_interpreter(setting: Setting, *, on_npu: bool = True) -> Any:
    """An interpreter with allocated tensors. Raises CermetError with the delegate's or TFLite's reason."""
    from cermet import paths
    from cermet.interpreter import runtime_module
    module = runtime_module(setting.runtime)
    library = str(paths.library("libcermet_delegate.so"))
    resolver = getattr(module.OpResolverType, setting.resolver)
    try:
        with held_stderr() as held:
            delegates = [module.load_delegate(library, setting.options)] if on_npu else None
            made = module.Interpreter(str(setting.model), experimental_delegates=delegates,
                                      experimental_op_resolver_type=resolver)
            made.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise CermetError(f"{setting.model}: {reason_of(error)}") from error
    sys.stderr.write("".join(line for line in held if not line.startswith(GREETINGS)))
    return made


@contextlib.contextmanager
def held_stderr() -> Iterator[list[str]]:
    """Lines that libraries write to fd 2 meanwhile: the delegate says there what the exception says again."""
    sys.stderr.flush()
    lines: list[str] = []
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            lines += held.read().decode(errors="replace").splitlines(keepends=True)


def reason_of(error: Exception) -> str:
    """The delegate's words in a runtime's exception, without what the runtime puts around them."""
    text = str(error).partition("Restored original execution plan")[0].strip()
    _, found, words = text.rpartition("cermet: ")
    return words if found else text or type(error).__name__


def check_applied(interpreter: Any, plan: Plan) -> None:
    """The runtime lists an operation DELEGATE for each partition: none, though the plan has some, is an error."""
    operations: list[dict[str, Any]] = getattr(interpreter, "_get_ops_details", list)()
    if not operations or not plan.partitions:
        return
    if not any(operation["op_name"] == "DELEGATE" for operation in operations):
        raise CermetError("run: the delegate took no operations (see the messages above); nothing ran on the NPU")


# Inputs and outputs


def make_inputs(arguments: argparse.Namespace, details: Sequence[dict[str, Any]]) -> list[np.ndarray]:
    from cermet.cli import inputs
    if arguments.image:
        return inputs.picture_inputs(details, arguments.image, crop=arguments.crop)
    if arguments.input:
        return inputs.file_inputs(details, arguments.input)
    return inputs.random_inputs(details, arguments.random or 0)


def invoke(interpreter: Any, inputs: Sequence[np.ndarray], count: int) -> list[float]:
    """Milliseconds of each of `count` inferences."""
    times_ms = []
    for _ in range(count):
        # Each time: the runtime may use the inputs' memory for something else while it runs.
        for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], array)
        started = time.perf_counter()
        try:
            interpreter.invoke()
        except RuntimeError as error:
            raise CermetError(f"run: {error}") from error
        times_ms.append((time.perf_counter() - started) * 1000)
    return times_ms


def outputs_of(interpreter: Any) -> list[np.ndarray]:
    return [interpreter.get_tensor(detail["index"]).copy() for detail in interpreter.get_output_details()]


def compare_with_cpu(setting: Setting, inputs: Sequence[np.ndarray], arrays: Sequence[np.ndarray],
                     details: Sequence[dict[str, Any]]) -> list[Difference]:
    """Outputs against those of TFLite's reference kernels."""
    from cermet.cli.comparison import compare
    reference = make_interpreter(setting, on_npu=False)
    invoke(reference, inputs, 1)
    return [compare(str(detail["name"]), mine, theirs)
            for detail, mine, theirs in zip(details, arrays, outputs_of(reference), strict=True)]


def describe_output(detail: dict[str, Any], array: np.ndarray) -> dict[str, Any]:
    scale, zero_point = detail["quantization"]
    return {"name": str(detail["name"]), "shape": list(array.shape), "dtype": str(array.dtype),
            "scale": float(scale), "zero_point": int(zero_point)}


def read_labels(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CermetError(f"{path}: is not text in UTF-8") from error


def top_classes(detail: dict[str, Any], array: np.ndarray, labels: list[str]) -> list[dict[str, Any]]:
    """The best classes of the first output, best first; the score is the real value."""
    import numpy as np
    values = array.reshape(-1)
    # Some lists begin with a class "background" that some models do not have.
    offset = len(labels) - len(values)
    if offset not in (0, 1):
        raise CermetError(f"--labels: {len(labels)} lines, the first output has {len(values)} elements")
    scale, zero_point = detail["quantization"]
    scores = (values.astype(np.float64) - zero_point) * scale if scale else values.astype(np.float64)
    best = np.argsort(-scores, kind="stable")[:TOP]
    return [{"index": int(i), "label": labels[int(i) + offset], "score": float(scores[i])} for i in best]


def save(path: Path, outcome: Outcome) -> None:
    """The outputs as .npz, under exactly the name that was given."""
    import numpy as np
    arrays = {output["name"]: array for output, array in zip(outcome.outputs, outcome.arrays, strict=True)}
    with path.open("wb") as file:
        np.savez(file, **arrays)


# Printing


def to_json(outcome: Outcome) -> dict[str, Any]:
    """docs/run-json.md."""
    made = {"model": str(outcome.model), "soc": outcome.soc, "device": outcome.device, "runtime": outcome.runtime,
            "summary": asdict(outcome.summary), "timings": asdict(outcome.timings),
            "estimate": asdict(outcome.estimate) | {"total_ms": outcome.estimate.total_ms},
            "outputs": outcome.outputs, "top": outcome.top}
    if outcome.differences:
        made["compare"] = [asdict(difference) for difference in outcome.differences]
    return made


def to_lines(outcome: Outcome) -> list[str]:
    lines = [f"{entry['score']:9.4f}  {entry['label']}" for entry in outcome.top]
    timings, estimate = outcome.timings, outcome.estimate
    lines.append(f"{'device':<12} {device_text(outcome)}")
    lines.append(f"{'on the NPU':<12} {outcome.summary}")
    lines.append(f"{'compile':<12} {compile_text(timings)}")
    lines.append(f"{'load':<12} {timings.load_ms:.0f} ms")
    median = f", median of {timings.invokes}: {timings.median_invoke_ms:.1f} ms" if timings.invokes > 1 else ""
    lines.append(f"{'invoke':<12} {timings.first_invoke_ms:.1f} ms the first time{median}")
    if outcome.device == "sim" and estimate.npu_ms:
        lines.append(f"{'on a board':<12} {estimate}")
    for output in outcome.outputs:
        shape = "x".join(map(str, output["shape"])) or "scalar"
        lines.append(f"{'output':<12} {output['name']}: {shape} {output['dtype']}")
    lines += [f"{'against cpu':<12} {difference}" for difference in outcome.differences]
    return lines


def device_text(outcome: Outcome) -> str:
    device = f"simulated {outcome.soc}" if outcome.device == "sim" else f"{outcome.device} ({outcome.soc})"
    return f"{device}, through {outcome.runtime}"


def compile_text(timings: Timings) -> str:
    if timings.compile_ms is None:
        return "in load: the plan is not cached"
    return f"{timings.compile_ms:.0f} ms" if timings.compile_ms else "not needed, the plan is in the cache"
