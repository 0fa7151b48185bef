"""The memory of a client, by whatever addresses it gives."""
from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import random
import signal
from collections.abc import Callable, Iterator

import pytest

from cermet.kmd import uapi
from cermet.kmd.errors import DeviceError
from cermet.kmd.user_memory import UserMemory
from tests.kmd.client import PAGE, address_of, libc

NUM_PAGES, READ_ONLY, HOLE = 32, 12, 20         # pages: of all, the one that can only be read, the one that cannot
PR_SET_DUMPABLE = 4
NOBODY = 65534
KEPT: list[mmap.mmap] = []      # nobody looks at their pages again that cannot be read


@pytest.fixture
def pages() -> tuple[int, bytes]:
    """(address, what is there)."""
    area = mmap.mmap(-1, NUM_PAGES * PAGE)
    content = random.Random(1).randbytes(NUM_PAGES * PAGE)
    area[:] = content
    start = address_of(uapi.ffi.from_buffer(area))
    libc.mprotect(ctypes.c_void_p(start + READ_ONLY * PAGE), PAGE, mmap.PROT_READ)
    libc.mprotect(ctypes.c_void_p(start + HOLE * PAGE), PAGE, 0)
    KEPT.append(area)
    return start, content


@contextlib.contextmanager
def child(prepare: Callable[[], object] = lambda: None) -> Iterator[int]:
    """Pid of a process that has the same memory and does nothing."""
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        prepare()
        os.write(told, b".")
        while True:
            signal.pause()
    try:
        os.read(ready, 1)
        yield pid
    finally:
        os.close(ready)
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def reason(function: Callable[[], object]) -> str:
    with pytest.raises(DeviceError) as caught:
        function()
    assert caught.value.errno == errno.EFAULT
    return caught.value.reason


@pytest.mark.parametrize("offset, size", [(0, 0), (0, 1), (1, 7), (PAGE - 1, 2), (0, HOLE * PAGE), (3, HOLE * PAGE - 3),
                                          (HOLE * PAGE, 0), ((HOLE + 1) * PAGE, (NUM_PAGES - HOLE - 1) * PAGE)])
def test_read(offset: int, size: int, pages: tuple[int, bytes]) -> None:
    start, content = pages
    with child() as pid:
        assert UserMemory(pid).read(start + offset, size) == content[offset:offset + size]


@pytest.mark.parametrize("offset, size", [(0, HOLE * PAGE + 1), (HOLE * PAGE - 1, 2), (HOLE * PAGE, 1),
                                          ((HOLE + 1) * PAGE - 1, 2)])
def test_read_where_nothing_is(offset: int, size: int, pages: tuple[int, bytes]) -> None:
    memory = UserMemory(os.getpid())
    assert f"{size} bytes are not all accessible" in reason(lambda: memory.read(pages[0] + offset, size))


@pytest.mark.parametrize("address", [0, 1, PAGE - 1, (1 << 47) - 4, 1 << 47, 1 << 63, (1 << 64) - PAGE, (1 << 64) - 1])
def test_addresses_of_nothing(address: int) -> None:
    memory = UserMemory(os.getpid())
    assert memory.read(address, 0) == b""
    memory.write(address, b"")
    assert memory.read_elements(address, 0, 16, 8).shape == (0, 8)
    for function in (lambda: memory.read(address, 8), lambda: memory.write(address, bytes(8)),
                     lambda: memory.read_elements(address, 3, 1 << 32, 8)):
        reason(function)


def test_write(pages: tuple[int, bytes]) -> None:
    start, content = pages
    memory = UserMemory(os.getpid())
    memory.write(start + PAGE - 3, b"abcdef")
    assert memory.read(start + PAGE - 4, 8) == content[PAGE - 4:PAGE - 3] + b"abcdef" + content[PAGE + 3:PAGE + 4]
    for offset in (READ_ONLY * PAGE, READ_ONLY * PAGE - 1, HOLE * PAGE + 8):
        reason(lambda offset=offset: memory.write(start + offset, b"xy"))       # type: ignore[misc]
    assert memory.read(start + READ_ONLY * PAGE, PAGE) == content[READ_ONLY * PAGE:(READ_ONLY + 1) * PAGE]


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 128, 129, 1000])
@pytest.mark.parametrize("stride, size", [(8, 8), (40, 40), (41, 40), (64, 8), (0, 16)])
def test_elements(count: int, stride: int, size: int, pages: tuple[int, bytes]) -> None:
    start, content = pages
    elements = UserMemory(os.getpid()).read_elements(start + 5, count, stride, size)
    assert elements.shape == (count, size)
    assert elements.tobytes() == b"".join(content[5 + i * stride:][:size] for i in range(count))


@pytest.mark.parametrize("index", [0, 1, 63, 64, 65, 127, 128, 199])
def test_one_element_where_nothing_is(index: int, pages: tuple[int, bytes]) -> None:
    """The last element, after any number that are there."""
    memory, start = UserMemory(os.getpid()), pages[0]
    first = start + HOLE * PAGE - 16 - index * 16       # the one with this index is the last that is there
    assert memory.read_elements(first, index + 1, 16, 16).shape == (index + 1, 16)
    assert f"{(index + 2) * 16} bytes are not all accessible" in reason(
        lambda: memory.read_elements(first, index + 2, 16, 16))


def test_strides_wrap_at_32_bits() -> None:
    """index * stride is computed in 32 bits: with a stride of 2 GiB + 4 the third element lies 8 bytes on."""
    memory = UserMemory(os.getpid())
    data = uapi.ffi.new("__u32[]", [1, 2, 3, 4])
    assert bytes(memory.read_elements(address_of(data), 1, 0x8000_0004, 4, True)[0]) == b"\1\0\0\0"
    reason(lambda: memory.read_elements(address_of(data), 2, 0x8000_0004, 4, True))
    wrapped = memory.read_elements(address_of(data), 3, 0x1_0000_0004, 4, True)
    assert wrapped.view("<u4")[:, 0].tolist() == [1, 2, 3]


def test_process_that_is_gone(pages: tuple[int, bytes]) -> None:
    with child() as pid:
        memory = UserMemory(pid)
        memory.read(pages[0], 8)
    for function in (lambda: memory.read(pages[0], 8), lambda: memory.write(pages[0], bytes(8)),
                     lambda: memory.read_elements(pages[0], 3, 16, 8)):
        assert f"process {pid}: " in reason(function)


def reasons_without_privileges(pid: int, address: int) -> list[str]:
    """What each function says in a process that has no rights to look into others."""
    come, told = os.pipe()
    reader = os.fork()
    if not reader:
        try:
            if not os.geteuid():
                os.setuid(NOBODY)
            memory = UserMemory(pid)
            os.write(told, "\n".join(map(reason, (
                lambda: memory.read(address, 8), lambda: memory.write(address, bytes(8)),
                lambda: memory.read_elements(address, 3, 16, 8)))).encode())
        finally:
            os._exit(0)
    os.close(told)
    os.waitpid(reader, 0)
    with open(come) as text:
        return text.read().split("\n")


def test_process_that_may_not_be_looked_into(pages: tuple[int, bytes]) -> None:
    with child(lambda: libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)) as pid:
        expected = f"process {pid}: its memory may not be accessed ({os.strerror(errno.EPERM)})"
        assert reasons_without_privileges(pid, pages[0]) == [expected] * 3
