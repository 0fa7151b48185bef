"""What the tests' stand-ins for the `cermet` command have in common."""
from __future__ import annotations

import argparse

from cermet.hw.soc import Soc, soc_by_name
from cermet.kmd.server import Options


def command_line(linger_s: float) -> tuple[Soc, Options]:
    """What the client asks for with `cermet sim`. linger_s: how long an idle driver stays."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["sim"])
    parser.add_argument("--soc")
    parser.add_argument("--socket")
    parser.add_argument("--on-demand", action="store_true")
    parser.add_argument("--ready-fd", type=int)
    arguments = parser.parse_args()
    return soc_by_name(arguments.soc), Options(arguments.socket, arguments.on_demand, linger_s, arguments.ready_fd)
