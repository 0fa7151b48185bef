"""Stands in for the `cermet` command: the driver process with fake cores and two more ioctls, which no client knows."""
from __future__ import annotations

import os
import sys
from typing import Any

from cermet.kmd import log, uapi
from cermet.kmd.behaviour import MAINLINE, Behaviour, parse_quirks
from cermet.kmd.errors import DeviceError
from cermet.kmd.faults import parse_faults
from cermet.kmd.ioctl import Blocking, Call, Ioctl, IoctlTable
from cermet.kmd.server import Server, default_table, serve
from tests.kmd.fake_core import FakeCore
from tests.kmd.stand_in import command_line

NEW_STRUCTS = """
struct test_sum { __u64 values; __u32 count; __u32 sum; __s32 fd; __u32 pad; };
struct test_slow { __u32 milliseconds; __u32 error; };
"""
SUM = uapi.Number(3, 24, 0x64, 0x50)
SLOW = uapi.Number(1, 8, 0x64, 0x51)
FAIL = uapi.Number(0, 0, 0x64, 0x52)


def add_up(call: Call, args: Any) -> int:
    """Follows a pointer, answers in the struct, hands over an fd, returns a number."""
    values = call.memory.read_elements(args.values, args.count, 4, 4).view("<u4")
    args.sum = int(values.sum()) & 0xFFFF_FFFF
    reader, writer = os.pipe()
    os.write(writer, b"from the driver")
    os.close(writer)
    call.give_fd(reader, "fd", os.O_CLOEXEC)
    return 7


def slow(call: Call, args: Any) -> Blocking:
    import time
    milliseconds, error = args.milliseconds, args.error

    def wait() -> None:
        time.sleep(milliseconds / 1000)
        if error:
            raise DeviceError(error, "asked for")
    return Blocking(wait)


def fail(call: Call, args: Any) -> None:
    raise RuntimeError("a bug in a handler")


def make_table(proposals: frozenset[str]) -> IoctlTable:
    uapi.ffi.cdef(NEW_STRUCTS)
    table = default_table(proposals)
    table.entries[SUM.index] = Ioctl(SUM, "struct test_sum", add_up)
    table.entries[SLOW.index] = Ioctl(SLOW, "struct test_slow", slow)
    table.entries[FAIL.index] = Ioctl(FAIL, None, fail)
    return table


def main() -> int:
    if os.environ.get("FAKE_DRIVER_FAILS"):
        print("fake driver: told to fail", file=sys.stderr)
        return 1
    log.start(verbose=True)
    soc, options = command_line(float(os.environ.get("FAKE_DRIVER_LINGER", "1")))
    behaviour = Behaviour(parse_quirks(os.environ.get("FAKE_DRIVER_QUIRKS", MAINLINE)),
                          proposals=frozenset(os.environ.get("FAKE_DRIVER_PROPOSALS", "").split()),
                          faults=parse_faults(os.environ.get("FAKE_DRIVER_FAULTS", "")))
    serve(Server(soc, FakeCore, options, make_table(behaviour.proposals), behaviour))
    return 0


if __name__ == "__main__":
    sys.exit(main())
