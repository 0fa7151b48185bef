"""`cermet profile`: layer by layer, where an inference's time goes; by the cycle model, without running anything."""
from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cermet.cli.models import add_compile_arguments, compile_options, num_subgraphs, read_model
from cermet.errors import CermetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cermet.compiler import Compiled
    from cermet.profile.profile import Profile
    from cermet.profile.setting import Setting

STDOUT = Path("-")
EPILOG = """
Estimates: docs/performance.md says how good they are. The JSON form is described in docs/profile-json.md.

examples:
  cermet profile model.tflite
  cermet profile model.tflite --html profile.html --trace trace.json
  cermet profile model.tflite --clock 200 --cores 3
  cermet profile model.tflite --kernel queues --cores 3
  cermet profile model.tflite --csv > layers.csv
  cermet profile model.tflite --json | jq '.types[0]'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.tflite")
    for name, what in (("json", "JSON"), ("csv", "the layers as CSV")):
        parser.add_argument(f"--{name}", nargs="?", const=STDOUT, type=place, metavar="F",
                            help=f"{what} to a file, or instead of the tables")
    parser.add_argument("--html", type=place, metavar="F.html",
                        help="write a page with roofline, timeline and memory, which needs no other file")
    parser.add_argument("--trace", type=place, metavar="F.json", help="write a trace for ui.perfetto.dev")
    parser.add_argument("--clock", type=int, metavar="MHZ", help="of the NPU (default: the full clock)")
    parser.add_argument("--cores", type=int, default=1, metavar="N",
                        help="inferences side by side, one on each core, which share the memory; with --kernel "
                        "queues: cores that share one inference (default: 1)")
    parser.add_argument("--kernel", choices=("mainline", "chained", "queues"), default="mainline",
                        help="mainline: an interrupt for each task; chained: none between tasks; queues: the proposed "
                        "interface (default: mainline)")
    parser.add_argument("--subgraph", type=int, default=0, metavar="N",
                        help="which subgraph (default: 0, the main one)")
    add_compile_arguments(parser)


def place(text: str) -> Path:
    """Where something is to be written. A model behind --json is more likely one to read."""
    if text.endswith(".tflite"):
        raise argparse.ArgumentTypeError(f"{text} would be overwritten; options without a file come behind the model")
    return Path(text)


def run(arguments: argparse.Namespace) -> int:
    from cermet.profile.profile import make_profile
    _check_places(arguments)
    compiled, setting, count = _compile(arguments)
    profile = make_profile(compiled, setting)
    _write_numbers(arguments, profile, count)
    _write_drawings(arguments, compiled, profile)
    if STDOUT not in (arguments.json, arguments.csv):
        print("\n".join(_text(arguments, compiled, profile, count)))
    for fault in compiled.faults:
        print(f"cermet profile: {fault}", file=sys.stderr)
    return 0


def _check_places(arguments: argparse.Namespace) -> None:
    if arguments.json == STDOUT and arguments.csv == STDOUT:
        raise CermetError("--json and --csv: only one of them can go to the standard output")


def _write_numbers(arguments: argparse.Namespace, profile: Profile, count: int) -> None:
    from cermet import build
    from cermet.cli.profile_text import to_csv
    head = {"model": str(arguments.model), "build_id": build.BUILD_ID, "subgraph": arguments.subgraph,
            "subgraphs": count}
    texts = {"json": lambda: json.dumps(head | profile.to_json(), indent=1) + "\n", "csv": lambda: to_csv(profile)}
    for name, text in texts.items():
        place = getattr(arguments, name)
        if place == STDOUT:
            sys.stdout.write(text())
        elif place:
            place.write_text(text(), encoding="utf-8")


def _write_drawings(arguments: argparse.Namespace, compiled: Compiled, profile: Profile) -> None:
    if arguments.html:
        from cermet import build
        from cermet.profile_html.page import make_profile_page
        from cermet.report_html.pieces import Heading
        heading = Heading(arguments.model.name, arguments.soc, build.BUILD_ID)
        arguments.html.write_text(make_profile_page(heading, compiled.subgraph, profile), encoding="utf-8")
    if arguments.trace:
        from cermet.profile.trace import make_trace
        arguments.trace.write_text(make_trace(compiled.subgraph, profile, str(arguments.model)), encoding="utf-8")


def _text(arguments: argparse.Namespace, compiled: Compiled, profile: Profile, count: int) -> Iterator[str]:
    from cermet.cli.profile_text import lines
    from cermet.profile.profile import make_profile
    yield from lines(profile)
    if arguments.clock is None and arguments.kernel == "mainline":
        clock = profile.setting.soc.mainline_clock_mhz
        slow = make_profile(compiled, replace(profile.setting, clock_mhz=clock))
        yield (f"at {clock} MHz, where the mainline kernel leaves the NPU: {slow.totals.total_us / 1000:.2f} ms, "
               f"{slow.per_second:.1f} per second")
    if count > 1:
        yield f"this is subgraph {arguments.subgraph} of 0..{count - 1}; --subgraph N shows another"


def _compile(arguments: argparse.Namespace) -> tuple[Compiled, Setting, int]:
    """(what became of the subgraph, under which circumstances it is looked at, number of subgraphs)."""
    from cermet.cli.report import check_numbers
    from cermet.compiler import compile_subgraph, driver_for
    from cermet.frontend.tflite_file import read_tflite
    from cermet.hw.soc import soc_by_name
    from cermet.profile.setting import make_setting
    driver = driver_for(arguments.soc)
    setting = make_setting(soc_by_name(arguments.soc), arguments.clock, arguments.cores, arguments.kernel)
    if any(option.partition("=")[0] == "cores" for option in arguments.option):
        raise CermetError("--option cores: is --kernel queues --cores N here")
    options = replace(compile_options(arguments.option), cores=setting.arrays)
    if setting.has_queues:
        options = replace(options, chains="kernel")     # as the delegate compiles for it
    model = read_model(arguments.model)
    subgraph = read_tflite(model, arguments.subgraph, place=str(arguments.model))
    check_numbers(options, len(subgraph.operations))
    return compile_subgraph(subgraph, driver, options), setting, num_subgraphs(model)
