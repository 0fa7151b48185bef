"""The four ioctls of accel/rocket, with the checks of Linux 7.2 in their order."""
from __future__ import annotations

import errno
import logging
import time
from typing import Any

import numpy as np

from cermet.kmd import uapi
from cermet.kmd.bo import Bo
from cermet.kmd.errors import DeviceError
from cermet.kmd.fence import Fence
from cermet.kmd.file import File
from cermet.kmd.ioctl import Blocking, Call, IoctlTable
from cermet.kmd.job import Job

log = logging.getLogger("cermet.kmd")

MAX_BO_BYTES = 0x7FFF_F000              # the mapped length is a signed 32-bit number
JIFFY_NS = 4_000_000                    # HZ = 250; a wait ends up to one tick later. ASSUMED: arm64's default
INT_MAX = 0x7FFF_FFFF
MAX_TASKS_OF_KERNEL = 134_217_727
# Where this driver says ENOMEM although a kernel with memory to spare would go on: nothing is allocated by a count
# that a client chose before it has been compared with these.
MAX_JOBS = 1 << 16                      # of one submit, and queued by one file
MAX_TASKS = 1 << 20                     # of one job
MAX_QUEUED_TASKS = 1 << 22              # of one file
MAX_HANDLES = 1 << 20                   # of one list


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
    if size_bytes == 0:
        raise DeviceError(errno.ENOSPC, "size 0: no mmap offset for zero pages")
    if size_bytes > MAX_BO_BYTES:
        raise DeviceError(errno.ENOMEM, f"size {size_bytes:#x}: more than {MAX_BO_BYTES:#x}")
    if size_bytes > 1 << 28 and size_bytes > available_memory_bytes():
        raise DeviceError(errno.ENOMEM, f"size {size_bytes:#x}: more than the memory available")
    device = call.file.device
    with device.lock:
        device.collect()
        bo = call.file.create_bo(size_bytes)
        args.handle = call.file.add_handle(bo)
    args.dma_address = bo.dma_address
    args.offset = bo.offset
    log.debug("%s: CREATE_BO %d bytes: handle %d at %#x", call.file, size_bytes, args.handle, bo.dma_address)


# --- wait -------------------------------------------------------------------------------------------------------------


def wait_for(fences: list[Fence], deadline_ns: int, bo: Bo, file: File) -> None:
    """Until all have signalled. A failed job's fence has signalled too: nobody is told of its error."""
    try:
        for fence in fences:
            if not fence.wait_until(deadline_ns + JIFFY_NS):
                raise DeviceError(errno.ETIMEDOUT, "PREP_BO: still busy at the deadline")
    finally:
        with file.device.lock:
            bo.put()


def prep_bo(call: Call, args: Any) -> Blocking | None:
    if args.reserved:
        raise DeviceError(errno.EINVAL, f"reserved {args.reserved} must be 0")
    with call.file.device.lock:
        bo = call.file.bo_or_error(args.handle)
        fences = list(bo.pending_fences())
        if not fences:
            return None
        if args.timeout_ns <= time.monotonic_ns():
            raise DeviceError(errno.EBUSY, f"handle {args.handle}: {len(fences)} jobs write it")
        bo.get()
    deadline_ns = args.timeout_ns
    return Blocking(lambda: wait_for(fences, deadline_ns, bo, call.file))


def fini_bo(call: Call, args: Any) -> None:
    """Shared memory is coherent: the cache clean has nothing to do."""
    if args.reserved:
        raise DeviceError(errno.EINVAL, f"reserved {args.reserved} must be 0")
    with call.file.device.lock:
        call.file.bo_or_error(args.handle)


# --- submit -----------------------------------------------------------------------------------------------------------


