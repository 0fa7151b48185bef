"""Wild calls and wild register programs against the simulated driver.

    python -m tests.kmd.fuzz calls --calls 1000000        # right and wrong calls of several files, in this process
    python -m tests.kmd.fuzz socket --calls 20000         # the same through the shim, with dup, fork, killed children
    python -m tests.kmd.fuzz programs --programs 200000   # real register programs with a few changes

After each sequence of calls: no call without its answer, every job over, handles and addresses as they must be, the
driver's books balanced, nothing left behind, no other file's bytes read or changed, no error in the driver's log.
After each program: the task has ended one way or another in time, nothing outside the mapped memory was touched (the
process would die of it), no exception; now and then a known program must be right after a reset.
Exit status 0: nothing was found. 1: it was; what leads there is printed, and stays valid as long as the fuzzer does.
"""
from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import cermet.kmd
import cermet.sim
from tests.kmd.fuzz import npu, remote
from tests.kmd.fuzz.arena import Broken
from tests.kmd.fuzz.choices import Step
from tests.kmd.fuzz.local import BEHAVIOURS
from tests.kmd.fuzz.reached import Tracer
from tests.kmd.fuzz.search import Result, breaks, search

REPORT_S = 30.0
# What calls in this process go through; the rest is the process around it.
CALLS_REACH = ("bo", "connection", "core_ioctls", "device", "errors", "fence", "file", "ioctl", "job", "power", "queue",
               "queue_ioctls", "ranges", "rocket_ioctls", "scheduler", "space", "syncobj_ioctls", "user_memory")
TRACED_PROGRAMS = 4000


class Rarely:
    """Calls a function at most every REPORT_S."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, text: Callable[[], str]) -> None:
        if time.monotonic() - self._last > REPORT_S:
            self._last = time.monotonic()
            print(text(), flush=True)


def print_reached(tracer: Tracer, names: tuple[str, ...] | None, show_lines: bool) -> None:
    rows = [row for row in tracer.report() if names is None or row[0].removesuffix(".py") in names]
    for name, reached, there, missing in rows:
        print(f"  {name:<20} {reached:4} of {there:4} lines" + (f", not {missing}" if show_lines and missing else ""))
    reached, there = sum(row[1] for row in rows), sum(row[2] for row in rows)
    print(f"  reached: {reached} of {there} lines, {100 * reached / there:.1f} %")


def fuzz_calls(arguments: argparse.Namespace) -> int:
    rarely = Rarely()

    def line(result: Result) -> str:
        return (f"{result.calls} calls in {result.seconds:.0f} s, {result.calls / result.seconds:.0f} per second; "
                f"{result.sequences} sequences, {result.kept} kept, {result.answers} pairs of answers, "
                f"{result.lines} lines")
    if arguments.replay:
        steps = [Step(*fields) for fields in eval(arguments.replay.read_text(), {"__builtins__": {}})]
        wrong = [breaks(steps, number) for number in range(len(BEHAVIOURS))]
        print("\n".join(filter(None, wrong)) or "nothing breaks")
        return 1 if any(wrong) else 0
    tracer = Tracer(pathlib.Path(cermet.kmd.__file__).parent)
    result = search(arguments.calls, arguments.seed, tracer, lambda result: rarely(lambda: line(result)))
    print(line(result))
    print_reached(tracer, CALLS_REACH, arguments.lines)
    if result.failure:
        print(f"BROKEN: {result.failure}\nsteps, for --replay FILE: {[tuple(step) for step in result.steps]}")
    return 1 if result.failure else 0


def fuzz_socket(arguments: argparse.Namespace) -> int:
    rarely, start = Rarely(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        try:
            calls = remote.search(pathlib.Path(folder), arguments.calls, arguments.seed,
                                  lambda calls: rarely(lambda: f"{calls} calls"))
        except Broken as error:
            print(f"BROKEN: {error}")
            return 1
    print(f"{calls} calls, {calls / (time.monotonic() - start):.0f} per second")
    return 0


def fuzz_programs(arguments: argparse.Namespace) -> int:
    rarely, start = Rarely(), time.monotonic()

    def line(progress: npu.Progress) -> str:
        return (f"{progress.done} jobs, {progress.done / (time.monotonic() - start):.0f} per second: "
                f"{progress.completed} completed, {progress.faulted} faulted, {progress.hung} hung; the slowest took "
                f"{progress.slowest_s:.2f} s")
    wrong, progress = npu.run_in_child(arguments.seed, arguments.first, arguments.programs,
                                       lambda progress: rarely(lambda: line(progress)))
    print(line(progress))
    if wrong:
        print(f"BROKEN: {wrong} (--seed {arguments.seed} --first N --programs M runs some of them again)")
        return 1
    if arguments.lines:
        with Tracer(pathlib.Path(cermet.sim.__file__).parent) as tracer:
            npu.run_some(npu.Lab(), arguments.seed, 0, TRACED_PROGRAMS, lambda progress: None)
        print(f"the first {TRACED_PROGRAMS} programs:")
        print_reached(tracer, None, True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kmd.fuzz", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, metavar="calls | socket | programs")
    for name, function, unit, budget in (
            ("calls", fuzz_calls, "calls", 100_000), ("socket", fuzz_socket, "calls", 10_000),
            ("programs", fuzz_programs, "programs", 20_000)):
        kind = kinds.add_parser(name, help=f"see above (default: {budget} {unit})")
        kind.set_defaults(function=function)
        kind.add_argument(f"--{unit}", type=int, default=budget, help=f"how many (default: {budget})")
        kind.add_argument("--seed", type=int, default=1)
        kind.add_argument("--lines", action="store_true", help="also print which lines were reached and which not")
        if name == "calls":
            kind.add_argument("--replay", type=pathlib.Path, metavar="FILE", help="run the steps in this file instead")
        if name == "programs":
            kind.add_argument("--first", type=int, default=0, metavar="N", help="start with this one (default: 0)")
    arguments = parser.parse_args()
    return int(arguments.function(arguments))


if __name__ == "__main__":
    sys.exit(main())
