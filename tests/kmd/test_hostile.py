"""Clients that do not keep to the protocol, lie about sizes, or leave midway: the driver serves the others."""
from __future__ import annotations

import array
import ctypes
import errno
import functools
import logging
import mmap
import os
import pathlib
import random
import socket
import struct
import threading

import pytest

from cermet.kmd import protocol, uapi
from cermet.kmd.log import ASKED_FOR, Limit
from tests.kmd.client import FOREVER, PAGE, Job, Node, address_of, environ, libc
from tests.kmd.fake_core import FILL, SLEEP

REQUEST = struct.Struct("<IIIIQQII")


def connect(path: pathlib.Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.connect(str(path))
    channel.settimeout(10)
    return channel


def send(channel: socket.socket, data: bytes, fds: list[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    channel.sendmsg([data], rights)


def request(kind: int, flags: int = 0, number: int = 0, argument: int = 0, protection: int = 0) -> bytes:
    return REQUEST.pack(protocol.MAGIC, protocol.VERSION, kind, flags, number, argument, protection, 0)


def ask(channel: socket.socket, data: bytes) -> int:
    """The errno of the answer."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        send(channel, data, [there.fileno()])
        there.close()
        here.settimeout(10)
        return struct.unpack_from("<IIi", here.recv(100))[2]


@pytest.fixture
def watched(node: Node, fake_driver: pathlib.Path) -> Node:
    """An honest client, and so a driver that runs."""
    return node


def assert_serves(node: Node) -> None:
    target = node.create(PAGE)
    node.run((FILL, target.dma_address, 1, 1), out=[target])
    node.wait(target)


def test_garbage_messages(watched: Node, fake_driver: pathlib.Path) -> None:
    rng = random.Random(1)
    for _ in range(100):
        with connect(fake_driver) as channel:
            try:
                for _ in range(rng.randrange(1, 4)):
                    send(channel, rng.randbytes(rng.choice([1, 7, REQUEST.size, REQUEST.size, 300])),
                         [0] * rng.randrange(0, 7))
            except (BrokenPipeError, ConnectionResetError):
                pass
    assert_serves(watched)


def test_random_requests(watched: Node, fake_driver: pathlib.Path) -> None:
    """Well-formed messages with random contents, on an opened file."""
    rng = random.Random(2)
    with connect(fake_driver) as channel:
        assert ask(channel, request(protocol.OPEN)) == 0
        for _ in range(1500):
            index = rng.choice([*range(0x40, 0x44), 0x09, 0x0C, 0x2D, 0x2E, rng.randrange(256)])
            number = rng.choice([1, 2, 3]) << 30 | rng.choice([0, 4, 8, 16, 24, 0x3FFF]) << 16 | 0x6400 | index
            word = rng.choice([0, 8, 1 << 47, rng.getrandbits(64)])
            answer = ask(channel, request(rng.randrange(2, 5), rng.getrandbits(32), number, word, rng.getrandbits(32)))
            assert answer != errno.EIO and (answer == 0 or answer in errno.errorcode)
    assert_serves(watched)


def test_bytes_that_come_along_with_an_ioctl(watched: Node, fake_driver: pathlib.Path) -> None:
    """As many as the driver wants: they count, wherever the address points. Fewer: it reads the caller's. Too many: no
    call at all."""
    number, name = uapi.IOCTLS["DRM_IOCTL_ROCKET_FINI_BO"]
    unknown, nonzero = struct.pack("<II", 77, 0), struct.pack("<II", 77, 1)
    real = uapi.ffi.new(f"{name} *", {"handle": 77, "reserved": 0})
    call = functools.partial(request, protocol.IOCTL, number=number.value)
    with connect(fake_driver) as channel:
        assert ask(channel, request(protocol.OPEN)) == 0
        assert ask(channel, call(argument=8) + unknown) == errno.ENOENT
        assert ask(channel, call(argument=8) + nonzero + bytes(248)) == errno.EINVAL
        assert ask(channel, call(argument=address_of(real)) + nonzero[:7]) == errno.ENOENT
        assert ask(channel, call(argument=8) + nonzero[:7]) == errno.EFAULT
        assert ask(channel, call(argument=8)) == errno.EFAULT
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with here, there:
            send(channel, call(argument=8) + bytes(protocol.MAX_INLINE + 1), [there.fileno()])
            there.close()
            here.settimeout(10)
            assert here.recv(100) == b""
        assert ask(channel, call(argument=8) + unknown) == errno.ENOENT
    assert_serves(watched)


def test_calls_before_open_and_opening_twice(watched: Node, fake_driver: pathlib.Path) -> None:
    with connect(fake_driver) as channel:
        assert ask(channel, request(protocol.IOCTL, number=0xC0186440)) == errno.EINVAL
        assert ask(channel, request(protocol.MMAP, number=PAGE)) == errno.EINVAL
        assert ask(channel, request(protocol.OPEN)) == 0
        assert ask(channel, request(protocol.OPEN)) == errno.EINVAL
        assert ask(channel, request(99)) == errno.EINVAL


@pytest.mark.parametrize("num_bytes", [8, 40, 400])
def test_another_protocol_version_is_refused(watched: Node, fake_driver: pathlib.Path, num_bytes: int) -> None:
    """Whatever a request of that version looks like behind its number."""
    with connect(fake_driver) as channel:
        for version in (protocol.VERSION - 1, protocol.VERSION + 1):
            data = struct.pack("<II", protocol.MAGIC, version).ljust(num_bytes, b"x")
            assert ask(channel, data) == errno.EPROTONOSUPPORT
        assert ask(channel, request(protocol.OPEN)) == 0


def test_a_driver_of_another_version_is_told_at_once(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, environ(CERMET_SIM_SOCKET=str(path)):
        listener.bind(str(path))
        listener.listen()

        def refuse() -> None:
            with listener.accept()[0] as channel:
                _, (end,), _, _ = socket.recv_fds(channel, 400, 1)
                protocol.ReplyEnd(end).done(errno.EPROTONOSUPPORT)
        driver = threading.Thread(target=refuse, daemon=True)
        driver.start()
        with pytest.raises(OSError, match=f"{path}: .* of another version") as caught:
            Node()
        driver.join(10)
        assert caught.value.errno == errno.ENODEV and not driver.is_alive()


def test_reply_sockets_that_cannot_be_written(watched: Node, fake_driver: pathlib.Path) -> None:
    """A closed pair, a pipe, a file: the driver goes on."""
    with connect(fake_driver) as channel, open(os.devnull) as null:
        assert ask(channel, request(protocol.OPEN)) == 0
        for fd in (null.fileno(), *os.pipe()):
            send(channel, request(protocol.IOCTL, number=0xC0186440), [fd])
        here, there = socket.socketpair()
        here.close()
        send(channel, request(protocol.IOCTL, number=0xC0186440), [there.fileno()])
        send(channel, request(protocol.MMAP, number=PAGE), [there.fileno()])
        there.close()
        assert ask(channel, request(protocol.IOCTL, number=0x5401)) == errno.ENOTTY
    assert_serves(watched)


def test_who_waits_is_answered_on_a_unix_socket_only(node: Node) -> None:
    """Closing another one may take as long as its sender likes, and a core would do it."""
    target = node.create(PAGE)
    node.run((SLEEP, 300), out=[target])
    number, name = uapi.IOCTLS["DRM_IOCTL_ROCKET_PREP_BO"]
    wait = uapi.ffi.new(f"{name} *", {"handle": target.handle, "timeout_ns": FOREVER})
    with (socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as there,
          server.accept()[0] as here, socket.socket(fileno=os.dup(node.fd)) as channel):
        here.settimeout(10)
        send(channel, request(protocol.IOCTL, number=number.value, argument=address_of(wait)), [there.fileno()])
        assert struct.unpack_from("<IIi", here.recv(100))[2] == errno.EINVAL
        assert node.is_busy(target)
    node.wait(target)


def test_an_empty_message_is_not_the_end(node: Node) -> None:
    with socket.socket(fileno=os.dup(node.fd)) as channel:
        channel.send(b"")
        channel.send(b"a program that writes to the device")
    assert_serves(node)


def test_clients_that_leave_midway(watched: Node, fake_driver: pathlib.Path) -> None:
    """Connections closed right after a call was sent, many at once."""
    def visit() -> None:
        for _ in range(20):
            with connect(fake_driver) as channel:
                here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                send(channel, request(protocol.OPEN), [there.fileno()])
                here.close()
                there.close()
    threads = [threading.Thread(target=visit) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_serves(watched)


def test_shut_down_fd_is_a_closed_file(node: Node) -> None:
    with socket.socket(fileno=os.dup(node.fd)) as channel:
        channel.shutdown(socket.SHUT_RDWR)
    assert node.error("ROCKET_CREATE_BO", size=PAGE) == errno.ENODEV
    with Node() as other:
        assert_serves(other)


def test_huge_counts_allocate_nothing(node: Node) -> None:
    """Counts at the limits of their fields, with arrays that are far shorter."""
    target = node.create(PAGE)
    pages = mmap.mmap(-1, 2 * PAGE)         # 64 bytes that can be read, and nothing behind them
    start = address_of(uapi.ffi.from_buffer(pages))
    libc.mprotect(ctypes.c_void_p(start + PAGE), PAGE, 0)
    small = start + PAGE - 64
    for members in ({"task_count": 1 << 20}, {"task_count": (1 << 27) - 1}, {"in_bo_handle_count": 1 << 20},
                    {"out_bo_handle_count": 0x7FFF_FFFF}, {"task_count": 1, "task_struct_size": 0xFFFF_FFFF}):
        job = Job([(0, 1)], [], [target.handle])
        job.record.update({"tasks": small, "in_bo_handles": small, "out_bo_handles": small, **members})
        node.submit(job)
    for count in (65_536, 65_537, 53_687_091):
        assert node.error("ROCKET_SUBMIT", jobs=small, job_count=count,
                          job_struct_size=40) == (errno.EFAULT if count <= 65_536 else errno.ENOMEM)
    libc.mprotect(ctypes.c_void_p(start + PAGE), PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
    assert_serves(node)


def test_log_has_an_end() -> None:
    limit = Limit(3)
    records = [logging.makeLogRecord({"msg": f"line {number}"}) for number in range(5)]
    kept = [record for record in records if limit.filter(record)]
    assert [record.getMessage() for record in kept] == ["line 0", "line 1", "the log is full: nothing more is written"]
    assert limit.filter(logging.makeLogRecord({"msg": "the books", **ASKED_FOR}))
