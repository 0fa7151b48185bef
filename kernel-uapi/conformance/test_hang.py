"""Jobs that never end: the timeout, the reset, and what others notice of it."""
from __future__ import annotations

import errno
import os
import signal
import struct
import time

import pytest

from . import programs
from .laboratory import HANG_LIMIT_S, JOB_TIMEOUT_S, Buffer, Laboratory, dropped, in_child, timed_out
from .uapi import FOREVER, PAGE, Job, Node

UNMAPPED = 0xF000_0000


def wrong_programs(lab: Laboratory, node: Node, target: Buffer) -> dict[str, Job]:
    """Each never ends in a DPU interrupt."""
    copy = programs.copy(UNMAPPED, target.address)
    store = programs.copy(target.address, UNMAPPED)
    good = lab.buffer(node, programs.fill(target.address, target.address, 1))
    words = len(programs.fill(0, 0, 1)) // 8
    writes = [target.handle]
    return {
        "no-enable": lab.hang(node, [target]),
        "read-fault": lab.job(node, copy, [], [target]),
        "write-fault": lab.job(node, store, [], [target]),
        "unmapped-program": Job([(UNMAPPED, 8)], [], writes),
        "short-count": Job([(good.address, words // 2)], [good.handle], writes),
    }


KINDS = pytest.mark.parametrize("kind", ["no-enable", "read-fault", "write-fault", "unmapped-program", "short-count"])


@timed_out
@KINDS
def test_timeout(lab: Laboratory, node: Node, kind: str) -> None:
    """500 ms and not less, then everything is over and the next job is right."""
    target = lab.buffer(node)
    job = wrong_programs(lab, node, target)[kind]
    start = time.monotonic()
    node.submit(job)
    assert node.error("PREP_BO", handle=target.handle, timeout_ns=FOREVER) in (0, errno.EIO)
    assert JOB_TIMEOUT_S <= time.monotonic() - start < HANG_LIMIT_S
    assert lab.works(node)


@pytest.mark.quirk("silent-failure")
@timed_out
@KINDS
def test_failed_job_counts_as_done(lab: Laboratory, node: Node, kind: str) -> None:
    target = lab.buffer(node, b"\x11" * 64)
    node.submit(wrong_programs(lab, node, target)[kind])
    assert target.get() == b"\x11" * 64


@timed_out
@KINDS
def test_failure_is_reported(lab: Laboratory, node: Node, kind: str) -> None:
    target = lab.buffer(node)
    node.submit(wrong_programs(lab, node, target)[kind])
    assert node.prep(target.bo) != 0


@timed_out
def test_failure_is_reported_until_written(lab: Laboratory, node: Node) -> None:
    """A buffer that a later job has written is good again."""
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    assert [node.prep(target.bo) for _ in range(2)] == [errno.EIO] * 2
    node.submit(lab.fill(target, 1))
    assert target.get(1) == b"\1"


@timed_out
def test_tasks_before_the_hang_have_written(lab: Laboratory, node: Node) -> None:
    """The timeout is per job; its outputs hold whatever was written."""
    target = lab.buffer(node)
    text = programs.fill(target.address, target.address, 5)
    good, bad = lab.buffer(node, text), lab.buffer(node, programs.endless())
    later = lab.buffer(node)
    never = lab.buffer(node, programs.fill(later.address, later.address, 5))
    words = len(text) // 8
    node.submit(Job([(good.address, words), (bad.address, 4), (never.address, words)],
                    [good.handle, bad.handle, never.handle], [target.handle, later.handle]))
    node.prep(target.bo)
    node.prep(later.bo)
    assert (target.mapping.read(0, 1), later.mapping.read(0, 1)) == (b"\5", b"\0")


@timed_out
def test_jobs_behind_a_hang_run(lab: Laboratory, node: Node) -> None:
    """Dependents included: they work on what is there."""
    a, b = lab.buffer(node, b"\4" * 64), lab.buffer(node)
    node.submit(lab.hang(node, [a]), lab.copy(a, b))
    assert b.get(1) == b"\4"


@timed_out
def test_hang_again_and_again(lab: Laboratory, node: Node) -> None:
    """No ban: the file may go on, the core recovers each time."""
    target = lab.buffer(node)
    for _ in range(4):
        node.submit(lab.hang(node, [target]))
        node.prep(target.bo)
        assert lab.works(node)


@timed_out
def test_hang_of_one_file_leaves_the_others_data_alone(lab: Laboratory, node: Node, second: Node) -> None:
    kept = lab.buffer(second, bytes(range(64)))
    target = lab.buffer(node)
    node.submit(*wrong_programs(lab, node, target).values())
    for _ in range(10):
        assert lab.works(second)
    node.prep(target.bo)
    assert kept.get() == bytes(range(64))


@timed_out
def test_all_cores_hang_and_recover(lab: Laboratory) -> None:
    nodes = [lab.open() for _ in range(3)]
    targets = [lab.buffer(node) for node in nodes]
    for node, target in zip(nodes, targets, strict=True):
        node.submit(lab.hang(node, [target]))
    for node, target in zip(nodes, targets, strict=True):
        node.prep(target.bo)
    assert all(lab.works(node) for node in nodes)


@timed_out
def test_unlisted_buffer_is_unmapped_with_its_handle(lab: Laboratory, node: Node) -> None:
    """A buffer used by address only goes while the job still needs it: fault, timeout. List every buffer."""
    source, target, busy = lab.buffer(node, b"\2" * 64), lab.buffer(node), lab.buffer(node)
    copy = lab.job(node, programs.copy(source.address, target.address), [], [target])
    node.submit(lab.hang(node, [busy]), copy)
    source.close()
    node.prep(target.bo)
    assert target.mapping.read(0, 1) == b"\0"


@timed_out
def test_listed_buffer_outlives_its_handle(lab: Laboratory, node: Node) -> None:
    source, target, busy = lab.buffer(node, b"\2" * 64), lab.buffer(node), lab.buffer(node)
    node.submit(lab.hang(node, [busy]), lab.copy(source, target))
    source.close()
    assert target.get(1) == b"\2"


@timed_out
def test_address_of_a_listed_buffer_is_not_reused_while_in_flight(lab: Laboratory, node: Node) -> None:
    source, target = lab.buffer(node), lab.buffer(node)
    node.submit(lab.hang(node, [target], [source]))
    address = source.address
    source.close()
    assert node.create().dma_address != address
    node.prep(target.bo)
    assert address in {node.create().dma_address for _ in range(4)}


@timed_out
def test_close_of_a_file_that_hangs(lab: Laboratory, second: Node) -> None:
    """The others go on; what comes after on the same core is right."""
    node = lab.open()
    node.submit(lab.hang(node, [lab.buffer(node)]))
    node.close()
    assert all(lab.works(second) for _ in range(5))
    time.sleep(JOB_TIMEOUT_S + 0.2)
    assert all(lab.works(lab.open()) for _ in range(3))


@timed_out
@dropped
def test_killed_with_jobs_queued(lab: Laboratory, second: Node) -> None:
    def submit_and_die() -> None:
        node = lab.open()
        node.submit(*[lab.hang(node, [lab.buffer(node)]) for _ in range(10)])
        os.kill(os.getpid(), signal.SIGKILL)
    assert in_child(submit_and_die) == -signal.SIGKILL
    assert lab.works(second)
    time.sleep(3 * JOB_TIMEOUT_S)
    assert all(lab.works(lab.open()) for _ in range(3))


def test_odd_number_of_commands(lab: Laboratory, node: Node) -> None:
    """Fetched in pairs; a word more than the program has is read and ignored."""
    target = lab.buffer(node)
    text = programs.fill(target.address, target.address, 3)
    buffer = lab.buffer(node, text + bytes(8))
    node.submit(Job([(buffer.address, len(text) // 8 + len(text) // 8 % 2)], [buffer.handle], [target.handle]))
    assert target.get(1) == b"\3"


def test_program_at_the_last_byte_of_its_buffer(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node)
    text = programs.fill(target.address, target.address, 3)
    text += bytes(-len(text) % 16)
    buffer = lab.buffer(node, PAGE)
    buffer.put(text, PAGE - len(text))
    node.submit(Job([(buffer.address + PAGE - len(text), len(text) // 8)], [buffer.handle], [target.handle]))
    assert target.get(1) == b"\3"


def test_words_of_a_program_are_64_bits() -> None:
    assert struct.calcsize("<Q") == 8 and len(programs.endless()) == 32
