"""Run plans on a device from Python: a thin binding of libcermet_runtime.so (interface: cermet_runtime.h).

    with Device("sim") as device, device.load(plan_bytes) as program:
        outputs = program.run([image])
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Self

import cffi
import numpy as np

from cermet import paths
from cermet.errors import CermetError

DEFAULT_TIMEOUT_MS = 10_000     # as the delegate's option timeout_ms


class RuntimeFailure(CermetError):
    """The device or the plan failed; one line says what and where."""


@dataclass(frozen=True)
class Port:
    """A tensor that crosses the partition's border: canonical number in the blob, NHWC shape, uint8 or int8."""

    tensor: int
    shape: tuple[int, int, int, int]
    dtype: np.dtype


@cache
def _library() -> tuple[Any, Any]:
    """The parsed header and the opened library; calls release the GIL."""
    text = paths.header("cermet_runtime.h").read_text()
    ffi = cffi.FFI()
    ffi.cdef(re.sub(r"^#.*$", "", text, flags=re.MULTILINE))
    return ffi, ffi.dlopen(str(paths.library("libcermet_runtime.so")))


def _failure() -> RuntimeFailure:
    ffi, library = _library()
    return RuntimeFailure(ffi.string(library.cermet_runtime_last_error()).decode("utf-8", "replace"))


def check_plan(plan: bytes) -> int:
    """Number of partitions of a valid plan. Raises RuntimeFailure with the first thing that is wrong."""
    _, library = _library()
    num_partitions: int = library.cermet_runtime_check_plan(plan, len(plan))
    if num_partitions < 0:
        raise _failure()
    return num_partitions


class LoadedProgram:
    """One partition of a plan in the device's memory. For one thread at a time; close it, or use `with`."""

    def __init__(self, device: Device, handle: Any) -> None:
        self._device = device
        self._handle = handle
        self.inputs = self._ports("input")
        self.outputs = self._ports("output")

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs in the order of `outputs`, for inputs in the order of `inputs`. Raises RuntimeFailure, ValueError."""
        ffi, library = _library()
        handle = self._require_open()
        if len(inputs) != len(self.inputs):
            raise ValueError(f"{len(inputs)} inputs, must be {len(self.inputs)}")
        arrays = [_fitting(array, port) for array, port in zip(inputs, self.inputs, strict=True)]
        results = [np.empty(port.shape, port.dtype) for port in self.outputs]
        sources = ffi.new("void *[]", [ffi.from_buffer(array) for array in arrays])
        targets = ffi.new("void *[]", [ffi.from_buffer(array, require_writable=True) for array in results])
        if library.cermet_runtime_run(handle, sources, targets) != 0:
            raise _failure()
        return results

    def close(self) -> None:
        """Give the memory back; waits for what still runs. May be repeated."""
        _, library = _library()
        handle, self._handle = self._handle, None
        if handle is not None:
            library.cermet_runtime_unload(handle)
            self._device._programs.remove(self)

    def _require_open(self) -> Any:
        if self._handle is None:
            raise RuntimeFailure("program: is closed")
        return self._handle

    def _ports(self, side: str) -> tuple[Port, ...]:
        ffi, library = _library()
        numbers = ffi.new("uint32_t[6]")
        ports = []
        for index in range(getattr(library, f"cermet_runtime_num_{side}s")(self._handle)):
            if getattr(library, f"cermet_runtime_{side}")(self._handle, index, numbers) != 0:
                raise _failure()
            tensor, batch, height, width, channels, is_unsigned = numbers
            ports.append(Port(tensor, (batch, height, width, channels), np.dtype(np.uint8 if is_unsigned else np.int8)))
        return tuple(ports)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


class Device:
    """An open NPU: "auto" (the first real one), "sim", or a path like /dev/accel/accel0. Close it, or use `with`."""

    def __init__(self, name: str = "auto", soc: str = "rk3588") -> None:
        ffi, library = _library()
        self._handle = library.cermet_runtime_open(name.encode(), soc.encode())
        self._programs: list[LoadedProgram] = []
        if self._handle == ffi.NULL:
            self._handle = None
            raise _failure()
        self.name: str = ffi.string(library.cermet_runtime_device_name(self._handle)).decode()

    def load(self, plan: bytes, partition: int = 0, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> LoadedProgram:
        """Load one partition of a plan file's bytes. Raises RuntimeFailure."""
        ffi, library = _library()
        if self._handle is None:
            raise RuntimeFailure("device: is closed")
        handle = library.cermet_runtime_load(self._handle, plan, len(plan), partition, timeout_ms)
        if handle == ffi.NULL:
            raise _failure()
        program = LoadedProgram(self, handle)
        self._programs.append(program)
        return program

    def busy_ns(self) -> int | None:
        """How long the simulated NPU has been executing tasks so far, of any program; None on a real device."""
        _, library = _library()
        if self._handle is None:
            raise RuntimeFailure("device: is closed")
        busy_ns: int = library.cermet_runtime_busy_ns(self._handle)
        return None if busy_ns < 0 else busy_ns

    def close(self) -> None:
        """Unload what is loaded, then close. May be repeated."""
        _, library = _library()
        for program in tuple(self._programs):
            program.close()
        handle, self._handle = self._handle, None
        if handle is not None:
            library.cermet_runtime_close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


def _fitting(array: np.ndarray, port: Port) -> np.ndarray:
    """The array, contiguous; any shape with the right number of elements in NHWC order."""
    if array.dtype != port.dtype or array.size != np.prod(port.shape, dtype=np.int64):
        raise ValueError(f"tensor {port.tensor}: array is {array.dtype} of shape {array.shape}, must be {port.dtype} "
                         f"with the elements of {port.shape}")
    return np.ascontiguousarray(array)
