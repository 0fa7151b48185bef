"""The `cermet` command: one table of verbs, each a module with add_arguments(parser) and run(arguments) -> exit status.

Errors a user can cause are CermetError: printed as one line, exit status 1. A wrong command line exits with 2.
"""
from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import NoReturn

from cermet import build, debug
from cermet.errors import CermetError

__all__ = ["CermetError", "main"]

# verb: (module, what it does). Modules are loaded when their verb is used; a verb without its module is not listed.
VERBS = {
    "demo": ("cermet.cli.demo", "bundled models on a picture: classify it, detect things, segment it"),
    "run": ("cermet.cli.run", "run a model through TFLite with the delegate; compare it with the CPU"),
    "report": ("cermet.cli.report", "node by node: NPU or CPU, and why"),
    "profile": ("cermet.cli.profile", "layer by layer: cycles, time, what bounds it, memory"),
    "accuracy": ("cermet.cli.accuracy", "every tensor on the NPU against a reference, layer by layer"),
    "bench": ("cermet.cli.bench", "latency, throughput, start and memory, next to TFLite's kernels"),
    "compile": ("cermet.cli.compile", "compile models ahead of time into a cache folder"),
    "disasm": ("cermet.cli.disasm", "register programs as text"),
    "sim": ("cermet.cli.sim", "run the simulated device in the foreground"),
    "exec": ("cermet.cli.exec", "run any program with a simulated /dev/accel/accel0"),
    "trace": ("cermet.cli.trace", "run a program and record what it asks of the NPU"),
    "replay": ("cermet.cli.replay", "run a recording in the simulator and compare, task by task"),
    "probe": ("cermet.cli.probe", "small programs that settle open questions about the hardware"),
    "devices": ("cermet.cli.devices", "list the NPUs of this machine"),
    "delegate-path": ("cermet.cli.delegate_path", "print the path of the TFLite delegate"),
    "cache": ("cermet.cli.cache", "list, clear or verify the cache of compiled models"),
    "plan": ("cermet.cli.plan", "the compiler, as the delegate calls it"),
}
INTERRUPTED = 130       # 128 + SIGINT, as shells report it
OUR_ERRORS = (CermetError, OSError, ValueError)


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that suggest the word that was meant."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Refuses unknown options here, where the verb's own options are known."""
        arguments, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown argument {unknown[0]!r}{suggestion(unknown[0], self._option_string_actions)}")
        return arguments, unknown


def suggestion(word: str, known: Iterable[str]) -> str:
    """", did you mean X?" for the closest known word, or nothing."""
    import difflib  # the compiler starts for every cold model: what only errors need is loaded for errors
    close = difflib.get_close_matches(word.split("=")[0], list(known), n=1)
    return f", did you mean {close[0]}?" if close else ""


def available_verbs() -> dict[str, tuple[str, str]]:
    """The verbs whose modules are there."""
    return {verb: entry for verb, entry in VERBS.items() if importlib.util.find_spec(entry[0])}


def overview(verbs: dict[str, tuple[str, str]]) -> str:
    """The text of `cermet --help`."""
    lines = [f"  {verb:<14} {text}" for verb, (_, text) in verbs.items()]
    return "\n".join(["usage: cermet VERB [OPTIONS]", "",
                      "TensorFlow Lite models on Rockchip NPUs, real or simulated.", "", *lines, "",
                      "cermet VERB --help tells the options of a verb; cermet --version the version."])


def load(verb: str) -> tuple[ModuleType, Parser]:
    """The verb's module and its parser."""
    module_name, text = VERBS[verb]
    module = importlib.import_module(module_name)
    parser = Parser(prog=f"cermet {verb}", description=text[0].upper() + text[1:] + ".", allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter, epilog=getattr(module, "EPILOG", None))
    module.add_arguments(parser)
    return module, parser


def dispatch(argv: Sequence[str]) -> int:
    """Run one verb; its exit status."""
    verbs = available_verbs()
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview(verbs))
        return 0 if argv else 2
    if argv[0] in ("-V", "--version", "version"):
        print(f"cermet {build.VERSION} ({build.BUILD_ID})")
        return 0
    if argv[0] not in verbs:
        print(f"cermet: unknown verb {argv[0]!r}{suggestion(argv[0], verbs)}; known: {', '.join(verbs)}",
              file=sys.stderr)
        return 2
    module, parser = load(argv[0])
    return int(module.run(parser.parse_args(argv[1:])) or 0)


def one_line(error: BaseException) -> str:
    """The text of an error without line breaks; file errors as 'file: what is wrong'."""
    if isinstance(error, OSError) and error.strerror:
        named = isinstance(error.filename, str | bytes | os.PathLike)
        return f"{os.fsdecode(error.filename)}: {error.strerror}" if named else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def open_closed_outputs() -> None:
    """Python has None for a stream that the caller closed: what goes there is thrown away."""
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")


def drop_output() -> None:
    """What cannot be written: Python would try again, and complain, when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point of the `cermet` command."""
    open_closed_outputs()
    if debug.complaint():
        print(f"cermet: {debug.complaint()}", file=sys.stderr)
    try:
        status = dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        drop_output()       # the reader of a pipe left (| head): not an error
        return 0
    except OUR_ERRORS as error:
        if os.environ.get("CERMET_TRACEBACK"):
            raise
        print(f"cermet: {one_line(error)}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:
            drop_output()
        return 1
