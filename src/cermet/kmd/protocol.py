"""The messages between client and driver, from the client's header. A socket for the replies comes with each one."""
from __future__ import annotations

import errno
import os
import re
import select
import socket
import struct
from typing import NamedTuple

import cffi

from cermet import paths
from cermet.kmd.uapi import declarations, form_of, parse_constants, strip_comments

MAX_FDS = 4                                         # of one message, to close what a stranger sends
CREDENTIALS = struct.Struct("3i")                   # pid, uid, gid
SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
CONTROL_BYTES = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(MAX_FDS * 4)


FUNCTIONS = """
ssize_t send(int fd, const void *data, size_t bytes, int flags);
int getsockopt(int fd, int level, int name, int *value, unsigned int *bytes);
"""


def _load() -> tuple[cffi.FFI, dict[str, int]]:
    text = paths.header("cermet_protocol.h").read_text()
    constants = parse_constants(strip_comments(text).replace(" \n", "\n"))
    structs = re.findall(r"^struct \w+ \{.*?^\};", declarations(text), flags=re.MULTILINE | re.DOTALL)
    ffi = cffi.FFI()
    ffi.cdef("\n".join(structs) + FUNCTIONS)
    return ffi, constants


_ffi, _CONSTANTS = _load()
_libc = _ffi.dlopen(None)
MAGIC, VERSION = _CONSTANTS["CLIENT_MAGIC"], _CONSTANTS["CLIENT_VERSION"]
OPEN, IOCTL, MMAP, BUSY = (_CONSTANTS[f"CLIENT_{kind}"] for kind in ("OPEN", "IOCTL", "MMAP", "BUSY"))
REPLY_DONE, REPLY_WAITING = _CONSTANTS["CLIENT_REPLY_DONE"], _CONSTANTS["CLIENT_REPLY_WAITING"]


REQUEST, REPLY = (form_of(_ffi, f"struct client_{name}") for name in ("request", "reply"))
FD = struct.Struct("=i")


class ProtocolError(Exception):
    """A message that no client of ours sends."""


class Request(NamedTuple):
    """One call, in the order of the header. `request` and `argument` mean what it says for each kind."""

    kind: int
    flags: int
    request: int
    argument: int
    protection: int
    pid: int


class ReplyEnd:
    """Where the answers to one call go. A caller that is gone is no error."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def waiting(self) -> None:
        self._send(REPLY.pack(MAGIC, REPLY_WAITING, 0, 0, 0, 0, 0), -1)

    def never_waits(self) -> bool:
        """Whether closing it takes no time: it is a Unix socket. A stranger may have sent any file."""
        domain, num_bytes = _ffi.new("int *"), _ffi.new("unsigned int *", FD.size)
        return (_libc.getsockopt(self._fd, socket.SOL_SOCKET, socket.SO_DOMAIN, domain, num_bytes) == 0
                and domain[0] == socket.AF_UNIX)

    def is_hung_up(self) -> bool:
        """Whether the caller has closed its end: it died, or a signal interrupted it."""
        looking = select.poll()
        looking.register(self._fd, 0)
        return bool(looking.poll(0))

    def done(self, error: int, value: int = 0, fd: int = -1, fd_address: int = 0, fd_flags: int = 0) -> None:
        """The last answer; closes this end, but not fd."""
        try:
            self._send(REPLY.pack(MAGIC, REPLY_DONE, error, value, fd_address, fd >= 0, fd_flags), fd)
        finally:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _send(self, reply: bytes, fd: int) -> None:
        if fd < 0:
            # Not os.write(): the fd is a stranger's, and only a socket that never blocks is acceptable.
            _libc.send(self._fd, reply, len(reply), SEND_FLAGS)
            return
        with socket.socket(fileno=os.dup(self._fd)) as channel:
            channel.sendmsg([reply], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, FD.pack(fd))], SEND_FLAGS)


def split_control(control: list[tuple[int, int, bytes]]) -> tuple[int, list[int]]:
    """(pid of the sender or 0, fds that came along)."""
    pid = 0
    fds: list[int] = []
    for level, kind, data in control:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) >= CREDENTIALS.size:
            pid = CREDENTIALS.unpack_from(data)[0]
        elif kind == socket.SCM_RIGHTS:
            fds += [fd for fd, in FD.iter_unpack(data[:len(data) // FD.size * FD.size])]
    return pid, fds


def close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def receive(connection: socket.socket) -> tuple[Request, ReplyEnd] | None:
    """The next request; None at the end. Raises ProtocolError for a message of another kind, all its fds closed."""
    data, control, _, _ = connection.recvmsg(REQUEST.size + 1, CONTROL_BYTES, socket.MSG_CMSG_CLOEXEC)
    pid, fds = split_control(control)
    if not data and not control:    # even an empty message comes with its sender's credentials
        return None
    try:
        request = parse(data, pid, fds)
    except ProtocolError:
        close_all(fds)
        raise
    close_all(fds[1:])
    return request, ReplyEnd(fds[0])


def parse(data: bytes, pid: int, fds: list[int]) -> Request:
    if len(data) != REQUEST.size:
        raise ProtocolError(f"message of {len(data)} bytes, must be {REQUEST.size}")
    magic, version, *members, _ = REQUEST.unpack(data)
    if magic != MAGIC or version != VERSION:
        raise ProtocolError(f"magic {magic:#x} version {version}, must be {MAGIC:#x} {VERSION}")
    if not fds:
        raise ProtocolError("message without a reply socket")
    if pid <= 0:
        raise ProtocolError("message without a sender in this pid namespace")
    return Request._make((*members, pid))


def peer_uid(connection: socket.socket) -> int:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return int(CREDENTIALS.unpack(data)[1])


def is_gone(error: OSError) -> bool:
    """Whether a socket error only says that the client has left."""
    return error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
