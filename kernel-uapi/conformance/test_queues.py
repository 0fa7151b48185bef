"""Proposal "queues": features, address spaces, queues, submits. Skipped where GET_PARAM does not name them."""
from __future__ import annotations

import ctypes
import errno
import itertools
import mmap
import os
import signal
import threading
import time

import pytest

from . import programs
from .laboratory import Laboratory, in_child, timed_out
from .queues import DONE, QUEUES, SUBMIT_SIZE, Bench, QueuedJob
from .uapi import PAGE, Job, Node, QueueTask, Sync

MS = 1_000_000


# --- features ---------------------------------------------------------------------------------------------------------


def test_unknown_to_mainline(node: Node) -> None:
    """How user space finds out: every number of the proposal fails with EINVAL where it does not exist."""
    if node.features:
        pytest.skip("this node has queues")
    for name in ("GET_PARAM", "VM_CREATE", "VM_DESTROY", "VM_BIND", "QUEUE_CREATE", "QUEUE_DESTROY", "QUEUE_SUBMIT",
                 "JOB_STATUS"):
        assert node.error(name) == errno.EINVAL


def test_params(bench: Bench) -> None:
    values = [bench.node.call("GET_PARAM", param=param).value for param in range(6)]
    features, cores, programs_of_a_task, timeout_ns, most_ns, depth = values
    assert features & QUEUES and 1 <= cores <= 32 and programs_of_a_task >= 1 and 1 <= depth
    assert 0 < timeout_ns <= most_ns


@pytest.mark.parametrize("members", [dict(param=6), dict(param=0xFFFF_FFFF), dict(param=0, pad=1)],
                         ids=["next", "last", "pad"])
def test_param_unknown(bench: Bench, members: dict[str, int]) -> None:
    assert bench.node.error("GET_PARAM", **members) == errno.EINVAL


def test_first_interface_still_works(bench: Bench) -> None:
    assert bench.lab.works(bench.node) and bench.lab.works(bench.lab.open())


def test_capability_of_sync_objects(bench: Bench) -> None:
    assert bench.node.call("GET_CAP", capability=0x13).value == 1


# --- address spaces ---------------------------------------------------------------------------------------------------


def test_vm_flags(bench: Bench) -> None:
    assert bench.node.error("VM_CREATE", flags=1) == errno.EINVAL


def test_vm_is_not_the_files_own(bench: Bench) -> None:
    """Nothing is bound in a new one, also not what the file sees."""
    queue = bench.queue()
    buffer = bench.lab.buffer(bench.node, programs.fill(0, 0, 1))
    bench.node.call("VM_DESTROY", vm=bench.vm)
    assert bench.node.error("VM_BIND", vm=bench.vm, handle=buffer.handle) == errno.ENOENT
    assert bench.node.error("QUEUE_DESTROY", queue=queue) == 0


@pytest.mark.parametrize(("members", "expected"), [
    (dict(op=2), errno.EINVAL), (dict(pad=1), errno.EINVAL), (dict(vm=0), errno.ENOENT), (dict(vm=99), errno.ENOENT),
    (dict(handle=0), errno.ENOENT), (dict(handle=99), errno.ENOENT), (dict(address=1), errno.EINVAL),
    (dict(address=2048), errno.EINVAL), (dict(address=1 << 32), errno.EINVAL),
    (dict(address=(1 << 32) - PAGE + 1), errno.EINVAL), (dict(address=(1 << 64) - PAGE), errno.EINVAL),
    (dict(op=1, handle=1, address=1 << 20), errno.EINVAL), (dict(op=1, handle=0, address=1 << 20), errno.ENOENT)],
    ids=["op", "pad", "vm-zero", "vm-unknown", "handle-zero", "handle-unknown", "odd", "half-page", "33-bits",
         "last-odd", "wraps", "unmap-with-handle", "unmap-nothing"])
def test_bind_refused(bench: Bench, members: dict[str, int], expected: int) -> None:
    bo = bench.node.create()
    assert bench.node.error("VM_BIND", **dict(vm=bench.vm, handle=bo.handle) | members) == expected
    assert bench.node.error("VM_BIND", vm=bench.vm, handle=bo.handle) == 0


