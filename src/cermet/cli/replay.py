"""`cermet replay`: run a recording in the simulator and compare, task by task."""
from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from cermet.cli.progress import Progress
from cermet.errors import CermetError
from cermet.hw.registers import RegisterMap
from cermet.hw.soc import SOCS, soc_by_name
from cermet.trace import context
from cermet.trace.compare import TaskResult
from cermet.trace.replay import Replay

SHOWN_REMARKS = 10
EPILOG = """\
Each task runs on the memory that was recorded, so one wrong result does not make the following ones wrong. Verdicts:
  equal    what the simulator wrote is what was recorded
  differs  it is not; the first such task is shown with its registers and its program
  hangs    the simulator says that the task never completes
  unseen   all that it wrote was overwritten before the program looked; cermet trace --each task records everything
Bytes of no channel, which fill up the last atom of a tensor, are counted but are no difference.

The exit status is 0 when all is equal or unseen and at least one task is equal, else 1.

examples:
  cermet replay run.trace
  cermet replay run.trace --task 12          # one task in full, whatever its verdict
  cermet replay run.trace --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="what cermet trace or cermet probe wrote")
    parser.add_argument("--task", type=int, metavar="N", help="show this task in full")
    parser.add_argument("--soc", choices=sorted(SOCS), default="rk3588", help="whose NPU (default: rk3588)")
    parser.add_argument("--json", action="store_true", help="print JSON (docs/trace-format.md)")


def run(arguments: argparse.Namespace) -> int:
    soc = soc_by_name(arguments.soc)
    progress = Progress("replay")
    replay = Replay(soc, lambda number: progress.say(f"task {number}"))
    try:
        replay.run(arguments.file)
    finally:
        progress.clear()
    chosen = chosen_task(replay, arguments.task)
    if arguments.json:
        print(json.dumps(as_json(replay, chosen, soc.registers), indent=2))
    else:
        print("\n".join(lines(replay, chosen, soc.registers)))
    return 0 if is_success(replay) else 1


def is_success(replay: Replay) -> bool:
    return replay.is_equal and any(task.verdict == "equal" for task in replay.tasks)


def chosen_task(replay: Replay, wanted: int | None) -> TaskResult | None:
    """The wanted task, or the first that is not right."""
    if wanted is None:
        return next((task for task in replay.tasks if task.verdict in ("differs", "hangs")), None)
    if 0 <= wanted < len(replay.tasks):
        return replay.tasks[wanted]
    raise CermetError(f"--task: {wanted}, but the trace has {len(replay.tasks)} tasks")


def lines(replay: Replay, chosen: TaskResult | None, registers: RegisterMap) -> list[str]:
    return [*recorded_on(replay), *verdicts(replay), *strays(replay), *remarks(replay), *totals(replay),
            *(in_full(chosen, registers) if chosen else [])]


def recorded_on(replay: Replay) -> list[str]:
    return [f"recorded: {process.program} on {process.system}{', ' + process.board if process.board else ''}"
            for process in replay.machine.processes]


def verdicts(replay: Replay) -> list[str]:
    """A line for each task that has something to say; the others are counted."""
    return [context.headline(task) for task in replay.tasks if task.verdict in ("differs", "hangs") or task.num_filler]


def strays(replay: Replay) -> list[str]:
    return [f"handle {stray.handle}: {stray.num_bytes} bytes changed that no simulated task wrote, the first at byte "
            f"{stray.offset:#x}" for stray in replay.strays]


def remarks(replay: Replay) -> list[str]:
    shown = [f"remark: {remark}" for remark in replay.remarks[:SHOWN_REMARKS]]
    more = len(replay.remarks) - SHOWN_REMARKS
    return [*shown, *([f"remark: {more} more of the kind"] if more > 0 else [])]


def totals(replay: Replay) -> list[str]:
    counts = Counter(task.verdict for task in replay.tasks)
    each = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("equal", "differs", "hangs", "unseen")
                     if counts[verdict])
    return [f"{replay.num_calls} calls ({replay.num_failed_calls} failed), {replay.num_jobs} jobs, "
            f"{len(replay.tasks)} tasks: {each or 'none'}"]


def in_full(task: TaskResult, registers: RegisterMap) -> list[str]:
    return ["", context.headline(task), *([context.difference(task)] if task.first else []),
            *(f"diagnostic: {text}" for text in task.diagnostics),
            "registers of the arithmetic, as the task found them:",
            *(f"  {line}" for line in context.register_context(task, registers)),
            "program:", *(f"  {line}" for line in context.program(task, registers))]


def as_json(replay: Replay, chosen: TaskResult | None, registers: RegisterMap) -> dict[str, object]:
    """docs/trace-format.md."""
    return {
        "equal": is_success(replay),
        "recorded": [asdict(process) for process in replay.machine.processes],
        "calls": replay.num_calls, "failed_calls": replay.num_failed_calls, "jobs": replay.num_jobs,
        "wait_ns": replay.wait_ns, "tasks": [task_json(task) for task in replay.tasks],
        "strays": [asdict(stray) for stray in replay.strays], "remarks": replay.remarks,
        "shown": None if chosen is None else {
            "number": chosen.number, "registers": context.register_context(chosen, registers),
            "program": context.program(chosen, registers)}}


def task_json(task: TaskResult) -> dict[str, object]:
    return {"number": task.number, "job": task.job, "index": task.index, "label": task.label, "verdict": task.verdict,
            "regcmd": task.regcmd, "regcmd_count": task.regcmd_count, "failure": task.failure,
            "atoms_written": task.num_written, "atoms_compared": task.num_compared,
            "bytes_different": task.num_different, "filler_bytes_different": task.num_filler,
            "largest_difference": task.largest, "first": asdict(task.first) if task.first else None,
            "job_duration_ns": task.duration_ns, "estimated_cycles": task.cycles, "diagnostics": list(task.diagnostics)}
