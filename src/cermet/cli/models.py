"""What verbs that take .tflite files share: their arguments, reading a model, the compile options that hold."""
from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cermet.errors import CermetError

if TYPE_CHECKING:
    from cermet.drivers.base import CompileOptions

JOINED = ("allow", "deny")
COMPILE_OPTIONS = ("match", "allow", "deny", "min_partition_nodes", "assume", "prefer", "registers", "chains",
                   "first_rows")


def add_compile_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--soc", default=os.environ.get("CERMET_SOC") or "rk3588",
                        help="whose NPU (default: $CERMET_SOC, else rk3588)")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                        help="an option of the delegate, for example deny=ADD+MEAN; may be repeated: allow and deny "
                             "are joined")


def compile_options(pairs: list[str], environment: Mapping[str, str] = os.environ) -> CompileOptions:
    """What the delegate would compile with: options as given, else from CERMET_MATCH and so on."""
    from cermet.program.cache import parse_options
    given = {pair.partition("=")[0] for pair in pairs}
    inherited = [f"{name}={environment[variable]}" for name in COMPILE_OPTIONS
                 if name not in given and environment.get(variable := f"CERMET_{name.upper()}")]
    return parse_options([*inherited, *(f"{name}={value}" for name, value in option_values(pairs).items())])


def option_values(pairs: Sequence[str]) -> dict[str, str]:
    """Options given as NAME=VALUE. Lists given more than once are joined, anything else may not differ."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CermetError(f"--option: {pair!r} must be NAME=VALUE")
        if name in JOINED and name in values:
            value = "+".join(words for words in (values[name], value) if words)
        if values.setdefault(name, value) != value and name not in JOINED:
            raise CermetError(f"--option: {name} is given as {values[name]} and as {value}, must be one of them")
        values[name] = value
    return values


def num_subgraphs(model: bytes) -> int:
    """Subgraphs of a model that the frontend has read without complaint."""
    import tflite
    return int(tflite.Model.GetRootAs(model, 0).SubgraphsLength())


def read_model(path: Path) -> bytes:
    from cermet.frontend.tflite_file import read_file
    return read_file(path)
