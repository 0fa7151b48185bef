"""How `run` and `bench` use the delegate: their options for that, and what follows from them."""
from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from cermet.cli.models import option_values, read_model


def add_delegate_arguments(parser: argparse.ArgumentParser) -> None:
    """How the delegate is used: see make_setting."""
    parser.add_argument("--soc", help="whose NPU (default: $CERMET_SOC, else rk3588)")
    parser.add_argument("--device", default="auto", help="auto (default), sim, or a path like /dev/accel/accel0")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                        help="any option of the delegate; may be repeated: allow and deny are joined")
    parser.add_argument("--runtime", choices=("litert", "tflite"), default="",
                        help="ai-edge-litert or tflite-runtime (default: the first of them that is installed)")


@dataclass(frozen=True)
class Setting:
    """How the delegate is used: its options as given on the command line, and what follows from them."""

    model: Path
    options: dict[str, str]
    runtime: str
    resolver: str

    @property
    def soc(self) -> str:
        return self.options["soc"]


def make_setting(arguments: argparse.Namespace) -> Setting:
    """Options of the delegate from the command line. Raises CermetError for one that is not NAME=VALUE."""
    from cermet.compiler import driver_for
    soc = arguments.soc or os.environ.get("CERMET_SOC") or "rk3588"
    options = {"device": choose_device(arguments.device), "soc": soc, "log_level": "error",
               **option_values(arguments.option)}
    driver_for(options["soc"])
    use_own_command(options)
    return Setting(arguments.model, options, runtime_name(arguments.runtime),
                   "BUILTIN_REF" if arguments.compare else "BUILTIN_WITHOUT_DEFAULT_DELEGATES")


def use_own_command(options: dict[str, str]) -> None:
    """The delegate and the simulated device start this very command, not another installation's."""
    command = own_command()
    if not command:
        return
    if not os.environ.get("CERMET_COMPILER"):
        options.setdefault("compiler", command)
    os.environ.setdefault("CERMET_COMMAND", command)


def own_command() -> str:
    """Path of the running command, empty when it has no file of its own (python -m cermet in a source tree)."""
    beside = Path(sys.executable).with_name("cermet")
    started = Path(sys.argv[0])
    for path in (started if started.name == "cermet" else beside, beside):
        if found := shutil.which(path):
            return str(Path(found).absolute())
    return ""


def choose_device(wish: str) -> str:
    """A real NPU where there is one, else the simulated one; CERMET_DEVICE decides when nothing else is asked for."""
    from cermet.interpreter import has_real_device
    if wish != "auto":
        return wish
    return os.environ.get("CERMET_DEVICE") or ("auto" if has_real_device() else "sim")


def runtime_name(wish: str) -> str:
    """The runtime to use. Raises CermetError when it is not installed."""
    from cermet.interpreter import RUNTIMES, runtime_module
    module = runtime_module(wish).__name__
    return next(name for name, module_name in RUNTIMES.items() if module_name == module)


def blob_of_model(path: Path) -> bytes:
    from cermet.frontend.tflite_file import to_blob
    return to_blob(read_model(path), place=str(path))
