"""`cermet devices`: the NPUs that the delegate could use, real ones and the simulated one."""
from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cermet.hw.soc import SOCS

ACCEL_FOLDER = Path("/dev/accel")
DRIVER = "rocket"
NAME_BYTES = 64
EPILOG = """
Exit status 0 also when there is no NPU: the list says so.

examples:
  cermet devices
  cermet devices --json
"""


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def run(arguments: argparse.Namespace) -> int:
    devices = real_devices(ACCEL_FOLDER) + [Device("sim", f"simulated {soc}", "", True) for soc in SOCS]
    if arguments.json:
        print(json.dumps({"devices": [asdict(device) for device in devices]}, indent=1))
        return 0
    for device in devices:
        print(line(device))
    return 0


def line(device: Device) -> str:
    """One line for people."""
    if device.error:
        return f"{device.device}  cannot be opened: {device.error}"
    use = "" if device.usable else f", not an NPU that this project knows (driver must be {DRIVER})"
    return f"{device.device}  {device.driver} {device.version}".rstrip() + use


def real_devices(folder: Path) -> list[Device]:
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
