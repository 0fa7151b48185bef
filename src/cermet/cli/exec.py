"""`cermet exec`: run a program that finds a simulated NPU at /dev/accel/accel0."""
from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import sys

from cermet import paths
from cermet.cli.sim import runtime_folder
from cermet.errors import CermetError
from cermet.hw.soc import SOCS

EPILOG = """\
This process becomes the command, so the exit status is the command's; 127 when there is no such command, 126 when it
cannot be run. A real /dev/accel/accel0 is hidden from it. Programs that are statically linked or make system calls
themselves (Go) do not see the simulated device. What the device thinks of a program: cermet sim --verbose.

examples:
  cermet exec -- ./my_rocket_test
  cermet exec -- sh -c 'ls -l /dev/accel && ./my_rocket_test'
"""
NO_SUCH_COMMAND, CANNOT_RUN = 127, 126      # as shells and env report it
WRONG_USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--soc", choices=sorted(SOCS), help="whose NPU (default: CERMET_SOC, else rk3588)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND...", help="what to run")


def preload(shim: str, before: str | None) -> str:
    """The shim in front of what is preloaded already."""
    return f"{shim}:{before}" if before else shim


def preloadable(library: pathlib.Path) -> pathlib.Path:
    """The library, or a link to it: blanks and colons end a name in LD_PRELOAD."""
    if not has_separator(library):
        return library
    digest = hashlib.blake2b(os.fsencode(library), digest_size=8).hexdigest()
    link = runtime_folder() / f"shim-{digest}.so"
    if has_separator(link):
        raise CermetError(f"exec: {link}: LD_PRELOAD cannot name a path with blanks or colons")
    temporary = link.with_suffix(f".{os.getpid()}")
    temporary.symlink_to(library)
    temporary.replace(link)
    return link


def has_separator(path: pathlib.Path) -> bool:
    return any(character in str(path) for character in " :")


def run(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        print("cermet exec: no command; usage: cermet exec [--soc SOC] -- COMMAND...", file=sys.stderr)
        return WRONG_USAGE
    shim = preloadable(paths.library("libcermet_shim.so"))
    os.environ["LD_PRELOAD"] = preload(str(shim), os.environ.get("LD_PRELOAD"))
    if arguments.soc:
        os.environ["CERMET_SOC"] = arguments.soc
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cermet exec: {command[0]}: {error.strerror}", file=sys.stderr)
        return NO_SUCH_COMMAND if isinstance(error, FileNotFoundError) else CANNOT_RUN
