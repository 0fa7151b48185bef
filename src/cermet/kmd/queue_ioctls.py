"""Proposal "queues": the ioctls of rocket_queues.h. What they mean is in kernel-uapi/proposals/queues."""
from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

import numpy as np

from cermet.kmd import uapi
from cermet.kmd.errors import DeviceError
from cermet.kmd.fence import Fence
from cermet.kmd.ioctl import Call, IoctlTable
from cermet.kmd.job import DPU_INTERRUPTS, MAX_PROGRAMS, PPU_INTERRUPTS, Job
from cermet.kmd.queue import STATUS_DEPTH, Queue, Vm
from cermet.kmd.rocket_ioctls import (
    MAX_JOBS,
    MAX_QUEUED_TASKS,
    MAX_REGCMD_COUNT,
    MAX_STRIDE,
    MAX_TASKS,
    REGCMD_ALIGNMENT,
    check_array,
    dtype_of,
    push,
    read_bos,
)
from cermet.kmd.syncobj_ioctls import Syncobj

C = {name.removeprefix("DRM_ROCKET_"): value for name, value in uapi.CONSTANTS.items()}
JOB, TASK, SYNC = (dtype_of(f"struct drm_rocket_{name}") for name in ("queue_job", "queue_task", "sync"))
SEQNO_OFFSET = uapi.ffi.offsetof("struct drm_rocket_queue_job", "seqno")
MAX_TIMEOUT_NS = 60_000_000_000
MAX_SYNCS = 1 << 16             # of one job
NO_CORE = 0xFFFF_FFFF


def require(holds: bool, reason: str, error: int = errno.EINVAL) -> None:
    if not holds:
        raise DeviceError(error, reason)


def get_param(call: Call, args: Any) -> None:
    soc = call.file.device.soc
    values = {
        C["PARAM_FEATURES"]: C["FEATURE_QUEUES"] | C["FEATURE_CHAINS"] | C["FEATURE_PPU_DONE"],
        C["PARAM_NUM_CORES"]: soc.cores, C["PARAM_MAX_PROGRAMS"]: MAX_PROGRAMS,
        C["PARAM_DEFAULT_TIMEOUT_NS"]: soc.job_timeout_ms * 1_000_000, C["PARAM_MAX_TIMEOUT_NS"]: MAX_TIMEOUT_NS,
        C["PARAM_STATUS_DEPTH"]: STATUS_DEPTH}
    require(args.pad == 0, f"pad {args.pad} must be 0")
    require(args.param in values, f"param {args.param}")
    args.value = values[args.param]


# --- address spaces and queues ----------------------------------------------------------------------------------------


def vm_create(call: Call, args: Any) -> None:
    require(args.flags == 0, f"flags {args.flags:#x} must be 0")
    with call.file.device.lock:
        args.vm = call.file.vms.add(lambda: Vm(call.file.device.vms))


def vm_destroy(call: Call, args: Any) -> None:
    require(args.pad == 0, f"pad {args.pad} must be 0")
    with call.file.device.lock:
        call.file.vms.remove(args.vm).put()


def vm_bind(call: Call, args: Any) -> None:
    is_map = args.op == C["VM_OP_MAP"]
    require(is_map or args.op == C["VM_OP_UNMAP"], f"op {args.op}")
    require(args.pad == 0 and (is_map or args.handle == 0), "pad, and handle with UNMAP, must be 0")
    with call.file.device.lock:
        vm = call.file.vms.find(args.vm)
        if is_map:
            vm.bind(call.file.bo_or_error(args.handle), args.address)
        else:
            vm.unbind(args.address)


