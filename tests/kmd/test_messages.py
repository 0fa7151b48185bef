"""The driver's end of a message by itself: what it makes of each one, and that no fd stays open."""
from __future__ import annotations

import array
import ctypes
import errno
import os
import resource
import socket
import struct
from collections.abc import Iterator

import pytest

from cermet.kmd import protocol
from cermet.kmd.protocol import ProtocolError, Receiver, ReplyEnd
from tests.kmd.test_hostile import REQUEST, request

REPLY = struct.Struct("<IIiiQII")
CLONE_NEWUSER, CLONE_NEWPID = 0x1000_0000, 0x2000_0000
OTHER_MAGIC, OTHER_VERSION = (struct.pack("<II", *leading) for leading in
                              ((protocol.MAGIC + 1, protocol.VERSION), (protocol.MAGIC, protocol.VERSION + 1)))
Pair = tuple[socket.socket, socket.socket]


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def pair() -> Pair:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@pytest.fixture
def ends() -> Iterator[Pair]:
    """The client's and the driver's."""
    client, driver = pair()
    with client, driver:
        driver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        client.settimeout(10)
        yield client, driver


def send(client: socket.socket, data: bytes, num_fds: int) -> None:
    """With copies of one pipe end; the sender keeps none."""
    reader, writer = os.pipe()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [reader] * num_fds))] if num_fds else []
    client.sendmsg([data], rights)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("num_fds", [0, 1, 2, 4, 5, 253])
@pytest.mark.parametrize(("data", "problem"), [
    (b"", "0 bytes must have"), (b"short", "5 bytes must have"), (OTHER_MAGIC, "8 bytes must begin with magic"),
    (OTHER_VERSION, "8 bytes must be of version"), (OTHER_VERSION + bytes(292), "297 bytes must be of version"),
    (request(protocol.OPEN)[:-1], "39 bytes must have 40 to 296"), (bytes(REQUEST.size), "40 bytes must begin"),
    (request(protocol.OPEN) + bytes(257), "297 bytes must have"), (request(protocol.OPEN) + bytes(9999), "297 bytes")],
    ids=lambda value: value if isinstance(value, str) else "")
def test_messages_that_are_none_leave_no_fd(ends: Pair, data: bytes, problem: str, num_fds: int) -> None:
    client, driver = ends
    receiver, before = Receiver(driver), open_fds()
    send(client, data, num_fds)
    with pytest.raises(ProtocolError, match=problem):
        receiver.receive()
    assert open_fds() == before


@pytest.mark.parametrize("num_fds", [1, 2, 4, 5, 253])
@pytest.mark.parametrize("inlined", [b"", b"x", bytes(range(256))])
def test_calls_keep_one_fd(ends: Pair, inlined: bytes, num_fds: int) -> None:
    client, driver = ends
    receiver, before = Receiver(driver), open_fds()
    send(client, request(protocol.IOCTL, 1, 2, 3, 4) + inlined, num_fds)
    received = receiver.receive()
    assert received is not None and received[0] == (protocol.IOCTL, 1, 2, 3, 4, os.getpid(), inlined)
    assert open_fds() == before + 1
    received[1].close()
    assert open_fds() == before


@pytest.mark.parametrize("num_fds", [0, 1, 4, 5, 12, 253])
def test_senders_that_are_not_known(ends: Pair, num_fds: int) -> None:
    """Without credentials there is room for more fds."""
    client, driver = ends
    driver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    receiver, before = Receiver(driver), open_fds()
    send(client, request(protocol.OPEN), num_fds)
    with pytest.raises(ProtocolError, match="40 bytes has no sender" if num_fds else "40 bytes has no reply socket"):
        receiver.receive()
    assert open_fds() == before


