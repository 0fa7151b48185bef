"""Order of jobs within a file and between files that share a buffer; cores."""
from __future__ import annotations

import itertools
import threading
import time

from . import programs
from .laboratory import JOB_TIMEOUT_S, Laboratory, timed_out
from .uapi import PAGE, Job, Node


def share(node: Node, other: Node, handle: int) -> int:
    """The handle of a buffer in another file, by PRIME."""
    fd = node.call("PRIME_HANDLE_TO_FD", handle=handle).fd
    return int(other.call("PRIME_FD_TO_HANDLE", fd=fd).handle)


def test_read_after_write(lab: Laboratory, node: Node) -> None:
    a, b = lab.buffer(node), lab.buffer(node)
    node.submit(lab.fill(a, 3), lab.copy(a, b))
    assert b.get(1) == b"\3"


def test_write_after_read(lab: Laboratory, node: Node) -> None:
    a, b = lab.buffer(node, b"\1" * 64), lab.buffer(node)
    node.submit(lab.copy(a, b), lab.fill(a, 2))
    assert (a.get(1), b.get(1)) == (b"\2", b"\1")


def test_write_after_write(lab: Laboratory, node: Node) -> None:
    a = lab.buffer(node)
    node.submit(*[lab.fill(a, value) for value in range(1, 50)])
    assert a.get(1) == bytes([49])


def test_order_between_submits(lab: Laboratory, node: Node) -> None:
    chain = [lab.buffer(node, b"\7" * 64), *[lab.buffer(node) for _ in range(20)]]
    for source, target in itertools.pairwise(chain):
        node.submit(lab.copy(source, target))
    assert chain[-1].get(1) == b"\7"


def test_order_of_tasks_within_a_job(lab: Laboratory, node: Node) -> None:
    """Each task reads what the one before wrote; no CPU between them."""
    chain = [lab.buffer(node, b"\6" * 64), *[lab.buffer(node) for _ in range(10)]]
    texts = [lab.buffer(node, programs.copy(a.address, b.address)) for a, b in itertools.pairwise(chain)]
    words = len(programs.copy(0, 0)) // 8
    node.submit(Job([(text.address, words) for text in texts], [text.handle for text in texts],
                    [buffer.handle for buffer in chain]))
    assert chain[-1].get(1) == b"\6"


