"""CREATE_BO, mmap, GEM_CLOSE, PRIME: addresses, handles, offsets, lifetimes."""
from __future__ import annotations

import errno
import mmap
import os
import random
import socket

import pytest

from cermet.kmd.ranges import RangeAllocator
from tests.kmd.client import PAGE, Node
from tests.kmd.fake_core import FILL, SLEEP

CLOEXEC, RDWR = 0x80000, 2


def test_first_bos(node: Node) -> None:
    """Address 0 first, then page after page; handles from 1; offsets behind 32 bits, page aligned."""
    bos = [node.create(size) for size in (1, 4095, 4096, 4097, 100)]
    assert [bo.dma_address for bo in bos] == [0, 0x1000, 0x2000, 0x3000, 0x5000]
    assert [bo.handle for bo in bos] == [1, 2, 3, 4, 5]
    assert all(bo.offset >= 1 << 32 and bo.offset % PAGE == 0 for bo in bos)
    assert len({bo.offset for bo in bos}) == 5


@pytest.mark.parametrize(("size", "expected"), [
    (0, errno.ENOSPC), (1, 0), (PAGE, 0), (PAGE + 1, 0), (0x7FFF_F000, 0),
    (0x7FFF_F001, errno.ENOMEM), (0x8000_0000, errno.ENOMEM), (0xFFFF_FFFF, errno.ENOMEM)])
def test_sizes(node: Node, size: int, expected: int) -> None:
    assert node.error("ROCKET_CREATE_BO", size=size) == expected
    assert node.create(1).handle == (1 if expected else 2)


def test_address_space_full_then_free_again(node: Node) -> None:
    first, second = node.create(0x7FFF_F000), node.create(0x7FFF_F000)
    assert second.dma_address == 0x7FFF_F000
    assert node.error("ROCKET_CREATE_BO", size=0x3000) == errno.ENOSPC
    assert node.create(0x2000).dma_address == 0xFFFF_E000
    assert node.error("GEM_CLOSE", handle=first.handle) == 0
    assert node.create(0x3000).dma_address == 0


def test_closed_handles_are_used_again_lowest_first(node: Node) -> None:
    for _ in range(5):
        node.create(1)
    for handle in (4, 2):
        node.call("GEM_CLOSE", handle=handle)
    assert [node.create(1).handle for _ in range(3)] == [2, 4, 6]


def test_gem_close_errors(node: Node, second: Node) -> None:
    handle = node.create(1).handle
    assert node.error("GEM_CLOSE", handle=0) == errno.EINVAL
    assert node.error("GEM_CLOSE", handle=77) == errno.EINVAL
    assert second.error("GEM_CLOSE", handle=handle) == errno.EINVAL
    assert node.error("GEM_CLOSE", handle=handle) == 0
    assert node.error("GEM_CLOSE", handle=handle) == errno.EINVAL


