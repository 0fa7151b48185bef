"""The four ioctls of accel/rocket, with the checks of Linux 7.2 in their order."""
from __future__ import annotations

import errno
import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from cermet.kmd import uapi
from cermet.kmd.behaviour import Behaviour
from cermet.kmd.bo import Bo
from cermet.kmd.errors import DeviceError
from cermet.kmd.fence import Fence
from cermet.kmd.file import File
from cermet.kmd.ioctl import Call, IoctlTable, Waiting
from cermet.kmd.job import DPU_INTERRUPTS, Job
from cermet.kmd.scheduler import Entity

log = logging.getLogger("cermet.kmd")

MAX_BO_BYTES = 0x7FFF_F000              # the mapped length is a signed 32-bit number
JIFFY_NS = 4_000_000                    # HZ = 250; a wait ends up to one tick later. ASSUMED: arm64's default
INT_MAX = 0x7FFF_FFFF
MAX_TASKS_OF_KERNEL = 134_217_727
REGCMD_ALIGNMENT = 16                   # PC.BASE_ADDRESS has no bits below
MAX_REGCMD_COUNT = 2 << 16              # PC.REGISTER_AMOUNTS counts pairs in 16 bits
# Where this driver says ENOMEM although a kernel with memory to spare would go on: nothing is allocated by a count
# that a client chose before it has been compared with these.
MAX_JOBS = 1 << 16                      # of one submit, and queued by one file
MAX_TASKS = 1 << 20                     # of one job
MAX_QUEUED_TASKS = 1 << 22              # of one file
MAX_HANDLES = 1 << 20                   # of one list
MAX_STRIDE = 1 << 12                    # of a struct whose tail is looked at
MAX_ARRAY_BYTES = 1 << 26               # of an array of such structs
MAX_KEPT, MAX_KEPT_BYTES = 64, 1 << 14  # lists of tasks, and the length of one


def dtype_of(struct: str) -> np.dtype:
    """A NumPy record of a struct of the header."""
    members = uapi.ffi.typeof(struct).fields
    return np.dtype({
        "names": [name for name, _ in members],
        "formats": [f"<u{uapi.ffi.sizeof(member.type)}" for _, member in members],
        "offsets": [member.offset for _, member in members],
        "itemsize": uapi.ffi.sizeof(struct)})


JOB, TASK = (uapi.form_of(uapi.ffi, f"struct drm_rocket_{name}") for name in ("job", "task"))
Record = uapi.record_of("struct drm_rocket_job")


def available_memory_bytes() -> int:
    """MemAvailable: pages are allocated on first touch here, so only what can never fit is refused."""
    with open("/proc/meminfo") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")), 1 << 62)


def create_bo(call: Call, args: Any) -> None:
    size_bytes = args.size
    device = call.file.device
    device.faults.fail("create-fails")
    check_size(size_bytes, device.behaviour)
    with device.lock:
        device.collect()
        bo = call.file.create_bo(size_bytes)
        args.handle = call.file.add_handle(bo)
    args.dma_address = bo.dma_address
    args.offset = bo.offset
    log.debug("%s: CREATE_BO %d bytes: handle %d at %#x", call.file, size_bytes, args.handle, bo.dma_address)


def check_size(size_bytes: int, behaviour: Behaviour) -> None:
    if size_bytes == 0:
        number = errno.ENOSPC if behaviour.has("zero-size-enospc") else errno.EINVAL
        raise DeviceError(number, "size 0: no mmap offset for zero pages")
    if size_bytes > MAX_BO_BYTES and behaviour.has("signed-size"):
        raise DeviceError(errno.ENOMEM, f"size {size_bytes:#x}: more than {MAX_BO_BYTES:#x}")
    if size_bytes > 1 << 28 and size_bytes > available_memory_bytes():
        raise DeviceError(errno.ENOMEM, f"size {size_bytes:#x}: more than the memory available")


# --- wait -------------------------------------------------------------------------------------------------------------


def finish_wait(bo: Bo, file: File, *, in_time: bool) -> None:
    """All fences have signalled, a failed job's too, or the deadline has come."""
    bo.sync_for_cpu()       # also after a timeout
    end_wait(bo, file)
    if not in_time:
        raise DeviceError(errno.ETIMEDOUT, "PREP_BO: still busy at the deadline")
    check_written(bo, file.device.behaviour)


def end_wait(bo: Bo, file: File) -> None:
    with file.device.lock:
        bo.waits -= 1
        bo.put()


def check_written(bo: Bo, behaviour: Behaviour) -> None:
    if bo.write_error and not behaviour.has("silent-failure"):
        reason = errno.errorcode.get(bo.write_error, str(bo.write_error))
        raise DeviceError(errno.EIO, f"PREP_BO: the job that was to write it failed: {reason}")


