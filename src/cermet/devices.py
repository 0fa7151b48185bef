"""The NPUs of this machine: nodes of the accel class, asked what drives them."""
from __future__ import annotations

import ctypes
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

ACCEL_FOLDER = Path("/dev/accel")
DRIVER = "rocket"
NAME_BYTES = 64


class DrmVersion(ctypes.Structure):
    """struct drm_version (kernel-uapi/drm_core.h)."""

    _fields_ = (("version_major", ctypes.c_int), ("version_minor", ctypes.c_int), ("version_patchlevel", ctypes.c_int),
                ("name_len", ctypes.c_size_t), ("name", ctypes.c_void_p), ("date_len", ctypes.c_size_t),
                ("date", ctypes.c_void_p), ("desc_len", ctypes.c_size_t), ("desc", ctypes.c_void_p))


DRM_IOCTL_VERSION = 3 << 30 | ctypes.sizeof(DrmVersion) << 16 | ord("d") << 8      # DRM_IOWR(0x00, struct drm_version)


@dataclass(frozen=True)
class Device:
    """device: what to give as the option; usable: the delegate can run on it; error: why it cannot be asked."""

    device: str
    driver: str
    version: str
    usable: bool
    error: str = ""


def real_devices(folder: Path = ACCEL_FOLDER) -> list[Device]:
    """Nodes of the accel class, asked by their VERSION ioctl."""
    nodes = sorted(folder.glob("accel*"), key=lambda node: (len(node.name), node.name)) if folder.is_dir() else []
    return [ask(node) for node in nodes]


def ask(node: Path) -> Device:
    """Driver and version of a node."""
    try:
        descriptor = os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return Device(str(node), "", "", False, error.strerror or str(error))
    try:
        name = ctypes.create_string_buffer(NAME_BYTES)
        version = DrmVersion(name_len=NAME_BYTES - 1, name=ctypes.addressof(name))
        fcntl.ioctl(descriptor, DRM_IOCTL_VERSION, version, True)
    except OSError as error:
        return Device(str(node), "", "", False, error.strerror or str(error))
    finally:
        os.close(descriptor)
    driver = name.value.decode(errors="replace")
    return Device(str(node), driver, f"{version.version_major}.{version.version_minor}.{version.version_patchlevel}",
                  driver == DRIVER)
