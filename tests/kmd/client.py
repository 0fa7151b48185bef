"""The C client, called from Python: open, ioctl, mmap as a program would."""
from __future__ import annotations

import ctypes
import errno
import mmap as mmap_module
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cermet import paths
from cermet.kmd import uapi
from tests.kmd.fake_core import program

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = 4096
MAP_FAILED = ctypes.c_void_p(-1).value
FOREVER = (1 << 63) - 1


def load() -> ctypes.CDLL:
    library = ctypes.CDLL(str(paths.library("libcermet_shim.so")), use_errno=True)
    library.cermet_client_ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
    library.cermet_client_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                                           ctypes.c_int64]
    library.cermet_client_mmap.restype = ctypes.c_void_p
    library.cermet_client_owns.restype = ctypes.c_bool
    return library


def environment(socket: pathlib.Path, module: str = "tests.kmd.fake_driver", **more: str) -> dict[str, str]:
    """What makes clients start the fake driver, or another module's, on this socket."""
    python_path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"CERMET_SIM_SOCKET": str(socket), "CERMET_COMMAND": command(socket.parent, module),
            "PYTHONPATH": python_path, **more}


def command(folder: pathlib.Path, module: str) -> str:
    """A program that runs a module: CERMET_COMMAND names one program, without arguments."""
    script = folder / f"run-{module}"
    if not script.exists():
        temporary = script.with_suffix(f".{os.getpid()}")
        temporary.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        temporary.chmod(0o755)
        temporary.replace(script)
    return str(script)


@contextmanager
def environ(**values: str) -> Iterator[None]:
    """os.environ with these, put back afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def address_of(data: Any) -> int:
    return int(uapi.ffi.cast("uintptr_t", data))


class Mapping:
    """Mapped memory."""

    def __init__(self, address: int, num_bytes: int) -> None:
        self.address = address
        self.num_bytes = num_bytes
        self.bytes = (ctypes.c_ubyte * num_bytes).from_address(address)

    def read(self, start: int = 0, num_bytes: int | None = None) -> bytes:
        return bytes(self.bytes[start:self.num_bytes if num_bytes is None else start + num_bytes])

    def write(self, data: bytes, start: int = 0) -> None:
        ctypes.memmove(self.address + start, data, len(data))

    def unmap(self) -> None:
        assert libc.munmap(ctypes.c_void_p(self.address), ctypes.c_size_t(self.num_bytes)) == 0


libc = ctypes.CDLL(None, use_errno=True)


class Node:
    """One open file of the simulated device."""

    def __init__(self, flags: int = os.O_RDWR | os.O_CLOEXEC) -> None:
        self.library = load()
        message = ctypes.create_string_buffer(512)
        self.fd = self.library.cermet_client_open(None, flags, message, len(message))
        if self.fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{os.strerror(number)}: {message.value.decode()}")

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def raw(self, request: int, argument: int) -> int:
        """errno of an ioctl, 0 when it succeeded; `value` keeps what it returned."""
        ctypes.set_errno(0)
        self.value = self.library.cermet_client_ioctl(self.fd, request, argument)
        return ctypes.get_errno() if self.value < 0 else 0

    def call(self, ioctl: str, /, **members: Any) -> Any:
        """The struct after the ioctl. Raises OSError."""
        number, struct = uapi.IOCTLS[f"DRM_IOCTL_{ioctl}"]
        data = uapi.ffi.new(f"{struct} *", members)
        error = self.raw(number.value, address_of(data))
        if error:
            raise OSError(error, f"{ioctl}: {os.strerror(error)}")
        return data

    def error(self, ioctl: str, /, **members: Any) -> int:
        """The errno, 0 for success."""
        try:
            self.call(ioctl, **members)
        except OSError as error:
            assert error.errno
            return error.errno
        return 0

    # --- shorthands ---

    def create(self, size_bytes: int) -> Any:
        return self.call("ROCKET_CREATE_BO", size=size_bytes)

    def mmap(self, offset: int, num_bytes: int, flags: int = mmap_module.MAP_SHARED,
             protection: int = mmap_module.PROT_READ | mmap_module.PROT_WRITE) -> Mapping:
        address = self.library.cermet_client_mmap(None, num_bytes, protection, flags, self.fd, offset)
        if address == MAP_FAILED:
            raise OSError(ctypes.get_errno(), "mmap")
        return Mapping(address, num_bytes)

    def mmap_error(self, *arguments: Any, **options: Any) -> int:
        try:
            self.mmap(*arguments, **options).unmap()
        except OSError as error:
            assert error.errno
            return error.errno
        return 0

    def program(self, *operations: tuple[int, ...]) -> tuple[Any, int]:
        """(BO with the program, words of it)."""
        text = program(*operations)
        bo = self.create(max(len(text), 32))
        mapping = self.mmap(bo.offset, PAGE * -(-len(text) // PAGE))
        mapping.write(text)
        mapping.unmap()
        return bo, len(text) // 8

    def wait(self, bo: Any, timeout_s: float = 10) -> None:
        self.call("ROCKET_PREP_BO", handle=bo.handle, timeout_ns=time.monotonic_ns() + int(timeout_s * 1e9))

    def is_busy(self, bo: Any) -> bool:
        error = self.error("ROCKET_PREP_BO", handle=bo.handle, timeout_ns=0)
        assert error in (0, errno.EBUSY)
        return error == errno.EBUSY

    def submit(self, *jobs: Any, stride: int = 40) -> None:
        kept = uapi.ffi.new("struct drm_rocket_job []", [job.record for job in jobs])
        self.call("ROCKET_SUBMIT", jobs=address_of(kept), job_count=len(jobs), job_struct_size=stride)

    def run(self, *operations: tuple[int, ...], out: Sequence[Any] = ()) -> Any:
        """Submit one job of one task; the BO of its program."""
        bo, words = self.program(*operations)
        self.submit(Job([(bo.dma_address, words)], [bo.handle], [other.handle for other in out]))
        return bo


class Job:
    """A struct drm_rocket_job with the arrays that it points to."""

    def __init__(self, tasks: Sequence[tuple[int, int]], in_handles: Sequence[int] = (),
                 out_handles: Sequence[int] = (), **members: int) -> None:
        self.tasks = uapi.ffi.new("struct drm_rocket_task []", list(tasks))
        self.in_handles = uapi.ffi.new("__u32 []", list(in_handles))
        self.out_handles = uapi.ffi.new("__u32 []", list(out_handles))
        self.record = {
            "tasks": address_of(self.tasks), "in_bo_handles": address_of(self.in_handles),
            "out_bo_handles": address_of(self.out_handles), "task_count": len(tasks), "task_struct_size": 8,
            "in_bo_handle_count": len(in_handles), "out_bo_handle_count": len(out_handles), **members}
