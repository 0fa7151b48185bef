"""`cermet run`: a model through a TFLite interpreter with the delegate, as an application would use it."""
from __future__ import annotations

import argparse
import json
import statistics
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cermet.cli.loading import load, make_interpreter
from cermet.cli.run_text import Outcome, Timings, read_labels, to_json, to_lines, top_classes
from cermet.cli.setting import Setting, add_delegate_arguments, blob_of_model, make_setting
from cermet.errors import CermetError

if TYPE_CHECKING:
    import numpy as np

    from cermet.cli.comparison import Difference

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
    source.add_argument("--random", type=seed, metavar="SEED", help="random inputs")
    parser.add_argument("--crop", action="store_true",
                        help="cut the picture to the input's proportions instead of stretching it")
    parser.add_argument("--labels", type=Path, metavar="F", help="names of the classes, one a line: prints the best 5")
    add_delegate_arguments(parser)
    parser.add_argument("--compare", choices=("cpu",), help="compare the outputs with TFLite's reference kernels")
    parser.add_argument("--repeat", type=positive, default=1, metavar="N", help="invoke N times (default: 1)")
    parser.add_argument("--output", type=Path, metavar="F.npz", help="write the outputs, by their names")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines (docs/run-json.md)")


def positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} must be 1..1000000000")
    return int(text)


def seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 0 or more")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    outcome = execute(arguments)
    if arguments.output:
        save(arguments.output, outcome)
    print(json.dumps(to_json(outcome), indent=1) if arguments.json else "\n".join(to_lines(outcome)))
    return 0


def execute(arguments: argparse.Namespace) -> Outcome:
    """Load, invoke, and compare when asked to."""
    from cermet.frontend.tflite_file import load as load_subgraph
    from cermet.report import estimate, summarise
    if arguments.crop and not arguments.image:
        raise CermetError("--crop: cuts the picture of --image, which is not there")
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
        summarise(load_subgraph(arguments.model), groups),
        estimate([partition.program for partition in plan.partitions], setting.soc),
        Timings(compile_ms, load_ms, times_ms[0], statistics.median(times_ms), len(times_ms)),
        [describe_output(detail, array) for detail, array in zip(details, arrays, strict=True)], arrays,
        top_classes(details[0], arrays[0], labels) if arguments.labels else [], differences)


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
    from cermet.interpreter import reason_of
    times_ms = []
    for _ in range(count):
        # Each time: the runtime may use the inputs' memory for something else while it runs.
        for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], array)
        started = time.perf_counter()
        try:
            interpreter.invoke()
        except RuntimeError as error:
            raise CermetError(f"run: {reason_of(error)}") from error
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


def save(path: Path, outcome: Outcome) -> None:
    """The outputs as .npz, under exactly the name that was given; a name that occurs again has its number behind it."""
    from numpy.lib import format as npy
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for number, (output, array) in enumerate(zip(outcome.outputs, outcome.arrays, strict=True)):
            name = output["name"]
            if f"{name}.npy" in archive.namelist():
                name = f"{name}_{number}"
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array)
