"""`cermet cache`: list, clear or verify the compiled models."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cermet.errors import CermetError

if TYPE_CHECKING:
    from cermet.program.cache import Cache, Entry

EPILOG = """
list     name, size, SoC, compiler and content of every entry
clear    remove all entries
verify   check every entry as the delegate would; exit status 1 when one is damaged (it would be compiled again)

examples:
  cermet cache
  cermet cache verify --dir precompiled
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", default="list", choices=("list", "clear", "verify"))
    parser.add_argument("--dir", type=Path, metavar="DIR",
                        help="cache folder (default: $CERMET_CACHE_DIR, else $XDG_CACHE_HOME/cermet, "
                             "else ~/.cache/cermet)")


def run(arguments: argparse.Namespace) -> int:
    from cermet.program.cache import Cache, default_directory
    if arguments.dir and not arguments.dir.exists():
        raise CermetError(f"--dir: {arguments.dir}: no such folder")
    cache = Cache(arguments.dir or default_directory())
    return {"list": show, "clear": clear, "verify": verify}[arguments.action](cache)


def show(cache: Cache) -> int:
    entries = cache.entries()
    for entry in entries:
        print(f"{entry.path.name}  {entry.size_bytes:>12,} bytes  {describe(entry)}")
    print(f"{cache.directory}: {count(entries)}, {sum(entry.size_bytes for entry in entries):,} bytes")
    return 0


def describe(entry: Entry) -> str:
    """One line of content, or what is wrong with it."""
    from cermet import build
    if entry.plan is None:
        return f"not usable: {entry.error}"
    plan = entry.plan
    on_npu = sum(node.partition is not None for node in plan.nodes)
    partitions = "1 partition" if len(plan.partitions) == 1 else f"{len(plan.partitions)} partitions"
    age = "" if plan.build_id == build.BUILD_ID else f", by another compiler ({plan.build_id})"
    return f"{plan.soc}, {on_npu} of {len(plan.nodes)} nodes, {partitions}{age}"


def clear(cache: Cache) -> int:
    removed = cache.clear()
    print(f"{cache.directory}: {removed} removed")
    return 0


def verify(cache: Cache) -> int:
    entries = cache.entries()
    damaged = [entry for entry in entries if entry.plan is None]
    for entry in damaged:
        print(f"{entry.path}: {entry.error}")
    print(f"{cache.directory}: {count(entries)}, {len(damaged)} not usable")
    return 1 if damaged else 0


def count(entries: list[Entry]) -> str:
    return "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
