"""The driver's process as seen from outside: what it holds, and what it says about its books."""
from __future__ import annotations

import os
import pathlib
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Protocol


class HasFd(Protocol):
    """An open file of the device."""

    fd: int


@dataclass(frozen=True)
class Usage:
    """What a process holds."""

    fds: int
    threads: int
    resident_kib: int


def driver_pid(node: HasFd) -> int:
    """The process at the other end."""
    with socket.socket(fileno=os.dup(node.fd)) as channel:
        return int.from_bytes(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)


def usage(pid: int) -> Usage:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return Usage(len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")), resident)


def books(pid: int, log: pathlib.Path) -> str:
    """What the driver says about itself now."""
    position = log.stat().st_size
    os.kill(pid, signal.SIGUSR1)
    for _ in range(500):
        time.sleep(0.02)
        with log.open(errors="replace") as file:
            file.seek(position)
            for line in file:
                if "books:" in line and line.endswith("\n"):
                    return line.split("books: ")[1].strip()
    return "no answer"
