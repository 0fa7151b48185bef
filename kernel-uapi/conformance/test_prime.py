"""Buffers as file descriptors: export, import, what they keep alive."""
from __future__ import annotations

import errno
import fcntl
import os

import pytest

from .laboratory import Laboratory
from .uapi import PAGE, Node

CLOEXEC, RDWR = os.O_CLOEXEC, os.O_RDWR


def export(node: Node, handle: int, flags: int = CLOEXEC | RDWR) -> int:
    return int(node.call("PRIME_HANDLE_TO_FD", handle=handle, flags=flags).fd)


@pytest.mark.parametrize("flags", [0, CLOEXEC, RDWR, CLOEXEC | RDWR], ids=hex)
def test_export(node: Node, flags: int) -> None:
    fd = export(node, node.create().handle, flags)
    assert bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC) == bool(flags & CLOEXEC)


@pytest.mark.parametrize("flags", [1, 4, os.O_NONBLOCK, 1 << 31], ids=hex)
def test_export_with_unknown_flags(node: Node, flags: int) -> None:
    assert node.error("PRIME_HANDLE_TO_FD", handle=node.create().handle, flags=flags) == errno.EINVAL


@pytest.mark.parametrize("handle", [0, 2, 0xFFFF_FFFF], ids=hex)
def test_export_of_an_unknown_handle(node: Node, handle: int) -> None:
    node.create()
    assert node.error("PRIME_HANDLE_TO_FD", handle=handle) == errno.ENOENT


def test_size_of_an_export(node: Node) -> None:
    """lseek to the end tells the size in whole pages."""
    fd = export(node, node.create(PAGE + 1).handle)
    assert os.lseek(fd, 0, os.SEEK_END) == 2 * PAGE


def test_import_into_the_same_file(node: Node) -> None:
    """The same handle, not another one."""
    bo = node.create()
    assert node.call("PRIME_FD_TO_HANDLE", fd=export(node, bo.handle)).handle == bo.handle


def test_import_twice_into_another_file(node: Node, second: Node) -> None:
    fd = export(node, node.create().handle)
    handles = {second.call("PRIME_FD_TO_HANDLE", fd=fd).handle for _ in range(3)}
    assert len(handles) == 1


def test_imported_buffer_maps(lab: Laboratory, node: Node, second: Node) -> None:
    """The same memory, under its one offset."""
    buffer = lab.buffer(node, b"shared")
    handle = second.call("PRIME_FD_TO_HANDLE", fd=export(node, buffer.handle)).handle
    mapping = second.mmap(buffer.bo.offset)
    assert mapping.read(0, 6) == b"shared"
    assert second.error("FINI_BO", handle=handle) == 0


def test_import_does_not_take_an_address(lab: Laboratory, node: Node, second: Node) -> None:
    """It is not mapped in the second file's NPU address space: the next buffer is at 0."""
    second.call("PRIME_FD_TO_HANDLE", fd=export(node, node.create().handle))
    assert second.create().dma_address == 0


def test_import_of_a_bad_fd(node: Node) -> None:
    assert node.error("PRIME_FD_TO_HANDLE", fd=-1) == errno.EBADF
    assert node.error("PRIME_FD_TO_HANDLE", fd=9999) == errno.EBADF


def test_import_of_something_else(node: Node) -> None:
    reader, _ = os.pipe()
    assert node.error("PRIME_FD_TO_HANDLE", fd=reader) == errno.EINVAL
    assert node.error("PRIME_FD_TO_HANDLE", fd=node.fd) == errno.EINVAL


def test_import_of_foreign_memory(node: Node) -> None:
    fd = os.memfd_create("foreign")
    os.ftruncate(fd, PAGE)
    assert node.error("PRIME_FD_TO_HANDLE", fd=fd) == errno.EINVAL


def test_export_keeps_the_buffer(lab: Laboratory, node: Node) -> None:
    """The handle is gone, the memory and its NPU address are not."""
    buffer = lab.buffer(node, b"kept")
    fd = export(node, buffer.handle)
    address = buffer.address
    buffer.close()
    assert node.create().dma_address != address
    handle = node.call("PRIME_FD_TO_HANDLE", fd=fd).handle
    mapping = node.mmap(buffer.bo.offset)
    assert handle and mapping.read(0, 4) == b"kept"


def test_job_sees_what_another_file_wrote_with_the_cpu(lab: Laboratory, node: Node, second: Node) -> None:
    """Through the second file's mapping and FINI_BO, into the first file's NPU."""
    source, target = lab.buffer(node), lab.buffer(node)
    handle = second.call("PRIME_FD_TO_HANDLE", fd=export(node, source.handle)).handle
    mapping = second.mmap(source.bo.offset)
    mapping.write(b"\x42" * 64)
    assert second.error("FINI_BO", handle=handle) == 0
    node.submit(lab.copy(source, target))
    assert target.get() == b"\x42" * 64
