"""SUBMIT: what is refused, and what becomes of a wrong job between right ones."""
from __future__ import annotations

import ctypes
import errno
import mmap
import threading
from collections.abc import Callable
from typing import Any

import pytest

from . import programs
from .laboratory import Buffer, Laboratory, dropped
from .uapi import PAGE, Job, JobStruct, Node

SMALL = ctypes.sizeof(JobStruct) - 1
BAD_ADDRESS = 8
MAP_NORESERVE = 0x4000


# --- the call itself --------------------------------------------------------------------------------------------------


def test_one_job(lab: Laboratory, node: Node) -> None:
    assert lab.works(node)


def test_no_jobs(node: Node) -> None:
    assert node.submit_error() == 0


def test_no_jobs_whatever_else_is_wrong(node: Node) -> None:
    """The count is looked at first."""
    assert node.error("SUBMIT", jobs=BAD_ADDRESS, job_count=0, job_struct_size=1, reserved=5) == 0


@pytest.mark.parametrize(("members", "expected"), [
    ({"job_struct_size": SMALL}, errno.EINVAL), ({"job_struct_size": 0}, errno.EINVAL),
    ({"reserved": 1}, errno.EINVAL), ({"reserved": 1 << 63}, errno.EINVAL),
    ({"jobs": 0}, errno.EFAULT), ({"jobs": BAD_ADDRESS}, errno.EFAULT), ({"jobs": (1 << 64) - PAGE}, errno.EFAULT),
    ({"job_count": 53_687_092}, errno.ENOMEM), ({"job_count": 0xFFFF_FFFF}, errno.ENOMEM)],
    ids=["struct-size-39", "struct-size-0", "reserved-1", "reserved-high", "null", "low", "kernel", "count-too-large",
         "count-max"])
def test_refused(lab: Laboratory, node: Node, members: dict[str, int], expected: int) -> None:
    """One wrong member, nothing runs; the right call works afterwards."""
    target = lab.buffer(node)
    job = lab.fill(target, 5)
    assert node.submit_error(job, **members) == expected
    assert target.get() == bytes(64)
    node.submit(job)
    assert target.get() == bytes([5]) * 64


def test_struct_size_before_reserved(node: Node) -> None:
    assert node.error("SUBMIT", jobs=BAD_ADDRESS, job_count=1, job_struct_size=SMALL, reserved=1) == errno.EINVAL


def test_reserved_before_the_pointer(node: Node) -> None:
    assert node.error("SUBMIT", jobs=BAD_ADDRESS, job_count=1, job_struct_size=40, reserved=1) == errno.EINVAL


