"""Proposal "queues": sync objects, chains of programs, tasks that end in the PPU."""
from __future__ import annotations

import errno
import itertools
import threading
import time

import pytest

from . import programs
from .laboratory import Buffer, timed_out
from .queues import CHAINS, DONE, PPU_DONE, QUEUED, Bench, QueuedJob
from .uapi import PAGE

MS = 1_000_000
ALL, FOR_SUBMIT = 1, 2
SIGNALED = 1


# --- objects ----------------------------------------------------------------------------------------------------------


def test_create_flags(bench: Bench) -> None:
    assert bench.node.error("SYNCOBJ_CREATE", flags=2) == errno.EINVAL


@pytest.mark.parametrize("members", [dict(handle=0), dict(handle=99), dict(pad=1)], ids=["zero", "unknown", "pad"])
def test_destroy_refused(bench: Bench, members: dict[str, int]) -> None:
    assert bench.node.error("SYNCOBJ_DESTROY", **dict(handle=bench.sync()) | members) == errno.EINVAL


def test_destroy_twice(bench: Bench) -> None:
    sync = bench.sync()
    assert bench.node.error("SYNCOBJ_DESTROY", handle=sync) == 0
    assert bench.node.error("SYNCOBJ_DESTROY", handle=sync) == errno.EINVAL


def test_wait_signalled(bench: Bench) -> None:
    assert bench.wait_error([bench.sync(SIGNALED)] * 2, 0) == 0


def test_wait_empty(bench: Bench) -> None:
    """Without a fence there is nothing to wait for, unless the caller means to."""
    sync = bench.sync()
    assert bench.wait_error([sync]) == errno.EINVAL
    assert bench.wait_error([sync], 0, ALL | FOR_SUBMIT) == errno.ETIME


@pytest.mark.parametrize(("members", "expected"), [
    (dict(flags=1 << 31), errno.EINVAL), (dict(handles=PAGE), errno.EFAULT),
    (dict(count_handles=1 << 31), errno.ENOMEM)],
    ids=["flags", "unreadable", "many"])
def test_wait_refused(bench: Bench, members: dict[str, int], expected: int) -> None:
    assert bench.wait_error([bench.sync(SIGNALED)], **members) == expected


def test_wait_unknown(bench: Bench) -> None:
    assert bench.wait_error([bench.sync(SIGNALED), 99]) == errno.ENOENT


@pytest.mark.parametrize("name", ["SYNCOBJ_RESET", "SYNCOBJ_SIGNAL"])
def test_array_refused(bench: Bench, name: str) -> None:
    sync = bench.sync()
    assert bench.array_error(name, [sync], pad=1) == errno.EINVAL
    assert bench.array_error(name, []) == errno.EINVAL
    assert bench.array_error(name, [sync, 99]) == errno.ENOENT
    assert bench.array_error(name, [sync], handles=PAGE) == errno.EFAULT


def test_reset_and_signal(bench: Bench) -> None:
    sync = bench.sync(SIGNALED)
    assert bench.array_error("SYNCOBJ_RESET", [sync]) == 0 and bench.wait_error([sync]) == errno.EINVAL
    assert bench.array_error("SYNCOBJ_SIGNAL", [sync]) == 0 and bench.wait_error([sync]) == 0


@timed_out
def test_wait_for_any(bench: Bench) -> None:
    slow, fast = bench.queue(1, timeout_ns=300 * MS), bench.sync(SIGNALED)
    busy = bench.sync()
    bench.submit(bench.hang(slow, signals=[busy]))
    assert bench.wait_error([busy, fast], 0, 0) == 0
    assert bench.wait_error([busy, fast], 0, ALL) == errno.ETIME
    assert bench.wait_error([busy, fast]) == 0 and bench.status(slow).state == DONE


@timed_out
def test_wait_deadline(bench: Bench) -> None:
    """ETIME, and not early."""
    queue, sync = bench.queue(timeout_ns=400 * MS), bench.sync()
    bench.submit(bench.hang(queue, signals=[sync]))
    deadline = time.monotonic_ns() + 50 * MS
    assert bench.wait_error([sync], deadline) == errno.ETIME and time.monotonic_ns() >= deadline
    assert bench.wait_error([sync]) == 0


