"""What the driver says of how long its cores have worked."""
from __future__ import annotations

import ctypes
import errno
import random
import threading
import time
from collections.abc import Callable

import pytest

from cermet.kmd.busy import MAX_SPANS, Busy, length_of_union
from tests.kmd.client import Node, load
from tests.kmd.fake_core import SLEEP

SLEEP_MS = 300


def busy_s(node: Node) -> float:
    library, value = load(), ctypes.c_uint64()
    assert library.cermet_client_busy(node.fd, ctypes.byref(value)) == 0
    return value.value / 1e9


def test_time_of_tasks_is_counted_once_however_many_cores_work(fake_driver: object) -> None:
    nodes = [Node() for _ in range(3)]
    try:
        before, started = busy_s(nodes[0]), time.monotonic()
        results = []
        for node in nodes:
            results.append(node.create(4096))
            node.run((SLEEP, SLEEP_MS), out=[results[-1]])
        during = busy_s(nodes[0]) - before
        for node, result in zip(nodes, results, strict=True):
            node.wait(result)
        total, passed = busy_s(nodes[0]) - before, time.monotonic() - started
        assert SLEEP_MS / 1000 <= total <= passed and during <= total
        assert total < 3 * SLEEP_MS / 1000          # the three slept at the same time
        time.sleep(0.05)
        assert busy_s(nodes[1]) - before == pytest.approx(total)        # of the device, not of the file; idle: no more
    finally:
        for node in nodes:
            node.close()


def test_bad_address(node: Node) -> None:
    library = load()
    assert library.cermet_client_busy(node.fd, ctypes.c_void_p(16)) == -1
    assert ctypes.get_errno() == errno.EFAULT


def test_union_of_spans() -> None:
    """Against counting each nanosecond; asked at any moment, the sum is the same."""
    rng = random.Random(1)
    for _ in range(300):
        spans = [(begin, begin + rng.randrange(12)) for begin in (rng.randrange(40) for _ in range(rng.randrange(6)))]
        covered = {ns for begin, end in spans for ns in range(begin, end)}
        cut = rng.randrange(60)
        assert length_of_union(spans, 0, 60) == len(covered)
        assert length_of_union(spans, 0, cut) + length_of_union(spans, cut, 60) == len(covered)


class Clock:
    """Time by hand. What is to happen next happens when somebody has just looked at the clock, before he goes on."""

    def __init__(self) -> None:
        self.now_ns = 1
        self.next: Callable[[], None] | None = None

    def monotonic_ns(self) -> int:
        now_ns, happens, self.next = self.now_ns, self.next, None
        if happens:
            happens()
        return now_ns


@pytest.mark.parametrize("begins_again", [False, True])
def test_task_that_ends_while_somebody_counts(begins_again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who counts had to wait behind its look at the clock: what the core did meanwhile is counted the next time."""
    clock, busy = Clock(), Busy(1)
    monkeypatch.setattr("cermet.kmd.busy.time", clock)

    def meanwhile() -> None:
        clock.now_ns += 50
        busy.end(0)
        if begins_again:
            clock.now_ns += 7
            busy.begin(0)
            clock.now_ns += 30
            busy.end(0)
        clock.now_ns += 1000
    busy.begin(0)
    clock.now_ns += 100
    clock.next = meanwhile
    assert busy.ns() == 100
    assert busy.ns() == busy.ns() == (180 if begins_again else 150)


def test_spans_of_threads_do_not_get_lost() -> None:
    """Of cores that begin and end while somebody asks all the time: what is counted never gets less or more than the
    time that has passed, and spans do not pile up."""
    busy = Busy(3)

    def work(core: int) -> None:
        for _ in range(3 * MAX_SPANS):
            busy.begin(core)
            busy.end(core)
    threads = [threading.Thread(target=work, args=(core,)) for core in range(3)]
    started, counts = time.monotonic_ns(), [0]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        counts.append(busy.ns())
        assert counts[-2] <= counts[-1] <= time.monotonic_ns() - started
    for thread in threads:
        thread.join()
    assert 0 < busy.ns() == busy.ns()
    assert len(busy._spans) == 0