def test_unknown_operation_changes_nothing(bench: Bench) -> None:
    bo = bench.node.create()
    bench.node.call("VM_BIND", vm=bench.vm, handle=bo.handle)
    assert bench.node.error("VM_BIND", vm=bench.vm, op=2) == errno.EINVAL
    assert bench.node.error("VM_BIND", vm=bench.vm, op=1) == 0


def test_bind_at_the_end_of_32_bits(bench: Bench) -> None:
    bo, larger = bench.node.create(), bench.node.create(2 * PAGE)
    last = (1 << 32) - PAGE
    assert bench.node.error("VM_BIND", vm=bench.vm, handle=larger.handle, address=last) == errno.EINVAL
    assert bench.node.error("VM_BIND", vm=bench.vm, handle=bo.handle, address=last) == 0


@pytest.mark.parametrize("address", [0, PAGE, 2 * PAGE, 3 * PAGE], ids=hex)
def test_bind_over_another(bench: Bench, address: int) -> None:
    first, second = bench.node.create(2 * PAGE), bench.node.create(2 * PAGE)
    assert bench.node.error("VM_BIND", vm=bench.vm, handle=first.handle, address=2 * PAGE) == 0
    expected = 0 if address == 0 else errno.EEXIST
    assert bench.node.error("VM_BIND", vm=bench.vm, handle=second.handle, address=address) == expected


def test_unbind_and_bind_again(bench: Bench) -> None:
    bo = bench.node.create()
    for _ in range(3):
        assert bench.node.error("VM_BIND", vm=bench.vm, handle=bo.handle, address=PAGE) == 0
        assert bench.node.error("VM_BIND", vm=bench.vm, op=1, address=PAGE) == 0
    assert bench.node.error("VM_BIND", vm=bench.vm, op=1, address=PAGE) == errno.ENOENT


def test_unbind_in_the_middle(bench: Bench) -> None:
    bo = bench.node.create(2 * PAGE)
    bench.node.call("VM_BIND", vm=bench.vm, handle=bo.handle, address=0)
    assert bench.node.error("VM_BIND", vm=bench.vm, op=1, address=PAGE) == errno.ENOENT


def test_binding_keeps_the_buffer(bench: Bench) -> None:
    """The handle may go; mainline would unmap the buffer with it."""
    queue, target = bench.queue(), bench.buffer()
    source = bench.buffer(bytes(range(64)))
    job = bench.copy(queue, source, target)
    source.close()
    bench.submit(job)
    assert bench.ended(queue).error == 0 and target.get() == bytes(range(64))


def test_one_buffer_at_two_addresses(bench: Bench) -> None:
    queue, target = bench.queue(), bench.buffer()
    source = bench.buffer(b"\5" * 64)
    bench.bind(source, 1 << 28)
    bench.submit(bench.job(queue, programs.copy(1 << 28, target.address)))
    assert bench.ended(queue).error == 0 and target.get(1) == b"\5"


def test_several_queues_share_an_address_space(bench: Bench) -> None:
    """Bound once, used by a queue of every core."""
    cores = int(bench.node.call("GET_PARAM", param=1).value)
    queues = [bench.queue(1 << core) for core in range(cores)]
    source, targets = bench.buffer(b"\6" * 64), [bench.buffer() for _ in queues]
    bench.submit(*[bench.copy(queue, source, target) for queue, target in zip(queues, targets, strict=True)])
    for core, (queue, target) in enumerate(zip(queues, targets, strict=True)):
        status = bench.ended(queue)
        assert (status.error, status.core) == (0, core) and target.get(1) == b"\6"


@timed_out
def test_address_spaces_of_a_file_are_apart(bench: Bench) -> None:
    """The same address is another buffer, or none, in another one."""
    other = Bench.make(bench.lab, bench.node)
    target, elsewhere = bench.buffer(), bench.lab.buffer(bench.node)
    other.bind(elsewhere, target.address)
    queue = other.queue()
    other.submit(other.job(queue, programs.fill(target.address, target.address, 7)))
    assert other.ended(queue).error == 0
    assert (target.get(1), elsewhere.get(1)) == (b"\0", b"\7")
    secret = bench.buffer()
    other.submit(other.job(queue, programs.copy(secret.address, target.address)))
    assert other.ended(queue).error == errno.EFAULT