def test_wait_for_what_is_submitted_later(bench: Bench) -> None:
    queue, sync, target = bench.queue(), bench.sync(), bench.buffer()
    job = bench.fill(queue, target, 1, signals=[sync])
    results: list[int] = []
    waiter = threading.Thread(target=lambda: results.append(bench.wait_error([sync], (1 << 63) - 1, ALL | FOR_SUBMIT)))
    waiter.start()
    time.sleep(0.05)
    assert waiter.is_alive()
    Bench(bench.lab, bench.node, bench.vm).submit(job)
    waiter.join(20)
    assert results == [0] and target.get(1) == b"\1"


@timed_out
def test_destroyed_while_waited_for(bench: Bench) -> None:
    queue, sync = bench.queue(timeout_ns=200 * MS), bench.sync()
    bench.submit(bench.hang(queue, signals=[sync]))
    results: list[int] = []
    waiter = threading.Thread(target=lambda: results.append(bench.wait_error([sync])))
    waiter.start()
    time.sleep(0.05)
    bench.node.call("SYNCOBJ_DESTROY", handle=sync)
    waiter.join(20)
    assert results == [0]


# --- jobs that wait and signal ----------------------------------------------------------------------------------------


def cores(bench: Bench) -> int:
    return int(bench.node.call("GET_PARAM", param=1).value)


def test_job_signals(bench: Bench) -> None:
    queue, sync, target = bench.queue(), bench.sync(), bench.buffer()
    bench.submit(bench.fill(queue, target, 5, signals=[sync]))
    assert bench.wait_error([sync]) == 0
    assert bench.status(queue).state == DONE and target.get(1) == b"\5"


@pytest.mark.parametrize("is_signal", [False, True], ids=["wait", "signal"])
def test_sync_unknown(bench: Bench, is_signal: bool) -> None:
    handles = {"signals" if is_signal else "waits": [99]}
    assert bench.submit_error(bench.fill(bench.queue(), bench.buffer(), 1, **handles)) == errno.ENOENT


def test_wait_for_nothing_is_refused(bench: Bench) -> None:
    """A job that nobody will ever let go: not accepted."""
    queue, sync = bench.queue(), bench.sync()
    assert bench.submit_error(bench.fill(queue, bench.buffer(), 1, waits=[sync])) == errno.EINVAL
    assert bench.submit_error(bench.fill(queue, bench.buffer(), 1, waits=[sync], signals=[sync])) == errno.EINVAL


@pytest.mark.parametrize(("flags", "point"), [(2, 0), (1 << 31, 0), (0, 1), (1, 1 << 63)],
                         ids=["flags", "last-flag", "point", "signal-point"])
def test_sync_refused(bench: Bench, flags: int, point: int) -> None:
    queue, sync = bench.queue(), bench.sync(SIGNALED)
    job = bench.fill(queue, bench.buffer(), 1, waits=[sync])
    job.syncs[0].flags, job.syncs[0].point = flags, point
    assert bench.submit_error(job) == errno.EINVAL


def test_refused_call_leaves_sync_objects_alone(bench: Bench) -> None:
    queue, sync = bench.queue(), bench.sync()
    good = bench.fill(queue, bench.buffer(), 1, signals=[sync])
    assert bench.submit_error(good, bench.fill(queue, bench.buffer(), 1, flags=1)) == errno.EINVAL
    assert bench.wait_error([sync]) == errno.EINVAL


def test_queues_take_turns(bench: Bench) -> None:
    """A value goes round all cores and grows on its way, in one call; each step waits for the one before."""
    queues = [bench.queue(1 << core) for core in range(cores(bench))]
    syncs = [bench.sync(), bench.sync()]
    places = [bench.buffer(b"\3" * 64), *(bench.buffer() for _ in range(30))]
    jobs = [bench.copy(queues[step % len(queues)], places[step], places[step + 1],
                       waits=[syncs[step % 2]] if step else [], signals=[syncs[(step + 1) % 2]]) for step in range(30)]
    bench.submit(*jobs)
    assert bench.wait_error([syncs[30 % 2]]) == 0
    assert places[-1].get() == b"\3" * 64


@timed_out
def test_waiting_job_does_not_start(bench: Bench) -> None:
    if cores(bench) < 2:
        pytest.skip("one core")
    first, second = bench.queue(0b01, timeout_ns=300 * MS), bench.queue(0b10)
    target, sync = bench.buffer(), bench.sync()
    bench.submit(bench.hang(first, signals=[sync]))
    sync_value = bench.fill(second, target, 1, waits=[sync])
    bench.submit(sync_value)
    time.sleep(0.1)
    assert bench.status(second).state == QUEUED
    assert bench.ended(second).error == errno.ECANCELED and target.get(1) == b"\0"
    assert bench.ended(first).error == errno.ETIMEDOUT


