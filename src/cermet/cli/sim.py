"""`cermet sim`: the simulated device in the foreground, with its log on the terminal."""
from __future__ import annotations

import argparse
import ctypes
import os
import pathlib
import textwrap
from functools import partial

from cermet import paths
from cermet.errors import CermetError
from cermet.hw.soc import SOCS, soc_by_name
from cermet.kmd.behaviour import (
    MAINLINE,
    NO_QUIRKS,
    PROPOSALS,
    QUIRKS,
    Behaviour,
    parse_proposals,
    parse_quirks,
)
from cermet.kmd.faults import KINDS, parse_faults
from cermet.sim.silicon import QUESTIONS, parse_silicon


def entry(name: str, text: str) -> str:
    """A line of a list of words, with further lines below its text."""
    return textwrap.fill(text, 118, initial_indent=f"  {name:<20} ", subsequent_indent=" " * 23)


LISTS = "\n".join(
    ["quirks (mainline-7.2 is all of them):", *(entry(name, text) for name, text in QUIRKS.items()), "",
     "proposals:", *(entry(name, text) for name, text in PROPOSALS.items()), "",
     "faults, each with the event that is counted:",
     *(entry(name, f"{kind.event}: {kind.text}" + ("" if kind.value is None else f" (default: {kind.value})"))
       for name, kind in KINDS.items()), "",
     "questions about the silicon, with the answers that there may be; the first is what is taken for granted:",
     *(entry(f"{question}={answer}", text) for question, answers in QUESTIONS.items()
       for answer, text in answers.items())])
EPILOG = LISTS + """

Programs reach the device through `cermet exec`, the shim or the delegate's option device=sim; they start one by
themselves when none runs, which ends 2 seconds after its last client. Set CERMET_SIM_SOCKET for them when --socket is
not the default.
Ctrl-C ends it; its clients see the device go away (ENODEV).

examples:
  cermet sim --verbose                      # in one terminal: every call, job and task, and why a job hangs
  cermet exec -- ./my_rocket_test           # in another
  cermet sim --faults create-fails@3,lost-interrupt@2+
  CERMET_SIM_FAULTS=hung-core=0 cermet run MODEL.tflite --random 1
Also CERMET_SIM_QUIRKS, CERMET_SIM_PROPOSALS, CERMET_SIM_SILICON, CERMET_SIM_CACHES=1: for the device that a program
starts, without effect on one that runs.
"""
PATH_BYTES = 108
MESSAGE_BYTES = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--soc", default="rk3588", choices=sorted(SOCS), help="whose NPU (default: rk3588)")
    parser.add_argument("--socket", metavar="PATH", help="where to listen (default: where clients look for it)")
    parser.add_argument("--quirks", metavar="NAMES", default=os.environ.get("CERMET_SIM_QUIRKS") or MAINLINE,
                        help=f"bugs of the kernel's driver to reproduce: {MAINLINE} (default; all of them), "
                        f"{NO_QUIRKS}, or names of the list below with commas between")
    parser.add_argument("--caches", action="store_true", default=bool(os.environ.get("CERMET_SIM_CACHES")),
                        help="CPU and NPU see each other's writes only after PREP_BO and FINI_BO")
    parser.add_argument("--proposals", metavar="NAMES", default=os.environ.get("CERMET_SIM_PROPOSALS", ""),
                        help="interfaces that no kernel has yet, listed below, with commas between (default: none)")
    parser.add_argument("--faults", metavar="LIST", default=os.environ.get("CERMET_SIM_FAULTS", ""),
                        help="what is to go wrong: KIND[@N[+]][=VALUE] with commas between, at the N-th event, with + "
                        "at all from then on; the kinds are listed below")
    parser.add_argument("--silicon", metavar="LIST", default=os.environ.get("CERMET_SIM_SILICON", ""),
                        help="an NPU that does what nobody has shown: QUESTION=ANSWER of the list below, with commas "
                        "between; `cermet probe` asks a node which it is")
    parser.add_argument("--verbose", action="store_true", help="log every call, job and task")
    parser.add_argument("--on-demand", action="store_true", help="end when the last client is gone")
    parser.add_argument("--linger", type=seconds, default=2.0, metavar="SECONDS",
                        help="with --on-demand: how long to wait for another client (default: 2)")
    parser.add_argument("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} must be 0 or more, less than 1000000")
    return value


def default_socket(soc: str) -> str:
    """Where clients of this installation look: asked from the client library itself, so that both agree."""
    library = ctypes.CDLL(str(paths.library("libcermet_shim.so")))
    path = ctypes.create_string_buffer(PATH_BYTES)
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    if library.cermet_client_socket_path(soc.encode(), path, PATH_BYTES, message, MESSAGE_BYTES) != 0:
        raise CermetError(message.value.decode(errors="replace"))
    return os.fsdecode(path.value)


def runtime_folder() -> pathlib.Path:
    """This user's own folder for sockets, made and checked by the client library."""
    chosen = os.environ.pop("CERMET_SIM_SOCKET", None)      # which may lie elsewhere
    try:
        return pathlib.Path(default_socket("rk3588")).parent
    finally:
        if chosen is not None:
            os.environ["CERMET_SIM_SOCKET"] = chosen


def run(arguments: argparse.Namespace) -> int:
    # Here, not above: `cermet sim --help` needs neither NumPy nor the simulator.
    from cermet.kmd import log
    from cermet.kmd.server import Options, Server, serve
    from cermet.sim.core import Core
    log.start(verbose=arguments.verbose)
    options = Options(arguments.socket or default_socket(arguments.soc), arguments.on_demand, arguments.linger,
                      arguments.ready_fd)
    behaviour = Behaviour(parse_quirks(arguments.quirks), arguments.caches, parse_faults(arguments.faults),
                          parse_proposals(arguments.proposals))
    core = partial(Core, silicon=parse_silicon(arguments.silicon, "silicon"))
    serve(Server(soc_by_name(arguments.soc), core, options, behaviour=behaviour))
    return 0