def test_an_empty_message_from_another_pid_namespace_is_not_the_end(ends: Pair) -> None:
    """Its sender has the number 0 here. The child is the driver: it has the new namespace."""
    client, driver = ends
    between = os.fork()
    if between == 0:
        result = 3
        client.close()
        try:
            if ctypes.CDLL(None).unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0:
                child = os.fork()
                if child == 0:
                    result = 1
                    receiver = Receiver(driver)
                    for problem in ("0 bytes must have", "40 bytes has no sender"):
                        with pytest.raises(ProtocolError, match=problem):
                            receiver.receive()
                    result = 0 if receiver.receive() is None else 2
                else:
                    result = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        finally:
            os._exit(result)
    client.send(b"")
    send(client, request(protocol.OPEN), 1)
    client.close()
    result = os.waitstatus_to_exitcode(os.waitpid(between, 0)[1])
    if result == 3:
        pytest.skip("no pid namespace can be made here")
    assert result == 0


def test_the_end_and_errors(ends: Pair) -> None:
    client, driver = ends
    receiver = Receiver(driver)
    client.close()
    assert receiver.receive() is None
    driver.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        receiver.receive()


def test_a_table_without_room_for_the_reply_end(ends: Pair) -> None:
    """The kernel leaves out the fds that do not fit."""
    client, driver = ends
    receiver = Receiver(driver)
    send(client, request(protocol.OPEN), 2)
    copies = [os.dup(driver.fileno())]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (copies[0] + 1, hard))
    try:
        while True:
            copies.append(os.dup(driver.fileno()))
    except OSError as error:
        assert error.errno == errno.EMFILE
    try:
        with pytest.raises(ProtocolError, match="no reply socket"):
            receiver.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for copy in copies:
            os.close(copy)


# --- replies ----------------------------------------------------------------------------------------------------------


def answers(here: socket.socket) -> list[tuple[int, ...]]:
    """(kind, error, value, fd address, number of fds that came, flags) each, up to the end."""
    found = []
    while True:
        data, fds, _, _ = socket.recv_fds(here, 100, 4)
        for fd in fds:
            os.close(fd)
        if not data:
            return found
        magic, kind, error, value, fd_address, num_fds, flags = REPLY.unpack(data)
        assert (magic, num_fds) == (protocol.MAGIC, len(fds))
        found.append((kind, error, value, fd_address, num_fds, flags))


def test_replies_close_their_end_once(ends: Pair) -> None:
    before = open_fds()
    here, there = pair()
    reply = ReplyEnd(there.detach())
    assert reply.waiting() and not reply.is_hung_up()
    reply.done(errno.EBUSY, -7)
    assert not reply.waiting()
    reply.done(0)
    reply.close()
    with here:
        assert answers(here) == [(2, 0, 0, 0, 0, 0), (1, errno.EBUSY, -7, 0, 0, 0)]
    assert open_fds() == before


def test_fds_go_along_or_the_reply_goes_without(ends: Pair) -> None:
    """The second stands for what the kernel may say at any time: too many fds on their way, no memory."""
    client, _ = ends
    before = open_fds()
    for fd, answer in ((client.fileno(), (1, 0, 5, 1 << 63, 1, os.O_CLOEXEC)), (99_999, (1, errno.ENOMEM, 0, 0, 0, 0))):
        here, there = pair()
        with here:
            ReplyEnd(there.detach()).done(0, 5, fd, 1 << 63, os.O_CLOEXEC)
            assert answers(here) == [answer]
    assert open_fds() == before


def test_ends_that_are_no_unix_sockets(ends: Pair) -> None:
    """Nothing is written into them."""
    client, _ = ends
    reader, writer = os.pipe()
    file = os.memfd_create("file")
    kept = os.dup(file)
    for fd in (writer, file, socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()):
        reply, before = ReplyEnd(fd), open_fds()
        assert not reply.waiting()
        reply.done(0, fd=client.fileno())
        assert open_fds() == before - 1
    assert (os.read(reader, 1), os.fstat(kept).st_size) == (b"", 0)
    os.close(reader)
    os.close(kept)
