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
MUTATIONS = (
    Mutation("the first address is not 0", "file.py", "RangeAllocator(0, NPU_SPACE_BYTES",
             "RangeAllocator(PAGE_BYTES, NPU_SPACE_BYTES"),
    Mutation("handles count from 0", "file.py", "self._next_handle = 1", "self._next_handle = 0"),
    Mutation("handles are not reused", "file.py", "heapq.heappush(self._free_handles, handle)", "pass"),
    Mutation("address space of 2 GiB", "file.py", "NPU_SPACE_BYTES = 1 << 32", "NPU_SPACE_BYTES = 1 << 31"),
    Mutation("unknown handles are EINVAL", "file.py", "raise DeviceError(errno.ENOENT, f\"handle",
             "raise DeviceError(errno.EINVAL, f\"handle"),
    Mutation("freed buffers keep their address", "file.py", "        self.addresses.free(bo.dma_address)\n", ""),
    Mutation("freed buffers stay mapped in the NPU", "file.py", "        self.space.unmap(bo.dma_address)\n", ""),
    Mutation("all files share an address space", "file.py", "self.space = SharedAddressSpace()",
             "self.space = device.__dict__.setdefault('one_space', SharedAddressSpace())"),
    Mutation("O_EXCL is ignored", "device.py", "if flags & os.O_EXCL:", "if False:"),
    Mutation("closing an unknown handle succeeds", "core_ioctls.py", "if not call.file.close_handle(args.handle):",
             "if not call.file.close_handle(args.handle) and False:"),
    Mutation("PRIME flags are not looked at", "core_ioctls.py", "if args.flags & ~PRIME_FLAGS:", "if False:"),
    Mutation("imports always make a handle", "core_ioctls.py",
             "args.handle = call.file.add_handle(bo) if handle is None else handle",
             "args.handle = call.file.add_handle(bo)"),
    Mutation("unknown capabilities are 0", "core_ioctls.py", "if args.capability not in CAPABILITIES:",
             "if False:"),
    Mutation("mapping of another file's buffer", "connection.py", "if file.handle_of(bo) is None:", "if False:"),
    Mutation("mapping longer than the buffer", "connection.py", "if bo is None or length > bo.mapped_bytes:",
             "if bo is None:"),
    Mutation("private mappings", "connection.py", "            if private:\n", "            if False:\n"),
    Mutation("wrong letter is EINVAL", "ioctl.py", "raise DeviceError(errno.ENOTTY", "raise DeviceError(errno.EINVAL"),
    Mutation("short structs are not zero-extended", "ioctl.py",
             "buffer = bytearray(max(num_in, num_out, entry.number.size, 1))",
             "buffer = bytearray(b'\\xff' * max(num_in, num_out, entry.number.size, 1))"),
    Mutation("reserved of PREP_BO is not looked at", "rocket_ioctls.py",
             "call.file.device.faults.fail(\"prep-fails\")\n    if args.reserved:",
             "call.file.device.faults.fail(\"prep-fails\")\n    if False:"),
    Mutation("reserved of FINI_BO is not looked at", "rocket_ioctls.py",
             "call.file.device.faults.fail(\"fini-fails\")\n    if args.reserved:",
             "call.file.device.faults.fail(\"fini-fails\")\n    if False:"),
    Mutation("reserved of SUBMIT is not looked at", "rocket_ioctls.py",
             "    if args.reserved:\n        raise DeviceError(errno.EINVAL, f\"reserved {args.reserved} must be 0\")\n"
             "    if count > MAX_JOBS", "    if count > MAX_JOBS"),
    Mutation("polling a busy buffer is ETIMEDOUT", "rocket_ioctls.py", "raise DeviceError(errno.EBUSY, f\"handle",
             "raise DeviceError(errno.ETIMEDOUT, f\"handle"),
    Mutation("deadlines are durations", "rocket_ioctls.py", "deadline_ns = args.timeout_ns",
             "deadline_ns = time.monotonic_ns() + args.timeout_ns"),
    Mutation("waits end early", "rocket_ioctls.py", "fence.wait_until(deadline_ns + JIFFY_NS)",
             "fence.wait_until(deadline_ns - 10 * JIFFY_NS)"),
    Mutation("no sync after a wait", "rocket_ioctls.py",
             "        bo.sync_for_cpu()       # also after a timeout\n", ""),
    Mutation("FINI_BO does not sync", "rocket_ioctls.py",
             "call.file.bo_or_error(args.handle).sync_for_device()", "call.file.bo_or_error(args.handle)"),
    Mutation("no jobs is an error", "rocket_ioctls.py", "    if count == 0:\n        return\n    if stride",
             "    if count == 0:\n        raise DeviceError(errno.EINVAL, \"no jobs\")\n    if stride"),
    Mutation("job structs of 39 bytes", "rocket_ioctls.py", "    if stride < JOB.itemsize:",
             "    if stride < JOB.itemsize - 1:"),
    Mutation("task structs of 7 bytes", "rocket_ioctls.py", "    if stride < TASK.itemsize:",
             "    if stride < TASK.itemsize - 1:"),
    Mutation("tasks without commands", "rocket_ioctls.py", "if not tasks[:, 1].all():", "if False:"),
    Mutation("a buffer listed twice", "rocket_ioctls.py", "if len(set(listed)) != len(listed):", "if False:"),
    Mutation("a wrong job stops those behind it", "rocket_ioctls.py",
             "                log.warning(\"%s: SUBMIT job %d of %d dropped: %s\", call.file, index, count, error)\n",
             "                log.warning(\"%s: SUBMIT job %d of %d dropped: %s\", call.file, index, count, error)\n"
             "                break\n"),
    Mutation("no fence on what is written", "rocket_ioctls.py", "        bo.write_fences.append(job.fence)\n",
             "        pass\n"),
    Mutation("no waiting for other files' writers", "rocket_ioctls.py", "if other.context is not entity]",
             "if False]"),
    Mutation("jobs hold no buffers", "scheduler.py",
             "        for bo in (*job.in_bos, *job.out_bos):\n            bo.put()\n", ""),
    Mutation("last in, first out", "scheduler.py", "job = entity.queue.popleft()", "job = entity.queue.pop()"),
    Mutation("one core only", "scheduler.py", "min(allowed, key=lambda core: (core.load, core.core.index))",
             "allowed[0]"),
    Mutation("a file moves to an idle core while busy", "scheduler.py", "            if entity.in_flight == 0:\n",
             "            if True:\n"),
    Mutation("no timeout", "job.py",
             "        stopping.wait(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9))\n", ""),
    Mutation("no reset after a timeout", "job.py", "        core.reset()\n", ""),
    Mutation("only the first task of a job runs", "job.py", "for index in range(len(job.tasks)):",
             "for index in range(1):"),
    Mutation("programs are fetched a pair short", "job.py", "((regcmd_count + 1) // 2 - 1) & AMOUNT_MASK",
             "((regcmd_count + 1) // 2 - 2) & AMOUNT_MASK"),
    Mutation("strides do not wrap", "rocket_ioctls.py", "wraps = behaviour.has(\"wrapping-strides\")", "wraps = False"),
    Mutation("impossible programs are refused", "rocket_ioctls.py",
             "if not call.file.device.behaviour.has(\"unchecked-programs\"):", "if True:"),
    Mutation("files live as long as their buffers", "file.py", "return self.is_closed and not was_only_mapped",
             "return False and not was_only_mapped"),
    Mutation("mappings do not keep the file", "file.py", "was_only_mapped = self.device.is_orphan(bo) and",
             "was_only_mapped = False and"),
    Mutation("cores keep their registers without power", "power.py", "        self.core.reset()\n", ""),
    Mutation("cores lose their registers after each job", "power.py", "AUTOSUSPEND_S = 0.05", "AUTOSUSPEND_S = 0.0"),
    *(Mutation(f"queues: {what}", *change, is_proposed=True) for what, *change in QUEUE_MUTATIONS),
)


def mutate(mutation: Mutation, folder: pathlib.Path) -> None:
    """A copy of the package with the mutation. Raises ValueError when the line is not there exactly once."""
    shutil.copytree(PACKAGE, folder / "cermet", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "cermet" / "kmd" / mutation.file
    text = path.read_text()
    if mutation.before and text.count(mutation.before) != 1:
        raise ValueError(f"{mutation.what}: {mutation.file} has {text.count(mutation.before)} times: {mutation.before}")
    path.write_text(text.replace(mutation.before, mutation.after) if mutation.before else text)


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