@timed_out
def test_failure_goes_on_through_sync_objects(bench: Bench) -> None:
    """Over several steps and queues, and not to jobs that do not depend on it."""
    queues = [bench.queue(1 << core, timeout_ns=100 * MS) for core in range(cores(bench))]
    targets, a, b = [bench.buffer() for _ in range(3)], bench.sync(), bench.sync()
    bench.submit(bench.hang(queues[0], signals=[a]), bench.fill(queues[-1], targets[0], 1, waits=[a], signals=[b]))
    bench.submit(bench.fill(queues[0], targets[1], 1, waits=[b]))
    bench.submit(bench.fill(queues[0], targets[2], 1))
    middle = bench.ended(queues[-1], 1 if len(queues) > 1 else 2)
    assert middle.error == bench.ended(queues[0], 2 if len(queues) > 1 else 3).error == errno.ECANCELED
    assert bench.ended(queues[0]).error == 0
    assert [target.get(1) for target in targets] == [b"\0", b"\0", b"\1"]


@timed_out
def test_wait_does_not_tell_failures(bench: Bench) -> None:
    """A fence with an error has signalled; JOB_STATUS says what became of the job."""
    queue, sync = bench.queue(timeout_ns=50 * MS), bench.sync()
    bench.submit(bench.hang(queue, signals=[sync]))
    assert bench.wait_error([sync]) == 0 and bench.status(queue).error == errno.ETIMEDOUT


@timed_out
def test_close_with_jobs_that_wait(bench: Bench) -> None:
    queues = [bench.queue(1 << core, timeout_ns=100 * MS) for core in range(cores(bench))]
    sync = bench.sync()
    bench.submit(bench.hang(queues[0], signals=[sync]), bench.fill(queues[-1], bench.buffer(), 1, waits=[sync]))
    bench.node.close()
    time.sleep(0.3)
    assert all(bench.lab.works(bench.lab.open()) for _ in range(3))


# --- chains -----------------------------------------------------------------------------------------------------------


def put_chain(bench: Bench, texts: list[bytes]) -> list[Buffer]:
    """Programs in buffers of their own, each with the way to the next one."""
    buffers = [bench.buffer(text) for text in texts]
    for buffer, text in zip(buffers, programs.chained(texts, [b.address for b in buffers]), strict=True):
        buffer.put(text)
    return buffers


@pytest.fixture
def chains(bench: Bench) -> Bench:
    if not bench.node.features & CHAINS:
        pytest.skip("no chains on this node")
    return bench


