"""`cermet compile`: plans of models, made ahead of time, under the very keys that the delegate will look for."""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cermet.cli.models import add_compile_arguments, compile_options, num_subgraphs, read_model
from cermet.debug import is_shown
from cermet.errors import CermetError

if TYPE_CHECKING:
    from cermet.drivers.base import CompileOptions
    from cermet.program.cache import Cache

BAR_CHARACTERS = 30
EPILOG = """
The folder is a cache folder: copy it to a board and name it in the delegate's option cache_dir (with cache=readonly or
cache=required when the board has no Python). Entries that are there already are left as they are.

examples:
  cermet compile model.tflite
  cermet compile models/*.tflite -o precompiled
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL.tflite")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="cache folder (default: the user's)")
    parser.add_argument("--force", action="store_true",
                        help="compile again what is there already, as with CERMET_DEBUG=passes, which shows how")
    add_compile_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from cermet.cli import one_line
    from cermet.compiler import driver_for
    from cermet.program.cache import Cache, default_directory
    options = compile_options(arguments.option)
    driver_for(arguments.soc)       # a wrong SoC is one error, not one per model
    cache = Cache(arguments.output or default_directory())
    failures = 0
    for done, path in enumerate(arguments.models):
        show_progress(done, len(arguments.models), path.name)
        try:
            lines = compile_model(path, arguments.soc, options, cache, force=arguments.force)
        except (CermetError, OSError) as error:
            failures += 1
            lines = []
            clear_progress()
            print(f"cermet compile: {one_line(error)}", file=sys.stderr)
        clear_progress()
        for line in lines:
            print(line, flush=True)
    return 1 if failures else 0


def compile_model(path: Path, soc: str, options: CompileOptions, cache: Cache, *, force: bool) -> list[str]:
    """Entries of all subgraphs of a model; one line for each."""
    from cermet.frontend.tflite_file import to_blob
    model = read_model(path)
    lines = []
    blob = to_blob(model, place=str(path))
    for number in range(num_subgraphs(model)):
        blob = to_blob(model, number, place=str(path)) if number else blob
        name, words = compile_to_entry(blob, soc, options, cache, force=force)
        place = f"{path}" if number == 0 else f"{path}, subgraph {number}"
        lines.append(f"{name}  {place}: {words}")
    return lines


def compile_to_entry(blob: bytes, soc: str, options: CompileOptions, cache: Cache, *, force: bool) -> tuple[str, str]:
    """(entry's file name, what it holds)."""
    from cermet.compiler import compile_blob
    from cermet.program.cache import cache_key
    from cermet.report import summarise
    key = cache_key(blob, soc, options)
    if not force and not is_shown("passes") and cache.has(key):
        return cache.path(key).name, "is there already"
    data, compiled = compile_blob(blob, soc, options)
    path = cache.store(key, data)
    for fault in compiled.faults:
        print(f"cermet compile: {fault}", file=sys.stderr)
    return path.name, f"{summarise(compiled.subgraph, compiled.groups)}, {len(data):,} bytes"


def show_progress(done: int, total: int, name: str) -> None:
    """A bar on a terminal, nothing elsewhere."""
    if total < 2 or not sys.stderr.isatty():
        return
    filled = BAR_CHARACTERS * done // total
    bar = "#" * filled + "." * (BAR_CHARACTERS - filled)
    print(f"\r\x1b[K[{bar}] {done}/{total} {name[:40]}", end="", file=sys.stderr, flush=True)


def clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
