"""SUBMIT, PREP_BO and FINI_BO: what is reported, what is dropped, order, cores, timeout."""
from __future__ import annotations

import ctypes
import errno
import mmap
import pathlib
import signal
import struct
import threading
import time
from typing import Any

import pytest

from cermet.kmd import uapi
from tests.kmd.client import FOREVER, PAGE, Job, Mapping, Node, address_of, environ, environment, libc
from tests.kmd.fake_core import ADD, COPY, CORE, COUNT, CYCLES, FILL, HANG, INTERRUPTS, RAISE, SLEEP

JIFFY_S = 0.004


class Target:
    """A mapped BO that jobs write."""

    def __init__(self, node: Node, num_bytes: int = PAGE) -> None:
        self.bo = node.create(num_bytes)
        self.mapping: Mapping = node.mmap(self.bo.offset, num_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bo, name)

    def byte(self, index: int = 0) -> int:
        return self.mapping.read(index, 1)[0]


def fill_job(node: Node, target: Target, value: int, **members: int) -> Job:
    bo, words = node.program((FILL, target.dma_address, 1, value))
    return Job([(bo.dma_address, words)], [bo.handle], [target.handle], **members)


# --- submit: what is reported -----------------------------------------------------------------------------------------


def test_submit_and_wait(node: Node) -> None:
    source, target = Target(node), Target(node, 2 * PAGE)
    source.mapping.write(b"through the NPU")
    assert node.error("ROCKET_FINI_BO", handle=source.handle) == 0
    program = node.run((COPY, source.dma_address, target.dma_address + 5000, 15), out=[target])
    node.wait(target)
    assert target.mapping.read(5000, 15) == b"through the NPU"
    node.call("GEM_CLOSE", handle=program.handle)


def test_no_jobs_is_success_whatever_the_rest(node: Node) -> None:
    assert node.error("ROCKET_SUBMIT", jobs=8, job_count=0, job_struct_size=3, reserved=9) == 0


@pytest.mark.parametrize(("members", "expected"), [
    ({"job_struct_size": 39}, errno.EINVAL), ({"job_struct_size": 0}, errno.EINVAL), ({"reserved": 1}, errno.EINVAL),
    ({"job_count": 53_687_092}, errno.ENOMEM), ({"job_count": 0xFFFF_FFFF}, errno.ENOMEM),
    ({"jobs": 0}, errno.EFAULT), ({"jobs": 8}, errno.EFAULT)])
def test_reported_errors(node: Node, members: dict[str, int], expected: int) -> None:
    target = Target(node)
    job = fill_job(node, target, 1)
    record = uapi.ffi.new("struct drm_rocket_job *", job.record)
    right = {"jobs": address_of(record), "job_count": 1, "job_struct_size": 40}
    assert node.error("ROCKET_SUBMIT", **right | members) == expected
    node.wait(target)
    assert target.byte() == 0
    assert node.error("ROCKET_SUBMIT", **right) == 0


def test_jobs_that_cross_into_an_unmapped_page_submit_nothing(node: Node) -> None:
    target = Target(node)
    pages = mmap.mmap(-1, 2 * PAGE)
    start = address_of(uapi.ffi.from_buffer(pages))
    job = fill_job(node, target, 1)
    record = uapi.ffi.new("struct drm_rocket_job *", job.record)
    pages[PAGE - 40:PAGE] = bytes(uapi.ffi.buffer(record))
    libc.mprotect(ctypes.c_void_p(start + PAGE), PAGE, 0)
    at_the_end = start + PAGE - 40
    assert node.error("ROCKET_SUBMIT", jobs=at_the_end, job_count=2, job_struct_size=40) == errno.EFAULT
    node.wait(target)
    assert target.byte() == 0
    node.call("ROCKET_SUBMIT", jobs=at_the_end, job_count=1, job_struct_size=40)
    node.wait(target)
    assert target.byte() == 1
    libc.mprotect(ctypes.c_void_p(start + PAGE), PAGE, mmap.PROT_READ | mmap.PROT_WRITE)


