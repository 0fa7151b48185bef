"""`cermet trace`: run a program and record what it asks of the NPU, real or simulated."""
from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cermet import devices, paths
from cermet.cli.exec import CANNOT_RUN, NO_SUCH_COMMAND, WRONG_USAGE, preload, preloadable
from cermet.errors import CermetError
from cermet.trace.pack import Summary, pack, summarise
from cermet.trace.reader import constant

EPILOG = """\
The file holds every ioctl with arguments, result and timing, and the contents of all buffers: models, inputs and
outputs of the program. It names the program's executable, the kernel and the board; no command line, no host or user
name. Programs that are statically linked or make system calls themselves (Go) are not seen. While the program runs,
FILE.part grows; it can be read as it is should everything be killed. The exit status is the program's.

examples:
  cermet trace -o run.trace -- benchmark_model --graph=model.tflite ...
  cermet trace --each task -- cermet run model.tflite       # results of every single task, for cermet replay
  cermet replay run.trace
"""
EACH = ("job", "task")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, default=Path("cermet.trace"), metavar="FILE",
                        help="where to (default: cermet.trace)")
    parser.add_argument("--device", choices=("auto", "real", "sim"), default="auto",
                        help="auto (default): the simulated NPU at /dev/accel/accel0 when this machine has none")
    parser.add_argument("--each", choices=EACH, help="submit jobs one by one, or even tasks, and record what each "
                        "wrote: slower, and nothing is overwritten unseen")
    parser.add_argument("--limit", type=int, default=4096, metavar="MIB",
                        help="record no more buffer contents once FILE.part has this size (default: 4096)")
    parser.add_argument("--json", action="store_true", help="the summary on stderr as JSON")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND...", help="what to run")


def run(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        print("cermet trace: no command; usage: cermet trace [-o FILE] -- COMMAND...", file=sys.stderr)
        return WRONG_USAGE
    output = arguments.output.absolute()
    check_output(output)
    status, has_run = record(command, output, wants_simulator(arguments.device), arguments.each, arguments.limit)
    if not has_run:
        return status
    summary = finish(output)
    if summary is None:
        print("cermet trace: the program used no NPU; nothing was recorded", file=sys.stderr)
        return status or 1
    tell(output, summary, arguments.json)
    return status


def check_output(output: Path) -> None:
    """Raises CermetError rather than overwrite what is no trace."""
    if not output.parent.is_dir():
        raise CermetError(f"{output.parent}: no such folder")
    for path in (output, part_of(output)):
        if path.exists() and not looks_like_trace(path):
            raise CermetError(f"{path}: exists and is no trace; remove it or choose another name")


def looks_like_trace(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(4)
    return head in (b"", constant("MAGIC").to_bytes(4, "little"))


def part_of(output: Path) -> Path:
    return output.with_name(output.name + ".part")


def wants_simulator(device: str) -> bool:
    return device == "sim" or device == "auto" and not any(one.usable for one in devices.real_devices())


def environment(part: Path, simulator: bool, each: str | None, limit_mib: int) -> dict[str, str]:
    """Of the recorded program."""
    libraries = ["libcermet_trace.so", *(["libcermet_shim.so"] if simulator else [])]
    preloaded = ":".join(str(preloadable(paths.library(name))) for name in libraries)
    variables = {"LD_PRELOAD": preload(preloaded, os.environ.get("LD_PRELOAD")), "CERMET_TRACE_FILE": str(part),
                 "CERMET_TRACE_LIMIT": str(max(limit_mib, 0) << 20), "CERMET_TRACE_EACH": each or ""}
    return os.environ | variables


def record(command: list[str], output: Path, simulator: bool, each: str | None, limit_mib: int) -> tuple[int, bool]:
    """(the command's exit status as a shell reports it, whether it could be run)."""
    part = part_of(output)
    part.unlink(missing_ok=True)
    sys.stdout.flush()
    try:
        child = subprocess.Popen(command, env=environment(part, simulator, each, limit_mib))
    except OSError as error:
        print(f"cermet trace: {command[0]}: {error.strerror or error}", file=sys.stderr)
        return NO_SUCH_COMMAND if isinstance(error, FileNotFoundError) else CANNOT_RUN, False
    status = wait_for(child)
    return 128 - status if status < 0 else status, True


def wait_for(child: subprocess.Popen[bytes]) -> int:
    """Signals that are meant to end the program go to it; its file is finished all the same."""
    def pass_on(number: int, frame: object) -> None:
        child.send_signal(number)
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)    # the terminal sends it to both
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(output: Path) -> Summary | None:
    """Compress FILE.part into FILE; None when nothing was recorded."""
    part = part_of(output)
    if not part.exists() or not part.stat().st_size:
        part.unlink(missing_ok=True)
        return None
    summary = summarise(part)
    pack(part, output)
    part.unlink()
    return summary


def tell(output: Path, summary: Summary, as_json: bool) -> None:
    size = output.stat().st_size
    if as_json:
        print(json.dumps({"file": str(output), "bytes": size, **summary.as_json()}, indent=2), file=sys.stderr)
        return
    for text in summary.warnings:
        print(f"cermet trace: {text}", file=sys.stderr)
    where = "simulated" if summary.simulated else "real"
    print(f"cermet trace: {output}: {size / 1e6:.1f} MB: {summary.calls} calls ({summary.failed_calls} failed), "
          f"{summary.jobs} jobs, {summary.tasks} tasks on a {where} NPU", file=sys.stderr)