def test_output_of_one_job_is_the_program_of_the_next(lab: Laboratory, node: Node) -> None:
    """The NPU fetches its commands from what it wrote itself."""
    target = lab.buffer(node)
    program = programs.fill(target.address, target.address, 9)
    padded = program + bytes(-len(program) % 16)
    source, text = lab.buffer(node, padded), lab.buffer(node, len(padded))
    node.submit(lab.copy(source, text, len(padded)),
                Job([(text.address, len(program) // 8)], [text.handle], [target.handle]))
    assert target.get(1) == bytes([9])


@timed_out
def test_one_file_is_one_queue(lab: Laboratory, node: Node) -> None:
    """A job waits for the one before it, though they share no buffer and other cores are idle."""
    target, other = lab.buffer(node), lab.buffer(node)
    node.submit(lab.hang(node, [target]), lab.fill(other, 1))
    time.sleep(0.1)
    assert node.is_busy(other.bo)
    node.prep(target.bo)
    assert other.get(1) == b"\1"


@timed_out
def test_another_file_is_not_held_up(lab: Laboratory, node: Node, second: Node) -> None:
    """Not even on one core, as there is more than one."""
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    start = time.monotonic()
    assert lab.works(second)
    assert time.monotonic() - start < JOB_TIMEOUT_S and node.is_busy(target.bo)
    node.prep(target.bo)


def seconds_of_hangs(lab: Laboratory, num_files: int) -> float:
    """How long it takes until one hang of each of so many files, submitted together, is over."""
    nodes = [lab.open() for _ in range(num_files)]
    targets = [lab.buffer(node) for node in nodes]
    start = time.monotonic()
    for node, target in zip(nodes, targets, strict=True):
        node.submit(lab.hang(node, [target]))
    for node, target in zip(nodes, targets, strict=True):
        node.prep(target.bo)
    return time.monotonic() - start


@timed_out
def test_three_files_run_at_once(lab: Laboratory) -> None:
    """Three cores: three hangs take the time of one."""
    assert JOB_TIMEOUT_S <= seconds_of_hangs(lab, 3) < 2 * JOB_TIMEOUT_S


@timed_out
def test_four_files_share_three_cores(lab: Laboratory) -> None:
    assert 2 * JOB_TIMEOUT_S <= seconds_of_hangs(lab, 4) < 3 * JOB_TIMEOUT_S


@timed_out
def test_file_stays_on_its_core_while_busy(lab: Laboratory, node: Node) -> None:
    """Two hangs of one file take twice the time."""
    target = lab.buffer(node)
    start = time.monotonic()
    node.submit(lab.hang(node, [target]), lab.hang(node, [target]))
    node.prep(target.bo)
    assert time.monotonic() - start >= 2 * JOB_TIMEOUT_S


@timed_out
def test_shared_buffer_orders_a_reader_behind_the_writer(lab: Laboratory, node: Node, second: Node) -> None:
    """Read after write across files: the second file's job waits though its core is idle."""
    shared = node.create()
    imported = share(node, second, shared.handle)
    result = lab.buffer(second)
    written = lab.buffer(node)
    job = lab.hang(node, [written])
    start = time.monotonic()
    node.submit(Job([(job.tasks[0].regcmd, job.tasks[0].regcmd_count)], [job.reads[0]], [shared.handle]))
    fill = lab.fill(result, 1)
    second.submit(Job([(fill.tasks[0].regcmd, fill.tasks[0].regcmd_count)], [imported, fill.reads[0]],
                      [result.handle]))
    assert result.get(1) == b"\1" and time.monotonic() - start >= JOB_TIMEOUT_S


@timed_out
def test_shared_buffer_orders_a_writer_behind_the_writer(lab: Laboratory, node: Node, second: Node) -> None:
    shared = node.create()
    imported = share(node, second, shared.handle)
    result = lab.buffer(second)
    job = lab.hang(node, [])
    start = time.monotonic()
    node.submit(Job([(job.tasks[0].regcmd, job.tasks[0].regcmd_count)], [job.reads[0]], [shared.handle]))
    fill = lab.fill(result, 1)
    second.submit(Job([(fill.tasks[0].regcmd, fill.tasks[0].regcmd_count)], [fill.reads[0]],
                      [result.handle, imported]))
    assert result.get(1) == b"\1" and time.monotonic() - start >= JOB_TIMEOUT_S


@timed_out
def test_shared_buffer_orders_a_writer_behind_the_reader(lab: Laboratory, node: Node, second: Node) -> None:
    """Write after read across files: without a fence of the reader the writer runs at once and spoils what it reads."""
    shared = node.create()
    imported = share(node, second, shared.handle)
    guard, result = lab.buffer(node), lab.buffer(second)
    job = lab.hang(node, [guard])
    node.submit(Job([(job.tasks[0].regcmd, job.tasks[0].regcmd_count)], [job.reads[0], shared.handle],
                    [guard.handle]))
    fill = lab.fill(result, 1)
    second.submit(Job([(fill.tasks[0].regcmd, fill.tasks[0].regcmd_count)], [fill.reads[0]],
                      [result.handle, imported]))
    result.get()
    was_early = node.is_busy(guard.bo)
    node.prep(guard.bo)
    assert not was_early


def test_many_files_at_once(lab: Laboratory) -> None:
    """Each thread with a file of its own: contents never mix."""
    failures: list[str] = []

    def work(number: int) -> None:
        node = lab.open()
        target = lab.buffer(node)
        for value in range(1, 20):
            node.submit(lab.fill(target, value))
            if target.get(PAGE // 64) != bytes([value]) * (PAGE // 64):
                failures.append(f"file {number}, value {value}")
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
