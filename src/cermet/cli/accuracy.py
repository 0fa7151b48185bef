"""`cermet accuracy`: every tensor of a model on the NPU against a reference, layer by layer."""
from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cermet.cli.models import add_compile_arguments, compile_options, option_values, read_model
from cermet.errors import CermetError

if TYPE_CHECKING:
    import numpy as np

    from cermet.accuracy.error import Error
    from cermet.accuracy.measure import Measurement, Row

MATCHES = ("tflite", "exact")
AGAINST = {"reference": "cermet's arithmetic", "exact": "exact arithmetic", "tflite": "TFLite's reference kernels"}
ARRAY_ENDINGS = (".npy", ".npz")
BAR_CHARACTERS = 30
NAME_CHARACTERS = 48
EPILOG = """
chained: the program as it runs, so what is wrong in one layer reaches all behind it. alone: each layer on the
reference's own inputs, so the first line of the table names the layer to look at. beyond: elements farther from the
reference than one step of each operation explains. Layers that run as one (a convolution
and the addition behind it) are one line. The reference is cermet's own arithmetic, bit for bit TFLite's reference
kernels; --against tflite asks the interpreter itself, --against exact shows how far the NPU is from the truth.

examples:
  cermet accuracy model.tflite --inputs cat.jpg dog.jpg --plot error.svg
  cermet accuracy model.tflite --random 4 --both
  cermet accuracy model.tflite --inputs sample.npz --against tflite --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.tflite")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--inputs", type=Path, nargs="+", metavar="F",
                        help="pictures, .npy or .npz files, one sample each (a model with several inputs: one .npz for "
                             "each sample, or one .npy for each input)")
    source.add_argument("--random", type=count, metavar="N", help="N random samples (default: 1)")
    parser.add_argument("--crop", action="store_true",
                        help="cut pictures to the input's proportions instead of stretching them")
    parser.add_argument("--against", choices=tuple(AGAINST), default="reference",
                        help="reference (default): cermet's own arithmetic, bit for bit TFLite's reference kernels; "
                             "exact: real-valued arithmetic, rounded once for each operation; tflite: TFLite's "
                             "interpreter")
    parser.add_argument("--runtime", choices=("litert", "tflite"), default="",
                        help="ai-edge-litert or tflite-runtime (default: the first of them that is installed)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--match", choices=MATCHES, help="how the NPU rounds: the delegate's option match")
    which.add_argument("--both", action="store_true", help="measure both ways of rounding, tables one after the other")
    parser.add_argument("--device", default="core",
                        help="core: a simulated core in this process (default); or auto, sim, /dev/accel/accel0")
    parser.add_argument("--top", type=count, default=20, metavar="N", help="lines of the table (default: 20)")
    parser.add_argument("--plot", type=Path, metavar="F", help="draw the errors along the network: .svg or .png")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table (docs/accuracy-json.md)")
    add_compile_arguments(parser)


def count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} must be 1..10000")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    if arguments.plot and arguments.plot.suffix.lower() not in (".svg", ".png"):
        raise CermetError(f"--plot: {arguments.plot.name} must end in .svg or .png")
    measured = measure_all(arguments)
    if arguments.plot:
        from cermet.accuracy.plot import write_plot
        write_plot(arguments.plot, f"{arguments.model.name}, match={measured[0].match}", measured[0].rows)
    if arguments.json:
        print(json.dumps(to_json(arguments, measured), indent=1))
        return 0
    for one in measured:
        print("\n".join([*table(one, arguments.top), ""]))
    print("\n".join(summary(arguments, measured)))
    return 0


def measure_all(arguments: argparse.Namespace) -> list[Measurement]:
    """One measurement, or one for each way of rounding."""
    if arguments.crop and not arguments.inputs:
        raise CermetError("--crop: cuts the pictures of --inputs, which are not there")
    from cermet.accuracy.executors import make_executor
    from cermet.accuracy.measure import measure
    from cermet.accuracy.model_file import input_details
    from cermet.accuracy.reference import Reference
    from cermet.compiler import driver_for
    from cermet.frontend.tflite_file import read_tflite
    driver, options = driver_for(arguments.soc), compile_options(arguments.option)
    model = read_model(arguments.model)
    subgraph = read_tflite(model, place=str(arguments.model))
    samples = make_samples(arguments, input_details(model))
    reference = Reference(model, subgraph, arguments.against, arguments.runtime)
    matches = MATCHES if arguments.both else (arguments.match or options.match,)
    if arguments.match and arguments.match != option_values(arguments.option).get("match", arguments.match):
        raise CermetError(f"--match: {arguments.match} and --option match={options.match} contradict each other")
    measured = []
    with closing(make_executor(arguments.device, arguments.soc)) as executor, progress_bar() as progress:
        for match in matches:
            chosen = replace(options, match=match)
            measured.append(measure(subgraph, driver, chosen, reference, executor, samples, progress))
    return measured


def make_samples(arguments: argparse.Namespace, details: Sequence[dict[str, Any]]) -> list[list[np.ndarray]]:
    """Lists of arrays, one for each input of the model."""
    from cermet.cli.inputs import file_inputs, picture_inputs, random_inputs
    if not arguments.inputs:
        return [random_inputs(details, seed) for seed in range(arguments.random or 1)]
    files: list[Path] = arguments.inputs
    if len(files) == len(details) > 1 and all(path.suffix == ".npy" for path in files):
        return [file_inputs(details, files)]
    return [file_inputs(details, [path]) if path.suffix.lower() in ARRAY_ENDINGS
            else picture_inputs(details, path, crop=arguments.crop) for path in files]


@contextmanager
def progress_bar() -> Iterator[Any]:
    """A bar on a terminal, nothing elsewhere."""
    def show(done: int, total: int, what: str) -> None:
        if sys.stderr.isatty():
            filled = BAR_CHARACTERS * done // max(total, 1)
            bar = "#" * filled + "." * (BAR_CHARACTERS - filled)
            room = max(shutil.get_terminal_size().columns - BAR_CHARACTERS - 20, 0)
            print(f"\r\x1b[K[{bar}] {done}/{total} {what[:room]}", end="", file=sys.stderr, flush=True)
    try:
        yield show
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# Printing


COLUMNS = ("where", "operation", "beyond", "alone: max", "mean", "differ", "chained: max", "mean", "differ", "cosine",
           "saturated", "tensor")
LEFT_ALIGNED = (0, 1, 11)


def table(measured: Measurement, top: int) -> list[str]:
    """The worst tensors first, columns aligned."""
    rows = [COLUMNS, *(cells(row) for row in measured.worst_first()[:top])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) if index in LEFT_ALIGNED else cell.rjust(width)
                       for index, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    hidden = len(measured.rows) - top
    return [f"match={measured.match}", *lines, *([f"... {hidden} more, --top {len(measured.rows)}"] * (hidden > 0))]


def cells(row: Row) -> tuple[str, ...]:
    chained, alone = row.chained, row.alone
    saturated = "" if chained is None else f"{chained.saturated}/{chained.reference_saturated}"
    return ("CPU" if row.partition is None else f"NPU {row.partition}", row.label,
            "" if alone is None or alone.beyond is None else str(alone.beyond), *numbers(alone), *numbers(chained),
            "" if chained is None else f"{chained.cosine:.6f}", saturated, short(row.name))


def short(name: str) -> str:
    """Converters join the names of all that went into an operation; the first says enough."""
    first = name.partition(";")[0]
    return first if len(first) <= NAME_CHARACTERS else "..." + first[3 - NAME_CHARACTERS:]


def numbers(error: Error | None) -> tuple[str, str, str]:
    if error is None:
        return "", "", ""
    unit = " LSB" if error.unit == "LSB" else ""
    return f"{error.max:.4g}{unit}", f"{error.mean:.4f}", f"{error.differing:.3%}"


def summary(arguments: argparse.Namespace, measured: Sequence[Measurement]) -> list[str]:
    """The share of equal elements, for each way of rounding; what was not measured on stderr."""
    lines = []
    for one in measured:
        for note in one.notes:
            print(f"cermet accuracy: {note}", file=sys.stderr)
        if one.equality.chained is None:
            lines.append(f"{arguments.model.name}: match={one.match}: nothing was measured on the NPU")
            continue
        alone = "" if one.equality.alone is None else f", layers alone {one.equality.alone:.4%}"
        lines.append(f"{arguments.model.name}: match={one.match}: equal to {AGAINST[arguments.against]}: "
                     f"{one.equality.chained:.4%} of the elements chained{alone}")
    return lines


def to_json(arguments: argparse.Namespace, measured: Sequence[Measurement]) -> dict[str, Any]:
    """docs/accuracy-json.md."""
    from cermet import build
    return {"model": str(arguments.model), "soc": arguments.soc, "build_id": build.BUILD_ID,
            "device": arguments.device, "against": arguments.against,
            "samples": len(arguments.inputs) if arguments.inputs else arguments.random or 1,
            "measurements": [measurement_json(one) for one in measured]}


def measurement_json(measured: Measurement) -> dict[str, Any]:
    tensors = [{"tensor": row.tensor, "name": row.name,
                "operations": [{"index": index, "operation": name} for index, name in row.operations],
                "target": "CPU" if row.partition is None else "NPU", "partition": row.partition,
                "shape": list(row.shape), "dtype": row.dtype,
                "chained": asdict(row.chained) if row.chained else None,
                "alone": asdict(row.alone) if row.alone else None} for row in measured.worst_first()]
    return {"match": measured.match, "equal": asdict(measured.equality), "tensors": tensors,
            "notes": list(measured.notes)}
