"""What happens before any handler: numbers, sizes, pointers."""
from __future__ import annotations

import ctypes
import errno
import mmap
import signal
from collections.abc import Iterator

import pytest

from .laboratory import Laboratory
from .uapi import IOCTLS, PAGE, CreateBo, Node, Submit, System, number

DRIVER_CALLS = ("CREATE_BO", "SUBMIT", "PREP_BO", "FINI_BO")


@pytest.fixture
def pages(lab: Laboratory) -> Iterator[int]:
    """Address of a readable and writable page with an inaccessible one behind it."""
    memory = mmap.mmap(-1, 2 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect(lab.system, address + PAGE, 0)
    yield address
    protect(lab.system, address + PAGE, mmap.PROT_READ | mmap.PROT_WRITE)


def protect(system: System, address: int, protection: int) -> None:
    assert system.calls.mprotect(address, PAGE, protection) == 0


def test_unused_driver_numbers(node: Node) -> None:
    """Another driver, or a later version of this one, may have ioctls there: this node has none."""
    first = 0x4C if node.features else 0x44
    argument = ctypes.create_string_buffer(64)
    errors = {node.raw(number(index, 3, 16), ctypes.addressof(argument)) for index in range(first, 0xA0)}
    assert errors == {errno.EINVAL}


@pytest.mark.parametrize("index", [0x03, 0x04, 0x3D, 0xFF], ids=hex)
def test_unused_core_number(node: Node, index: int) -> None:
    argument = ctypes.create_string_buffer(64)
    assert node.raw(number(index, 3, 16), ctypes.addressof(argument)) in (errno.EINVAL, errno.EACCES)


@pytest.mark.parametrize("letter", ["D", "e", "\0", "A"], ids=["D", "e", "nul", "A"])
def test_wrong_letter(node: Node, letter: str) -> None:
    argument = ctypes.create_string_buffer(64)
    assert node.raw(number(0x40, 3, 24, letter), ctypes.addressof(argument)) == errno.ENOTTY


@pytest.mark.parametrize("name", DRIVER_CALLS)
@pytest.mark.parametrize("address", [0, 8, (1 << 64) - PAGE], ids=["null", "low", "kernel"])
def test_bad_pointer(node: Node, name: str, address: int) -> None:
    assert node.raw(IOCTLS[name][0], address) == errno.EFAULT


@pytest.mark.parametrize("name", DRIVER_CALLS)
def test_struct_that_crosses_into_an_unmapped_page(node: Node, pages: int, name: str) -> None:
    request, struct = IOCTLS[name]
    assert node.raw(request, pages + PAGE - ctypes.sizeof(struct) + 4) == errno.EFAULT


@pytest.mark.parametrize("name", DRIVER_CALLS)
def test_struct_at_the_end_of_a_page(node: Node, pages: int, name: str) -> None:
    """The same call as anywhere: reserved words decide, not the place."""
    request, struct = IOCTLS[name]
    address = pages + PAGE - ctypes.sizeof(struct)
    ctypes.memset(address, 0, ctypes.sizeof(struct))
    expected = {"CREATE_BO": (errno.ENOSPC, errno.EINVAL), "SUBMIT": (0,)}.get(name, (errno.ENOENT,))
    assert node.raw(request, address) in expected


def test_read_only_argument_loses_the_handle(node: Node, pages: int, lab: Laboratory) -> None:
    """CREATE_BO cannot answer: EFAULT, and the BO exists."""
    CreateBo.from_address(pages).size = PAGE
    protect(lab.system, pages, mmap.PROT_READ)
    assert node.raw(IOCTLS["CREATE_BO"][0], pages) == errno.EFAULT
    protect(lab.system, pages, mmap.PROT_READ | mmap.PROT_WRITE)
    assert node.create().handle == 2
    assert node.error("GEM_CLOSE", handle=1) == 0


@pytest.mark.parametrize("name", ["SUBMIT", "PREP_BO", "FINI_BO"])
def test_read_only_argument_is_enough_for_input(node: Node, pages: int, lab: Laboratory, name: str) -> None:
    ctypes.memset(pages, 0, PAGE)
    protect(lab.system, pages, mmap.PROT_READ)
    expected = 0 if name == "SUBMIT" else errno.ENOENT
    assert node.raw(IOCTLS[name][0], pages) == expected
    protect(lab.system, pages, mmap.PROT_READ | mmap.PROT_WRITE)


def test_short_struct_reads_as_zeros(node: Node) -> None:
    """PREP_BO of 8 bytes: no timeout member, so it polls."""
    bo = node.create()
    data = (ctypes.c_uint32 * 4)(bo.handle, 0, 0xFFFF_FFFF, 0xFFFF_FFFF)
    assert node.raw(number(0x42, 1, 8), ctypes.addressof(data)) == 0


def test_short_struct_of_create(node: Node) -> None:
    """4 bytes in and out: a BO is made, its handle does not come back."""
    data = (ctypes.c_uint32 * 6)(PAGE, 7, 7, 7, 7, 7)
    assert node.raw(number(0x40, 3, 4), ctypes.addressof(data)) == 0
    assert list(data) == [PAGE, 7, 7, 7, 7, 7]
    assert node.create().handle == 2


def test_long_struct_is_accepted(node: Node) -> None:
    data = (ctypes.c_uint32 * 16)(PAGE)
    assert node.raw(number(0x40, 3, 64), ctypes.addressof(data)) == 0
    assert data[1] == 1


def test_long_struct_with_garbage_is_accepted(node: Node) -> None:
    """No check of the tail; a new field needs a flag or a capability."""
    bo = node.create()
    data = (ctypes.c_uint32 * 16)(bo.handle, 0, *[0xFFFF_FFFF] * 14)
    assert node.raw(number(0x43, 1, 64), ctypes.addressof(data)) == 0


def test_direction_bits_do_not_select(node: Node) -> None:
    """Without the write bit nothing is copied in: size 0."""
    data = CreateBo(size=PAGE)
    assert node.raw(number(0x40, 2, 24), ctypes.addressof(data)) in (errno.ENOSPC, errno.EINVAL)


def test_without_direction_nothing_is_copied(node: Node) -> None:
    assert node.raw(number(0x41, 0, 0), 0) == 0        # SUBMIT of no jobs


def test_upper_half_of_the_number_is_ignored(node: Node) -> None:
    """The kernel's command is 32 bits."""
    data = CreateBo(size=PAGE)
    assert node.raw(IOCTLS["CREATE_BO"][0] | 0xABCD << 32, ctypes.addressof(data)) == 0


def test_signal_storm(node: Node) -> None:
    """Calls under a timer of 1 ms: each handle is delivered or none was made."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    handles = []
    while len(handles) < 200:
        data = CreateBo(size=PAGE)
        error = node.raw(IOCTLS["CREATE_BO"][0], ctypes.addressof(data))
        assert error in (0, errno.EINTR)
        if not error:
            handles.append(data.handle)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert handles == list(range(1, 201))


def test_submit_struct_is_24_bytes() -> None:
    assert [ctypes.sizeof(IOCTLS[name][1]) for name in DRIVER_CALLS] == [24, 24, 16, 8] and Submit.reserved.offset == 16
