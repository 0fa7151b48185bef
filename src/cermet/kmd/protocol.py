"""The messages between client and driver, from the client's header. A socket for the replies comes with each one."""
from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import NamedTuple

from cermet.kmd.library import CONSTANTS, ffi, lib
from cermet.kmd.uapi import form_of

CREDENTIALS = struct.Struct("3i")                   # pid, uid, gid
MAGIC, VERSION, MAX_INLINE = (CONSTANTS[f"CLIENT_{name}"] for name in ("MAGIC", "VERSION", "MAX_INLINE"))
OPEN, IOCTL, MMAP, BUSY = (CONSTANTS[f"CLIENT_{kind}"] for kind in ("OPEN", "IOCTL", "MMAP", "BUSY"))
REQUEST, MESSAGE = (form_of(ffi, f"struct {name}") for name in ("client_request", "cermet_message"))
# What a message that is none lacks, by the number that the library gives it.
PROBLEMS = {
    lib.MESSAGE_SIZE: f"must have {REQUEST.size} to {REQUEST.size + MAX_INLINE} bytes",
    lib.MESSAGE_MAGIC: f"must begin with magic {MAGIC:#x}",
    lib.MESSAGE_VERSION: f"must be of version {VERSION}",
    lib.MESSAGE_NO_REPLY: "has no reply socket",
    lib.MESSAGE_NO_SENDER: "has no sender in this pid namespace",
}


class ProtocolError(Exception):
    """A message that no client of ours sends."""


class Request(NamedTuple):
    """One call, in the order of the header. `request` and `argument` mean what it says for each kind.

    inlined: what `argument` points to, as far as it came along
    """

    kind: int
    flags: int
    request: int
    argument: int
    protection: int
    pid: int
    inlined: bytes = b""


class ReplyEnd:
    """Where the answers to one call go. A caller that is gone is no error."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def waiting(self) -> bool:
        """Tells the caller that it waits; False: closing this end may take time, as it is no Unix socket: a stranger
        may have sent any file."""
        return bool(lib.cermet_message_waiting(self._fd))

    def is_hung_up(self) -> bool:
        """Whether the caller has closed its end: it died, or a signal interrupted it."""
        looking = select.poll()
        looking.register(self._fd, 0)
        return bool(looking.poll(0))

    def done(self, error: int, value: int = 0, fd: int = -1, fd_address: int = 0, fd_flags: int = 0) -> None:
        """The last answer; closes this end, but not fd."""
        if self._fd >= 0:
            lib.cermet_message_done(self._fd, error, value, fd_address, fd, fd_flags)
            self._fd = -1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Receiver:
    """Of one connection: what comes, message by message."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._message = ffi.new("struct cermet_message *")
        self._bytes = ffi.buffer(self._message)
        self._inlined = ffi.new("uint8_t[]", MAX_INLINE)

    def receive(self) -> tuple[Request, ReplyEnd] | None:
        """The next request; None at the end. Raises OSError, and ProtocolError for a message of another kind."""
        verdict = lib.cermet_message_receive(self._channel.fileno(), self._message, self._inlined)
        *members, reply_end, num_inline = MESSAGE.unpack(self._bytes)
        if verdict == lib.MESSAGE_GOOD:
            return Request._make((*members, ffi.buffer(self._inlined, num_inline)[:])), ReplyEnd(reply_end)
        if verdict == lib.MESSAGE_END:
            return None
        if verdict < 0:
            raise OSError(-verdict, os.strerror(-verdict))
        raise ProtocolError(f"message of {num_inline} bytes {PROBLEMS[verdict]}")


def peer_uid(connection: socket.socket) -> int:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return int(CREDENTIALS.unpack(data)[1])


def is_gone(error: OSError) -> bool:
    """Whether a socket error only says that the client has left."""
    return error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
