"""`cermet exec`: run a program that finds a simulated NPU at /dev/accel/accel0."""
from __future__ import annotations

import argparse
import errno
import hashlib
import os
import pathlib
import platform
import shutil
import sys

from cermet import paths
from cermet.cli.sim import runtime_folder
from cermet.elf import program_of
from cermet.errors import CermetError
from cermet.hw.soc import SOCS

EPILOG = """\
This process becomes the command, so the exit status is the command's; 127 when there is no such command, 126 when it
cannot be run. A real /dev/accel/accel0 is hidden from it. Programs that are statically linked do not see the simulated
device, those that enter the kernel without the C library (Rust's rustix) only with --raw-calls. What the device
thinks of a program: cermet sim --verbose.
With the shim of another architecture (--shim) the command runs under qemu-user. More: docs/simulated-device.md.

examples:
  cermet exec -- ./my_rocket_test
  cermet exec -- sh -c 'ls -l /dev/accel && ./my_rocket_test'
  cermet exec --shim build-aarch64/src/client/libcermet_shim.so -- ./my_aarch64_test
"""
DEFAULT_ROOT = "/usr/{machine}-linux-gnu"       # where Debian and Ubuntu put another architecture's C library
NO_SUCH_COMMAND, CANNOT_RUN = 127, 126      # as shells and env report it
WRONG_USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--soc", choices=sorted(SOCS), help="whose NPU (default: CERMET_SOC, else rk3588)")
    parser.add_argument("--shim", type=pathlib.Path, metavar="FILE", help="another libcermet_shim.so")
    parser.add_argument("--raw-calls", action="store_true",
                        help="also see calls that the program makes without the C library (x86-64, Linux 5.11)")
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


def check_program(name: str, shim_machine: str) -> None:
    """What cannot work is said before: the dynamic linker ignores a library of another architecture."""
    found = shutil.which(name)
    program = program_of(pathlib.Path(found)) if found else None
    if program is None:
        return
    if program.machine != shim_machine:
        raise CermetError(f"exec: {name}: is for {program.machine}, the shim for {shim_machine}: "
                          f"name one for {program.machine} with --shim (docs/simulated-device.md)")
    if not program.is_dynamic:
        print(f"cermet exec: {name}: is statically linked and will not see the simulated device", file=sys.stderr)


def under_qemu(machine: str, shim: pathlib.Path, command: list[str]) -> list[str]:
    """The command for a program of another architecture."""
    emulator = shutil.which(f"qemu-{machine}") or shutil.which(f"qemu-{machine}-static")
    if emulator is None:
        raise CermetError(f"exec: {command[0]}: is for {machine}: needs qemu-{machine} (package qemu-user)")
    root = os.environ.get("QEMU_LD_PREFIX") or DEFAULT_ROOT.format(machine=machine)
    found = shutil.which(command[0])
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return [emulator, "-L", root, "-E", f"LD_PRELOAD={shim}", found, *command[1:]]


def prepare(arguments: argparse.Namespace, command: list[str]) -> list[str]:
    """Set the environment for the command; what to execute."""
    library = (arguments.shim or paths.library("libcermet_shim.so")).resolve()
    about_shim = program_of(library)
    if about_shim is None:
        raise CermetError(f"exec: {library}: {'is no 64-bit library' if library.exists() else 'no such file'}")
    check_program(command[0], about_shim.machine)
    if arguments.soc:
        os.environ["CERMET_SOC"] = arguments.soc
    if arguments.raw_calls:
        os.environ["CERMET_RAW_CALLS"] = "1"
    own_command = pathlib.Path(sys.executable).parent / "cermet"
    if arguments.shim and own_command.exists():     # a shim finds the command that starts the driver beside itself
        os.environ.setdefault("CERMET_COMMAND", str(own_command))
    shim = preloadable(library)
    if about_shim.machine != platform.machine():
        return under_qemu(about_shim.machine, shim, command)
    os.environ["LD_PRELOAD"] = preload(str(shim), os.environ.get("LD_PRELOAD"))
    return command


def run(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        print("cermet exec: no command; usage: cermet exec [--soc SOC] -- COMMAND...", file=sys.stderr)
        return WRONG_USAGE
    sys.stdout.flush()
    try:
        words = prepare(arguments, command)
        os.execvp(words[0], words)
    except OSError as error:
        print(f"cermet exec: {command[0]}: {error.strerror or error}", file=sys.stderr)
        return NO_SUCH_COMMAND if isinstance(error, FileNotFoundError) else CANNOT_RUN
