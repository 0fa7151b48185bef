"""Mapping buffers."""
from __future__ import annotations

import errno
import itertools
import mmap

import pytest

from .laboratory import Laboratory, in_child
from .uapi import PAGE, Node


def test_offset_is_behind_32_bits(node: Node) -> None:
    """On 64-bit kernels; page aligned."""
    offset = node.create().offset
    assert offset >= 1 << 32 and offset % PAGE == 0


def test_offsets_differ_between_files(node: Node, second: Node) -> None:
    """They are the device's: two files never share one."""
    offsets = [file.create(3 * PAGE).offset for file in (node, second) for _ in range(8)]
    gaps = [b - a for a, b in itertools.pairwise(sorted(offsets))]
    assert min(gaps) >= 3 * PAGE


def test_whole(node: Node) -> None:
    bo = node.create(PAGE + 1)
    assert node.mmap_error(bo.offset, 2 * PAGE) == 0


def test_part(node: Node) -> None:
    bo = node.create(4 * PAGE)
    assert node.mmap_error(bo.offset, PAGE) == 0


def test_too_long(node: Node) -> None:
    bo = node.create(PAGE)
    assert node.mmap_error(bo.offset, PAGE + 1) == errno.EINVAL


def test_length_zero(node: Node) -> None:
    assert node.mmap_error(node.create().offset, 0) == errno.EINVAL


def test_unknown_offset(node: Node) -> None:
    bo = node.create()
    assert node.mmap_error(bo.offset + (1 << 36)) == errno.EINVAL


def test_offset_zero(node: Node) -> None:
    node.create()
    assert node.mmap_error(0) == errno.EINVAL


def test_offset_inside(node: Node) -> None:
    """Only the exact offset, though the pages are there."""
    bo = node.create(4 * PAGE)
    assert node.mmap_error(bo.offset + PAGE) == errno.EINVAL


def test_unaligned_offset(node: Node) -> None:
    assert node.mmap_error(node.create().offset + 16) == errno.EINVAL


def test_another_files_buffer(node: Node, second: Node) -> None:
    bo = node.create()
    assert second.mmap_error(bo.offset) == errno.EACCES


def test_another_files_buffer_too_long(node: Node, second: Node) -> None:
    """The length is looked at first: nothing is learnt of what exists."""
    assert second.mmap_error(node.create().offset, 2 * PAGE) == errno.EINVAL


def test_private_and_writable(node: Node) -> None:
    """Copy on write is refused."""
    assert node.mmap_error(node.create().offset, flags=mmap.MAP_PRIVATE) == errno.EINVAL


def test_closed_handle(node: Node) -> None:
    bo = node.create()
    node.call("GEM_CLOSE", handle=bo.handle)
    assert node.mmap_error(bo.offset) == errno.EINVAL


def test_two_mappings_are_the_same_memory(node: Node) -> None:
    bo = node.create(2 * PAGE)
    one, other = node.mmap(bo.offset, 2 * PAGE), node.mmap(bo.offset)
    one.write(b"seen through the other", 10)
    assert other.read(10, 22) == b"seen through the other"


def test_read_only_mapping(lab: Laboratory, node: Node) -> None:
    buffer = lab.buffer(node, b"text")
    mapping = node.mmap(buffer.bo.offset, protection=mmap.PROT_READ)
    assert mapping.read(0, 4) == b"text"
    assert in_child(lambda: mapping.write(b"x")) < 0


def test_mapping_survives_close_of_the_handle(lab: Laboratory, node: Node) -> None:
    buffer = lab.buffer(node, b"kept")
    node.call("GEM_CLOSE", handle=buffer.handle)
    assert buffer.mapping.read(0, 4) == b"kept"
    buffer.mapping.write(b"more")
    assert buffer.mapping.read(0, 4) == b"more"


def test_mapping_keeps_the_address(lab: Laboratory, node: Node) -> None:
    """The range is not given out again while a mapping lives."""
    buffer = lab.buffer(node)
    node.call("GEM_CLOSE", handle=buffer.handle)
    assert node.create().dma_address != buffer.address
    buffer.mapping.unmap()
    assert buffer.address in {node.create().dma_address for _ in range(3)}


def test_mapping_survives_the_file(lab: Laboratory) -> None:
    node = lab.open()
    buffer = lab.buffer(node, b"kept")
    node.close()
    assert buffer.mapping.read(0, 4) == b"kept"


def test_mapping_is_inherited_by_fork(lab: Laboratory, node: Node) -> None:
    buffer = lab.buffer(node, b"parent")
    assert in_child(lambda: buffer.mapping.write(b"child!")) == 0
    assert buffer.mapping.read(0, 6) == b"child!"


@pytest.mark.parametrize("pages", [1, 3, 256])
def test_every_byte_is_separate(lab: Laboratory, node: Node, pages: int) -> None:
    buffer = lab.buffer(node, pages * PAGE)
    data = bytes(index * 7 % 251 for index in range(pages * PAGE))
    buffer.put(data)
    assert buffer.get(pages * PAGE) == data
