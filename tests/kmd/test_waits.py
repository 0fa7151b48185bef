"""Calls that wait for fences: who ends them, when, and what they leave behind."""
from __future__ import annotations

import errno
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cermet.kmd import uapi
from cermet.kmd.fence import Fence
from cermet.kmd.waits import Waits
from tests.kmd.client import FOREVER, Node, address_of, environ, environment
from tests.kmd.driver_process import books, driver_pid, usage
from tests.kmd.fake_core import SLEEP

NUM_CALLS = 20
FOR_SUBMIT = uapi.CONSTANTS["DRM_SYNCOBJ_WAIT_FOR_SUBMIT"]
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


# --- sync objects -----------------------------------------------------------------------------------------------------


def wait_for_what_never_comes(node: Node) -> None:
    """For a job that nobody submits."""
    handles = uapi.ffi.new("__u32[1]", [node.call("SYNCOBJ_CREATE").handle])
    node.error("SYNCOBJ_WAIT", handles=address_of(handles), count_handles=1, flags=FOR_SUBMIT, timeout_nsec=FOREVER)


def fork(function: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            function()
        finally:
            os._exit(0)
    return child


def is_soon(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + LATE_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


@pytest.fixture
def queues(tmp_path: pathlib.Path) -> Iterator[tuple[Node, pathlib.Path]]:
    """An open file of a driver with the proposed queues, and the driver's log."""
    with environ(**environment(tmp_path / "s", FAKE_DRIVER_PROPOSALS="queues")), Node() as node:
        node.create(4096)                   # it has started altogether
        yield node, tmp_path / "s.log"


def test_a_wait_ends_with_its_caller_although_the_file_stays_open(queues: tuple[Node, pathlib.Path]) -> None:
    node, log = queues
    driver = driver_pid(node)
    before = usage(driver)
    children = [fork(lambda: wait_for_what_never_comes(node)) for _ in range(NUM_CALLS)]
    try:
        assert is_soon(lambda: f" {NUM_CALLS} calls waiting" in books(driver, log))
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert is_soon(lambda: " 0 calls waiting" in books(driver, log))
    assert is_soon(lambda: usage(driver).threads <= before.threads and usage(driver).fds <= before.fds)


@pytest.mark.parametrize("is_signalled", [False, True])
def test_nothing_is_written_to_a_caller_that_a_signal_took_away(queues: tuple[Node, pathlib.Path],
                                                                is_signalled: bool) -> None:
    node, log = queues
    handles = uapi.ffi.new("__u32[1]", [node.call("SYNCOBJ_CREATE").handle])
    number, struct = uapi.IOCTLS["DRM_IOCTL_SYNCOBJ_WAIT"]
    argument = uapi.ffi.new(f"{struct} *", {"handles": address_of(handles), "count_handles": 1, "flags": FOR_SUBMIT,
                                            "timeout_nsec": FOREVER})
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.siginterrupt(signal.SIGALRM, True)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        assert node.raw(number.value, address_of(argument)) == errno.EINTR
    finally:
        signal.signal(signal.SIGALRM, before)
    memory = uapi.ffi.buffer(argument)
    memory[:] = b"\xaa" * len(memory)       # the caller does something else with it
    if is_signalled:
        node.call("SYNCOBJ_SIGNAL", handles=address_of(handles), count_handles=1)
    assert is_soon(lambda: " 0 calls waiting" in books(driver_pid(node), log))
    time.sleep(0.1)
    assert bytes(memory) == b"\xaa" * len(memory)
