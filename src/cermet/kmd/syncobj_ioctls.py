"""The DRM core's binary sync objects, which a driver gets by setting DRIVER_SYNCOBJ; mainline's rocket does not.

Not here: their exchange with other files (HANDLE_TO_FD, FD_TO_HANDLE), timelines, eventfds.
"""
from __future__ import annotations

import errno
import time
from typing import Any

from cermet.kmd import uapi
from cermet.kmd.errors import DeviceError
from cermet.kmd.fence import Fence
from cermet.kmd.ioctl import Blocking, Call, IoctlTable
from cermet.kmd.rocket_ioctls import read_handles
from cermet.kmd.waits import seconds_until

SIGNALED = uapi.CONSTANTS["DRM_SYNCOBJ_CREATE_SIGNALED"]
WAIT_ALL = uapi.CONSTANTS["DRM_SYNCOBJ_WAIT_ALL"]
WAIT_FOR_SUBMIT = uapi.CONSTANTS["DRM_SYNCOBJ_WAIT_FOR_SUBMIT"]
LOOK_INTERVAL_S = 1.0       # how often a call that waits looks whether its caller still does


class Syncobj:
    """A place for a fence. `fence` belongs to the device's lock."""

    def __init__(self, fence: Fence | None) -> None:
        self.fence = fence


def signalled_fence() -> Fence:
    fence = Fence(None)
    fence.signal()
    return fence


def create(call: Call, args: Any) -> None:
    if args.flags & ~SIGNALED:
        raise DeviceError(errno.EINVAL, f"flags {args.flags:#x}")
    with call.file.device.lock:
        args.handle = call.file.syncobjs.add(lambda: Syncobj(signalled_fence() if args.flags else None))


def destroy(call: Call, args: Any) -> None:
    if args.pad:
        raise DeviceError(errno.EINVAL, f"pad {args.pad} must be 0")
    with call.file.device.lock:
        call.file.syncobjs.remove(args.handle, errno.EINVAL)


def find(call: Call, args: Any) -> list[Syncobj]:
    """The objects of an array of handles."""
    if args.count_handles == 0:
        raise DeviceError(errno.EINVAL, "count_handles 0")
    handles = read_handles(call, args.handles, args.count_handles)
    return [call.file.syncobjs.find(handle) for handle in handles]


def put_fences(call: Call, args: Any, fence: Fence | None) -> None:
    if args.pad:
        raise DeviceError(errno.EINVAL, f"pad {args.pad} must be 0")
    with call.file.device.lock:
        for syncobj in find(call, args):
            syncobj.fence = fence
        call.file.device.scheduler.changed.notify_all()


def reset(call: Call, args: Any) -> None:
    put_fences(call, args, None)


def signal(call: Call, args: Any) -> None:
    put_fences(call, args, signalled_fence())


def wait(call: Call, args: Any) -> Blocking | None:
    """A fence that signals with an error is as good as any: who waits asks the driver what became of the job."""
    if args.flags & ~(WAIT_ALL | WAIT_FOR_SUBMIT):
        raise DeviceError(errno.EINVAL, f"flags {args.flags:#x}")
    device = call.file.device
    with device.lock:
        syncobjs = find(call, args)
        if not args.flags & WAIT_FOR_SUBMIT and any(syncobj.fence is None for syncobj in syncobjs):
            raise DeviceError(errno.EINVAL, "a sync object has no fence to wait for")
        # Without WAIT_FOR_SUBMIT it is the fences of now that count, whatever the objects get meanwhile.
        places = syncobjs if args.flags & WAIT_FOR_SUBMIT else [Syncobj(syncobj.fence) for syncobj in syncobjs]
        if is_over(places, args):
            return None
        if args.timeout_nsec <= time.monotonic_ns():
            raise DeviceError(errno.ETIME, "still busy")
    deadline_ns = args.timeout_nsec
    return Blocking(lambda: wait_until(call, places, args, deadline_ns))


def is_over(syncobjs: list[Syncobj], args: Any) -> bool:
    done = [index for index, syncobj in enumerate(syncobjs) if syncobj.fence is not None and syncobj.fence.is_signalled]
    args.first_signaled = done[0] if done else 0
    return len(done) == len(syncobjs) if args.flags & WAIT_ALL else bool(done)


def wait_until(call: Call, syncobjs: list[Syncobj], args: Any, deadline_ns: int) -> None:
    """Also over when the caller or the file is gone: nobody may be left who could bring the fence."""
    device = call.file.device
    changed = device.scheduler.changed
    with changed:
        device.num_syncobj_waits += 1
        try:
            while not changed.wait_for(lambda: is_over(syncobjs, args) or call.file.is_closed,
                                       min(seconds_until(deadline_ns), LOOK_INTERVAL_S)):
                if call.is_abandoned():
                    raise DeviceError(errno.EINTR, "the caller is gone")
                if time.monotonic_ns() >= deadline_ns:
                    raise DeviceError(errno.ETIME, "still busy at the deadline")
            if not is_over(syncobjs, args):
                raise DeviceError(errno.EINTR, "the file was closed meanwhile")
        finally:
            device.num_syncobj_waits -= 1


def add_to(table: IoctlTable) -> None:
    for name, handler in (("CREATE", create), ("DESTROY", destroy), ("WAIT", wait), ("RESET", reset),
                          ("SIGNAL", signal)):
        table.add(f"DRM_IOCTL_SYNCOBJ_{name}", handler)