@pytest.mark.parametrize("length", [1, 2, 8, 100])
def test_chain(chains: Bench, length: int) -> None:
    """Programs see what those before them wrote; one task, so one interrupt."""
    places = [chains.buffer(b"\2" * 64), *(chains.buffer() for _ in range(length))]
    texts = [programs.copy(a.address, b.address) for a, b in itertools.pairwise(places)]
    first = put_chain(chains, texts)[0]
    queue = chains.queue()
    chains.submit(QueuedJob(queue, [(first.address, len(texts[0]) // 8, length, 0)]))
    status = chains.ended(queue)
    assert (status.error, status.tasks_done) == (0, 1) and places[-1].get() == b"\2" * 64


def test_chain_stops_where_it_is_told(chains: Bench) -> None:
    """num_programs counts, not what the programs say."""
    targets = [chains.buffer() for _ in range(3)]
    texts = [programs.fill(target.address, target.address, 1) for target in targets]
    first = put_chain(chains, texts)[0]
    queue = chains.queue()
    chains.submit(QueuedJob(queue, [(first.address, len(texts[0]) // 8, 2, 0)]))
    assert chains.ended(queue).error == 0
    assert [target.get(1) for target in targets] == [b"\1", b"\1", b"\0"]


def test_chains_and_tasks_in_one_job(chains: Bench) -> None:
    target, queue = chains.buffer(), chains.queue()
    tasks = []
    for start in (1, 4, 7):
        texts = [programs.fill(target.address, target.address, start + k) for k in range(3)]
        tasks.append((put_chain(chains, texts)[0].address, len(texts[0]) // 8, 3, 0))
    chains.submit(QueuedJob(queue, tasks))
    assert chains.ended(queue).tasks_done == 3 and target.get(1) == b"\11"


@pytest.mark.log("NPU job timed out", "pc.", "iommu:", "DMA error")
@pytest.mark.parametrize("kind", ["no-way-on", "into-nothing"])
def test_broken_chain(chains: Bench, kind: str) -> None:
    """A program that names no successor, or one that is not there: the job fails, the next one runs."""
    target, queue = chains.buffer(), chains.queue(timeout_ns=50 * MS)
    text = programs.fill(target.address, target.address, 1)
    first = chains.buffer(text)
    if kind == "into-nothing":
        first.put(programs.chained([text, text], [first.address, 0xF000_0000])[0])
    chains.submit(QueuedJob(queue, [(first.address, len(text) // 8, 2, 0)]))
    status = chains.ended(queue)
    assert status.error == (errno.EFAULT if kind == "into-nothing" else errno.ETIMEDOUT) and status.tasks_done == 0
    chains.submit(chains.fill(queue, target, 2))
    assert chains.ended(queue).error == 0 and target.get(1) == b"\2"


@pytest.mark.log("NPU job timed out", "pc.", must=False)
def test_endless_ring(chains: Bench) -> None:
    """Programs that lead back to the first: as many run as were asked for."""
    target, queue = chains.buffer(), chains.queue()
    texts = [programs.fill(target.address, target.address, value) for value in (1, 2)]
    buffers = [chains.buffer(text) for text in texts]
    ring = programs.chained([*texts, texts[0]], [b.address for b in (*buffers, buffers[0])])
    for buffer, text in zip(buffers, ring, strict=False):
        buffer.put(text)
    chains.submit(QueuedJob(queue, [(buffers[0].address, len(texts[0]) // 8, 51, 0)]))
    assert chains.ended(queue).error == 0 and target.get(1) == b"\1"


# --- the PPU ----------------------------------------------------------------------------------------------------------

ENDS_IN_PPU = 1


@pytest.fixture
def ppu(bench: Bench) -> Bench:
    if not bench.node.features & PPU_DONE:
        pytest.skip("no completion by the PPU on this node")
    return bench


def pooling(bench: Bench) -> tuple[Buffer, tuple[int, int], bytes]:
    """(target, its program, what it must hold): maxima of pairs of atoms."""
    data = bytes(range(64))
    source, target = bench.buffer(data), bench.buffer()
    text = programs.pool(source.address, target.address, 4)
    return target, (bench.buffer(text).address, len(text) // 8), data[16:32] + data[48:64]


def test_ppu_only_task(ppu: Bench) -> None:
    target, program, expected = pooling(ppu)
    queue = ppu.queue()
    ppu.submit(QueuedJob(queue, [(*program, 1, ENDS_IN_PPU)]))
    status = ppu.ended(queue)
    assert status.error == 0 and status.end_ns - status.start_ns < 400 * MS and target.get(32) == expected


@timed_out
def test_ppu_only_task_without_the_flag(ppu: Bench) -> None:
    """As on mainline: right, and never over."""
    target, program, expected = pooling(ppu)
    queue = ppu.queue(timeout_ns=100 * MS)
    ppu.submit(QueuedJob(queue, [(*program, 1, 0)]))
    assert ppu.ended(queue).error == errno.ETIMEDOUT and target.get(32) == expected


@timed_out
def test_flag_without_the_ppu(ppu: Bench) -> None:
    queue, target = ppu.queue(timeout_ns=100 * MS), ppu.buffer()
    text = programs.fill(target.address, target.address, 1)
    ppu.submit(QueuedJob(queue, [(ppu.buffer(text).address, len(text) // 8, 1, ENDS_IN_PPU)]))
    assert ppu.ended(queue).error == errno.ETIMEDOUT


def test_chain_that_ends_in_the_ppu(ppu: Bench) -> None:
    source, middle, target = ppu.buffer(bytes(range(64))), ppu.buffer(), ppu.buffer()
    texts = [programs.copy(source.address, middle.address), programs.pool(middle.address, target.address, 4)]
    first, queue = put_chain(ppu, texts)[0], ppu.queue()
    ppu.submit(QueuedJob(queue, [(first.address, len(texts[0]) // 8, 2, ENDS_IN_PPU)]))
    assert ppu.ended(queue).error == 0
    assert target.get(32) == bytes(range(16, 32)) + bytes(range(48, 64))
