"""The four ioctls of accel/rocket, with the checks of Linux 7.2 in their order."""
from __future__ import annotations

import errno
import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from cermet.kmd import uapi
from cermet.kmd.behaviour import Behaviour
from cermet.kmd.bo import Bo
from cermet.kmd.errors import DeviceError
from cermet.kmd.fence import Fence
from cermet.kmd.file import File
from cermet.kmd.ioctl import Blocking, Call, IoctlTable
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


def dtype_of(struct: str) -> np.dtype:
    """A NumPy record of a struct of the header."""
    members = uapi.ffi.typeof(struct).fields
    return np.dtype({
        "names": [name for name, _ in members],
        "formats": [f"<u{uapi.ffi.sizeof(member.type)}" for _, member in members],
        "offsets": [member.offset for _, member in members],
        "itemsize": uapi.ffi.sizeof(struct)})


JOB = dtype_of("struct drm_rocket_job")
TASK = dtype_of("struct drm_rocket_task")


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


def wait_for(fences: list[Fence], deadline_ns: int, bo: Bo, file: File) -> None:
    """Until all have signalled; a failed job's fence has signalled too."""
    try:
        for fence in fences:
            if not fence.wait_until(deadline_ns + JIFFY_NS):
                raise DeviceError(errno.ETIMEDOUT, "PREP_BO: still busy at the deadline")
        check_written(bo, file.device.behaviour)
    finally:
        bo.sync_for_cpu()       # also after a timeout
        end_wait(bo, file)


def end_wait(bo: Bo, file: File) -> None:
    with file.device.lock:
        bo.waits -= 1
        bo.put()


def check_written(bo: Bo, behaviour: Behaviour) -> None:
    if bo.write_error and not behaviour.has("silent-failure"):
        reason = errno.errorcode.get(bo.write_error, str(bo.write_error))
        raise DeviceError(errno.EIO, f"PREP_BO: the job that was to write it failed: {reason}")


def prep_bo(call: Call, args: Any) -> Blocking | None:
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
    deadline_ns = args.timeout_ns
    return Blocking(lambda: wait_for(fences, deadline_ns, bo, call.file), lambda: end_wait(bo, call.file))


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
    if stride < JOB.itemsize:
        raise DeviceError(errno.EINVAL, f"job_struct_size {stride} must be at least {JOB.itemsize}")
    if args.reserved:
        raise DeviceError(errno.EINVAL, f"reserved {args.reserved} must be 0")
    if count > MAX_JOBS:
        raise DeviceError(errno.ENOMEM, f"job_count {count}: more than {MAX_JOBS}")
    records = read_structs(call, args.jobs, count, stride, JOB)
    if call.file.device.behaviour.has("dropped-jobs"):
        for index, record in enumerate(records):
            try:
                with call.file.device.lock:
                    push_job(call.file, read_job(call, record))
            except DeviceError as error:
                log.warning("%s: SUBMIT job %d of %d dropped: %s", call.file, index, count, error)
        return
    with call.file.device.lock:
        requests = [read_job(call, record) for record in records]
        for request in requests:
            check_job(call.file, request)
        for request in requests:
            push_job(call.file, request)


def read_structs(call: Call, address: int, count: int, stride: int, known: np.dtype) -> np.ndarray:
    """(count,) records of an array whose stride the caller chose."""
    behaviour = call.file.device.behaviour
    if stride == known.itemsize or behaviour.has("unchecked-tails"):
        wraps = behaviour.has("wrapping-strides")
        return call.memory.read_elements(address, count, stride, known.itemsize, wraps).view(known)[:, 0]
    if stride > MAX_STRIDE:
        raise DeviceError(errno.EINVAL, f"struct size {stride} must be at most {MAX_STRIDE}")
    whole = call.memory.read_elements(address, count, stride, stride)
    if whole[:, known.itemsize:].any():
        raise DeviceError(errno.EINVAL, f"bytes behind the first {known.itemsize} of a struct must be 0")
    return np.ascontiguousarray(whole[:, :known.itemsize]).view(known)[:, 0]


def read_job(call: Call, record: np.void) -> Request:
    tasks = read_tasks(call, record)
    in_handles = read_handles(call, int(record["in_bo_handles"]), int(record["in_bo_handle_count"]))
    # The kernel looks up the first list before it reads the second; which of two discarded errors wins is invisible.
    out_handles = read_handles(call, int(record["out_bo_handles"]), int(record["out_bo_handle_count"]))
    return Request(tasks, [call.file.bo_or_error(handle) for handle in in_handles],
                   [call.file.bo_or_error(handle) for handle in out_handles])


def read_tasks(call: Call, record: np.void) -> np.ndarray:
    """(n, 4) uint32 as a Job wants them: one program each, which ends in a DPU interrupt."""
    count, stride = int(record["task_count"]), int(record["task_struct_size"])
    if count == 0:
        raise DeviceError(errno.EINVAL, "task_count 0")
    if stride < TASK.itemsize:
        raise DeviceError(errno.EINVAL, f"task_struct_size {stride} must be at least {TASK.itemsize}")
    if count > min(MAX_TASKS, MAX_TASKS_OF_KERNEL):
        raise DeviceError(errno.ENOMEM, f"task_count {count}: more than {MAX_TASKS}")
    records = read_structs(call, int(record["tasks"]), count, stride, TASK)
    tasks = np.empty((count, 4), np.uint32)
    tasks[:, 0], tasks[:, 1], tasks[:, 2], tasks[:, 3] = records["regcmd"], records["regcmd_count"], 1, DPU_INTERRUPTS
    if not tasks[:, 1].all():
        raise DeviceError(errno.EINVAL, f"task {int(np.argmin(tasks[:, 1]))}: regcmd_count 0")
    if not call.file.device.behaviour.has("unchecked-programs"):
        if (tasks[:, 0] % REGCMD_ALIGNMENT).any():
            raise DeviceError(errno.EINVAL, f"regcmd must be a multiple of {REGCMD_ALIGNMENT}")
        if (tasks[:, 1] > MAX_REGCMD_COUNT).any():
            raise DeviceError(errno.EINVAL, f"regcmd_count must be at most {MAX_REGCMD_COUNT}")
    return tasks


def read_handles(call: Call, address: int, count: int) -> list[int]:
    if count > min(MAX_HANDLES, INT_MAX):
        raise DeviceError(errno.ENOMEM, f"handle count {count}: more than {MAX_HANDLES}")
    if count == 0:
        return []
    return call.memory.read_elements(address, count, 4, 4).view("<u4")[:, 0].tolist()


def check_job(file: File, request: Request) -> None:
    """What only shows when the buffers are locked and the job is made."""
    if file.device.faults.strike("job-dropped"):
        raise DeviceError(errno.ENOMEM, "fault on purpose: job-dropped")
    listed = request.in_bos + request.out_bos
    if len(set(listed)) != len(listed):
        raise DeviceError(errno.EALREADY, "a BO is listed twice")
    entity = file.entity
    if entity.in_flight >= MAX_JOBS or entity.num_queued_tasks + len(request.tasks) > MAX_QUEUED_TASKS:
        raise DeviceError(errno.ENOMEM, f"{entity.in_flight} jobs, {entity.num_queued_tasks} tasks are queued already")


def push_job(file: File, request: Request) -> None:
    """Lock the buffers, collect what to wait for, attach the fence to what is used, queue."""
    check_job(file, request)
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
