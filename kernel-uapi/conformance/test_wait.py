"""PREP_BO and FINI_BO: deadlines, what is waited for, caches."""
from __future__ import annotations

import errno
import signal
import threading
import time

import pytest

from .laboratory import HANG_LIMIT_S, JOB_TIMEOUT_S, Laboratory, timed_out
from .uapi import FOREVER, Node

PAST = pytest.mark.parametrize("timeout_ns", [0, 1, -1, -1 << 63], ids=["zero", "one", "minus-one", "min"])


@PAST
def test_idle_with_a_past_deadline(node: Node, timeout_ns: int) -> None:
    assert node.error("PREP_BO", handle=node.create().handle, timeout_ns=timeout_ns) == 0


def test_idle_forever(node: Node) -> None:
    assert node.error("PREP_BO", handle=node.create().handle, timeout_ns=FOREVER) == 0


@pytest.mark.parametrize("name", ["PREP_BO", "FINI_BO"])
def test_reserved(node: Node, name: str) -> None:
    assert node.error(name, handle=node.create().handle, reserved=1) == errno.EINVAL


@pytest.mark.parametrize("name", ["PREP_BO", "FINI_BO"])
def test_reserved_before_the_handle(node: Node, name: str) -> None:
    assert node.error(name, handle=99, reserved=1 << 31) == errno.EINVAL


@pytest.mark.parametrize("name", ["PREP_BO", "FINI_BO"])
@pytest.mark.parametrize("handle", [0, 2, 0xFFFF_FFFF], ids=hex)
def test_unknown_handle(node: Node, name: str, handle: int) -> None:
    node.create()
    assert node.error(name, handle=handle) == errno.ENOENT


@pytest.mark.parametrize("name", ["PREP_BO", "FINI_BO"])
def test_another_files_handle(node: Node, second: Node, name: str) -> None:
    handle = node.create().handle
    assert second.error(name, handle=handle) == errno.ENOENT


@pytest.mark.parametrize("name", ["PREP_BO", "FINI_BO"])
def test_closed_handle(node: Node, name: str) -> None:
    handle = node.create().handle
    node.call("GEM_CLOSE", handle=handle)
    assert node.error(name, handle=handle) == errno.ENOENT


def test_need_not_pair(lab: Laboratory, node: Node) -> None:
    buffer = lab.buffer(node, b"data")
    for name in ("FINI_BO", "FINI_BO", "PREP_BO", "PREP_BO", "PREP_BO", "FINI_BO"):
        assert node.error(name, handle=buffer.handle) == 0
    assert buffer.get(4) == b"data"


@timed_out
@PAST
def test_busy_with_a_past_deadline(lab: Laboratory, node: Node, timeout_ns: int) -> None:
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    assert node.error("PREP_BO", handle=target.handle, timeout_ns=timeout_ns) == errno.EBUSY
    node.prep(target.bo)


@timed_out
def test_busy_until_a_short_deadline(lab: Laboratory, node: Node) -> None:
    """ETIMEDOUT, and not early."""
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    deadline = time.monotonic_ns() + 50_000_000
    assert node.error("PREP_BO", handle=target.handle, timeout_ns=deadline) == errno.ETIMEDOUT
    assert time.monotonic_ns() >= deadline
    assert node.is_busy(target.bo)
    node.prep(target.bo)


@timed_out
def test_deadline_is_absolute(lab: Laboratory, node: Node) -> None:
    """A duration would be a time just after boot: polling, not waiting."""
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    start = time.monotonic()
    assert node.error("PREP_BO", handle=target.handle, timeout_ns=100_000_000) == errno.EBUSY
    assert time.monotonic() - start < JOB_TIMEOUT_S
    node.prep(target.bo)


@timed_out
def test_busy_until_done(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node)
    start = time.monotonic()
    node.submit(lab.hang(node, [target]))
    node.error("PREP_BO", handle=target.handle, timeout_ns=FOREVER)
    assert JOB_TIMEOUT_S <= time.monotonic() - start < HANG_LIMIT_S
    assert not node.error("PREP_BO", handle=target.handle, timeout_ns=0) == errno.EBUSY


@timed_out
def test_submit_does_not_wait(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node)
    job = lab.hang(node, [target])
    start = time.monotonic()
    node.submit(job)
    assert time.monotonic() - start < JOB_TIMEOUT_S / 2
    node.prep(target.bo)


@pytest.mark.quirk("unfenced-reads")
@timed_out
def test_what_is_only_read_is_not_waited_for(lab: Laboratory, node: Node) -> None:
    """Mainline's rule, which user space must know: readers leave no fence."""
    target, source = lab.buffer(node), lab.buffer(node)
    node.submit(lab.hang(node, [target], [source]))
    assert not node.is_busy(source.bo)
    node.prep(target.bo)


