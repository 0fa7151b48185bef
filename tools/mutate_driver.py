"""Break the simulated driver in one place after another and see whether the conformance suite notices.

    .venv/bin/python tools/mutate_driver.py [--only TEXT] [--list]

Each mutation is a copy of the installed package in which one line says something else; the suite runs against it and
stops at the first failure. A copy without a change must pass before. A mutation that the suite passes has survived.
Takes about ten seconds each, a minute for a survivor.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace

import cermet

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from mutations_of_mainline import MAINLINE_MUTATIONS
from mutations_of_queues import QUEUE_MUTATIONS

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUITE = ROOT / "kernel-uapi" / "conformance"
PACKAGE = pathlib.Path(cermet.__file__).resolve().parent
KILL_RATE = 0.95
# Which of the suite's files probably notice a mutation of a file of the driver: they run before the whole suite.
FIRST = {"file.py": ("bo", "core", "lifetime"), "device.py": ("core",), "core_ioctls.py": ("core", "prime"),
         "connection.py": ("mmap",), "ioctl.py": ("envelope", "core"), "rocket_ioctls.py": ("submit", "order", "wait"),
         "scheduler.py": ("order", "hang"), "job.py": ("hang", "submit"), "power.py": ("power",)}
QUEUE_FILES = ("queues", "sync_objects")


@dataclass(frozen=True)
class Mutation:
    """In file (below kmd/), `before` becomes `after`; it must be there once."""

    what: str
    file: str
    before: str
    after: str
    is_proposed: bool = False       # the proposed queues: only their own subtests run


CONTROL = Mutation("control: nothing is changed", "file.py", "", "")
MUTATIONS = (*(Mutation(*row) for row in MAINLINE_MUTATIONS),
             *(Mutation(f"queues: {what}", *change, is_proposed=True) for what, *change in QUEUE_MUTATIONS))


def mutated(mutation: Mutation) -> str:
    """The file's text with the mutation. Ends the program when the line is not there exactly once."""
    text = (PACKAGE / "kmd" / mutation.file).read_text()
    if not mutation.before:
        return text
    if text.count(mutation.before) != 1:
        raise SystemExit(f"{mutation.what}: {mutation.file} has {text.count(mutation.before)} times: {mutation.before}")
    return text.replace(mutation.before, mutation.after)


def mutate(mutation: Mutation, folder: pathlib.Path) -> None:
    """A copy of the package with the mutation."""
    shutil.copytree(PACKAGE, folder / "cermet", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "cermet" / "kmd" / mutation.file).write_text(mutated(mutation))


def first_failure(mutation: Mutation) -> str | None:
    """Which subtest noticed; None when the mutation survived."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = pathlib.Path(name)
        mutate(mutation, folder)
        command = folder / "cermet-mutated"
        command.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" -m cermet "$@"\n')
        command.chmod(0o755)
        variables = os.environ | {"CERMET_COMMAND": str(command), "PYTHONPATH": str(folder)}
        if mutation.is_proposed:
            return run_suite([SUITE / f"test_{name}.py" for name in QUEUE_FILES], variables, "--proposals", "queues")
        probable = [SUITE / f"test_{name}.py" for name in FIRST[mutation.file]]
        return run_suite(probable, variables) or run_suite([SUITE], variables)


def run_suite(paths: list[pathlib.Path], variables: dict[str, str], *options: str) -> str | None:
    """The first failure among these, None when all pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *map(str, paths), *options]
    done = subprocess.run(command, capture_output=True, env=variables, text=True, cwd=ROOT)
    failed = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (failed or [f"exit status {done.returncode}"])[0] if done.returncode else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="mutations whose description contains this")
    parser.add_argument("--list", action="store_true", help="name them and stop")
    arguments = parser.parse_args()
    chosen = [mutation for mutation in MUTATIONS if arguments.only in mutation.what]
    for mutation in chosen:
        mutated(mutation)       # one that is out of date is told before an hour of others
    if arguments.list:
        print("\n".join(f"{mutation.file:<18} {mutation.what}" for mutation in chosen))
        return 0
    for is_proposed in sorted({mutation.is_proposed for mutation in chosen}):
        if noticed := first_failure(replace(CONTROL, is_proposed=is_proposed)):
            raise SystemExit(f"the driver as it is fails the suite, or the machine is too busy for it: {noticed}")
    survivors = 0
    for mutation in chosen:
        start = time.monotonic()
        noticed = first_failure(mutation)
        survivors += noticed is None
        verdict = "killed" if noticed else "SURVIVED"
        print(f"{verdict:<9} {time.monotonic() - start:5.1f} s  {mutation.what}: {noticed or ''}", flush=True)
    rate = 1 - survivors / max(len(chosen), 1)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations killed, {100 * rate:.0f} %")
    return 0 if rate >= KILL_RATE else 1


if __name__ == "__main__":
    sys.exit(main())