def test_numbers_are_of_one_file(bench: Bench, second: Node) -> None:
    queue, sync = bench.queue(), bench.sync()
    assert second.error("QUEUE_CREATE", vm=bench.vm, core_mask=1) == errno.ENOENT
    assert second.error("VM_DESTROY", vm=bench.vm) == errno.ENOENT
    assert second.error("QUEUE_DESTROY", queue=queue) == errno.ENOENT
    assert second.error("JOB_STATUS", queue=queue) == errno.ENOENT
    assert second.error("SYNCOBJ_DESTROY", handle=sync) == errno.EINVAL


def test_address_space_outlives_its_number(bench: Bench) -> None:
    queue, target = bench.queue(), bench.buffer()
    job = bench.fill(queue, target, 3)
    bench.node.call("VM_DESTROY", vm=bench.vm)
    assert bench.node.error("VM_DESTROY", vm=bench.vm) == errno.ENOENT
    bench.submit(job)
    assert bench.ended(queue).error == 0 and target.get(1) == b"\3"


def test_many_address_spaces(bench: Bench) -> None:
    numbers = [int(bench.node.call("VM_CREATE").vm) for _ in range(1000)]
    assert len(set(numbers)) == 1000 and 0 not in numbers
    assert all(bench.node.error("VM_DESTROY", vm=number) == 0 for number in numbers)


# --- queues -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "expected"), [
    (dict(core_mask=0), errno.EINVAL), (dict(core_mask=1 << 31), errno.EINVAL), (dict(flags=1), errno.EINVAL),
    (dict(vm=0), errno.ENOENT), (dict(vm=99), errno.ENOENT), (dict(timeout_ns=(1 << 64) - 1), errno.EINVAL)],
    ids=["no-core", "core-31", "flags", "vm-zero", "vm-unknown", "timeout"])
def test_queue_refused(bench: Bench, members: dict[str, int], expected: int) -> None:
    assert bench.node.error("QUEUE_CREATE", **dict(vm=bench.vm, core_mask=1) | members) == expected


def test_timeout_limit(bench: Bench) -> None:
    most_ns = int(bench.node.call("GET_PARAM", param=4).value)
    assert bench.node.error("QUEUE_CREATE", vm=bench.vm, core_mask=1, timeout_ns=most_ns) == 0
    assert bench.node.error("QUEUE_CREATE", vm=bench.vm, core_mask=1, timeout_ns=most_ns + 1) == errno.EINVAL


@pytest.mark.parametrize("core", [0, 1, 2])
def test_queue_runs_where_it_may(bench: Bench, core: int) -> None:
    if core >= bench.node.call("GET_PARAM", param=1).value:
        pytest.skip("not so many cores")
    queue, target = bench.queue(1 << core), bench.buffer()
    for _ in range(4):
        bench.submit(bench.fill(queue, target, 1))
        assert bench.ended(queue).core == core


@timed_out
def test_queue_of_several_cores_takes_a_free_one(bench: Bench) -> None:
    if bench.node.call("GET_PARAM", param=1).value < 2:
        pytest.skip("one core")
    busy, free = bench.queue(0b01), bench.queue(0b11)
    bench.submit(bench.hang(busy))
    bench.submit(bench.fill(free, bench.buffer(), 1))
    assert bench.ended(free).core == 1
    bench.ended(busy)


def test_jobs_of_a_queue_are_in_order(bench: Bench) -> None:
    queue, a, b = bench.queue(), bench.buffer(), bench.buffer()
    jobs = [job for value in range(1, 20) for job in (bench.fill(queue, a, value), bench.copy(queue, a, b))]
    assert bench.submit(*jobs) == list(range(1, 39))
    assert bench.ended(queue).error == 0 and b.get(1) == bytes([19])
    times = [bench.status(queue, number) for number in range(1, 39)]
    assert all(one.end_ns <= following.start_ns for one, following in itertools.pairwise(times))


