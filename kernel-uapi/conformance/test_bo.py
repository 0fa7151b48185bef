"""CREATE_BO, GEM_CLOSE, and where the NPU sees a buffer."""
from __future__ import annotations

import ctypes
import errno
import random

import pytest

from .laboratory import Laboratory
from .uapi import IOCTLS, PAGE, CreateBo, Node

BIGGEST = 0x7FFF_F000       # the mapped length fits a signed 32-bit number


def test_first_address_is_zero(node: Node) -> None:
    assert node.create().dma_address == 0


@pytest.mark.parametrize("size", [1, 16, 4095, 4096, 4097, 65537, 1 << 20, 64 << 20])
def test_size(node: Node, size: int) -> None:
    """Any size; the next buffer follows at the next page."""
    bo = node.create(size)
    assert bo.size == size and bo.handle == 1
    assert node.create().dma_address == -(-size // PAGE) * PAGE


def test_size_zero_fails(node: Node) -> None:
    assert node.error("CREATE_BO", size=0) in (errno.EINVAL, errno.ENOSPC)
    assert node.create().handle == 1


def test_size_zero_is_a_bad_argument(node: Node) -> None:
    assert node.error("CREATE_BO", size=0) == errno.EINVAL


def test_biggest_size(node: Node) -> None:
    bo = node.create(BIGGEST)
    assert bo.dma_address == 0
    node.call("GEM_CLOSE", handle=bo.handle)


@pytest.mark.parametrize("size", [BIGGEST + 1, 1 << 31, 0xFFFF_FFFF], ids=hex)
def test_size_beyond_the_signed_limit(node: Node, size: int) -> None:
    """Never a handle to something smaller: refused, or of that size."""
    bo = CreateBo(size=size)
    error = node.raw(IOCTLS["CREATE_BO"][0], ctypes.addressof(bo))
    assert error in (0, errno.ENOMEM)
    if error == 0:
        assert (bo.size, bo.dma_address) == (size, 0)
        node.call("GEM_CLOSE", handle=bo.handle)
    assert node.create().dma_address == 0


def test_sizes_up_to_the_address_space_work(node: Node) -> None:
    assert node.error("CREATE_BO", size=1 << 31) == 0


def test_handles_count_from_one(node: Node) -> None:
    assert [node.create().handle for _ in range(5)] == [1, 2, 3, 4, 5]


def test_lowest_free_handle_is_reused(node: Node) -> None:
    for _ in range(5):
        node.create()
    for handle in (4, 2):
        node.call("GEM_CLOSE", handle=handle)
    assert [node.create().handle for _ in range(3)] == [2, 4, 6]


def test_addresses_do_not_overlap(node: Node) -> None:
    """Random allocation and freeing against a list of what is taken."""
    chance = random.Random(1)
    taken: dict[int, tuple[int, int]] = {}
    for _ in range(400):
        if taken and chance.random() < 0.45:
            handle = chance.choice(list(taken))
            node.call("GEM_CLOSE", handle=handle)
            del taken[handle]
            continue
        size = chance.choice([1, PAGE, chance.randrange(1, 40 * PAGE)])
        bo = node.create(size)
        end = bo.dma_address + -(-size // PAGE) * PAGE
        assert bo.dma_address % PAGE == 0 and end <= 1 << 32 and bo.handle not in taken
        assert all(end <= start or other_end <= bo.dma_address for start, other_end in taken.values())
        taken[bo.handle] = (bo.dma_address, end)


def test_best_fit(node: Node) -> None:
    """The smallest hole that is large enough, from its bottom."""
    bos = [node.create(pages * PAGE) for pages in (4, 1, 2, 1, 8, 1)]
    for index in (0, 2, 4):
        node.call("GEM_CLOSE", handle=bos[index].handle)
    assert node.create(2 * PAGE).dma_address == bos[2].dma_address
    assert node.create(3 * PAGE).dma_address == bos[0].dma_address
    assert node.create(8 * PAGE).dma_address == bos[4].dma_address


def test_freed_address_is_reused(node: Node) -> None:
    first = node.create()
    node.create()
    node.call("GEM_CLOSE", handle=first.handle)
    assert node.create().dma_address == first.dma_address


def test_no_guard_pages(node: Node) -> None:
    first, second = node.create(), node.create()
    assert second.dma_address - first.dma_address == PAGE


@pytest.mark.simulated
def test_address_space_is_exhausted_and_recovers(node: Node) -> None:
    """4 GiB of addresses: a board has not the memory to show it."""
    first = node.create(BIGGEST)
    second = node.create(BIGGEST)
    assert second.dma_address == BIGGEST
    assert node.error("CREATE_BO", size=3 * PAGE) == errno.ENOSPC
    assert node.create(2 * PAGE).dma_address == 2 * BIGGEST
    node.call("GEM_CLOSE", handle=first.handle)
    assert node.create(3 * PAGE).dma_address == 0


def test_ten_thousand_buffers(node: Node) -> None:
    addresses = {node.create(1).dma_address for _ in range(10_000)}
    assert len(addresses) == 10_000 and max(addresses) == 9_999 * PAGE


def test_each_file_has_its_own_handles_and_addresses(node: Node, second: Node) -> None:
    one, other = node.create(), second.create()
    assert (one.handle, one.dma_address) == (other.handle, other.dma_address) == (1, 0)
    assert one.offset != other.offset


def test_close(node: Node) -> None:
    assert node.error("GEM_CLOSE", handle=node.create().handle) == 0


def test_close_twice(node: Node) -> None:
    handle = node.create().handle
    node.call("GEM_CLOSE", handle=handle)
    assert node.error("GEM_CLOSE", handle=handle) == errno.EINVAL


@pytest.mark.parametrize("handle", [0, 2, 0xFFFF_FFFF], ids=hex)
def test_close_unknown(node: Node, handle: int) -> None:
    node.create()
    assert node.error("GEM_CLOSE", handle=handle) == errno.EINVAL


def test_close_of_another_files_handle(node: Node, second: Node) -> None:
    handle = node.create().handle
    assert second.error("GEM_CLOSE", handle=handle) == errno.EINVAL
    assert node.error("GEM_CLOSE", handle=handle) == 0


def test_memory_is_zero(lab: Laboratory, node: Node) -> None:
    buffer = lab.buffer(node, 64 * PAGE)
    assert buffer.get(64 * PAGE) == bytes(64 * PAGE)


def test_memory_is_zero_after_reuse(lab: Laboratory, node: Node) -> None:
    for _ in range(10):
        buffer = lab.buffer(node, 16 * PAGE)
        assert buffer.get(16 * PAGE) == bytes(16 * PAGE)
        buffer.put(b"\xa5" * 16 * PAGE)
        buffer.close()


def test_memory_is_zero_for_the_npu(lab: Laboratory, node: Node) -> None:
    """What the NPU reads of a new buffer that the CPU never touched."""
    target = lab.buffer(node, b"\xff" * 64)
    source = lab.buffer(node)
    node.submit(lab.copy(source, target))
    assert target.get() == bytes(64)