def submit(call: Call, args: Any) -> None:
    """Queue jobs. What is wrong with a single job is logged and never returned, as the kernel does."""
    count, stride = args.job_count, args.job_struct_size
    if count == 0:
        return
    if stride < JOB.itemsize:
        raise DeviceError(errno.EINVAL, f"job_struct_size {stride} must be at least {JOB.itemsize}")
    if args.reserved:
        raise DeviceError(errno.EINVAL, f"reserved {args.reserved} must be 0")
    if count > MAX_JOBS:
        raise DeviceError(errno.ENOMEM, f"job_count {count}: more than {MAX_JOBS}")
    records = call.memory.read_elements(args.jobs, count, stride, JOB.itemsize).view(JOB)[:, 0]
    for index, record in enumerate(records):
        try:
            submit_job(call, record)
        except DeviceError as error:
            log.warning("%s: SUBMIT job %d of %d dropped: %s", call.file, index, count, error)


def submit_job(call: Call, record: np.void) -> None:
    tasks = read_tasks(call, record)
    in_handles = read_handles(call, int(record["in_bo_handles"]), int(record["in_bo_handle_count"]))
    # The kernel looks up the first list before it reads the second; which of two discarded errors wins is invisible.
    out_handles = read_handles(call, int(record["out_bo_handles"]), int(record["out_bo_handle_count"]))
    with call.file.device.lock:
        push_job(call.file, tasks, [call.file.bo_or_error(h) for h in in_handles],
                 [call.file.bo_or_error(h) for h in out_handles])


def read_tasks(call: Call, record: np.void) -> np.ndarray:
    """(n, 2) uint32: regcmd, regcmd_count."""
    count, stride = int(record["task_count"]), int(record["task_struct_size"])
    if count == 0:
        raise DeviceError(errno.EINVAL, "task_count 0")
    if stride < TASK.itemsize:
        raise DeviceError(errno.EINVAL, f"task_struct_size {stride} must be at least {TASK.itemsize}")
    if count > min(MAX_TASKS, MAX_TASKS_OF_KERNEL):
        raise DeviceError(errno.ENOMEM, f"task_count {count}: more than {MAX_TASKS}")
    tasks = call.memory.read_elements(int(record["tasks"]), count, stride, TASK.itemsize).view("<u4")
    if not tasks[:, 1].all():
        raise DeviceError(errno.EINVAL, f"task {int(np.argmin(tasks[:, 1]))}: regcmd_count 0")
    return tasks


def read_handles(call: Call, address: int, count: int) -> list[int]:
    if count > min(MAX_HANDLES, INT_MAX):
        raise DeviceError(errno.ENOMEM, f"handle count {count}: more than {MAX_HANDLES}")
    if count == 0:
        return []
    return call.memory.read_elements(address, count, 4, 4).view("<u4")[:, 0].tolist()


def push_job(file: File, tasks: np.ndarray, in_bos: list[Bo], out_bos: list[Bo]) -> None:
    """Lock the buffers, collect what to wait for, attach the fence to what is written, queue."""
    listed = in_bos + out_bos
    if len(set(listed)) != len(listed):
        raise DeviceError(errno.EALREADY, "a BO is listed twice")
    entity = file.entity
    if entity.in_flight >= MAX_JOBS or entity.num_queued_tasks + len(tasks) > MAX_QUEUED_TASKS:
        raise DeviceError(errno.ENOMEM, f"{entity.in_flight} jobs, {entity.num_queued_tasks} tasks are queued already")
    fence = Fence(entity)
    waits_for = [other for bo in listed for other in bo.pending_fences() if other.context is not entity]
    for bo in listed:
        bo.get()
    for bo in out_bos:
        bo.write_fences.append(fence)
    file.device.scheduler.push(entity, Job(file.space, tasks, in_bos, out_bos, fence, waits_for))


def add_to(table: IoctlTable) -> None:
    table.add("DRM_IOCTL_ROCKET_CREATE_BO", create_bo)
    table.add("DRM_IOCTL_ROCKET_SUBMIT", submit)
    table.add("DRM_IOCTL_ROCKET_PREP_BO", prep_bo)
    table.add("DRM_IOCTL_ROCKET_FINI_BO", fini_bo)