def test_jobs_array_that_crosses_into_an_unmapped_page(lab: Laboratory, node: Node) -> None:
    """All jobs are copied before the first is queued: nothing runs."""
    target = lab.buffer(node)
    job = lab.fill(target, 5)
    memory = mmap.mmap(-1, 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[PAGE - 40:PAGE] = bytes(job.record)
    lab.system.calls.mprotect(start + PAGE, PAGE, 0)
    last = start + PAGE - 40
    assert node.error("SUBMIT", jobs=last, job_count=2, job_struct_size=40) == errno.EFAULT
    assert target.get() == bytes(64)
    assert node.error("SUBMIT", jobs=last, job_count=1, job_struct_size=40) == 0
    assert target.get() == bytes([5]) * 64


def wide(structs: list[ctypes.Structure], stride: int, tail: int) -> Any:
    """An array with room behind each struct, filled with one byte."""
    array = ctypes.create_string_buffer(bytes([tail]) * (stride * len(structs)))
    for index, struct in enumerate(structs):
        ctypes.memmove(ctypes.addressof(array) + index * stride, ctypes.addressof(struct), ctypes.sizeof(struct))
    return array


@pytest.mark.parametrize("stride", [48, 64, 4096])
def test_larger_job_structs(lab: Laboratory, node: Node, stride: int) -> None:
    """A newer user space: the rest is zero."""
    targets = [lab.buffer(node) for _ in range(3)]
    jobs = [lab.fill(target, 6) for target in targets]
    array = wide([job.record for job in jobs], stride, 0)
    assert node.error("SUBMIT", jobs=ctypes.addressof(array), job_count=3, job_struct_size=stride) == 0
    assert [target.get(1) for target in targets] == [b"\6"] * 3


def test_larger_job_structs_with_something_in_the_tail(lab: Laboratory, node: Node) -> None:
    """A member that this kernel does not know is set: it must say so."""
    target = lab.buffer(node)
    job = lab.fill(target, 6)
    array = wide([job.record], 48, 0xFF)
    error = node.error("SUBMIT", jobs=ctypes.addressof(array), job_count=1, job_struct_size=48)
    target.get()
    assert error == errno.EINVAL


def test_larger_task_structs(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node)
    job = lab.fill(target, 6)
    array = wide([job.tasks[0]] * 2, 24, 0)
    job.record.tasks, job.record.task_count, job.record.task_struct_size = ctypes.addressof(array), 2, 24
    node.submit(job)
    assert target.get(1) == b"\6"


@pytest.mark.parametrize("count", [1, 2, 100, 1000])
def test_many_jobs(lab: Laboratory, node: Node, count: int) -> None:
    target = lab.buffer(node)
    node.submit(*[lab.fill(target, 1)] * (count - 1), lab.fill(target, 2))
    assert target.get(1) == b"\2"


@pytest.mark.parametrize("count", [1, 2, 100, 1000])
def test_many_tasks(lab: Laboratory, node: Node, count: int) -> None:
    target = lab.buffer(node)
    node.submit(lab.job(node, programs.fill(target.address, target.address, 3), [], [target], repeats=count))
    assert target.get(1) == b"\3"


def test_many_handles(lab: Laboratory, node: Node) -> None:
    target = lab.buffer(node)
    handles = [node.create(1).handle for _ in range(2000)]
    job = lab.fill(target, 4)
    record = Job([(job.tasks[0].regcmd, job.tasks[0].regcmd_count)], [job.reads[0], *handles], [target.handle])
    node.submit(record)
    assert target.get(1) == b"\4"


def test_no_handles_at_all(lab: Laboratory, node: Node) -> None:
    """Legal: the job runs, nothing can wait for it but a later one of the file."""
    target, last = lab.buffer(node), lab.buffer(node)
    job = lab.fill(target, 4)
    node.submit(Job([(job.tasks[0].regcmd, job.tasks[0].regcmd_count)]), lab.fill(last, 1))
    last.get()
    assert target.get(1) == b"\4"


def test_two_threads_submit(lab: Laboratory, node: Node) -> None:
    targets = [lab.buffer(node) for _ in range(2)]
    jobs = [lab.fill(target, 7) for target in targets]
    threads = [threading.Thread(target=lambda job=job: [node.submit(job) for _ in range(50)]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [target.get(1) for target in targets] == [b"\7"] * 2


# --- one wrong job between two right ones -----------------------------------------------------------------------------

Change = Callable[[JobStruct], None]


def setting(**members: int) -> Change:
    def change(record: JobStruct) -> None:
        for name, value in members.items():
            setattr(record, name, value)
    return change


WRONG_MEMBERS: dict[str, tuple[Change, int]] = {
    "no-tasks": (setting(task_count=0), errno.EINVAL),
    "task-struct-7": (setting(task_struct_size=7), errno.EINVAL),
    "task-struct-0": (setting(task_struct_size=0), errno.EINVAL),
    "tasks-null": (setting(tasks=0), errno.EFAULT),
    "tasks-low": (setting(tasks=BAD_ADDRESS), errno.EFAULT),
    "too-many-tasks": (setting(task_count=134_217_728), errno.ENOMEM),
    "in-null": (setting(in_bo_handles=0), errno.EFAULT),
    "in-low": (setting(in_bo_handles=BAD_ADDRESS), errno.EFAULT),
    "out-null": (setting(out_bo_handles=0), errno.EFAULT),
    "out-low": (setting(out_bo_handles=BAD_ADDRESS), errno.EFAULT),
    "in-count-huge": (setting(in_bo_handle_count=0x8000_0000), errno.ENOMEM),
    "out-count-huge": (setting(out_bo_handle_count=0x8000_0000), errno.ENOMEM),
}
WRONG = pytest.mark.parametrize("wrong", WRONG_MEMBERS)


def three(lab: Laboratory, node: Node, wrong: str) -> tuple[list[Buffer], list[Job], int]:
    targets = [lab.buffer(node) for _ in range(3)]
    jobs = [lab.fill(target, 5) for target in targets]
    change, expected = WRONG_MEMBERS[wrong]
    change(jobs[1].record)
    return targets, jobs, expected


@pytest.mark.quirk("dropped-jobs")
@dropped
@WRONG
def test_wrong_job_is_dropped_and_the_others_run(lab: Laboratory, node: Node, wrong: str) -> None:
    """Mainline: success, and PREP_BO on the dropped job's output returns at once."""
    targets, jobs, _ = three(lab, node, wrong)
    node.submit(*jobs)
    assert [target.get(1) for target in targets] == [b"\5", b"\0", b"\5"]


@dropped
@WRONG
def test_wrong_job_is_reported(lab: Laboratory, node: Node, wrong: str) -> None:
    """Never success with work dropped: the error of the wrong job, and none of the call's jobs runs."""
    targets, jobs, expected = three(lab, node, wrong)
    error = node.submit_error(*jobs)
    contents = [target.get(1) for target in targets]
    assert error == expected and contents == [b"\0"] * 3


def handle_lists(target: int, other: int) -> dict[str, tuple[list[int], list[int], int]]:
    return {"unknown-in": ([99], [target], errno.ENOENT), "unknown-out": ([], [target, 99], errno.ENOENT),
            "zero-in": ([0], [target], errno.ENOENT), "zero-out": ([], [target, 0], errno.ENOENT),
            "twice-in": ([other, other], [target], errno.EALREADY),
            "twice-out": ([], [target, target], errno.EALREADY),
            "in-and-out": ([target], [target], errno.EALREADY)}


HANDLES = pytest.mark.parametrize("lists", handle_lists(1, 2))


def wrong_lists(lab: Laboratory, node: Node, lists: str) -> tuple[Buffer, Job, int]:
    target, other = lab.buffer(node), lab.buffer(node)
    reads, writes, expected = handle_lists(target.handle, other.handle)[lists]
    job = lab.fill(target, 5)
    return target, Job([(job.tasks[0].regcmd, job.tasks[0].regcmd_count)], reads, writes), expected


@pytest.mark.quirk("dropped-jobs")
@dropped
@HANDLES
def test_wrong_handles_drop_the_job(lab: Laboratory, node: Node, lists: str) -> None:
    target, job, _ = wrong_lists(lab, node, lists)
    node.submit(job)
    assert not node.is_busy(target.bo)
    assert lab.works(node) and target.get() == bytes(64)


@dropped
@HANDLES
def test_wrong_handles_are_reported(lab: Laboratory, node: Node, lists: str) -> None:
    _, job, expected = wrong_lists(lab, node, lists)
    assert node.submit_error(job) == expected


@dropped
@pytest.mark.parametrize("place", [0, 1, 2])
def test_task_without_commands_stops_the_whole_job(lab: Laboratory, node: Node, place: int) -> None:
    target = lab.buffer(node)
    job = lab.job(node, programs.fill(target.address, target.address, 5), [], [target], repeats=3)
    job.tasks[place].regcmd_count = 0
    assert node.submit_error(job) in (0, errno.EINVAL)
    assert lab.works(node) and target.get() == bytes(64)


@dropped
def test_dropped_jobs_leave_nothing_behind(lab: Laboratory, node: Node) -> None:
    """No reference, no fence, no lock: the buffers can be used, closed, and their addresses come back."""
    target, job, _ = wrong_lists(lab, node, "twice-out")
    for _ in range(100):
        assert node.submit_error(job) in (0, errno.EALREADY)
    assert target.get() == bytes(64)
    address = target.address
    target.close()
    assert address in {node.create().dma_address for _ in range(3)}


@dropped
def test_another_files_handle_is_unknown(lab: Laboratory, node: Node, second: Node) -> None:
    """Handles are the file's own: 3 exists in one only."""
    for _ in range(3):
        node.create()
    target = lab.buffer(second)
    job = Job([(0, 4)], [3], [target.handle])
    error = second.submit_error(job)
    assert error in (0, errno.ENOENT) and not second.is_busy(target.bo)


# --- what nobody looks at ---------------------------------------------------------------------------------------------


def three_fills_two_gib_apart(lab: Laboratory, node: Node) -> tuple[list[Buffer], int]:
    """(targets, errno of SUBMIT) of an array whose elements lie 2 GiB apart: the third is behind 4 GiB."""
    stride, kept = 1 << 31, []
    space = mmap.mmap(-1, 2 * stride + PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    targets = [lab.buffer(node) for _ in range(3)]
    for index, target in enumerate(targets):
        kept.append(lab.fill(target, 1))
        space[index * stride:index * stride + 40] = bytes(kept[-1].record)
    start = ctypes.addressof(ctypes.c_char.from_buffer(space))
    error = node.error("SUBMIT", jobs=start, job_count=3, job_struct_size=stride)
    return targets, error


def test_strides_do_not_wrap(lab: Laboratory, node: Node) -> None:
    """Refused, or each job is taken from where it is."""
    targets, error = three_fills_two_gib_apart(lab, node)
    assert error in (0, errno.EINVAL)
    assert error or [target.get(1) for target in targets] == [b"\1"] * 3


@pytest.mark.quirk("wrapping-strides")
def test_strides_wrap_at_4_gib(lab: Laboratory, node: Node) -> None:
    """The first job runs twice, the third never."""
    targets, error = three_fills_two_gib_apart(lab, node)
    assert error == 0 and [target.get(1) for target in targets] == [b"\1", b"\1", b"\0"]


def program_job(lab: Laboratory, node: Node, target: Buffer, place: int, more_words: int) -> Job:
    """A fill whose program lies at the buffer's start, asked for at another place or with more words."""
    text = programs.fill(target.address, target.address, 1)
    buffer = lab.buffer(node, text)
    return Job([(buffer.address + place, len(text) // 8 + more_words)], [buffer.handle], [target.handle])


IMPOSSIBLE = pytest.mark.parametrize(
    ("place", "more_words"), [(8, 0), (12, 0), (0, 131072), (0, 0xFFFE_0000)],
    ids=["unaligned-8", "unaligned-12", "long", "very-long"])


@dropped
@IMPOSSIBLE
def test_impossible_program_is_reported(lab: Laboratory, node: Node, place: int, more_words: int) -> None:
    """Registers have no room for it: 16-byte steps, 65536 pairs of words."""
    target = lab.buffer(node)
    error = node.submit_error(program_job(lab, node, target, place, more_words))
    node.prep(target.bo)
    assert error == errno.EINVAL


@pytest.mark.quirk("unchecked-programs")
@IMPOSSIBLE
def test_impossible_program_is_cut_to_what_fits(lab: Laboratory, node: Node, place: int, more_words: int) -> None:
    """Low bits of the address and high bits of the count are dropped."""
    target = lab.buffer(node)
    node.submit(program_job(lab, node, target, place, more_words))
    assert target.get(1) == b"\1"
