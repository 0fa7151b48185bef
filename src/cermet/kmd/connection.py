"""One open file's connection: a thread that answers its calls in turn, but for those that wait."""
from __future__ import annotations

import errno
import itertools
import logging
import mmap
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from cermet.kmd import protocol
from cermet.kmd.bo import PAGE_BYTES
from cermet.kmd.device import Device
from cermet.kmd.errors import DeviceError, name_of
from cermet.kmd.file import File
from cermet.kmd.ioctl import Blocking, Call, IoctlTable, Waiting
from cermet.kmd.protocol import ProtocolError, ReplyEnd, Request
from cermet.kmd.user_memory import UserMemory

log = logging.getLogger("cermet.kmd")

MAP_TYPE = 0x0F
MAX_WAITING_CALLS = 1024        # of one file; each is a thread in the client, and most are one here
MAX_BAD_MESSAGES = 100          # after so many the connection is closed


class Connection(threading.Thread):
    """Serves one client socket until its last reference is gone, then releases the file."""

    _numbers = itertools.count(1)

    def __init__(self, device: Device, table: IoctlTable, channel: socket.socket,
                 on_end: Callable[[Connection], None]) -> None:
        super().__init__(name=f"connection{next(self._numbers)}", daemon=True)
        self.device = device
        self.table = table
        self.channel = channel
        self.file: File | None = None
        self._on_end = on_end
        self._memories: dict[int, UserMemory] = {}
        self._num_waiting = 0
        self._kinds = {protocol.OPEN: self._open, protocol.IOCTL: self._ioctl, protocol.MMAP: self._mmap,
                       protocol.BUSY: self._busy}

    def run(self) -> None:
        try:
            self._serve()
        except OSError as error:
            if not protocol.is_gone(error):
                log.exception("%s: connection failed", self.name)
        except Exception:
            log.exception("%s: the driver failed", self.name)
        finally:
            self._end()

    def _serve(self) -> None:
        receiver = protocol.Receiver(self.channel)
        bad_messages = 0
        while bad_messages < MAX_BAD_MESSAGES:
            try:
                received = receiver.receive()
            except ProtocolError as error:
                bad_messages += 1
                log.warning("%s: ignored: %s", self.name, error)
                continue
            if received is None:
                return
            self._answer(*received)
        log.warning("%s: closed after %d bad messages", self.name, bad_messages)

    def _end(self) -> None:
        self.channel.close()
        try:
            if self.file is not None:
                self.device.release(self.file)
        except Exception:
            log.exception("%s: release failed", self.name)
        self._on_end(self)

    def _answer(self, request: Request, reply: ReplyEnd) -> None:
        """Every request gets an answer: an error of the driver itself is EIO in the caller."""
        try:
            self._kinds.get(request.kind, self._unknown)(request, reply)
        except DeviceError as error:
            log.debug("%s: kind %d: %s", self.file or self.name, request.kind, error)
            reply.done(error.errno)
        except OSError as error:
            if not protocol.is_gone(error):
                log.exception("%s: request %r failed", self.file or self.name, request)
            reply.done(errno.EIO)
        except Exception:
            log.exception("%s: request %r failed", self.file or self.name, request)
            reply.done(errno.EIO)

    def _unknown(self, request: Request, reply: ReplyEnd) -> None:
        raise DeviceError(errno.EINVAL, f"request kind {request.kind}")

    def _open_file(self, request: Request) -> File:
        if self.file is None:
            raise DeviceError(errno.EINVAL, "not opened")
        if request.pid not in self.file.pids:
            with self.device.lock:
                self.file.pids = self.file.pids | {request.pid}
        return self.file

    def _memory_of(self, pid: int) -> UserMemory:
        memory = self._memories.get(pid)
        if memory is None:
            memory = self._memories[pid] = UserMemory(pid)
        return memory

    def _open(self, request: Request, reply: ReplyEnd) -> None:
        if self.file is not None:
            raise DeviceError(errno.EINVAL, "opened already")
        self.file = self.device.open(request.pid, request.flags)
        reply.done(0)

    def _busy(self, request: Request, reply: ReplyEnd) -> None:
        self._open_file(request)
        self._memory_of(request.pid).write(request.argument, self.device.busy.ns().to_bytes(8, sys.byteorder))
        reply.done(0)

    # --- mmap ---

    def _mmap(self, request: Request, reply: ReplyEnd) -> None:
        file = self._open_file(request)
        self.device.faults.any_call()
        self.device.faults.fail("mmap-fails")
        fd = self._memory_to_map(file, request)
        try:
            reply.done(0, fd=fd)
        finally:
            os.close(fd)

    def _memory_to_map(self, file: File, request: Request) -> int:
        """Fd of the BO at this offset, with the checks of mmap(2) and of DRM in their order."""
        length, offset = request.request, request.argument
        if length == 0 or offset % PAGE_BYTES:
            raise DeviceError(errno.EINVAL, f"mmap: length {length}, offset {offset:#x}")
        private = request.flags & MAP_TYPE == mmap.MAP_PRIVATE
        if file.access_mode == os.O_WRONLY or (
                file.access_mode == os.O_RDONLY and request.protection & mmap.PROT_WRITE and not private):
            raise DeviceError(errno.EACCES, "mmap: not opened for that")
        with self.device.lock:
            bo = self.device.bo_at_offset(offset)
            if bo is None or length > bo.mapped_bytes:
                raise DeviceError(errno.EINVAL, f"mmap: no BO of {length} bytes at offset {offset:#x}")
            if file.handle_of(bo) is None:
                raise DeviceError(errno.EACCES, f"mmap: the BO at {offset:#x} is another file's")
            if private:
                raise DeviceError(errno.EINVAL, "mmap: private mappings may become copy-on-write, use MAP_SHARED")
            return bo.open_again()

    # --- ioctl ---

    def _ioctl(self, request: Request, reply: ReplyEnd) -> None:
        file = self._open_file(request)
        self.device.faults.any_call()
        call = self.table.begin(file, self._memory_of(request.pid), request)
        if call.later is None:
            self._finish(call, request, reply)
        else:
            self._go_on_later(call, call.later, request, reply)

    def _finish(self, call: Call, request: Request, reply: ReplyEnd) -> None:
        """Copy out and answer."""
        try:
            call.copy_out()
            if call.error:
                log.debug("%s: ioctl %#x: %s: %s", call.file, request.request, name_of(call.error), call.reason)
                reply.done(call.error)
                return
            fits = call.fd_offset + 4 <= call.num_out
            reply.done(0, call.value, call.fd, call.argument + call.fd_offset if fits else 0, call.fd_flags)
        finally:
            call.close_fd()

    def _go_on_later(self, call: Call, later: Blocking | Waiting, request: Request, reply: ReplyEnd) -> None:
        if self._num_waiting >= MAX_WAITING_CALLS:
            later.abandon()
            reply.done(errno.ENOMEM)
            log.warning("%s: more than %d calls wait", self.file, MAX_WAITING_CALLS)
            return
        if not reply.waiting():     # who signals fences answers, with the device's lock
            later.abandon()
            reply.done(errno.EINVAL)
            return
        self._num_waiting += 1
        call.is_abandoned = reply.is_hung_up
        if isinstance(later, Waiting):
            self.device.waits.add(later.fences, later.deadline_ns, lambda in_time: self._go_on(
                call, lambda: later.end(in_time), request, reply))
        else:
            self._start_thread(call, later.function, request, reply)

    def _start_thread(self, *arguments: Any) -> None:
        """Arguments of _go_on."""
        try:
            threading.Thread(target=self._go_on, args=arguments, daemon=True).start()
        except RuntimeError:        # the system has no thread left: then this file's other calls wait too
            self._go_on(*arguments)

    def _go_on(self, call: Call, function: Callable[[], int | None], request: Request, reply: ReplyEnd) -> None:
        """The rest of a call that waits or has waited. Raises nothing: its thread may have other things to do."""
        try:
            call.step(function)
            self._finish(call, request, reply)
        except OSError as error:
            if not protocol.is_gone(error):
                log.exception("%s: waiting call %#x failed", self.file, request.request)
        except Exception:
            log.exception("%s: waiting call %#x failed", self.file, request.request)
            reply.done(errno.EIO)
        finally:
            self._num_waiting -= 1      # only a bound: a lost update of one is harmless
            reply.close()