@timed_out
def test_destroyed_queue_runs_its_jobs(bench: Bench) -> None:
    queue, target = bench.queue(timeout_ns=100 * MS), bench.buffer()
    sync = bench.sync()
    bench.submit(bench.hang(queue))
    bench.submit(bench.fill(queue, target, 8, signals=[sync]))
    bench.node.call("QUEUE_DESTROY", queue=queue)
    assert bench.node.error("QUEUE_DESTROY", queue=queue) == errno.ENOENT
    assert bench.submit_error(bench.fill(queue, target, 9)) == errno.ENOENT
    assert bench.wait_error([sync]) == 0 and target.get(1) == b"\10"


def test_many_queues(bench: Bench) -> None:
    queues = [bench.queue() for _ in range(200)]
    targets = [bench.buffer() for _ in range(10)]
    for index, queue in enumerate(queues):
        bench.submit(bench.fill(queue, targets[index % 10], 1))
    assert all(bench.ended(queue).error == 0 for queue in queues)
    assert all(bench.node.error("QUEUE_DESTROY", queue=queue) == 0 for queue in queues)


@timed_out
def test_process_killed_with_queues_full(lab: Laboratory, second: Node) -> None:
    def submit_and_die() -> None:
        bench = Bench.make(lab, lab.open())
        queues = [bench.queue(timeout_ns=100 * MS) for _ in range(3)]
        bench.submit(*[bench.hang(queue) for queue in queues for _ in range(5)])
        os.kill(os.getpid(), signal.SIGKILL)
    if not second.features & QUEUES:
        pytest.skip("no queues on this node")
    assert in_child(submit_and_die) == -signal.SIGKILL
    assert lab.works(second)
    time.sleep(1)
    assert all(lab.works(lab.open()) for _ in range(3))


# --- submits ----------------------------------------------------------------------------------------------------------


def test_no_jobs(bench: Bench) -> None:
    assert bench.submit_error() == 0


@pytest.mark.parametrize("members", [dict(flags=1), dict(job_struct_size=SUBMIT_SIZE - 1), dict(job_struct_size=0),
                                     dict(job_struct_size=0xFFFF_FFFF)],
                         ids=["flags", "short", "zero", "huge"])
def test_call_refused(bench: Bench, members: dict[str, int]) -> None:
    queue, target = bench.queue(), bench.buffer()
    assert bench.submit_error(bench.fill(queue, target, 1), **members) == errno.EINVAL
    assert bench.failed_job == 1
    assert bench.status_error(queue) == errno.EINVAL        # nothing was queued


def test_too_many_jobs(bench: Bench) -> None:
    job = bench.fill(bench.queue(), bench.buffer(), 1)
    assert bench.submit_error(job, job_count=0xFFFF_FFFF) in (errno.ENOMEM, errno.EFAULT)


def test_job_array_unreadable(bench: Bench) -> None:
    job = bench.fill(bench.queue(), bench.buffer(), 1)
    assert bench.submit_error(job, jobs=PAGE) == errno.EFAULT