def prep_bo(call: Call, args: Any) -> Waiting | None:
    call.file.device.faults.fail("prep-fails")
    if args.reserved:
        raise DeviceError(errno.EINVAL, f"reserved {args.reserved} must be 0")
    with call.file.device.lock:
        bo = call.file.bo_or_error(args.handle)
        behaviour = call.file.device.behaviour
        fences = list(bo.pending_fences(reads=not behaviour.has("unfenced-reads")))
        if not fences:
            bo.sync_for_cpu()
            check_written(bo, behaviour)
            return None
        if args.timeout_ns <= time.monotonic_ns():
            bo.sync_for_cpu()
            raise DeviceError(errno.EBUSY, f"handle {args.handle}: {len(fences)} jobs use it")
        bo.get()
        bo.waits += 1
    return Waiting(fences, args.timeout_ns + JIFFY_NS, lambda in_time: finish_wait(bo, call.file, in_time=in_time),
                   lambda: end_wait(bo, call.file))


def fini_bo(call: Call, args: Any) -> None:
    call.file.device.faults.fail("fini-fails")
    if args.reserved:
        raise DeviceError(errno.EINVAL, f"reserved {args.reserved} must be 0")
    with call.file.device.lock:
        call.file.bo_or_error(args.handle).sync_for_device()


# --- submit -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A job as it was asked for, read and looked up."""

    tasks: np.ndarray           # (n, 4) uint32, see Job
    in_bos: list[Bo]
    out_bos: list[Bo]


def submit(call: Call, args: Any) -> None:
    """Queue jobs. What is wrong with a single job is logged and, with the quirk, never returned."""
    count, stride = args.job_count, args.job_struct_size
    call.file.device.faults.fail("submit-fails")
    if count == 0:
        return
    if stride < JOB.size:
        raise DeviceError(errno.EINVAL, f"job_struct_size {stride} must be at least {JOB.size}")
    if args.reserved:
        raise DeviceError(errno.EINVAL, f"reserved {args.reserved} must be 0")
    if count > MAX_JOBS:
        raise DeviceError(errno.ENOMEM, f"job_count {count}: more than {MAX_JOBS}")
    raw = read_structs(call, args.jobs, count, stride, JOB.size)
    records = [Record(*members) for members in JOB.iter_unpack(raw)]
    queue_jobs = queue_each if call.file.device.behaviour.has("dropped-jobs") else queue_all
    try:
        queue_jobs(call, records)
    finally:
        call.file.device.scheduler.hand_over(call.file.entity)  # last: an awoken core need not wait for this thread


def queue_each(call: Call, records: Sequence[Any]) -> None:
    for index, record in enumerate(records):
        try:
            with call.file.device.lock:
                request = read_job(call, record)
                check_job(call.file, request, 1, len(request.tasks))
                push_job(call.file, request)
        except DeviceError as error:
            log.warning("%s: SUBMIT job %d of %d dropped: %s", call.file, index, len(records), error)


def queue_all(call: Call, records: Sequence[Any]) -> None:
    """All or none."""
    with call.file.device.lock:
        requests = [read_job(call, record) for record in records]
        num_tasks = accumulate(len(request.tasks) for request in requests)
        for num_jobs, (request, num) in enumerate(zip(requests, num_tasks, strict=True), 1):
            check_job(call.file, request, num_jobs, num)
        for request in requests:
            push_job(call.file, request)


def read_structs(call: Call, address: int, count: int, stride: int, size: int) -> bytes:
    """The known part, `size` bytes, of each struct of an array whose stride the caller chose."""
    behaviour = call.file.device.behaviour
    if stride == size:
        return call.memory.read(address, count * size)
    if behaviour.has("unchecked-tails"):
        return call.memory.read_elements(address, count, stride, size, behaviour.has("wrapping-strides")).tobytes()
    if stride > MAX_STRIDE:
        raise DeviceError(errno.EINVAL, f"struct size {stride} must be at most {MAX_STRIDE}")
    check_array(count, stride)
    whole = call.memory.read_elements(address, count, stride, stride)
    if whole[:, size:].any():
        raise DeviceError(errno.EINVAL, f"bytes behind the first {size} of a struct must be 0")
    return whole[:, :size].tobytes()


def check_array(count: int, stride: int) -> None:
    """Before an array is read with all that lies between the known parts of its structs."""
    if count * stride > MAX_ARRAY_BYTES:
        raise DeviceError(errno.ENOMEM, f"{count} structs of {stride} bytes: more than {MAX_ARRAY_BYTES} bytes")


