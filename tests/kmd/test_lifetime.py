"""Processes: sharing by fork and dup, close and kill with work queued, the driver's start, end and death."""
from __future__ import annotations

import errno
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from cermet.errors import CermetError
from cermet.hw.soc import RK3588
from cermet.kmd.server import Options, Server
from tests.kmd.client import PAGE, Job, Node, environ, environment
from tests.kmd.driver_process import driver_pid
from tests.kmd.fake_core import FILL, HANG, SLEEP, FakeCore


def in_child(function: object) -> int:
    """Exit status of a function that runs in a forked child: 0 when it returned."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()      # type: ignore[operator]
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_dup_and_fork_share_the_file(node: Node) -> None:
    first = node.create(PAGE)

    def use() -> None:
        assert node.create(PAGE).handle == 2
        assert node.error("GEM_CLOSE", handle=first.handle) == 0
    assert in_child(use) == 0
    assert node.create(PAGE).handle == 1
    original, node.fd = node.fd, os.dup(node.fd)
    os.close(original)
    assert node.create(PAGE).handle == 3


def test_an_fd_passed_to_another_process_is_the_device(node: Node) -> None:
    """The receiver did not open it: its memory is read all the same."""
    bo = node.create(PAGE)
    here, there = socket.socketpair()
    with here, there:
        script = ("import socket, sys; from tests.kmd.client import Node, load; node = Node.__new__(Node)\n"
                  "channel = socket.socket(fileno=int(sys.argv[1]))\n"
                  "node.library = load(); node.fd = socket.recv_fds(channel, 1, 1)[1][0]\n"
                  "assert node.library.cermet_client_owns(node.fd) and not node.library.cermet_client_owns(0)\n"
                  f"assert node.create(4096).handle == 2 and not node.error('GEM_CLOSE', handle={bo.handle})")
        child = subprocess.Popen([sys.executable, "-c", script, str(there.fileno())], pass_fds=[there.fileno()])
        socket.send_fds(here, [b"x"], [node.fd])
        assert child.wait(20) == 0
    assert node.create(PAGE).handle == 1


def test_owns_only_device_fds(node: Node) -> None:
    reader, writer = os.pipe()
    one, other = socket.socketpair()
    assert node.library.cermet_client_owns(node.fd)
    assert not any(node.library.cermet_client_owns(fd) for fd in (-1, 0, reader, writer, one.fileno(), 9999))
    for fd in (reader, writer):
        os.close(fd)
    one.close()
    other.close()


def test_plain_close_hands_the_whole_queue_over(fake_driver: object, second: Node) -> None:
    """The closing file's jobs all run, though it takes longer than an exiting process would get."""
    shared = second.create(PAGE)
    fd = second.call("PRIME_HANDLE_TO_FD", handle=shared.handle).fd
    node = Node()
    handle = node.call("PRIME_FD_TO_HANDLE", fd=fd).handle
    program, words = node.program((SLEEP, 400))
    job = Job([(program.dma_address, words)], [program.handle], [handle])
    start = time.monotonic()
    node.submit(*[job] * 4)
    node.close()
    second.wait(shared)
    assert time.monotonic() - start >= 1.5


def test_killed_client_loses_its_queue(fake_driver: object, second: Node) -> None:
    """At most 1 s of its queue is still handed over; a waiter in another file is released by the dropped fences."""
    shared = second.create(PAGE)
    fd = second.call("PRIME_HANDLE_TO_FD", handle=shared.handle).fd

    def submit_and_die() -> None:
        node = Node()
        handle = node.call("PRIME_FD_TO_HANDLE", fd=fd).handle
        program, words = node.program((SLEEP, 300))
        node.submit(*[Job([(program.dma_address, words)], [program.handle], [handle])] * 100)
        os.kill(os.getpid(), signal.SIGKILL)
    start = time.monotonic()
    assert in_child(submit_and_die) == -signal.SIGKILL
    second.wait(shared, timeout_s=20)
    assert time.monotonic() - start < 5
    second.run((FILL, second.create(PAGE).dma_address, 1, 1), out=[shared])
    second.wait(shared)


def test_close_during_a_hang(fake_driver: object, node: Node) -> None:
    other = Node()
    other.run((HANG,))
    other.close()
    target = node.create(PAGE)
    node.run((FILL, target.dma_address, 1, 1), out=[target])
    node.wait(target)


