"""The driver in this process, without its socket: thousands of calls per second, and all its books open."""
from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import threading
import time
from dataclasses import replace

from cermet.hw.soc import RK3588
from cermet.kmd import books, protocol
from cermet.kmd.behaviour import PROPOSALS, QUIRKS, Behaviour
from cermet.kmd.connection import Connection
from cermet.kmd.device import Device
from cermet.kmd.faults import parse_faults
from cermet.kmd.server import default_table
from tests.kmd.fuzz.arena import PAGE, Broken, Memory, Port
from tests.kmd.fuzz.choices import Step
from tests.kmd.fuzz.core import JOB_TIMEOUT_MS, FuzzCore
from tests.kmd.fuzz.queues import QueueWorld

SETTLE_S = 20.0
CHECK_EVERY = 8         # steps between two looks at the books
SECRET = os.urandom(32)
NUM_SECRETS = 3
SOC = replace(RK3588, job_timeout_ms=JOB_TIMEOUT_MS)
# How the driver is started, in turn; the last ones fail now and then on purpose.
BEHAVIOURS = (
    Behaviour(), Behaviour(frozenset()), Behaviour(has_caches=True), Behaviour(frozenset(), True),
    Behaviour(frozenset(), True, proposals=frozenset(PROPOSALS)), Behaviour(proposals=frozenset(PROPOSALS)),
    Behaviour(frozenset(sorted(QUIRKS)[::2])),
    Behaviour(faults=parse_faults("lost-interrupt@5,spurious-interrupt@3+,slow-core@7=3,job-dropped@9,hung-core@200=1")))