def test_larger_strides_ignore_what_is_between(node: Node) -> None:
    targets = [Target(node) for _ in range(3)]
    jobs = [fill_job(node, target, 9, task_struct_size=24) for target in targets]
    buffer = uapi.ffi.new("char[]", b"\xff" * (3 * 56))
    for index, job in enumerate(jobs):
        record = uapi.ffi.new("struct drm_rocket_job *", job.record)
        uapi.ffi.memmove(buffer + index * 56, record, 40)
    node.call("ROCKET_SUBMIT", jobs=address_of(buffer), job_count=3, job_struct_size=56)
    for target in targets:
        node.wait(target)
        assert target.byte() == 9


def test_task_stride(node: Node) -> None:
    target = Target(node)
    one, words = node.program((ADD, target.dma_address, 1, 1))
    ten, _ = node.program((ADD, target.dma_address, 1, 10))
    tasks = uapi.ffi.new("__u32[]", [one.dma_address, words, 0xFFFF_FFFF, 0, ten.dma_address, words])
    job = Job([], out_handles=[target.handle], task_count=2, task_struct_size=16)
    job.record["tasks"] = address_of(tasks)
    node.submit(job)
    node.wait(target)
    assert target.byte() == 11


# --- submit: what is dropped ------------------------------------------------------------------------------------------

