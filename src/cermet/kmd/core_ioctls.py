"""The DRM core's ioctls as they behave on a node of accel/rocket: COMPUTE_ACCEL and GEM, no modesetting, no syncobj."""
from __future__ import annotations

import errno
import itertools
import logging
import os
from typing import Any

from cermet.kmd import uapi
from cermet.kmd.errors import DeviceError
from cermet.kmd.ioctl import Call, IoctlTable, Needs
from cermet.kmd.user_memory import take_fd

log = logging.getLogger("cermet.kmd")

DRIVER_NAME, DRIVER_DATE, DRIVER_DESCRIPTION = b"rocket", b"0", b"rocket DRM"
CAPABILITIES = {
    uapi.CONSTANTS["DRM_CAP_TIMESTAMP_MONOTONIC"]: 1,
    uapi.CONSTANTS["DRM_CAP_PRIME"]: 3,             # import and export
    uapi.CONSTANTS["DRM_CAP_SYNCOBJ"]: 0,
    uapi.CONSTANTS["DRM_CAP_SYNCOBJ_TIMELINE"]: 0,
}
PRIME_FLAGS = uapi.CONSTANTS["DRM_CLOEXEC"] | uapi.CONSTANTS["DRM_RDWR"]
OVERFLOW_UID = 65534
MAX_CLIENT_NAME_BYTES = 64

# Numbers of include/uapi/drm/drm.h.
GET_STATS, SET_CLIENT_CAP, GEM_CHANGE_HANDLE = 0x06, 0x0D, 0xD2
GET_MAGIC, SET_MASTER, DROP_MASTER = 0x02, 0x1E, 0x1F
# SET_VERSION, SET_UNIQUE, AUTH_MAGIC, BLOCK, UNBLOCK, UPDATE_DRAW
MASTER_CALLS = (0x07, 0x10, 0x11, 0x12, 0x13, 0x3F)
VBLANK_CALLS = (0x3A, 0x3B, 0x3C)
DUMB_CALLS = (0xB2, 0xB3, 0xB4)
MODE_MASTER_CALLS = (0xA2, 0xA3, 0xA5, 0xA8, 0xA9, 0xAB, 0xB0, 0xB1, 0xB7, 0xBA, 0xBB, 0xBC, 0xC6, 0xC9)
MODE_AND_SYNCOBJ_CALLS = range(0xA0, 0xD1)


def copy_string(call: Call, text: bytes, address: int, room: int) -> int:
    """Copy as much as fits; the full length, which goes into the caller's length member."""
    if room and address:
        call.memory.write(address, text[:room])
    return len(text)


def version(call: Call, args: Any) -> None:
    args.version_major = 0 if call.file.device.behaviour.has("version-unset") else 1
    args.version_minor = args.version_patchlevel = 0
    for member, text in (("name", DRIVER_NAME), ("date", DRIVER_DATE), ("desc", DRIVER_DESCRIPTION)):
        address = int(uapi.ffi.cast("uintptr_t", getattr(args, member)))
        setattr(args, f"{member}_len", copy_string(call, text, address, getattr(args, f"{member}_len")))


def get_unique(call: Call, args: Any) -> None:
    args.unique_len = 0


def get_client(call: Call, args: Any) -> None:
    if args.idx != 0:
        raise DeviceError(errno.EINVAL, f"idx {args.idx} must be 0")
    args.auth = call.file.is_admin
    args.pid = call.memory.pid
    args.uid = OVERFLOW_UID
    args.magic = args.iocs = 0


def get_cap(call: Call, args: Any) -> None:
    args.value = 0
    if args.capability not in CAPABILITIES:
        raise DeviceError(errno.EOPNOTSUPP, f"capability {args.capability:#x}")
    args.value = CAPABILITIES[args.capability]
    if args.capability == uapi.CONSTANTS["DRM_CAP_SYNCOBJ"] and "queues" in call.file.device.behaviour.proposals:
        args.value = 1


def set_client_name(call: Call, args: Any) -> None:
    if args.name_len > MAX_CLIENT_NAME_BYTES:
        raise DeviceError(errno.EINVAL, f"name_len {args.name_len} must be at most {MAX_CLIENT_NAME_BYTES}")
    name = bytes(call.memory.read(args.name, args.name_len))
    if any(not 0x21 <= byte <= 0x7E for byte in name):
        raise DeviceError(errno.EINVAL, f"name {name!r}: visible characters only")
    call.file.client_name = name.decode()


