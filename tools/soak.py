"""Six clients of one simulated device that start, work and die, many of them by SIGKILL, for as long as you like.

    .venv/bin/python tools/soak.py [--minutes 30 | --seconds 10] [--clients 6] [--seed 1]

Each client is a process of its own that copies and fills with the NPU, hangs cores, shares buffers, waits in threads,
forks, or runs a model through the delegate, and checks every result. It ends by itself, without closing anything, or is
killed at any moment. At the end nothing of it may be left: the driver's books balance, and its fds, threads and memory
are what they were. Exit status 0: they are; 1: they are not, or a client met a wrong result or an error.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "kernel-uapi")]
from conformance.laboratory import Laboratory  # noqa: E402
from conformance.uapi import Node, System  # noqa: E402
from soak_work import MODEL, OPTIONS, WORK, infer  # noqa: E402
from tests.kmd.driver_process import Usage, books, driver_pid, usage  # noqa: E402

from cermet import interpreter, paths  # noqa: E402

MAX_LIFE_S = 4.0
STUCK_S = 60.0              # a client that should have ended by itself so long ago is stuck
SETTLE_S = 20.0             # for the driver to notice the last client's end
MAX_GROWTH_KIB = 96 << 10   # of the driver's memory; Python's heap breathes
MINUTE_S = 60.0
ENDS = ("killed", "returns", "leaves")


# --- clients ----------------------------------------------------------------------------------------------------------


@dataclass
class Client:
    """A running process: what it does, how and when it is to end."""

    pid: int
    work: str
    end: str
    deadline: float


@dataclass
class Soak:
    """Everything that runs, and what is known about it so far."""

    system: System
    folder: pathlib.Path
    chance: random.Random
    clients: list[Client] = field(default_factory=list)
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)

    def start(self, number: int, kept: Node) -> None:
        work = self.chance.choices(list(WORK), [weight for _, weight in WORK.values()])[0]
        end = self.chance.choices(ENDS, (4, 2, 1))[0]
        life = self.chance.random() ** 3 * MAX_LIFE_S
        seed = self.chance.random()
        pid = os.fork()
        if pid == 0:
            os.close(kept.fd)
            os.setpgid(0, 0)
            failure = self.folder / f"failure-{number}"
            run_client(self.system, WORK[work][0], time.monotonic() + life, end, seed, failure)
        self.clients.append(Client(pid, work, end, time.monotonic() + life))
        self.counts[work] += 1
        self.counts[end] += 1

    def look(self) -> None:
        """Kill those whose time has come, bury those that have ended."""
        now = time.monotonic()
        for client in list(self.clients):
            if client.end == "killed" and now >= client.deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(client.pid, signal.SIGKILL)
            elif now > client.deadline + STUCK_S:
                self.failures.append(f"client {client.pid} ({client.work}) is stuck")
                os.kill(client.pid, signal.SIGKILL)
            ended, status = os.waitpid(client.pid, os.WNOHANG)
            if not ended:
                continue
            self.clients.remove(client)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(client.pid, signal.SIGKILL)       # what it forked
            code = os.waitstatus_to_exitcode(status)
            if code not in (0, -signal.SIGKILL):
                self.failures.append(f"client {client.pid} ({client.work}) ended with {code}")


def run_client(system: System, work: Callable[[Laboratory, random.Random], None], deadline: float, end: str,
               seed: float, failure: pathlib.Path) -> None:
    """In the child; never returns. A client that is to be killed goes on until it is."""
    chance = random.Random(seed)
    status = 0
    try:
        while time.monotonic() < deadline or end == "killed":
            lab = Laboratory(system)
            work(lab, chance)
            if end != "leaves":
                lab.close()
    except BaseException:
        failure.write_text(traceback.format_exc())
        status = 1
    finally:
        os._exit(status)


# --- the driver -------------------------------------------------------------------------------------------------------


def check_end(pid: int, log: pathlib.Path, before: Usage) -> list[str]:
    """What is left of the clients, once the driver has had its time."""
    empty = ("1 files, 0 handles, 0 BOs of 0 bytes, 0 jobs queued and 0 running, 0 calls waiting, "
             "0 address spaces of queues")
    deadline = time.monotonic() + SETTLE_S
    while (said := books(pid, log)) != empty and time.monotonic() < deadline:
        time.sleep(0.2)
    after = usage(pid)
    print(f"books: {said}\ndriver: {after}, at the start {before}")
    found = [] if said == empty else [f"the books do not balance: {said}"]
    found += [f"{name} of the driver grew from {old} to {new}" for name, old, new, room in (
        ("fds", before.fds, after.fds, 0), ("threads", before.threads, after.threads, 0),
        ("memory (KiB)", before.resident_kib, after.resident_kib, MAX_GROWTH_KIB)) if new > old + room]
    return found + [f"log: {line.rstrip()}" for line in log.read_text(errors="replace").splitlines()
                    if line[9:10] in ("E", "C") or "Traceback" in line][:10]


# --- the whole --------------------------------------------------------------------------------------------------------


def prepare(system: System) -> None:
    """In a process of its own, as it makes threads: the model's right answer, and the plan in the cache."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            np.save(os.environ["SOAK_EXPECTED"], infer(interpreter.make_interpreter(MODEL, OPTIONS)))
            Laboratory(system).open()
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("soak: the model does not run")


def soak(folder: pathlib.Path, seconds: float, num_clients: int, seed: int) -> list[str]:
    """What went wrong."""
    (folder / "cache").mkdir()
    os.environ.update(CERMET_SIM_SOCKET=str(folder / "s"), XDG_CACHE_HOME=str(folder / "cache"), CERMET_SIM_CACHES="1",
                      SOAK_EXPECTED=str(folder / "expected.npy"))
    system = System(str(paths.library("libcermet_shim.so")), "/dev/accel/accel0")
    kept = Node(system)
    pid, log = driver_pid(kept), folder / "s.log"
    prepare(system)
    time.sleep(1)
    before = usage(pid)
    run = Soak(system, folder, random.Random(seed))
    start = reported = time.monotonic()
    while (now := time.monotonic()) < start + seconds and not run.failures:
        while len(run.clients) < num_clients:
            run.start(run.counts.total(), kept)
        run.look()
        if now > reported + MINUTE_S:
            reported = now
            print(f"{now - start:6.0f} s  {dict(run.counts)}  {usage(pid)}", flush=True)
        time.sleep(0.01)
    for client in run.clients:
        client.end, client.deadline = "killed", 0
    while run.clients:
        run.look()
        time.sleep(0.01)
    print(f"{time.monotonic() - start:.0f} s, {sum(run.counts[end] for end in ENDS)} clients: {dict(run.counts)}")
    messages = [path.read_text() for path in sorted(folder.glob("failure-*"))]
    return run.failures + messages + check_end(pid, log, before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=0.0, help="added to the minutes; 10 when neither is given")
    parser.add_argument("--clients", type=int, default=6, help="that run at the same time (default: 6)")
    parser.add_argument("--seed", type=int, default=1, help="of what they do (default: 1)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the driver's log")
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        wrong = soak(folder, arguments.minutes * 60 + arguments.seconds or 10, arguments.clients, arguments.seed)
    finally:
        if arguments.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(wrong) or "nothing is left behind")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