BROKEN = {
    "no tasks": lambda good, bo: {"task_count": 0},
    "small task stride": lambda good, bo: {"task_struct_size": 7},
    "tasks unreadable": lambda good, bo: {"tasks": 8},
    "many tasks": lambda good, bo: {"task_count": 134_217_728},
    "in list unreadable": lambda good, bo: {"in_bo_handles": 8},
    "out list unreadable": lambda good, bo: {"out_bo_handles": 8},
    "in list huge": lambda good, bo: {"in_bo_handle_count": 0xFFFF_FFFF},
    "out list huge": lambda good, bo: {"out_bo_handle_count": 0x8000_0000},
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_job_between_two_good_ones_is_dropped(node: Node, what: str) -> None:
    """The call succeeds, the others run, nobody is told."""
    targets = [Target(node) for _ in range(3)]
    jobs = [fill_job(node, target, 5) for target in targets]
    jobs[1].record.update(BROKEN[what](jobs[1].record, targets[1].bo))
    node.submit(*jobs)
    for target in targets:
        node.wait(target)
    assert [target.byte() for target in targets] == [5, 0, 5]


@pytest.mark.parametrize("lists", ["unknown in", "unknown out", "zero", "twice in", "twice out", "in and out"])
def test_wrong_handles_drop_the_job(node: Node, lists: str) -> None:
    target, other = Target(node), Target(node)
    program, words = node.program((FILL, target.dma_address, 1, 5))
    t, o = target.handle, other.handle
    inputs, outputs = {"unknown in": ([99], [t]), "unknown out": ([], [t, 99]), "zero": ([0], [t]),
                       "twice in": ([o, o], [t]), "twice out": ([], [t, t]), "in and out": ([t], [t])}[lists]
    node.submit(Job([(program.dma_address, words)], inputs, outputs))
    assert not node.is_busy(target)
    time.sleep(0.02)
    assert target.byte() == 0


def test_a_task_without_commands_drops_the_job(node: Node) -> None:
    target = Target(node)
    program, words = node.program((FILL, target.dma_address, 1, 5))
    node.submit(Job([(program.dma_address, words), (program.dma_address, 0)], [], [target.handle]))
    assert not node.is_busy(target)
    assert target.byte() == 0


def test_a_job_without_any_handle_runs(node: Node) -> None:
    target = Target(node)
    program, words = node.program((FILL, target.dma_address, 1, 5))
    node.submit(Job([(program.dma_address, words)]))
    deadline = time.monotonic() + 5
    while target.byte() != 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert target.byte() == 5


@pytest.mark.parametrize(("num_jobs", "num_tasks"), [(1, 1000), (300, 1), (20, 20)])
def test_many_jobs_and_tasks(node: Node, num_jobs: int, num_tasks: int) -> None:
    target = Target(node)
    program, words = node.program((ADD, target.dma_address, 1, 1))
    node.submit(*[Job([(program.dma_address, words)] * num_tasks, [], [target.handle]) for _ in range(num_jobs)])
    node.wait(target)
    assert target.byte() == num_jobs * num_tasks % 256


# --- wait -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout_ns", [0, 1, -1, -1 << 63, FOREVER])
def test_waiting_for_an_idle_bo(node: Node, timeout_ns: int) -> None:
    bo = node.create(PAGE)
    assert node.error("ROCKET_PREP_BO", handle=bo.handle, timeout_ns=timeout_ns) == 0


def test_wait_argument_errors(node: Node, second: Node) -> None:
    """reserved before the handle; handle 0 and another file's are unknown."""
    handle = node.create(PAGE).handle
    for name in ("ROCKET_PREP_BO", "ROCKET_FINI_BO"):
        assert node.error(name, handle=99, reserved=1) == errno.EINVAL
        assert node.error(name, handle=handle, reserved=1) == errno.EINVAL
        assert node.error(name, handle=99) == errno.ENOENT
        assert node.error(name, handle=0) == errno.ENOENT
        assert second.error(name, handle=handle) == errno.ENOENT
        assert node.error(name, handle=handle) == 0


def test_waiting_for_a_busy_bo(node: Node) -> None:
    target, source = Target(node), node.create(PAGE)
    program, words = node.program((SLEEP, 250), (FILL, target.dma_address, 1, 1))
    start = time.monotonic()
    node.submit(Job([(program.dma_address, words)], [program.handle, source.handle], [target.handle]))
    assert time.monotonic() - start < 0.2       # SUBMIT does not wait
    for past in (0, -1, 1, -1 << 63):
        assert node.error("ROCKET_PREP_BO", handle=target.handle, timeout_ns=past) == errno.EBUSY
    deadline_ns = time.monotonic_ns() + 50_000_000
    assert node.error("ROCKET_PREP_BO", handle=target.handle, timeout_ns=deadline_ns) == errno.ETIMEDOUT
    assert deadline_ns <= time.monotonic_ns()
    assert not node.is_busy(source)             # reading leaves no fence
    assert node.error("ROCKET_PREP_BO", handle=target.handle, timeout_ns=FOREVER) == 0
    assert target.byte() == 1 and time.monotonic() - start >= 0.25


def test_other_calls_of_the_file_go_on_while_one_waits(node: Node) -> None:
    target = Target(node)
    node.run((SLEEP, 300), out=[target])
    waiter = threading.Thread(target=node.wait, args=(target,))
    waiter.start()
    start = time.monotonic()
    for _ in range(20):
        node.call("GEM_CLOSE", handle=node.create(PAGE).handle)
    assert time.monotonic() - start < 0.25 and waiter.is_alive()
    waiter.join()


def test_many_threads_wait_at_once(node: Node) -> None:
    target = Target(node)
    node.run((SLEEP, 100), out=[target])
    results: list[int] = []

    def wait() -> None:
        results.append(node.error("ROCKET_PREP_BO", handle=target.handle, timeout_ns=FOREVER))
    threads = [threading.Thread(target=wait) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 50


def on_main_thread_signal(number: int, restart: bool) -> None:
    signal.signal(number, lambda *_: None)
    signal.siginterrupt(number, not restart)


def test_a_signal_interrupts_a_wait(node: Node) -> None:
    target = Target(node)
    node.run((SLEEP, 300), out=[target])
    before = signal.getsignal(signal.SIGALRM)
    try:
        on_main_thread_signal(signal.SIGALRM, restart=False)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        start = time.monotonic()
        assert node.error("ROCKET_PREP_BO", handle=target.handle, timeout_ns=FOREVER) == errno.EINTR
        assert time.monotonic() - start < 0.25
        on_main_thread_signal(signal.SIGALRM, restart=True)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert node.error("ROCKET_PREP_BO", handle=target.handle, timeout_ns=FOREVER) == 0
    finally:
        signal.signal(signal.SIGALRM, before)


def test_calls_that_do_not_wait_survive_a_storm_of_signals(node: Node) -> None:
    """Every CREATE_BO delivers its handle: none is interrupted half-way and lost."""
    before = signal.getsignal(signal.SIGALRM)
    try:
        on_main_thread_signal(signal.SIGALRM, restart=False)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        assert [node.create(PAGE).handle for _ in range(300)] == list(range(1, 301))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- order and cores --------------------------------------------------------------------------------------------------


def test_jobs_of_a_file_run_in_order(node: Node) -> None:
    target, copy = Target(node), Target(node)
    node.run((SLEEP, 20), (FILL, target.dma_address, 1, 3), out=[target])
    node.run((COPY, target.dma_address, copy.dma_address, 1), out=[copy])
    node.run((FILL, target.dma_address, 1, 9), out=[target])
    node.wait(target)
    assert (target.byte(), copy.byte()) == (9, 3)


def core_of(node: Node, milliseconds: int, result: Target) -> None:
    node.run((CORE, result.dma_address), (SLEEP, milliseconds), out=[result])


def test_files_spread_over_cores_and_one_file_stays_on_its_core(fake_driver: object) -> None:
    """Least loaded core, lowest index first; while work is in flight the file does not move."""
    nodes = [Node() for _ in range(4)]
    results = [[Target(node), Target(node)] for node in nodes]
    for node, (first, _) in zip(nodes, results, strict=True):
        first.mapping.write(b"\xff")
        core_of(node, 150, first)
    for node, (_, later) in zip(nodes, results, strict=True):
        later.mapping.write(b"\xff")
        core_of(node, 1, later)
    for node, targets in zip(nodes, results, strict=True):
        for target in targets:
            node.wait(target)
    assert [first.byte() for first, _ in results] == [0, 1, 2, 0]
    assert [later.byte() for _, later in results] == [0, 1, 2, 0]
    core_of(nodes[2], 1, results[2][0])     # nothing in flight: chosen anew
    nodes[2].wait(results[2][0])
    assert results[2][0].byte() == 0
    for node in nodes:
        node.close()


def test_a_file_waits_for_another_file_that_writes_a_shared_bo(node: Node, second: Node) -> None:
    """The second file reads what the first still has to write; its own core is free all the time."""
    bo = node.create(PAGE)
    fd = node.call("PRIME_HANDLE_TO_FD", handle=bo.handle).fd
    shared = second.call("PRIME_FD_TO_HANDLE", fd=fd)
    result = Target(second)
    start = time.monotonic()
    node.run((SLEEP, 200), out=[bo])
    program, words = second.program((FILL, result.dma_address, 1, 1))
    second.submit(Job([(program.dma_address, words)], [shared.handle], [result.handle]))
    second.wait(result)
    assert time.monotonic() - start >= 0.2


def test_a_reader_leaves_no_fence_for_a_writer_in_another_file(node: Node, second: Node) -> None:
    bo = node.create(PAGE)
    fd = node.call("PRIME_HANDLE_TO_FD", handle=bo.handle).fd
    shared = second.call("PRIME_FD_TO_HANDLE", fd=fd)
    program, words = node.program((SLEEP, 400))
    guard = node.create(PAGE)
    node.submit(Job([(program.dma_address, words)], [bo.handle], [guard.handle]))
    result = Target(second)
    second.run((FILL, result.dma_address, 1, 1), out=[shared, result])
    second.wait(result)
    assert node.is_busy(guard)


# --- faults and the timeout -------------------------------------------------------------------------------------------

FAILING = {
    "hang": [(HANG,)],
    "no DPU interrupt": [(INTERRUPTS, 0xC00)],
    "fault": [(FILL, 0xF000_0000, 1, 1)],
    "too many cycles": [(CYCLES, 600_000_000)],
    "simulator bug": [(RAISE,)],
}


@pytest.mark.parametrize("kind", FAILING)
def test_timeout(node: Node, kind: str) -> None:
    """500 ms on the core, a reset, PREP_BO says 0, and the next job is right."""
    target, count = Target(node), Target(node)
    start = time.monotonic()
    node.run((FILL, target.dma_address, 1, 1), *FAILING[kind], out=[target])
    node.run((COUNT, count.dma_address), (ADD, target.dma_address, 1, 1), out=[target, count])
    node.wait(target)
    spent = time.monotonic() - start
    assert 0.5 <= spent < 2
    assert target.byte() == 2           # a failed job's output holds what was written
    assert count.byte() == 1            # the core was reset in between


def test_unmapped_program_times_out(node: Node) -> None:
    target = node.create(PAGE)
    start = time.monotonic()
    node.submit(Job([(0x8000_0000, 8)], [], [target.handle]))
    node.wait(target)
    assert time.monotonic() - start >= 0.5


def test_a_hang_does_not_disturb_another_file(node: Node, second: Node) -> None:
    target, other = node.create(PAGE), Target(second)
    node.run((HANG,), out=[target])
    start = time.monotonic()
    for value in range(5):
        second.run((FILL, other.dma_address, 1, value), out=[other])
    second.wait(other)
    assert time.monotonic() - start < 0.4 and node.is_busy(target)
    node.wait(target)


def test_slow_simulation_is_no_timeout(node: Node) -> None:
    target = Target(node)
    node.run((SLEEP, 600), (FILL, target.dma_address, 1, 1), out=[target])
    node.run((ADD, target.dma_address, 1, 1), out=[target])
    node.wait(target)
    assert target.byte() == 2


def test_a_bo_closed_while_a_job_uses_it_unlisted_faults(node: Node) -> None:
    """Weights that no list names are unmapped with their handle; those that are listed stay."""
    target, weights = Target(node), node.create(PAGE)
    listed, words = node.program((SLEEP, 100), (COPY, weights.dma_address, target.dma_address, 1),
                                 (FILL, target.dma_address + 1, 1, 1))
    node.submit(Job([(listed.dma_address, words)], [listed.handle], [target.handle]))
    node.call("GEM_CLOSE", handle=weights.handle)
    node.call("GEM_CLOSE", handle=listed.handle)
    start = time.monotonic()
    node.wait(target)
    assert time.monotonic() - start > 0.3 and target.byte(1) == 0


def test_without_quirks_all_jobs_are_queued_or_none(tmp_path: pathlib.Path) -> None:
    """The fourth job is refused, and with it the third. What each was looked at is counted once."""
    values = environment(tmp_path / "s", FAKE_DRIVER_QUIRKS="none", FAKE_DRIVER_FAULTS="job-dropped@4")
    with environ(**values), Node() as node:
        targets = [Target(node) for _ in range(4)]
        jobs = [fill_job(node, target, 7) for target in targets]
        node.submit(*jobs[:2])
        with pytest.raises(OSError, match="SUBMIT") as raised:
            node.submit(*jobs[2:])
        assert raised.value.errno == errno.ENOMEM
        for target in targets:
            node.wait(target)
        assert [target.byte() for target in targets] == [7, 7, 0, 0]


def test_without_quirks_the_queue_is_full_for_all_jobs_of_a_submit(tmp_path: pathlib.Path) -> None:
    """Each of them has room, but not all: none runs, and none waits for a core that nobody wakes."""
    with environ(**environment(tmp_path / "s", FAKE_DRIVER_QUIRKS="none")), Node() as node:
        target = Target(node)
        bo, words = node.program((FILL, target.dma_address, 1, 7))
        job = Job([(bo.dma_address, words)] * (1 << 20), [bo.handle], [target.handle])
        with pytest.raises(OSError, match="SUBMIT") as raised:
            node.submit(*[job] * 5)
        assert raised.value.errno == errno.ENOMEM
        assert not node.is_busy(target) and target.byte() == 0


@pytest.mark.parametrize("count", [1 << 14, (1 << 14) + 1, 1 << 20])
def test_without_quirks_an_array_with_wide_gaps_has_a_limit(tmp_path: pathlib.Path, count: int) -> None:
    """Of 64 MiB, as the driver reads what lies between the structs too: a caller can map more than there is memory."""
    gap = 1 << 12
    with environ(**environment(tmp_path / "s", FAKE_DRIVER_QUIRKS="none")), Node() as node:
        target = Target(node)
        bo, words = node.program((FILL, target.dma_address, 1, 7))
        tasks = bytearray((1 << 14) * gap)
        for place in range(0, len(tasks), gap):
            tasks[place:place + 8] = struct.pack("<II", bo.dma_address, words)
        job = Job([], [bo.handle], [target.handle], task_count=count, task_struct_size=gap)
        job.record["tasks"] = address_of(uapi.ffi.from_buffer(tasks))
        if count * gap <= len(tasks):
            node.submit(job)        # so many tasks that their interrupts alone outlast the timeout
            return
        with pytest.raises(OSError, match="SUBMIT") as raised:
            node.submit(job)
        assert raised.value.errno == errno.ENOMEM