# --- handles ----------------------------------------------------------------------------------------------------------


def gem_close(call: Call, args: Any) -> None:
    with call.file.device.lock:
        if not call.file.close_handle(args.handle):
            raise DeviceError(errno.EINVAL, f"handle {args.handle}: unknown")


flink_numbers = itertools.count(1)


def gem_flink(call: Call, args: Any) -> None:
    with call.file.device.lock:
        bo = call.file.bo_or_error(args.handle)
        if not bo.flink_name:
            bo.flink_name = next(flink_numbers)
            call.file.device.flink_names[bo.flink_name] = bo
        args.name = bo.flink_name


def gem_open(call: Call, args: Any) -> None:
    with call.file.device.lock:
        bo = call.file.device.flink_names.get(args.name)
        if bo is None:
            raise DeviceError(errno.ENOENT, f"name {args.name}: unknown")
        args.handle = call.file.add_handle(bo)
        args.size = bo.mapped_bytes


def prime_handle_to_fd(call: Call, args: Any) -> None:
    """The exported fd is the BO's memory itself: it maps, tells its size, and comes back by its inode."""
    if args.flags & ~PRIME_FLAGS:
        raise DeviceError(errno.EINVAL, f"flags {args.flags:#x}: only CLOEXEC and RDWR")
    with call.file.device.lock:
        bo = call.file.bo_or_error(args.handle)
        bo.was_exported = True
        call.give_fd(bo.open_again(), "fd", args.flags & uapi.CONSTANTS["DRM_CLOEXEC"])


def prime_fd_to_handle(call: Call, args: Any) -> None:
    """Buffers of this device only. In a second file the handle maps, waits and fences, but has no NPU address there."""
    fd = take_fd(call.memory.pid, args.fd)
    try:
        with call.file.device.lock:
            bo = call.file.device.bo_of_fd(fd)
            if bo is None:
                raise DeviceError(errno.EINVAL, f"fd {args.fd}: not a buffer of this device")
            handle = call.file.handle_of(bo)
            args.handle = call.file.add_handle(bo) if handle is None else handle
    finally:
        os.close(fd)


def get_stats(call: Call, args: Any) -> None:
    """Counts of nothing: the core zeroes the answer."""


def change_master(call: Call, args: Any) -> None:
    if not call.file.is_admin:
        raise DeviceError(errno.EACCES, "needs CAP_SYS_ADMIN")
    raise DeviceError(errno.EINVAL, "there is no master of an accel node")


def add_to(table: IoctlTable) -> None:
    """Later entries replace earlier ones: ranges first."""
    table.refuse(MODE_AND_SYNCOBJ_CALLS, errno.EOPNOTSUPP, "no modesetting and no syncobj on this node")
    table.refuse(MODE_MASTER_CALLS, errno.EACCES, "no modesetting on this node", Needs.MASTER)
    table.refuse(DUMB_CALLS, errno.ENOSYS, "no dumb buffers")
    table.refuse(VBLANK_CALLS, errno.EOPNOTSUPP, "no vblank")
    table.refuse(MASTER_CALLS, errno.EACCES, "no master", Needs.MASTER)
    table.refuse([SET_CLIENT_CAP], errno.EOPNOTSUPP, "no modesetting on this node")
    table.refuse([GEM_CHANGE_HANDLE], errno.EINVAL, "disabled in the core")
    table.refuse([GET_MAGIC], errno.EINVAL, "no authentication on this node")
    for index in (SET_MASTER, DROP_MASTER):
        table.add_plain(index, change_master)
    table.add_plain(GET_STATS, get_stats, uapi.IOC_READ, num_bytes=248)
    for name, handler in (
            ("VERSION", version), ("GET_UNIQUE", get_unique), ("GET_CLIENT", get_client), ("GET_CAP", get_cap),
            ("GEM_CLOSE", gem_close), ("SET_CLIENT_NAME", set_client_name),
            ("PRIME_HANDLE_TO_FD", prime_handle_to_fd), ("PRIME_FD_TO_HANDLE", prime_fd_to_handle)):
        table.add(f"DRM_IOCTL_{name}", handler)
    table.add("DRM_IOCTL_GEM_FLINK", gem_flink, Needs.AUTH)
    table.add("DRM_IOCTL_GEM_OPEN", gem_open, Needs.AUTH)