def queue_create(call: Call, args: Any) -> None:
    soc = call.file.device.soc
    require(args.flags == 0, f"flags {args.flags:#x} must be 0")
    require(0 < args.core_mask < 1 << soc.cores, f"core_mask {args.core_mask:#x}: there are {soc.cores} cores")
    require(args.timeout_ns <= MAX_TIMEOUT_NS, f"timeout_ns {args.timeout_ns} must be at most {MAX_TIMEOUT_NS}")
    with call.file.device.lock:
        vm = call.file.vms.find(args.vm)
        timeout_ms = -(-args.timeout_ns // 1_000_000)
        args.queue = call.file.queues.add(lambda: Queue(call.file, vm, args.core_mask, timeout_ms))


def queue_destroy(call: Call, args: Any) -> None:
    require(args.pad == 0, f"pad {args.pad} must be 0")
    with call.file.device.lock:
        call.file.device.scheduler.close(call.file.queues.remove(args.queue))


def job_status(call: Call, args: Any) -> None:
    require(args.pad == 0, f"pad {args.pad} must be 0")
    with call.file.device.lock:
        queue = call.file.queues.find(args.queue)
        number = args.seqno or queue.num_jobs
        require(0 < number <= queue.num_jobs, f"seqno {args.seqno}: {queue.num_jobs} jobs so far")
        require(number in queue.jobs, f"seqno {number}: too long ago", errno.ENOENT)
        fence, progress = queue.jobs[number]
        state = "DONE" if fence.is_signalled else "RUNNING" if progress.start_ns else "QUEUED"
        args.seqno, args.state = number, C[f"JOB_{state}"]
        args.error = progress.error if fence.is_signalled else 0
        args.start_ns, args.end_ns, args.tasks_done = progress.start_ns, progress.end_ns, progress.tasks_done
        args.core = NO_CORE if progress.core is None else progress.core


# --- submit -----------------------------------------------------------------------------------------------------------


@dataclass
class Request:
    """A job as it was asked for, read and looked up."""

    queue: Queue
    job: Job
    signals: list[Syncobj]


def queue_submit(call: Call, args: Any) -> None:
    """All jobs or none: everything is read, looked up and told to the caller before the first is queued."""
    args.failed_job = count = args.job_count
    call.file.device.faults.fail("submit-fails")
    require(args.flags == 0, f"flags {args.flags:#x} must be 0")
    require(count <= MAX_JOBS, f"job_count {count}: more than {MAX_JOBS}", errno.ENOMEM)
    records = read_structs(call, args.jobs, count, args.job_struct_size, JOB)
    with call.file.device.lock:
        requests: list[Request] = []
        fences: dict[Syncobj, Fence] = {}       # that sync objects will have once the jobs so far are queued
        for index, record in enumerate(records):
            args.failed_job = index
            request = read_job(call, record, fences)
            requests.append(request)
            before = [other for other in requests[:-1] if other.queue is request.queue]
            check_room(request, before)
            if before:
                request.job.needs.append(before[-1].job.fence)
            seqno = request.queue.num_jobs + len(before) + 1
            call.memory.write(args.jobs + index * args.job_struct_size + SEQNO_OFFSET,
                              seqno.to_bytes(8, "little"))
        args.failed_job = count
        for request in requests:
            request.queue.add(request.job)
            push(call.file, request.queue, request.job)
        for syncobj, fence in fences.items():
            syncobj.fence = fence
        for queue in {request.queue for request in requests}:
            call.file.device.scheduler.hand_over(queue)


def read_structs(call: Call, address: int, count: int, stride: int, known: np.dtype) -> np.ndarray:
    """(count,) records; what a newer caller's structs have behind the known part must be 0."""
    if count == 0:
        return np.empty(0, known)
    require(known.itemsize <= stride <= MAX_STRIDE, f"struct size {stride} must be {known.itemsize}..{MAX_STRIDE}")
    check_array(count, stride)
    whole = call.memory.read_elements(address, count, stride, stride)
    require(not whole[:, known.itemsize:].any(), f"bytes behind the first {known.itemsize} of a struct must be 0")
    return np.ascontiguousarray(whole[:, :known.itemsize]).view(known)[:, 0]


def read_job(call: Call, record: np.void, fences: dict[Syncobj, Fence]) -> Request:
    file = call.file
    require(record["flags"] == 0, f"flags {record['flags']:#x} must be 0")
    queue = file.queues.find(int(record["queue"]))
    tasks = read_tasks(call, record)
    needs, signals = read_syncs(call, record, fences)
    in_bos, out_bos = (read_bos(call, int(record[f"{side}_bo_handles"]), int(record[f"{side}_bo_handle_count"]))
                       for side in ("in", "out"))
    require(len({*in_bos, *out_bos}) == len(in_bos) + len(out_bos), "a BO is listed twice")
    job = Job(queue.vm.space, tasks, in_bos, out_bos, Fence(queue), list(needs), list(needs), queue.timeout_ms)
    fences.update(dict.fromkeys(signals, job.fence))
    return Request(queue, job, signals)


def read_tasks(call: Call, record: np.void) -> np.ndarray:
    """(n, 4) uint32 as a Job wants them."""
    count = int(record["task_count"])
    require(count > 0, "task_count 0")
    require(count <= MAX_TASKS, f"task_count {count}: more than {MAX_TASKS}", errno.ENOMEM)
    records = read_structs(call, int(record["tasks"]), count, int(record["task_struct_size"]), TASK)
    flags, programs = records["flags"], records["num_programs"]
    require(not (flags & ~np.uint32(C["TASK_ENDS_IN_PPU"])).any(), "unknown task flags")
    words = records["regcmd_count"]
    require(bool(((words > 0) & (words <= MAX_REGCMD_COUNT)).all()), f"regcmd_count must be 1..{MAX_REGCMD_COUNT}")
    require(not (records["regcmd"] % REGCMD_ALIGNMENT).any(), f"regcmd must be a multiple of {REGCMD_ALIGNMENT}")
    require(bool(((programs > 0) & (programs <= MAX_PROGRAMS)).all()), f"num_programs must be 1..{MAX_PROGRAMS}")
    ends = np.where(flags & np.uint32(C["TASK_ENDS_IN_PPU"]), PPU_INTERRUPTS, DPU_INTERRUPTS)
    return np.stack([records["regcmd"], records["regcmd_count"], programs, ends.astype(np.uint32)], axis=1)


def read_syncs(call: Call, record: np.void, fences: dict[Syncobj, Fence]) -> tuple[list[Fence], list[Syncobj]]:
    """(fences to wait for, sync objects to signal)."""
    count = int(record["sync_count"])
    require(count <= MAX_SYNCS, f"sync_count {count}: more than {MAX_SYNCS}", errno.ENOMEM)
    waits, signals = [], []
    for sync in read_structs(call, int(record["syncs"]), count, int(record["sync_struct_size"]), SYNC):
        require(int(sync["flags"]) in (0, C["SYNC_SIGNAL"]), f"sync flags {sync['flags']:#x}")
        require(sync["point"] == 0, f"sync point {sync['point']} must be 0")
        syncobj = call.file.syncobjs.find(int(sync["handle"]))
        if sync["flags"] & C["SYNC_SIGNAL"]:
            signals.append(syncobj)
            continue
        fence = fences.get(syncobj, syncobj.fence)
        require(fence is not None, f"syncobj {sync['handle']}: has no fence to wait for")
        waits.append(fence)
    return waits, signals


def check_room(request: Request, before: list[Request]) -> None:
    queue = request.queue
    num_tasks = queue.num_queued_tasks + sum(len(other.job.tasks) for other in (*before, request))
    require(queue.in_flight + len(before) < MAX_JOBS and num_tasks <= MAX_QUEUED_TASKS,
            f"{queue.in_flight} jobs, {queue.num_queued_tasks} tasks are queued already", errno.ENOMEM)


def add_to(table: IoctlTable) -> None:
    for name, handler in (
            ("GET_PARAM", get_param), ("VM_CREATE", vm_create), ("VM_DESTROY", vm_destroy), ("VM_BIND", vm_bind),
            ("QUEUE_CREATE", queue_create), ("QUEUE_DESTROY", queue_destroy), ("QUEUE_SUBMIT", queue_submit),
            ("JOB_STATUS", job_status)):
        table.add(f"DRM_IOCTL_ROCKET_{name}", handler)
