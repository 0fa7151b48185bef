"""The driver behind its socket, as applications reach it: the shim's calls, threads, dup, and children that die."""
from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pathlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

from tests.kmd.client import MAP_FAILED, Node, environ, environment, libc
from tests.kmd.driver_process import books, driver_pid, usage
from tests.kmd.fuzz.arena import PAGE, Broken, Memory, Port
from tests.kmd.fuzz.calls import OpenFile
from tests.kmd.fuzz.choices import Choices, Step, draw
from tests.kmd.fuzz.queues import QUEUE_WEIGHTS, QueueWorld

SETTLE_S = 20.0
SEQUENCE_STEPS = 60
SECRET = os.urandom(32) * (PAGE // 32)
EMPTY = "1 files, 1 handles, 1 BOs of 4096 bytes, 0 jobs queued and 0 running, 0 calls waiting, " \
        "0 address spaces of queues"
REMOTE_WEIGHTS = QUEUE_WEIGHTS | {"dup": 2, "child": 1}
MAX_GROWTH_KIB = 64 << 10
WAITING_CALLS = (0x42, 0xC3)        # PREP_BO, SYNCOBJ_WAIT


class RemoteMemory:
    """A mapping."""

    def __init__(self, address: int, num_bytes: int) -> None:
        self.address, self.num_bytes = address, num_bytes

    def write(self, offset: int, data: bytes) -> None:
        ctypes.memmove(self.address + offset, data, len(data))

    def drop(self) -> None:
        assert libc.munmap(ctypes.c_void_p(self.address), ctypes.c_size_t(self.num_bytes)) == 0


class RemotePort:
    """An open file; calls that may wait do so in a thread."""

    def __init__(self, flags: int, threads: list[threading.Thread]) -> None:
        self.node = Node(flags | os.O_CLOEXEC)
        self._threads = threads

    def ioctl(self, request: int, argument: int) -> int | None:
        if request & 0xFF not in WAITING_CALLS:
            return self.node.raw(request, argument)
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(self.node.raw(request, argument)))
        thread.start()
        thread.join(0.02)
        if answers:
            return answers[0]
        self._threads.append(thread)
        return None

    def mmap(self, num_bytes: int, protection: int, flags: int, offset: int) -> tuple[int, Memory | None]:
        ctypes.set_errno(0)
        address = self.node.library.cermet_client_mmap(None, num_bytes, protection, flags, self.node.fd,
                                                       ctypes.c_int64(offset))
        if address == MAP_FAILED:
            return ctypes.get_errno(), None
        return 0, RemoteMemory(address, -(-num_bytes // PAGE) * PAGE)

    def close(self) -> None:
        self.node.close()


class RemoteWorld(QueueWorld):
    """With what only processes can do."""

    def dup(self, file: OpenFile, c: Choices) -> int:
        """The file goes on under another number."""
        node = file.port.node       # type: ignore[attr-defined]
        copy = os.dup(node.fd)
        os.close(node.fd)
        node.fd = copy
        return 0

    def child(self, file: OpenFile, c: Choices) -> int:
        """A forked process makes a few calls with the same files and is killed in the middle of them."""
        seed, life = c.word(), c.below(20) / 1000
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                chance = random.Random(seed)
                while True:
                    self.carry_out(draw(chance, CHILD_WEIGHTS, 20))
            os._exit(0)
        time.sleep(life)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for each in self.files.values():
            each.is_known = False
        return 0


CHILD_CALLS = ("create", "destroy", "submit", "fini", "map", "unmap", "ask", "raw", "object_call", "queue_submit")
CHILD_WEIGHTS = {name: QUEUE_WEIGHTS[name] for name in CHILD_CALLS}


@contextlib.contextmanager
def driver(folder: pathlib.Path) -> Iterator[RemoteDriver]:
    """A driver process with the fuzzer's cores."""
    with environ(**environment(folder / "s", module="tests.kmd.fuzz.driver")), Node() as victim:
        yield RemoteDriver(folder / "s.log", victim)


class RemoteDriver:
    """The process, a file with a secret, and what it held before."""

    def __init__(self, log: pathlib.Path, victim: Node) -> None:
        self.log, self.pid = log, driver_pid(victim)
        self.secret = victim.mmap(victim.create(PAGE).offset, PAGE)
        self.secret.write(SECRET)
        self.before = usage(self.pid)
        self.threads: list[threading.Thread] = []
        self.world = RemoteWorld(self.open_port)

    def open_port(self, flags: int) -> Port | int:
        try:
            return RemotePort(flags, self.threads)
        except OSError as error:
            return error.errno or errno.EIO

    def run(self, steps: list[Step]) -> None:
        try:
            self.world.carry_out(steps)
        finally:
            self.world.finish()
            for thread in self.threads:
                thread.join(SETTLE_S)
                if thread.is_alive():
                    raise Broken("a call is never answered")
            self.threads.clear()
        if self.secret.read() != SECRET:
            raise Broken("another file's buffer was written")

    def end(self) -> None:
        """The books balance, nothing is left, and the log has no error."""
        deadline = time.monotonic() + SETTLE_S
        while (said := books(self.pid, self.log)) != EMPTY and time.monotonic() < deadline:
            time.sleep(0.2)
        after = usage(self.pid)
        if said != EMPTY:
            raise Broken(f"left behind: {said}")
        if after.fds > self.before.fds or after.threads > self.before.threads:
            raise Broken(f"the driver grew from {self.before} to {after}")
        if after.resident_kib > self.before.resident_kib + MAX_GROWTH_KIB:
            raise Broken(f"the driver's memory grew from {self.before} to {after}")
        for line in self.log.read_text(errors="replace").splitlines():
            if line[9:10] in ("E", "C") or "Traceback" in line:
                raise Broken(f"log: {line}")


def search(folder: pathlib.Path, num_calls: int, seed: int,
           report: Callable[[int], None] = lambda calls: None) -> int:
    """Calls made. Raises Broken."""
    chance = random.Random(seed)
    with driver(folder) as remote:
        number = 0
        while remote.world.num_calls < num_calls:
            remote.run(draw(chance, REMOTE_WEIGHTS, chance.randrange(4, SEQUENCE_STEPS)))
            number += 1
            if number % 100 == 0:
                report(remote.world.num_calls)
        remote.end()
        return remote.world.num_calls
