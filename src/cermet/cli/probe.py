"""`cermet probe`: small programs that settle open questions about the hardware, and one file with what came out."""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cermet import devices
from cermet.cli.progress import Progress
from cermet.cli.trace import check_output, finish, record, wants_simulator
from cermet.errors import CermetError
from cermet.hw.disasm import disassemble
from cermet.probe.model import Probe
from cermet.probe.registry import NOT_BY_PROBES, select
from cermet.trace.events import Note, Process, printable, read_events
from cermet.trace.reader import constant

SIMULATED_PATH = "/dev/accel/accel0"
LIMIT_MIB = 1024
MAX_RESULTS = 1000
EPILOG = """\
Every program is one that is known to work with single fields changed; each is run in the simulator first and left out
should it touch memory that is not its own. Some jobs end in the kernel's time limit by design (half a second each).
FILE holds what cermet trace records: programs, results, kernel and board, no user, no host name, no other data.
How it is used: docs/board-evidence.md.

The exit status is 0 when all probes could be run and the simplest tasks worked, whatever the answers are.

examples:
  cermet probe                        # all of them, some 20 seconds, into probe.trace
  cermet probe Q-N7 Q-L1 -o bn.trace  # these questions only
  cermet probe --list                 # with --json also the register programs and what each answer predicts
  cermet probe --read probe.trace     # what somebody else's board said
  cermet replay probe.trace           # where it differs from the simulator, task by task
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="questions like Q-N4; all when none is named")
    parser.add_argument("-o", "--output", type=Path, default=Path("probe.trace"), metavar="FILE",
                        help="where to (default: probe.trace)")
    parser.add_argument("--device", choices=("auto", "real", "sim"), default="auto",
                        help="auto (default): the simulated NPU when this machine has none")
    parser.add_argument("--list", action="store_true", help="the questions, their programs and possible answers")
    parser.add_argument("--read", type=Path, metavar="FILE", help="the answers in a file, nothing is run")
    parser.add_argument("--json", action="store_true", help="print JSON (docs/trace-format.md)")
    parser.add_argument("--here", metavar="NODE", help=argparse.SUPPRESS)      # the process that is recorded


def run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return show_list(select(arguments.names), arguments.json)
    if arguments.here:
        return run_here(arguments.here, select(arguments.names))
    if arguments.read:
        return show_results(arguments.read, arguments.json, False)
    status, path = probe_node(arguments)
    if path is None or status:
        return status or 1
    return show_results(path, arguments.json, True)


# -- running -----------------------------------------------------------------------------------------------------------


def probe_node(arguments: argparse.Namespace) -> tuple[int, Path | None]:
    """(exit status, which is not 0 when the run failed, the file if anything was recorded): failures have been told."""
    output = arguments.output.absolute()
    check_output(output)
    select(arguments.names)
    simulator = wants_simulator(arguments.device)
    node = SIMULATED_PATH if simulator else real_node()
    command = [sys.executable, "-m", "cermet", "probe", "--here", node, *arguments.names]
    status, _ = record(command, output, simulator, None, LIMIT_MIB)
    path = output if finish(output) is not None else None
    if status > 128:        # by a signal: the process itself had no word to say
        print(f"cermet probe: not done; {f'what there is so far is in {path}' if path else 'nothing was recorded'}",
              file=sys.stderr)
    return status, path


def real_node() -> str:
    """Raises CermetError when there is none."""
    usable = [one.device for one in devices.real_devices() if one.usable]
    if not usable:
        raise CermetError("probe: no rocket node that can be opened; cermet devices says what is there")
    return usable[0]


def run_here(path: str, probes: list[Probe]) -> int:
    from cermet.probe.node import Node
    from cermet.probe.run import run_probes
    progress = Progress("probe")
    with Node(path) as node:
        run_probes(node, probes, progress.say)
    progress.clear()
    return 0


# -- showing -----------------------------------------------------------------------------------------------------------


def show_list(probes: list[Probe], as_json: bool) -> int:
    if as_json:
        print(json.dumps({"probes": [probe_json(one) for one in probes], "not_by_probes": NOT_BY_PROBES}, indent=2))
        return 0
    for probe in probes:
        print(f"{probe.name}: {probe.question}\n    program: {probe.program}"
              + (" (ends in the kernel's time limit)" if probe.times_out else ""))
        for name, text in probe.hypotheses.items():
            mark = "  <- the simulator" if name == probe.assumed else ""
            print(f"    {name}{': ' + text if text else ''}{mark}")
    print("\nnot settled by programs:")
    for name, reason in NOT_BY_PROBES.items():
        print(f"    {name:<5} {reason}")
    return 0


def probe_json(probe: Probe) -> dict[str, Any]:
    """With the register programs, and what each hypothesis says that memory will hold."""
    cases = [{"label": case.label,
              "jobs": [[disassemble(program.words) for program in job] for job in case.jobs],
              "predictions": {name: values.astype(f"<i{case.element_bytes}").tobytes().hex()
                              for name, values in case.predictions.items()}} for case in probe.cases()]
    return {"name": probe.name, "question": probe.question, "program": probe.program, "hypotheses": probe.hypotheses,
            "assumed": probe.assumed, "times_out": probe.times_out, "cases": cases}


def read_results(path: Path) -> tuple[list[dict[str, Any]], list[Process]]:
    """Results in a trace. Raises CermetError when it is no trace or holds none."""
    results: list[dict[str, Any]] = []
    processes: list[Process] = []
    for event in read_events(path, []):
        if isinstance(event, Process):
            processes.append(event)
        if isinstance(event, Note) and event.level == constant("NOTE_PROBE") and len(results) < MAX_RESULTS:
            results.append(checked_result(event.text))
    if not results:
        raise CermetError(f"{path}: a trace without results of cermet probe")
    return results, processes


def checked_result(text: str) -> dict[str, Any]:
    """A result's JSON with the members that are shown, all of the right kind. Raises CermetError."""
    try:
        data = json.loads(text)
        shown = {name: printable(str(data[name])) for name in ("name", "question", "assumed", "verdict", "error")}
        answers = [printable(str(answer)) for answer in data["answers"]]
        cases = [{"label": printable(str(case["label"])), "elements": int(case["elements"]),
                  "agrees": {printable(str(name)): int(count) for name, count in case["agrees"].items()},
                  "observed": printable(str(case["observed"])), "duration_ns": int(case["duration_ns"]),
                  "timed_out": bool(case["timed_out"])} for case in data["cases"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CermetError(f"a result of a probe is malformed: {type(error).__name__} {error}") from error
    return {**shown, "answers": answers, "cases": cases}


def show_results(path: Path, as_json: bool, is_new: bool) -> int:
    results, processes = read_results(path)
    if as_json:
        print(json.dumps({"file": str(path), "board": board_of(processes), "results": results}, indent=2))
    else:
        print(f"recorded on {board_of(processes)}")
        print("\n".join(result_lines(results)))
        print(total_line(results))
        if is_new:
            print(f"in {path}: docs/board-evidence.md says where to send it")
    return 0 if is_complete(results) else 1


def board_of(processes: list[Process]) -> str:
    return next((f"{one.system}{', ' + one.board if one.board else ''}" for one in processes), "an unknown machine")


def is_complete(results: list[dict[str, Any]]) -> bool:
    """All could be run; the control, when it is there, worked."""
    return all(not one["error"] and (one["name"] != "control" or one["answers"]) for one in results)


def judgement(result: dict[str, Any]) -> str:
    """same, other, open or failed."""
    if result["error"]:
        return "failed"
    if not result["answers"]:
        return "open"
    return "same" if result["assumed"] in result["answers"] else "other"


WORDS = {"same": "as the simulator has it", "other": "OTHERWISE: the simulator has '{assumed}'",
         "open": "OPEN: the simulator has '{assumed}'", "failed": ""}


def result_lines(results: list[dict[str, Any]]) -> Iterator[str]:
    width = max(len(result["name"]) for result in results)
    for result in results:
        kind = judgement(result)
        yield f"{result['name']:<{width}}  {result['verdict']:<32} {WORDS[kind].format(**result)}".rstrip()
        if kind == "open":
            yield from (f"{'':<{width}}    {line}" for line in case_lines(result))


def case_lines(result: dict[str, Any]) -> Iterator[str]:
    for case in result["cases"]:
        best = sorted(case["agrees"].items(), key=lambda item: -item[1])[:3]
        near = ", ".join(f"{name} {count}" for name, count in best)
        late = "; ran into the time limit" if case["timed_out"] else ""
        yield f"{case['label'] or 'all'}: of {case['elements']} elements agree: {near or 'none'}{late}"


def total_line(results: list[dict[str, Any]]) -> str:
    kinds = [judgement(result) for result in results if result["name"] != "control"]
    same, other, still_open, failed = (kinds.count(kind) for kind in ("same", "other", "open", "failed"))
    return (f"{len(kinds)} questions: {same} as the simulator has them, {other} otherwise, {still_open} open, "
            f"{failed} could not be run")
