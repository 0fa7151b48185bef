"""One file cannot reach another's buffers, by any handle, offset or address; and books that balance."""
from __future__ import annotations

import errno
import os
import random

import pytest

from . import programs
from .laboratory import Laboratory, dropped, in_child, timed_out
from .uapi import PAGE, Job, Node

SECRET = b"secret of another file, 32 bytes"


@timed_out
def test_npu_cannot_read_another_files_buffer(lab: Laboratory, node: Node, second: Node) -> None:
    """The same address in another address space: not mapped, or the reader's own."""
    padding = [lab.buffer(node) for _ in range(4)]
    secret = lab.buffer(node, SECRET * 2)
    target = lab.buffer(second)
    second.submit(lab.job(second, programs.copy(secret.address, target.address), [], [target]))
    second.prep(target.bo)
    assert SECRET not in target.mapping.read() and padding


@timed_out
def test_npu_cannot_write_another_files_buffer(lab: Laboratory, node: Node, second: Node) -> None:
    padding = [lab.buffer(node) for _ in range(4)]
    kept = lab.buffer(node, SECRET * 2)
    source, done = lab.buffer(second, b"\xee" * 64), lab.buffer(second)
    second.submit(lab.job(second, programs.copy(source.address, kept.address), [source], [done]))
    second.prep(done.bo)        # before anything else is put at that address
    assert lab.works(second)
    assert kept.get() == SECRET * 2 and padding


@timed_out
def test_npu_cannot_fetch_another_files_program(lab: Laboratory, node: Node, second: Node) -> None:
    """A program at the same number elsewhere does not run."""
    buffers = [lab.buffer(node) for _ in range(6)]
    text = lab.buffer(node, programs.fill(0, 0, 1))
    target = lab.buffer(second, b"\x22" * 64)
    assert target.address == 0
    second.submit(Job([(text.address, len(programs.fill(0, 0, 1)) // 8)], [], [target.handle]))
    second.prep(target.bo)
    assert target.mapping.read(0, 64) == b"\x22" * 64 and buffers


def test_same_addresses_different_contents(lab: Laboratory) -> None:
    """Eight files whose buffers all lie at the same NPU addresses, used in turn."""
    nodes = [lab.open() for _ in range(8)]
    pairs = [(lab.buffer(node, bytes([number]) * 64), lab.buffer(node)) for number, node in enumerate(nodes)]
    assert len({source.address for source, _ in pairs}) == 1
    for node, (source, target) in zip(nodes, pairs, strict=True):
        node.submit(lab.copy(source, target))
    assert [target.get(1)[0] for _, target in pairs] == list(range(8))


@timed_out
def test_one_past_the_end_of_the_last_buffer(lab: Laboratory, node: Node) -> None:
    """Crossing out of everything mapped faults; nothing is invented."""
    source, target = lab.buffer(node), lab.buffer(node)
    program = programs.copy(target.address + PAGE - 32, source.address)
    text = lab.buffer(node, program)
    last = text.address + PAGE
    beyond = programs.copy(last - 32, source.address)
    assert len(beyond) == len(program)
    text.put(beyond)
    node.submit(Job([(text.address, len(beyond) // 8)], [text.handle], [source.handle]))
    node.prep(source.bo)
    assert lab.works(node)


def test_neighbouring_buffers_have_no_guard(lab: Laboratory, node: Node) -> None:
    """An overrun of one lands in the next of the same file."""
    first, second = lab.buffer(node, b"\1" * PAGE), lab.buffer(node, b"\2" * PAGE)
    target = lab.buffer(node)
    node.submit(lab.job(node, programs.copy(first.address + PAGE - 32, target.address), [first, second], [target]))
    assert target.get() == b"\1" * 32 + b"\2" * 32


@dropped
@timed_out
@pytest.mark.parametrize("handle", [1, 2, 1000, 0x7FFF_FFFF, 0xFFFF_FFFF], ids=hex)
def test_handles_of_others_are_unknown(lab: Laboratory, node: Node, second: Node, handle: int) -> None:
    """For every call that takes one."""
    for _ in range(2):
        node.create()
    assert second.error("PREP_BO", handle=handle) == second.error("FINI_BO", handle=handle) == errno.ENOENT
    assert second.error("GEM_CLOSE", handle=handle) == errno.EINVAL
    assert second.error("PRIME_HANDLE_TO_FD", handle=handle) == errno.ENOENT
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))       # so that this file's handle would be busy
    node.prep(target.bo)


def test_random_traffic_of_several_files(lab: Laboratory) -> None:
    """Buffers made, filled by the NPU, closed at random: contents are always the owner's."""
    chance = random.Random(3)
    nodes = [lab.open() for _ in range(4)]
    owned: list[tuple[Node, int, object]] = []
    for step in range(200):
        node = chance.choice(nodes)
        if owned and chance.random() < 0.4:
            _, value, buffer = owned.pop(chance.randrange(len(owned)))
            assert buffer.get() == bytes([value]) * 64      # type: ignore[attr-defined]
            buffer.close()                                  # type: ignore[attr-defined]
            continue
        buffer = lab.buffer(node)
        node.submit(lab.fill(buffer, step % 128))
        owned.append((node, step % 128, buffer))
    for _, value, buffer in owned:
        assert buffer.get() == bytes([value]) * 64          # type: ignore[attr-defined]


# --- leaks ------------------------------------------------------------------------------------------------------------


def test_close_frees_everything(lab: Laboratory) -> None:
    """2 GiB, ten times over: not all of it could stay."""
    for _ in range(10):
        node = lab.open()
        for _ in range(8):
            node.create(256 << 20)
        node.close()


def test_killed_process_frees_everything(lab: Laboratory, node: Node) -> None:
    def leave() -> None:
        own = lab.open()
        for _ in range(8):
            lab.buffer(own, 1 << 20)
        os._exit(9)
    for _ in range(10):
        assert in_child(leave) == 9
    assert lab.works(node)


def test_open_and_close_many_times(lab: Laboratory) -> None:
    for _ in range(200):
        node = lab.open()
        node.create()
        node.close()
    assert lab.works(lab.open())


def test_fds_of_this_process_do_not_grow(lab: Laboratory) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))
    node = lab.open()
    assert lab.works(node)
    before = count()
    for _ in range(50):
        assert lab.works(node)
    assert count() == before


def test_addresses_come_back(lab: Laboratory, node: Node) -> None:
    """After everything is closed, the first address is free again."""
    for _ in range(3):
        buffers = [lab.buffer(node) for _ in range(50)]
        for buffer in buffers:
            buffer.close()
        fresh = node.create()
        assert fresh.dma_address == 0 and fresh.handle == 1
        node.call("GEM_CLOSE", handle=fresh.handle)