def read_job(call: Call, record: Any) -> Request:
    tasks = read_tasks(call, record.tasks, record.task_count, record.task_struct_size)
    return Request(tasks, read_bos(call, record.in_bo_handles, record.in_bo_handle_count),
                   read_bos(call, record.out_bo_handles, record.out_bo_handle_count))


def read_tasks(call: Call, address: int, count: int, stride: int) -> np.ndarray:
    """(n, 4) uint32 as a Job wants them."""
    if count == 0:
        raise DeviceError(errno.EINVAL, "task_count 0")
    if stride < TASK.size:
        raise DeviceError(errno.EINVAL, f"task_struct_size {stride} must be at least {TASK.size}")
    if count > min(MAX_TASKS, MAX_TASKS_OF_KERNEL):
        raise DeviceError(errno.ENOMEM, f"task_count {count}: more than {MAX_TASKS}")
    raw = read_structs(call, address, count, stride, TASK.size)
    look = tasks_of if len(raw) <= MAX_KEPT_BYTES else tasks_of.__wrapped__
    return look(raw, call.file.device.behaviour.has("unchecked-programs"))


@functools.lru_cache(MAX_KEPT)
def tasks_of(raw: bytes, may_be_impossible: bool) -> np.ndarray:
    """One program each, which ends in a DPU interrupt. The same tasks come at every inference: they are kept."""
    regcmd, regcmd_count = np.frombuffer(raw, "<u4").reshape(-1, 2).T
    if not regcmd_count.all():
        raise DeviceError(errno.EINVAL, f"task {int(np.argmin(regcmd_count))}: regcmd_count 0")
    if not may_be_impossible and (regcmd % REGCMD_ALIGNMENT).any():
        raise DeviceError(errno.EINVAL, f"regcmd must be a multiple of {REGCMD_ALIGNMENT}")
    if not may_be_impossible and (regcmd_count > MAX_REGCMD_COUNT).any():
        raise DeviceError(errno.EINVAL, f"regcmd_count must be at most {MAX_REGCMD_COUNT}")
    tasks = np.empty((len(regcmd), 4), np.uint32)
    tasks[:, 0], tasks[:, 1], tasks[:, 2], tasks[:, 3] = regcmd, regcmd_count, 1, DPU_INTERRUPTS
    tasks.setflags(write=False)
    return tasks


def read_handles(call: Call, address: int, count: int) -> list[int]:
    if count > min(MAX_HANDLES, INT_MAX):
        raise DeviceError(errno.ENOMEM, f"handle count {count}: more than {MAX_HANDLES}")
    return memoryview(call.memory.read(address, count * 4)).cast("I").tolist()


def read_bos(call: Call, address: int, count: int) -> list[Bo]:
    return list(map(call.file.bo_or_error, read_handles(call, address, count)))


def check_job(file: File, request: Request, num_jobs: int, num_tasks: int) -> None:
    """What only shows when the buffers are locked and the job is made. It is the last of so many with so many tasks."""
    if file.device.faults.strike("job-dropped"):
        raise DeviceError(errno.ENOMEM, "fault on purpose: job-dropped")
    listed = request.in_bos + request.out_bos
    if len(set(listed)) != len(listed):
        raise DeviceError(errno.EALREADY, "a BO is listed twice")
    entity = file.entity
    if entity.in_flight + num_jobs > MAX_JOBS or entity.num_queued_tasks + num_tasks > MAX_QUEUED_TASKS:
        raise DeviceError(errno.ENOMEM, f"{entity.in_flight} jobs, {entity.num_queued_tasks} tasks are queued already")


def push_job(file: File, request: Request) -> None:
    """Lock the buffers, collect what to wait for, attach the fence to what is used, queue."""
    entity = file.entity
    push(file, entity, Job(file.space, request.tasks, request.in_bos, request.out_bos, Fence(entity)))


def push(file: File, entity: Entity, job: Job) -> None:
    """Queue a job behind the fences of its buffers, with its own fence on them."""
    job.waits_for += [other for bos, reads in ((job.in_bos, False), (job.out_bos, True)) for bo in bos
                      for other in bo.pending_fences(reads) if other.context is not entity]
    for bo in job.in_bos + job.out_bos:
        bo.get()
    for bo in job.out_bos:
        bo.write_fences.append(job.fence)
    if not file.device.behaviour.has("unfenced-reads"):
        for bo in job.in_bos:
            bo.read_fences.append(job.fence)
    file.device.scheduler.push(entity, job)


def add_to(table: IoctlTable) -> None:
    table.add("DRM_IOCTL_ROCKET_CREATE_BO", create_bo)
    table.add("DRM_IOCTL_ROCKET_SUBMIT", submit)
    table.add("DRM_IOCTL_ROCKET_PREP_BO", prep_bo)
    table.add("DRM_IOCTL_ROCKET_FINI_BO", fini_bo)