@pytest.mark.parametrize("seed", range(3))
def test_allocator_against_a_model(seed: int) -> None:
    """Random requests against a search over the gaps of a sorted list."""
    rng = random.Random(seed)
    limit = 200 * PAGE
    ranges, taken = RangeAllocator(0, limit, PAGE), {}
    for _ in range(3000):
        if taken and rng.random() < 0.45:
            start = rng.choice(list(taken))
            ranges.free(start)
            del taken[start]
            continue
        length = rng.choice([rng.randrange(1, 5), PAGE, rng.randrange(1, 9 * PAGE)])
        edges = [0, *(edge for start in sorted(taken) for edge in (start, start + taken[start])), limit]
        gaps = [(end - begin, begin) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
        fits = [(gap, begin) for gap, begin in gaps if begin + gap >= -(-begin // PAGE) * PAGE + length]
        expected = -(-min(fits)[1] // PAGE) * PAGE if fits else None
        assert ranges.allocate(length) == expected
        if expected is not None:
            taken[expected] = length


# --- mmap -------------------------------------------------------------------------------------------------------------


def test_memory_is_zero_and_shared_between_mappings(node: Node) -> None:
    bo = node.create(2 * PAGE)
    one, other = node.mmap(bo.offset, 2 * PAGE), node.mmap(bo.offset, PAGE)
    assert one.read() == bytes(2 * PAGE)
    one.write(b"seen through the other", 10)
    assert other.read(10, 22) == b"seen through the other"
    for mapping in (one, other):
        mapping.unmap()


def test_memory_is_zero_after_reuse(node: Node) -> None:
    bo = node.create(PAGE)
    mapping = node.mmap(bo.offset, PAGE)
    mapping.write(b"secret")
    mapping.unmap()
    node.call("GEM_CLOSE", handle=bo.handle)
    again = node.create(PAGE)
    assert again.dma_address == bo.dma_address
    mapping = node.mmap(again.offset, PAGE)
    assert mapping.read() == bytes(PAGE)
    mapping.unmap()


def test_mmap_errors(node: Node, second: Node) -> None:
    bo = node.create(PAGE + 1)
    assert node.mmap_error(bo.offset, 2 * PAGE) == 0
    assert node.mmap_error(bo.offset, 1) == 0
    assert node.mmap_error(bo.offset, 2 * PAGE + 1) == errno.EINVAL
    assert node.mmap_error(bo.offset, 0) == errno.EINVAL
    assert node.mmap_error(bo.offset + PAGE, PAGE) == errno.EINVAL
    assert node.mmap_error(bo.offset + 1, PAGE) == errno.EINVAL
    assert node.mmap_error(0, PAGE) == errno.EINVAL
    assert node.mmap_error(bo.offset, PAGE, flags=mmap.MAP_PRIVATE) == errno.EINVAL
    assert second.mmap_error(bo.offset, PAGE) == errno.EACCES
    node.call("GEM_CLOSE", handle=bo.handle)
    assert node.mmap_error(bo.offset, PAGE) == errno.EINVAL


def test_mmap_of_a_node_opened_read_only(fake_driver: object) -> None:
    with Node(os.O_RDONLY | os.O_CLOEXEC) as node:
        bo = node.create(PAGE)
        assert node.mmap_error(bo.offset, PAGE) == errno.EACCES
        assert node.mmap_error(bo.offset, PAGE, protection=mmap.PROT_READ) == 0


def test_mapping_keeps_memory_and_npu_mapping_after_gem_close(node: Node) -> None:
    """The address is not given away, and a job still writes there, until the last mapping goes."""
    bo = node.create(PAGE)
    mapping = node.mmap(bo.offset, PAGE)
    node.call("GEM_CLOSE", handle=bo.handle)
    fence = node.create(PAGE)
    assert fence.dma_address != bo.dma_address
    node.run((FILL, bo.dma_address, 4, 7), out=[fence])
    node.wait(fence)
    assert mapping.read(0, 5) == b"\7\7\7\7\0"
    assert node.mmap_error(bo.offset, PAGE) == errno.EACCES
    mapping.unmap()
    assert node.create(PAGE).dma_address == bo.dma_address


def test_mapping_in_a_forked_child_keeps_the_bo(node: Node) -> None:
    bo = node.create(PAGE)
    mapping = node.mmap(bo.offset, PAGE)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    mapping.unmap()
    node.call("GEM_CLOSE", handle=bo.handle)
    assert node.create(PAGE).dma_address != bo.dma_address
    os.close(writer)
    os.waitpid(child, 0)
    assert node.create(PAGE).dma_address == bo.dma_address


# --- PRIME ------------------------------------------------------------------------------------------------------------


def test_export_and_import(node: Node, second: Node) -> None:
    bo = node.create(2 * PAGE)
    fd = node.call("PRIME_HANDLE_TO_FD", handle=bo.handle, flags=CLOEXEC | RDWR).fd
    assert not os.get_inheritable(fd)
    assert os.lseek(fd, 0, os.SEEK_END) == 2 * PAGE
    assert node.call("PRIME_FD_TO_HANDLE", fd=fd).handle == bo.handle
    other = second.call("PRIME_FD_TO_HANDLE", fd=fd).handle
    memory, mapping = mmap.mmap(fd, 2 * PAGE), second.mmap(bo.offset, PAGE)
    memory[:5] = b"hello"
    assert mapping.read(0, 5) == b"hello"
    assert second.error("ROCKET_PREP_BO", handle=other) == 0
    memory.close()
    mapping.unmap()
    os.close(fd)


def test_imported_bo_has_no_address_in_the_other_file(node: Node, second: Node) -> None:
    """Its fences count there; the address that it has here is free there."""
    bo = node.create(PAGE)
    fd = node.call("PRIME_HANDLE_TO_FD", handle=bo.handle).fd
    handle = second.call("PRIME_FD_TO_HANDLE", fd=fd).handle
    os.close(fd)
    node.run((SLEEP, 200), out=[bo])
    assert second.error("ROCKET_PREP_BO", handle=handle) == errno.EBUSY
    node.wait(bo)
    assert second.error("ROCKET_PREP_BO", handle=handle) == 0
    assert second.create(PAGE).dma_address == 0


def test_export_keeps_the_bo_without_a_handle(node: Node, second: Node) -> None:
    """Also on its way through a socket, where no process has it."""
    bo = node.create(PAGE)
    fd = node.call("PRIME_HANDLE_TO_FD", handle=bo.handle, flags=0).fd
    here, there = socket.socketpair()
    socket.send_fds(here, [b"x"], [fd])
    os.close(fd)
    node.call("GEM_CLOSE", handle=bo.handle)
    assert node.create(PAGE).dma_address != bo.dma_address
    fd = socket.recv_fds(there, 1, 1)[1][0]
    handle = second.call("PRIME_FD_TO_HANDLE", fd=fd).handle
    os.close(fd)
    assert second.mmap_error(bo.offset, PAGE) == 0
    second.call("GEM_CLOSE", handle=handle)
    assert node.create(PAGE).dma_address == bo.dma_address


def test_prime_errors(node: Node) -> None:
    bo = node.create(PAGE)
    assert node.error("PRIME_HANDLE_TO_FD", handle=99) == errno.ENOENT
    assert node.error("PRIME_HANDLE_TO_FD", handle=bo.handle, flags=4) == errno.EINVAL
    assert node.error("PRIME_FD_TO_HANDLE", fd=-1) == errno.EBADF
    assert node.error("PRIME_FD_TO_HANDLE", fd=99999) == errno.EBADF
    reader, writer = os.pipe()
    foreign = os.memfd_create("foreign")
    assert node.error("PRIME_FD_TO_HANDLE", fd=reader) == errno.EINVAL
    assert node.error("PRIME_FD_TO_HANDLE", fd=foreign) == errno.EINVAL
    for fd in (reader, writer, foreign):
        os.close(fd)


def test_exported_memory_cannot_be_resized(node: Node) -> None:
    """Else a client could make the driver fault."""
    fd = node.call("PRIME_HANDLE_TO_FD", handle=node.create(PAGE).handle).fd
    for size in (0, 2 * PAGE):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    os.close(fd)


def test_many_bos_are_freed_with_their_file(fake_driver: object) -> None:
    for _ in range(2):
        with Node() as node:
            assert [node.create(PAGE).handle for _ in range(2000)] == list(range(1, 2001))
