"""`cermet report`: node by node, NPU or CPU, and why."""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cermet.cli.models import add_compile_arguments, compile_options, num_subgraphs, read_model
from cermet.errors import CermetError

if TYPE_CHECKING:
    from cermet.drivers.base import CompileOptions

EPILOG = """
The JSON form is described in docs/report-json.md.

examples:
  cermet report model.tflite
  cermet report model.tflite --option deny=ADD,12-15
  cermet report model.tflite --option assume=off
  cermet report model.tflite --json | jq .summary.macs_share
  cermet report model.tflite --html report.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.tflite")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--html", type=Path, metavar="F.html",
                        help="write a page with the graph drawn, which needs no other file")
    parser.add_argument("--subgraph", type=int, default=0, metavar="N",
                        help="which subgraph (default: 0, the main one)")
    add_compile_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from cermet import build
    from cermet.compiler import compile_subgraph, driver_for
    from cermet.frontend.tflite_file import read_tflite
    from cermet.report import make_report
    options, driver = compile_options(arguments.option), driver_for(arguments.soc)
    model = read_model(arguments.model)
    subgraph = read_tflite(model, arguments.subgraph, place=str(arguments.model))
    check_numbers(options, len(subgraph.operations))
    report = make_report(compile_subgraph(subgraph, driver, options), arguments.soc)
    count = num_subgraphs(model)
    if arguments.html:
        from cermet.report_html.page import make_page
        from cermet.report_html.pieces import Heading
        heading = Heading(arguments.model.name, arguments.soc, build.BUILD_ID)
        arguments.html.write_text(make_page(heading, subgraph, report), encoding="utf-8")
    if arguments.json:
        head = {"model": str(arguments.model), "soc": arguments.soc, "build_id": build.BUILD_ID,
                "subgraph": arguments.subgraph, "subgraphs": count}
        print(json.dumps(head | report.to_json(), indent=1))
        return 0
    from cermet.cli.report_text import lines
    print("\n".join(lines(report)))
    print(f"\n{arguments.model.name} on {arguments.soc}: {report.summary} on the NPU")
    if report.estimate.npu_ms:
        print(f"the NPU's part on a board: {report.estimate}")
    if count > 1:
        print(f"this is subgraph {arguments.subgraph} of 0..{count - 1}; --subgraph N shows another")
    if arguments.html:
        print(f"the page: {arguments.html}")
    for fault in report.faults:
        print(f"cermet report: {fault}", file=sys.stderr)
    return 0


def check_numbers(options: CompileOptions, count: int) -> None:
    """Numbers in allow and deny that this subgraph does not have; the delegate, which sees several, ignores them."""
    for name, words in (("allow", options.allow), ("deny", options.deny)):
        for word in sorted(words):
            if word[0].isdigit() and int(word.split("-")[-1]) >= count:
                raise CermetError(f"option {name}: {word} must be below {count}, the number of operations")
