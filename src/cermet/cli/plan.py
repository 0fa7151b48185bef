"""`cermet plan`: subgraph blob in, plan file out. The delegate runs this as a child process when its cache misses."""
from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from cermet.errors import CermetError

MAX_BLOB_BYTES = 2**31      # TFLite models are below 2 GiB

EPILOG = """
Exit status: 0 the plan is written; 1 an error, one line on stderr; 2 wrong usage.
A fault of the compiler leaves its operations on the CPU and is a line on stderr; the exit status stays 0.
CERMET_TIMINGS=1 prints where the time went.

example:
  cermet plan --blob model.blob --out model.plan --soc rk3588 --option deny=ADD+MEAN
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--blob", required=True, type=Path, metavar="FILE", help="subgraph blob (cermet_blob.h)")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="plan file to write (cermet_plan.h)")
    parser.add_argument("--key", metavar="HEX", help="cache key that the caller expects; another one is an error")
    parser.add_argument("--soc", default="rk3588", help="rk3588 (default)")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                        help="match, allow, deny, min_partition_nodes, assume, prefer, registers, cores or groups; "
                        "may be repeated")


def run(arguments: argparse.Namespace) -> int:
    from cermet.cli.timings import Timings
    timings = Timings()
    asked_key = parse_key(arguments.key)
    from cermet.compiler import compile_subgraph, driver_for, make_plan
    from cermet.frontend.blob import read_blob
    from cermet.program.cache import cache_key, parse_options, read_regular_file, write_atomically
    from cermet.program.plan_writer import encode_plan
    options = parse_options(arguments.option)
    driver = driver_for(arguments.soc)
    timings.mark("imports")
    blob = read_regular_file(arguments.blob, MAX_BLOB_BYTES)
    subgraph = read_blob(blob)
    timings.mark("read blob")
    key = cache_key(blob, arguments.soc, options)
    check_key(asked_key, key)
    timings.mark("key")
    compiled = compile_subgraph(subgraph, driver, options)
    timings.mark("compile")
    # The caller reads it at once; what is kept in the cache is synced there.
    write_atomically(arguments.out, encode_plan(make_plan(compiled, key, arguments.soc)), sync=False)
    timings.mark("write plan")
    for fault in compiled.faults:
        print(f"cermet plan: {fault}", file=sys.stderr)
    if os.environ.get("CERMET_TIMINGS"):
        print(f"cermet plan: {timings}", file=sys.stderr)
    return 0


def parse_key(text: str | None) -> bytes | None:
    """32 bytes from 64 hexadecimal digits."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise CermetError(f"--key: {text[:80]!r} must be 64 lower-case hexadecimal digits")
    return bytes.fromhex(text)


def check_key(asked: bytes | None, own: bytes) -> None:
    """A key that this compiler would not give means that the delegate was built with another compiler."""
    from cermet import build
    if asked is not None and asked != own:
        raise CermetError(f"--key: {asked.hex()[:16]}... must be {own.hex()[:16]}..., what this compiler "
                          f"({build.BUILD_ID}) gives; the delegate belongs to another build, install both again")
