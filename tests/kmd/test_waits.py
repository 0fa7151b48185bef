"""Calls that wait for fences: who ends them, when, and what they leave behind."""
from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cermet.kmd.fence import Fence
from cermet.kmd.waits import Waits
from tests.kmd.client import FOREVER, Node
from tests.kmd.driver_process import driver_pid, usage
from tests.kmd.fake_core import SLEEP

NUM_CALLS = 20
LATE_S = 5.0            # a busy machine's


class Ends:
    """Collects how a wait ended."""

    def __init__(self) -> None:
        self.results: list[tuple[bool, str]] = []
        self.came = threading.Event()

    def __call__(self, in_time: bool) -> None:
        self.results.append((in_time, threading.current_thread().name))
        self.came.set()


@pytest.fixture
def waits() -> Iterator[Waits]:
    made = Waits(threading.RLock())
    made.start()
    yield made
    made.stop()


def test_who_signals_the_last_fence_ends_it(waits: Waits) -> None:
    fences, ends = [Fence(None) for _ in range(3)], Ends()
    waits.add(fences, FOREVER, ends)
    fences[2].signal()
    fences[0].signal(5)
    assert not ends.results and len(waits.open) == 1
    fences[1].signal()
    assert ends.results == [(True, threading.current_thread().name)]
    assert not waits.open and not any(fence.waiters for fence in fences)


def test_signalled_fences_end_it_at_once(waits: Waits) -> None:
    fence, ends = Fence(None), Ends()
    fence.signal()
    waits.add([fence], 0, ends)
    assert ends.results == [(True, threading.current_thread().name)] and not waits.open and not fence.waiters


def test_deadline_ends_it_once_and_not_early(waits: Waits) -> None:
    fence, ends = Fence(None), Ends()
    deadline_ns = time.monotonic_ns() + 50_000_000
    waits.add([fence], deadline_ns, ends)
    assert ends.came.wait(LATE_S) and time.monotonic_ns() >= deadline_ns
    fence.signal()
    assert ends.results == [(False, "deadlines")] and not waits.open and not fence.waiters


def test_a_new_deadline_before_all_others_holds(waits: Waits) -> None:
    fence, late, forever, soon = Fence(None), Ends(), Ends(), Ends()
    waits.add([fence], FOREVER, forever)
    waits.add([fence], time.monotonic_ns() + 3600 * 10**9, late)
    time.sleep(0.05)                    # the clock sleeps until the hour is over
    waits.add([fence], time.monotonic_ns() + 10_000_000, soon)
    assert soon.came.wait(LATE_S) and not late.results and not forever.results
    assert len(waits.open) == len(fence.waiters) == 2


def test_waiting_calls_have_no_thread_in_the_driver(node: Node) -> None:
    target = node.create(4096)
    node.run((SLEEP, 500), out=[target])
    before = usage(driver_pid(node)).threads
    callers = [threading.Thread(target=node.wait, args=(target,)) for _ in range(NUM_CALLS)]
    for caller in callers:
        caller.start()
    time.sleep(0.2)
    was_busy = node.is_busy(target)
    during = usage(driver_pid(node)).threads
    for caller in callers:
        caller.join()
    assert was_busy and during == before
