"""Stands in for the `cermet` command: the driver process with the fuzzer's cores."""
from __future__ import annotations

import sys
from dataclasses import replace

from cermet.kmd import log
from cermet.kmd.behaviour import PROPOSALS, Behaviour
from cermet.kmd.server import Server, serve
from tests.kmd.fuzz.core import JOB_TIMEOUT_MS, FuzzCore
from tests.kmd.stand_in import command_line


def main() -> int:
    log.start(verbose=False)
    soc, options = command_line(linger_s=2.0)
    serve(Server(replace(soc, job_timeout_ms=JOB_TIMEOUT_MS), FuzzCore, options,
                 behaviour=Behaviour(proposals=frozenset(PROPOSALS))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