def test_no_fd_or_thread_is_left_behind(node: Node) -> None:
    """In this process and in the driver, after 300 threads with calls of each kind."""
    pid = driver_pid(node)

    def counts() -> tuple[int, int, int]:
        mine, fds, threads = (len(os.listdir(f"/proc/{path}")) for path in ("self/fd", f"{pid}/fd", f"{pid}/task"))
        return mine, fds, threads

    def work() -> None:
        with Node() as own:
            bo = own.create(PAGE)
            own.mmap(bo.offset, PAGE).unmap()
            own.run((SLEEP, 1), out=[bo])
            own.wait(bo)
            os.close(own.call("PRIME_HANDLE_TO_FD", handle=bo.handle).fd)
            own.error("ROCKET_PREP_BO", handle=77)
    before = counts()
    for _ in range(6):
        threads = [threading.Thread(target=work) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    deadline = time.monotonic() + 10
    while counts() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert counts() <= before


def test_ten_thousand_calls_leave_no_fd(node: Node) -> None:
    before = len(os.listdir("/proc/self/fd"))
    handle = node.create(PAGE).handle
    for _ in range(10_000):
        node.call("ROCKET_FINI_BO", handle=handle)
    assert len(os.listdir("/proc/self/fd")) == before


# --- the driver's life ------------------------------------------------------------------------------------------------


@pytest.fixture
def own_socket(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("own") / "s"


def test_driver_killed_while_a_call_waits(own_socket: pathlib.Path) -> None:
    """The waiting call and all later ones say ENODEV; a new open starts a new driver."""
    with environ(**environment(own_socket)):
        node = Node()
        target = node.create(PAGE)
        mapping = node.mmap(target.offset, PAGE)
        node.run((SLEEP, 5000), out=[target])
        threading.Timer(0.2, os.kill, (driver_pid(node), signal.SIGKILL)).start()
        start = time.monotonic()
        assert node.error("ROCKET_PREP_BO", handle=target.handle, timeout_ns=(1 << 63) - 1) == errno.ENODEV
        assert time.monotonic() - start < 3
        assert node.error("ROCKET_FINI_BO", handle=target.handle) == errno.ENODEV
        assert node.mmap_error(target.offset, PAGE) == errno.ENODEV
        mapping.write(b"still there")
        mapping.unmap()
        node.close()
        with Node() as again:
            assert again.create(PAGE).handle == 1


OPEN_AND_CREATE = "from tests.kmd.client import Node; node = Node(); assert node.create(4096).handle == 1"


def test_eight_processes_start_one_driver(own_socket: pathlib.Path) -> None:
    variables = environment(own_socket)
    with environ(**variables):
        children = [subprocess.Popen([sys.executable, "-c", OPEN_AND_CREATE]) for _ in range(8)]
        assert [child.wait(30) for child in children] == [0] * 8
    log = own_socket.with_name("s.log").read_text()
    assert log.count("3 cores at") == 1 and log.count(": opened") == 8


def test_driver_ends_after_its_last_client(own_socket: pathlib.Path) -> None:
    with environ(**environment(own_socket, FAKE_DRIVER_LINGER="0.2")):
        node = Node()
        pid = driver_pid(node)
        time.sleep(0.5)
        os.kill(pid, 0)             # still there: it has a client
        node.close()
        assert ends(pid) and not own_socket.exists()


def test_driver_stays_for_an_exported_buffer(own_socket: pathlib.Path) -> None:
    with environ(**environment(own_socket, FAKE_DRIVER_LINGER="0.2")):
        node = Node()
        pid = driver_pid(node)
        bo = node.create(PAGE)
        fd = node.call("PRIME_HANDLE_TO_FD", handle=bo.handle).fd
        node.close()
        time.sleep(1.0)
        with Node() as again:
            assert driver_pid(again) == pid
            assert again.call("PRIME_FD_TO_HANDLE", fd=fd).handle == 1
        os.close(fd)
        assert ends(pid)


def ends(pid: int) -> bool:
    """Whether a process ends within 5 s."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not os.path.exists(f"/proc/{pid}"):
            return True
        time.sleep(0.02)
    return False


def test_opening_while_drivers_come_and_go(own_socket: pathlib.Path) -> None:
    """With no linger at all, each open meets a driver that is ending: it always gets one that serves it."""
    with environ(**environment(own_socket, FAKE_DRIVER_LINGER="0")):
        for attempt in range(12):
            with Node() as node:
                assert node.create(PAGE).handle == 1
            time.sleep(0.01 * attempt)


def test_stale_socket_file_is_replaced(own_socket: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(own_socket))
    with environ(**environment(own_socket)), Node() as node:
        assert node.create(PAGE).handle == 1


def test_errors_of_starting_are_one_line(own_socket: pathlib.Path) -> None:
    """The driver's last words, a missing command, an impossible SoC or path."""
    def message_of(**variables: str) -> str:
        with environ(**environment(own_socket) | variables), pytest.raises(OSError) as caught:
            Node()
        assert caught.value.errno in (errno.ENODEV, errno.ENAMETOOLONG)
        return str(caught.value)
    assert "fake driver: told to fail" in message_of(FAKE_DRIVER_FAILS="1")
    assert "CERMET_COMMAND: '/nonexistent/cermet' must be a program" in message_of(CERMET_COMMAND="/nonexistent/cermet")
    with_argument = f"{environment(own_socket)['CERMET_COMMAND']} --flag"
    assert "a path or a name in PATH, without arguments" in message_of(CERMET_COMMAND=with_argument)
    assert "must be less than" in message_of(CERMET_SIM_SOCKET=str(own_socket.with_name("x" * 200)))


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: pathlib.Path) -> None:
    mistake = tmp_path / "file"
    mistake.write_text("precious")
    with environ(**environment(mistake)), pytest.raises(OSError, match="must be a socket or not be there") as caught:
        Node()
    assert caught.value.errno == errno.EEXIST
    with pytest.raises(CermetError, match="is there and no socket, will not be replaced"):
        Server(RK3588, FakeCore, Options(str(mistake), False, 0, -1)).run()
    long = tmp_path / ("x" * 108)
    with pytest.raises(CermetError, match=f"{long}: must be at most 107 bytes"):
        Server(RK3588, FakeCore, Options(str(long), False, 0, -1)).run()
    assert [path.name for path in tmp_path.iterdir() if "run-" not in path.name] == ["file"]
    assert mistake.read_text() == "precious"


def test_unsafe_runtime_folder_is_refused(tmp_path: pathlib.Path) -> None:
    """A folder that others may enter, or a symbolic link, is not used."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "cermet").mkdir(mode=0o755)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "cermet").symlink_to(tmp_path)
    for folder, text in (("open", "mode 755"), ("link", "symbolic links are refused")):
        with environ(CERMET_SIM_SOCKET="", XDG_RUNTIME_DIR=str(tmp_path / folder)), pytest.raises(OSError) as caught:
            Node()
        assert text in str(caught.value)


def test_a_foreground_driver_waits_for_one_that_is_left_behind(own_socket: pathlib.Path) -> None:
    """`cermet sim` behind a program that has ended: its driver is there for two seconds more."""
    with environ(**environment(own_socket, FAKE_DRIVER_LINGER="1")):
        with Node() as node:
            left_behind = driver_pid(node)
        second = subprocess.Popen([sys.executable, "-m", "tests.kmd.fake_driver", "sim", "--soc", "rk3588", "--socket",
                                   str(own_socket), "--ready-fd", "-1"], stderr=subprocess.PIPE, text=True)
        try:
            assert ends(left_behind)
            with Node() as node:
                assert driver_pid(node) == second.pid
        finally:
            second.terminate()
            second.communicate(timeout=20)


def test_two_foreground_drivers_on_one_socket(own_socket: pathlib.Path) -> None:
    with environ(**environment(own_socket)), Node():
        second = subprocess.run([sys.executable, "-m", "tests.kmd.fake_driver", "sim", "--soc", "rk3588", "--socket",
                                 str(own_socket), "--ready-fd", "-1"], capture_output=True, text=True, timeout=20)
        assert second.returncode != 0 and "another simulated device listens there" in second.stderr


def test_driver_inherits_nothing(own_socket: pathlib.Path) -> None:
    """No fd of the application, no LD_PRELOAD, a session of its own; the application has no new child."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    with environ(**environment(own_socket, LD_PRELOAD="")), Node() as node:
        pid = driver_pid(node)
        pipes = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert os.readlink(f"/proc/self/fd/{writer}") not in pipes
        assert b"LD_PRELOAD" not in pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        assert os.getsid(pid) != os.getsid(0)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
    os.close(reader)
    os.close(writer)


def test_a_listener_that_never_answers_is_an_error(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "silent"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(1)
        with environ(CERMET_SIM_SOCKET=str(path)), pytest.raises(TimeoutError, match="cannot be opened"):
            Node()