class LogWatch(logging.Handler):
    """Keeps what is an error of the driver itself, and formats every line as a real log would."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info else None
            self.errors.append(f"{text}: {error!r}")


class Answer:
    """In the place of protocol.ReplyEnd."""

    def __init__(self) -> None:
        self.error: int | None = None
        self.fd = -1
        self.was_told = False       # the caller knows the fd's number
        self.times = 0
        self._done = threading.Event()

    def waiting(self) -> bool:
        return True

    def is_hung_up(self) -> bool:
        return False

    def done(self, error: int, value: int = 0, fd: int = -1, fd_address: int = 0, fd_flags: int = 0) -> None:
        self.error = error
        self.times += 1
        if fd >= 0:
            self.fd = os.dup(fd)
            if fd_address:
                ctypes.c_int32.from_address(fd_address).value = self.fd
                self.was_told = True
        self._done.set()

    def close(self) -> None:
        pass

    def wait(self, deadline: float) -> bool:
        return self._done.wait(max(0.0, deadline - time.monotonic()))


class LocalMemory:
    """A BO's memory by its fd, which counts as a mapping."""

    def __init__(self, fd: int, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self._fd = fd

    def write(self, offset: int, data: bytes) -> None:
        os.pwrite(self._fd, data, offset)

    def drop(self) -> None:
        os.close(self._fd)


class LocalPort:
    """A connection of the driver that nobody is connected to."""

    def __init__(self, connection: Connection, waiting: list[Answer]) -> None:
        self._connection = connection
        self._waiting = waiting

    def ask(self, kind: int, flags: int, request: int, argument: int, protection: int = 0) -> Answer:
        answer = Answer()
        made = protocol.Request(kind, flags, request, argument & (1 << 64) - 1, protection, os.getpid())
        self._connection._answer(made, answer)      # type: ignore[arg-type]
        return answer

    def ioctl(self, request: int, argument: int) -> int | None:
        answer = self.ask(protocol.IOCTL, 0, request, argument)
        if answer.error is None:
            self._waiting.append(answer)
        elif answer.fd >= 0 and not answer.was_told:
            os.close(answer.fd)
        return answer.error

    def mmap(self, num_bytes: int, protection: int, flags: int, offset: int) -> tuple[int, Memory | None]:
        answer = self.ask(protocol.MMAP, flags, num_bytes, offset, protection)
        assert answer.error is not None
        return answer.error, LocalMemory(answer.fd, -(-num_bytes // PAGE) * PAGE) if answer.fd >= 0 else None

    def close(self) -> None:
        self._connection._end()


class LocalDriver:
    """One device, and a file with secrets that no other file may see or change."""

    def __init__(self, behaviour: Behaviour, verbose: bool = False) -> None:
        self.log = LogWatch()
        logger = logging.getLogger("cermet.kmd")
        logger.handlers[:], logger.propagate = [self.log], False
        logger.setLevel(logging.DEBUG if verbose else logging.ERROR)
        self.num_fds = len(os.listdir("/proc/self/fd"))
        self.num_threads = threading.active_count()
        self.device = Device(SOC, FuzzCore, behaviour)
        self.table = default_table(behaviour.proposals)
        self.waiting: list[Answer] = []
        self.victim = self.device.open(os.getpid(), os.O_RDWR)
        for _ in range(NUM_SECRETS):
            bo = self.victim.create_bo(PAGE)
            self.victim.add_handle(bo)
            assert bo.array is not None
            bo.array[:] = list(SECRET) * (PAGE // len(SECRET))
        self.world = QueueWorld(self.open_port)

    def open_port(self, flags: int) -> Port | int:
        connection = Connection(self.device, self.table, socket.socket(), lambda connection: None)
        port = LocalPort(connection, self.waiting)
        error = port.ask(protocol.OPEN, flags, 0, 0).error
        if error:
            connection.channel.close()
            return error
        return port

    # --- what must hold ---

    def run(self, steps: list[Step]) -> list[tuple[str, int | None]]:
        """The answers. Raises Broken."""
        self.world.answers = []
        try:
            for start in range(0, len(steps), CHECK_EVERY):
                self.world.carry_out(steps[start:start + CHECK_EVERY])
                self.check()
            self.check_secrets()
        finally:
            self.world.finish()
        self.settle()
        return self.world.answers

    def check(self) -> None:
        if found := books.problems(self.device) + self.log.errors:
            raise Broken("; ".join(found))

    def check_secrets(self) -> None:
        with self.device.lock:
            for bo in self.device.buffers():
                array = bo.array
                if array is None or array.size > 1 << 21:
                    continue
                data = array.tobytes()
                if bo.owner is self.victim:
                    if data != SECRET * (PAGE // len(SECRET)):
                        raise Broken("another file's buffer was written")
                elif SECRET[:16] in data:
                    raise Broken("another file's buffer was read")

    def settle(self) -> None:
        """Every call is answered once, every job ends, and only the victim is left."""
        deadline = time.monotonic() + SETTLE_S
        for answer in self.waiting:
            if not answer.wait(deadline):
                raise Broken("a call is never answered")
            if answer.times != 1 or answer.error not in (
                    0, errno.ETIMEDOUT, errno.EIO, errno.ETIME, errno.EINTR):
                raise Broken(f"a waiting call was answered {answer.times} times, {answer.error}")
        self.waiting.clear()
        while time.monotonic() < deadline:
            self.device.collect()
            now = books.read(self.device)
            left = (now.files, now.buffers, now.queued_jobs, now.running_jobs, now.address_spaces)
            if left == (1, NUM_SECRETS, 0, 0, 0):
                return self.check()
            time.sleep(0.0002)
        raise Broken(f"left behind: {books.read(self.device)}")

    def end(self) -> None:
        """The device goes; its threads and fds with it."""
        self.device.release(self.victim)
        if not books.read(self.device).are_empty:
            raise Broken(f"left behind at the end: {books.read(self.device)}")
        self.device.stop()
        for core in self.device.scheduler.cores:
            core.join(SETTLE_S)
        for fd in self.world.foreign:
            os.close(fd)
        if (fds := len(os.listdir("/proc/self/fd"))) > self.num_fds:
            raise Broken(f"{fds - self.num_fds} fds are left")
        deadline = time.monotonic() + SETTLE_S
        while threading.active_count() > self.num_threads and time.monotonic() < deadline:
            time.sleep(0.001)
        if threading.active_count() > self.num_threads:
            raise Broken(f"{threading.active_count() - self.num_threads} threads are left")
