"""Stands in for the `cermet` command: the driver process with the fuzzer's cores."""
from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from cermet.hw.soc import soc_by_name
from cermet.kmd import log
from cermet.kmd.behaviour import PROPOSALS, Behaviour
from cermet.kmd.server import Options, Server, serve
from tests.kmd.fuzz.core import JOB_TIMEOUT_MS, FuzzCore


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["sim"])
    parser.add_argument("--soc")
    parser.add_argument("--socket")
    parser.add_argument("--on-demand", action="store_true")
    parser.add_argument("--ready-fd", type=int)
    arguments = parser.parse_args()
    log.start(verbose=False)
    soc = replace(soc_by_name(arguments.soc), job_timeout_ms=JOB_TIMEOUT_MS)
    serve(Server(soc, FuzzCore, Options(arguments.socket, arguments.on_demand, 2.0, arguments.ready_fd),
                 behaviour=Behaviour(proposals=frozenset(PROPOSALS))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