@timed_out
def test_what_is_read_is_waited_for(lab: Laboratory, node: Node) -> None:
    """PREP_BO is asked before the CPU writes: the NPU must have read by then."""
    target, source = lab.buffer(node), lab.buffer(node)
    node.submit(lab.hang(node, [target], [source]))
    was_busy = node.is_busy(source.bo)
    node.prep(target.bo)
    assert was_busy


@timed_out
def test_every_output_is_waited_for(lab: Laboratory, node: Node) -> None:
    targets = [lab.buffer(node) for _ in range(5)]
    node.submit(lab.hang(node, targets))
    assert all(node.is_busy(target.bo) for target in targets)
    node.prep(targets[0].bo)
    for target in targets:
        assert node.error("PREP_BO", handle=target.handle, timeout_ns=0) != errno.EBUSY


@timed_out
def test_signal_interrupts(lab: Laboratory, node: Node) -> None:
    """And the same deadline goes on holding when the call is made again."""
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    deadline = time.monotonic_ns() + 200_000_000
    assert node.error("PREP_BO", handle=target.handle, timeout_ns=deadline) == errno.EINTR
    assert time.monotonic_ns() < deadline
    assert node.error("PREP_BO", handle=target.handle, timeout_ns=deadline) == errno.ETIMEDOUT
    assert time.monotonic_ns() >= deadline
    node.prep(target.bo)


@timed_out
def test_signal_with_restart(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    assert node.error("PREP_BO", handle=target.handle, timeout_ns=FOREVER) != errno.EINTR
    assert not node.error("PREP_BO", handle=target.handle, timeout_ns=0) == errno.EBUSY


@timed_out
def test_many_threads_wait(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(node.prep(target.bo))) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 32 and len(set(results)) == 1 and results[0] in (0, errno.EIO)


@timed_out
def test_other_calls_go_on_meanwhile(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    waiter = threading.Thread(target=lambda: node.prep(target.bo))
    waiter.start()
    start = time.monotonic()
    for _ in range(50):
        node.call("GEM_CLOSE", handle=node.create().handle)
    assert waiter.is_alive() and time.monotonic() - start < JOB_TIMEOUT_S
    waiter.join()


@timed_out
def test_handle_closed_while_waiting(lab: Laboratory, node: Node) -> None:
    """The wait keeps the buffer."""
    target = lab.buffer(node)
    node.submit(lab.hang(node, [target]))
    results: list[int] = []
    waiter = threading.Thread(target=lambda: results.append(node.prep(target.bo)))
    waiter.start()
    time.sleep(0.05)
    node.call("GEM_CLOSE", handle=target.handle)
    waiter.join()
    assert results[0] in (0, errno.EIO)


# --- caches -----------------------------------------------------------------------------------------------------------


def test_cpu_writes_reach_the_npu_after_fini(lab: Laboratory, node: Node) -> None:
    data = bytes(range(64))
    source, target = lab.buffer(node, data), lab.buffer(node)
    node.submit(lab.copy(source, target))
    assert target.get() == data


def test_npu_writes_reach_the_cpu_after_prep(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node, b"\x55" * 64)
    for value in (1, 2, 3):
        node.submit(lab.fill(target, value))
        assert target.get() == bytes([value]) * 64


@pytest.mark.simulated
def test_missing_fini_shows_stale_data(lab: Laboratory, node: Node, request: pytest.FixtureRequest) -> None:
    """What hardware may do and the simulated caches always do."""
    if request.config.getoption("--coherent"):
        pytest.skip("the device was started without caches")
    source, target = lab.buffer(node, b"old!" * 16), lab.buffer(node)
    source.mapping.write(b"new!" * 16)
    node.submit(lab.copy(source, target))
    assert target.get() == b"old!" * 16


@pytest.mark.simulated
def test_missing_prep_shows_stale_data(lab: Laboratory, node: Node, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--coherent"):
        pytest.skip("the device was started without caches")
    target, other = lab.buffer(node), lab.buffer(node)
    node.submit(lab.fill(target, 7), lab.fill(other, 7))
    other.get()
    assert target.mapping.read(0, 64) == bytes(64)
    assert target.get() == bytes([7]) * 64


@timed_out
def test_sync_also_after_a_timeout(lab: Laboratory, node: Node) -> None:
    """The CPU sees what was written so far, though the wait failed."""
    target = lab.buffer(node)
    node.submit(lab.fill(target, 9), lab.hang(node, [target]))
    time.sleep(0.1)
    assert node.is_busy(target.bo)
    assert target.mapping.read(0, 64) == bytes([9]) * 64
    node.prep(target.bo)


def test_fini_of_a_large_buffer(lab: Laboratory, node: Node) -> None:
    buffer = lab.buffer(node, 32 << 20)
    buffer.put(b"end", (32 << 20) - 3)
    assert node.fini(buffer.bo) == 0 and buffer.get(3, (32 << 20) - 3) == b"end"
