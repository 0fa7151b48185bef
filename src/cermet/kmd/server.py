"""The driver process: listens, serves, and ends when nobody needs it any more."""
from __future__ import annotations

import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cermet.errors import CermetError
from cermet.hw.soc import Soc
from cermet.kmd import books, core_ioctls, protocol, rocket_ioctls
from cermet.kmd.behaviour import Behaviour
from cermet.kmd.connection import Connection
from cermet.kmd.device import Device
from cermet.kmd.ioctl import IoctlTable
from cermet.kmd.job import NpuCore
from cermet.kmd.log import ASKED_FOR
from cermet.kmd.proposals import PROPOSED_IOCTLS

log = logging.getLogger("cermet.kmd")

BACKLOG = 4096
LOOK_INTERVAL_S = 0.05          # how often the main thread looks whether it is still needed
COLLECT_INTERVAL_S = 1.0
PREDECESSOR_WAIT_S = 10.0       # for another driver on the same socket that is just ending
LEFT_BEHIND_WAIT_S = 3.0        # the same in the foreground: one that a program started ends 2 s after its last client
MAX_PATH_BYTES = 107            # sun_path has 108 with the final 0
THREAD_STACK_BYTES = 512 << 10
SWITCH_INTERVAL_S = 0.0005      # a call must not wait 5 ms for the GIL while a core decodes programs
NEW_OBJECTS_TO_COLLECT = 20_000     # a collection stops all threads; what calls and tasks leave behind is no garbage


@dataclass(frozen=True)
class Options:
    """How the process was started."""

    socket_path: str
    on_demand: bool = False         # end when the last client has been gone for linger_s
    linger_s: float = 2.0
    ready_fd: int = -1              # gets one byte when clients may connect


def default_table(proposals: frozenset[str] = frozenset()) -> IoctlTable:
    table = IoctlTable()
    core_ioctls.add_to(table)
    rocket_ioctls.add_to(table)
    for name in sorted(proposals):
        for ioctls in PROPOSED_IOCTLS[name]:
            ioctls.add_to(table)
    return table


class Server:
    """One device on one socket."""

    def __init__(self, soc: Soc, make_core: Callable[[Soc, int], NpuCore], options: Options,
                 table: IoctlTable | None = None, behaviour: Behaviour | None = None) -> None:
        self.options = options
        behaviour = behaviour or Behaviour()
        self.table = table or default_table(behaviour.proposals)
        self.device = Device(soc, make_core, behaviour)
        self.stopping = threading.Event()
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self.show_books = threading.Event()
        self._last_needed = time.monotonic()
        self._is_leaving = False
        self._owner_lock = -1
        self._listener: socket.socket | None = None

    # --- life ---

    def run(self) -> None:
        """Serve until told to stop or, on demand, until nobody is left."""
        set_limits()
        self._take_socket()
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        self._say_ready()
        log.info("%s: %d cores at %s, pid %d", self.device.soc.name, self.device.soc.cores, self.options.socket_path,
                 os.getpid())
        try:
            self._watch()
        finally:
            self._leave()

    def _take_socket(self) -> None:
        """Become the one driver of this path. A lock held for life says so: a socket file may be a dead one's."""
        path = self.options.socket_path
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise CermetError(f"{path}: must be at most {MAX_PATH_BYTES} bytes, as a socket's address has no more")
        if os.path.lexists(path) and not is_socket(path):
            raise CermetError(f"{path}: is there and no socket, will not be replaced")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._owner_lock = os.open(f"{path}.lock", flags, 0o600)
        deadline = time.monotonic() + (PREDECESSOR_WAIT_S if self.options.on_demand else LEFT_BEHIND_WAIT_S)
        while not self._try_lock():
            if time.monotonic() > deadline:
                raise CermetError(f"{path}: another simulated device listens there")
            time.sleep(0.02)
        remove_socket(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)   # accepted sockets inherit it
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        listener.listen(BACKLOG)
        self._listener = listener

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._owner_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _say_ready(self) -> None:
        if self.options.ready_fd >= 0:
            os.write(self.options.ready_fd, b"\n")
            os.close(self.options.ready_fd)

    def _watch(self) -> None:
        next_collection = 0.0
        while not self.stopping.wait(LOOK_INTERVAL_S):
            if self.show_books.is_set():
                self.show_books.clear()
                self._log_books()
            now = time.monotonic()
            if now >= next_collection:
                orphans = self.device.collect()
                next_collection = now + COLLECT_INTERVAL_S
            if self._connections or orphans:
                self._last_needed = now
            if self.options.on_demand and now - self._last_needed > self.options.linger_s and self._may_leave():
                log.info("no client for %g s: ending", self.options.linger_s)
                return

    def _log_books(self) -> None:
        log.info("books: %s", books.read(self.device), extra=ASKED_FOR)
        for problem in books.problems(self.device):
            log.error("books: %s", problem, extra=ASKED_FOR)

    def _may_leave(self) -> bool:
        """Decided under the lock that a new connection needs too: nobody is served and then left."""
        with self._lock:
            self._is_leaving = not self._connections
            return self._is_leaving

    def _leave(self) -> None:
        """Nobody can connect from here on; who just did finds its connection closed and starts a successor.

        The lock is still held: the successor waits for this process to end.
        """
        assert self._listener is not None
        self.stopping.set()
        self._log_books()
        remove_socket(self.options.socket_path)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.device.stop()

    # --- clients ---

    def _accept(self) -> None:
        assert self._listener is not None
        while not self.stopping.is_set():
            try:
                channel, _ = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0 or self.stopping.is_set():
                    return
                time.sleep(0.01)        # out of fds, or shut down: look again
                continue
            self._welcome(channel)

    def _welcome(self, channel: socket.socket) -> None:
        if protocol.peer_uid(channel) not in (os.geteuid(), 0):
            log.warning("a process of uid %d was refused", protocol.peer_uid(channel))
            channel.close()
            return
        connection = Connection(self.device, self.table, channel, self._farewell)
        with self._lock:
            if self._is_leaving:
                channel.close()
                return
            self._connections.add(connection)
        try:
            connection.start()
        except RuntimeError:        # the system has no thread left
            log.exception("a client was turned away")
            channel.close()
            self._farewell(connection)

    def _farewell(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)
            self._last_needed = time.monotonic()


def is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def remove_socket(path: str) -> None:
    """Whatever else a user has named by mistake stays."""
    if is_socket(path):
        os.unlink(path)


def set_limits() -> None:
    """One fd per BO and per open file: take all that the system allows. Small stacks: one thread per open file.
    Threads and memory: so that calls and cores wait little for each other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threading.stack_size(THREAD_STACK_BYTES)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()             # modules need not be looked at again
    gc.set_threshold(NEW_OBJECTS_TO_COLLECT)


def serve(server: Server) -> None:
    """Run with clean ends for Ctrl-C and SIGTERM; SIGUSR1 writes the books into the log."""
    def stop(number: int, frame: object) -> None:
        server.stopping.set()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    signal.signal(signal.SIGUSR1, lambda number, frame: server.show_books.set())
    server.run()
    sys.stdout.flush()
    sys.stderr.flush()