WRONG = {
    "flags": (dict(flags=1), errno.EINVAL), "queue-zero": (dict(queue=0), errno.ENOENT),
    "queue-unknown": (dict(queue=99), errno.ENOENT), "no-task": (dict(task_count=0), errno.EINVAL),
    "task-size": (dict(task_struct_size=ctypes.sizeof(QueueTask) - 1), errno.EINVAL),
    "tasks-unreadable": (dict(tasks=PAGE), errno.EFAULT), "tasks-wrap": (dict(tasks=(1 << 64) - 8), errno.EFAULT),
    "many-tasks": (dict(task_count=0xFFFF_FFFF), errno.ENOMEM), "syncs-unreadable":
    (dict(sync_count=1, syncs=PAGE), errno.EFAULT),
    "sync-size": (dict(sync_count=1, sync_struct_size=ctypes.sizeof(Sync) - 1), errno.EINVAL),
    "many-syncs": (dict(sync_count=0xFFFF_FFFF), errno.ENOMEM),
    "in-unreadable": (dict(in_bo_handle_count=1, in_bo_handles=PAGE), errno.EFAULT),
    "out-unreadable": (dict(out_bo_handle_count=1, out_bo_handles=PAGE), errno.EFAULT),
    "many-handles": (dict(in_bo_handle_count=0xFFFF_FFFF), errno.ENOMEM),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_job_is_reported_and_none_runs(bench: Bench, kind: str) -> None:
    """Between two good ones; the caller learns which."""
    members, expected = WRONG[kind]
    queue, targets = bench.queue(), [bench.buffer() for _ in range(3)]
    jobs = [bench.fill(queue, target, 1) for target in targets]
    wrong = bench.fill(queue, targets[1], 1, **members)
    assert bench.submit_error(jobs[0], wrong, jobs[2]) == expected
    assert bench.failed_job == 1
    assert bench.status_error(queue) == errno.EINVAL
    assert [target.get(1) for target in targets] == [b"\0"] * 3
    assert bench.submit(*jobs) == [1, 2, 3] and bench.ended(queue).error == 0


@pytest.mark.parametrize("task", [(8, 4, 1, 0), (0, 0, 1, 0), (0, 131073, 1, 0), (0, 4, 0, 0), (0, 4, 1 << 31, 0),
                                  (0, 4, 1, 2)],
                         ids=["unaligned", "no-words", "many-words", "no-program", "many-programs", "flags"])
def test_wrong_task(bench: Bench, task: tuple[int, int, int, int]) -> None:
    assert bench.submit_error(QueuedJob(bench.queue(), [task])) == errno.EINVAL


def test_handles_unknown_and_twice(bench: Bench) -> None:
    queue, target = bench.queue(), bench.buffer()
    for reads, writes, expected in (([99], [], errno.ENOENT), ([], [0], errno.ENOENT),
                                    ([target.handle], [target.handle], errno.EINVAL)):
        job = bench.fill(queue, target, 1, reads=reads, writes=writes)
        assert bench.submit_error(job) == expected


def test_larger_structs(bench: Bench) -> None:
    """Of a newer caller: zeros behind the known part are fine, anything else is not."""
    queue, target = bench.queue(), bench.buffer()
    job = bench.fill(queue, target, 1)
    room = (ctypes.c_ubyte * (SUBMIT_SIZE + 8)).from_buffer_copy(bytes(job.record) + bytes(8))
    assert bench.submit_error(job, jobs=ctypes.addressof(room), job_struct_size=SUBMIT_SIZE + 8) == 0
    room[SUBMIT_SIZE + 7] = 1
    assert bench.submit_error(job, jobs=ctypes.addressof(room), job_struct_size=SUBMIT_SIZE + 8) == errno.EINVAL
    assert bench.ended(queue).seqno == 1


def test_seqno_that_cannot_be_told(bench: Bench) -> None:
    """A job array that may only be read: the caller would not know what was queued."""
    queue, target = bench.queue(), bench.buffer()
    job = bench.fill(queue, target, 1)
    room = mmap.mmap(-1, PAGE)
    room[:SUBMIT_SIZE] = bytes(job.record)
    address = ctypes.addressof(ctypes.c_ubyte.from_buffer(room))
    assert bench.lab.system.calls.mprotect(address, PAGE, mmap.PROT_READ) == 0
    assert bench.submit_error(job, jobs=address) == errno.EFAULT
    assert bench.status_error(queue) == errno.EINVAL and target.get(1) == b"\0"


def test_prep_bo_waits_for_listed_outputs(bench: Bench) -> None:
    """The implicit fences of the first interface: what is listed is waited for."""
    queue, target = bench.queue(), bench.buffer()
    for value in range(1, 10):
        bench.submit(bench.fill(queue, target, value, writes=[target.handle]))
        assert target.get(1) == bytes([value])


@timed_out
def test_implicit_fences_order_both_interfaces(bench: Bench) -> None:
    """A job of SUBMIT that reads what a queue's job writes runs behind it, whatever core it has."""
    queue = bench.queue(0b1, timeout_ns=200 * MS)
    middle, target = bench.buffer(), bench.buffer()
    bench.submit(bench.hang(queue))
    bench.submit(bench.fill(queue, middle, 5, writes=[middle.handle]))
    text = programs.copy(middle.address, target.address)
    program = bench.lab.buffer(bench.node, text)
    bench.node.submit(Job([(program.address, len(text) // 8)], [program.handle, middle.handle], [target.handle]))
    assert target.get(1) == b"\5"


def test_thousand_jobs(bench: Bench) -> None:
    queue, target = bench.queue(), bench.buffer()
    job = bench.fill(queue, target, 1)
    assert bench.submit(*[job] * 1000)[-1] == 1000
    assert bench.ended(queue).error == 0


def test_two_threads_submit(bench: Bench) -> None:
    """Numbers are given once each."""
    queue, target = bench.queue(), bench.buffer()
    job = bench.fill(queue, target, 1)
    numbers: list[int] = []

    def work() -> None:
        mine = Bench(bench.lab, bench.node, bench.vm)
        for _ in range(50):
            numbers.extend(mine.submit(QueuedJob(queue, [tuple(getattr(job.tasks[0], name) for name, _ in
                                                               QueueTask._fields_)])))
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 201)) and bench.ended(queue).error == 0


# --- status and timeout -----------------------------------------------------------------------------------------------


def test_status_of_a_good_job(bench: Bench) -> None:
    queue, target = bench.queue(), bench.buffer()
    before = time.monotonic_ns()
    bench.submit(bench.fill(queue, target, 1))
    status = bench.ended(queue)
    assert (status.seqno, status.state, status.error, status.tasks_done) == (1, DONE, 0, 1)
    assert before <= status.start_ns <= status.end_ns <= time.monotonic_ns()


@pytest.mark.parametrize(("members", "expected"), [
    (dict(pad=1), errno.EINVAL), (dict(queue=0), errno.ENOENT), (dict(queue=99), errno.ENOENT),
    (dict(seqno=2), errno.EINVAL), (dict(seqno=(1 << 64) - 1), errno.EINVAL)],
    ids=["pad", "queue-zero", "queue-unknown", "next", "last"])
def test_status_refused(bench: Bench, members: dict[str, int], expected: int) -> None:
    queue, target = bench.queue(), bench.buffer()
    bench.submit(bench.fill(queue, target, 1))
    assert bench.node.error("JOB_STATUS", **dict(queue=queue) | members) == expected


def test_status_depth(bench: Bench) -> None:
    depth = int(bench.node.call("GET_PARAM", param=5).value)
    queue = bench.queue()
    job = bench.fill(queue, bench.buffer(), 1)
    bench.submit(*[job] * (depth + 1))
    assert bench.status_error(queue, depth + 1) == bench.status_error(queue, 2) == 0
    assert bench.status_error(queue, 1) in (0, errno.ENOENT)
    bench.ended(queue)


@timed_out
@pytest.mark.parametrize("timeout_ms", [50, 200, 1000])
def test_timeout_is_the_queues(bench: Bench, timeout_ms: int) -> None:
    queue, target = bench.queue(timeout_ns=timeout_ms * MS), bench.buffer()
    bench.submit(bench.hang(queue))
    status = bench.ended(queue)
    assert status.error == errno.ETIMEDOUT and status.tasks_done == 0
    assert timeout_ms * MS <= status.end_ns - status.start_ns < (timeout_ms + 4000) * MS
    bench.submit(bench.fill(queue, target, 2))
    assert bench.ended(queue).error == 0 and target.get(1) == b"\2"


@timed_out
def test_fault_is_told_from_a_hang(bench: Bench) -> None:
    queue, target = bench.queue(timeout_ns=50 * MS), bench.buffer()
    good, bad = programs.fill(target.address, target.address, 4), programs.copy(0xF000_0000, target.address)
    tasks = [(bench.buffer(text).address, len(text) // 8, 1, 0) for text in (good, bad, good)]
    bench.submit(QueuedJob(queue, tasks))
    status = bench.ended(queue)
    assert (status.error, status.tasks_done) == (errno.EFAULT, 1)


@timed_out
def test_jobs_behind_a_failed_one_of_the_call_do_not_run(bench: Bench) -> None:
    """And what is submitted later does."""
    queue, target = bench.queue(timeout_ns=50 * MS), bench.buffer()
    job = bench.fill(queue, target, 6)
    bench.submit(bench.hang(queue), job, job)
    assert [bench.ended(queue, number).error for number in (1, 2, 3)] == [errno.ETIMEDOUT, *[errno.ECANCELED] * 2]
    status = bench.status(queue, 3)
    assert (status.start_ns, status.core, status.tasks_done) == (0, 0xFFFF_FFFF, 0) and target.get(1) == b"\0"
    bench.submit(job)
    assert bench.ended(queue).error == 0 and target.get(1) == b"\6"
