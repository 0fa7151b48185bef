"""Where compiled programs run: on a simulated core in this process, or on a device through the C runtime."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from cermet import build
from cermet.drivers.base import CompileError, CompileOptions, Driver, Program
from cermet.errors import CermetError
from cermet.hw.soc import soc_by_name
from cermet.ir.subgraph import Subgraph

Run = Callable[[Mapping[int, np.ndarray]], dict[int, np.ndarray]]


class Executor(Protocol):
    """Makes a subgraph runnable; `name` is what people are told."""

    name: str

    def load(self, subgraph: Subgraph, program: Program) -> Run:
        """A function from the subgraph's inputs to its outputs."""

    def close(self) -> None:
        """Give everything back."""


class CoreExecutor:
    """One simulated core in this process: no kernel and no runtime between."""

    def __init__(self, soc: str) -> None:
        self.soc = soc_by_name(soc)
        self.name = "core"

    def load(self, subgraph: Subgraph, program: Program) -> Run:
        from cermet.drivers.rocket.execute import ExecutionError, run_program
        from cermet.sim.silicon import silicon_of_environment
        silicon = silicon_of_environment()

        def run(inputs: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
            try:
                return run_program(self.soc, subgraph, program, inputs, silicon)
            except ExecutionError as error:
                raise CermetError(f"simulated core: {error}") from error
        return run

    def close(self) -> None:
        """Nothing is held."""


class DeviceExecutor:
    """A device, real or simulated, as applications use it: libcermet_runtime.so loads a plan and runs it."""

    def __init__(self, device: str, soc: str) -> None:
        from cermet.runtime import Device
        self.soc = soc
        self.device = Device(device, soc)
        self.name = self.device.name

    def load(self, subgraph: Subgraph, program: Program) -> Run:
        loaded = self.device.load(_plan_of(subgraph, program, self.soc))

        def run(inputs: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
            arrays = loaded.run([inputs[port.tensor] for port in loaded.inputs])
            return {port.tensor: array.reshape(subgraph.tensor(port.tensor).shape)
                    for port, array in zip(loaded.outputs, arrays, strict=True)}
        return run

    def close(self) -> None:
        self.device.close()


def make_executor(device: str, soc: str) -> Executor:
    """"core", or a device's name as the delegate's option `device` takes it."""
    return CoreExecutor(soc) if device == "core" else DeviceExecutor(device, soc)


def _plan_of(subgraph: Subgraph, program: Program, soc: str) -> bytes:
    """A plan with one partition; its key is nobody's."""
    from cermet.program.plan import Plan, PlanNode, PlanPartition
    from cermet.program.plan_writer import encode_plan
    indices = range(len(subgraph.operations))
    return encode_plan(Plan(bytes(32), build.BUILD_ID, soc, tuple(PlanNode(0) for _ in indices),
                            (PlanPartition(tuple(indices), program),)))


def compile_part(driver: Driver, subgraph: Subgraph, options: CompileOptions) -> Program:
    """A program, or CermetError with the compiler's words."""
    try:
        return driver.compile(subgraph, options)
    except CompileError as error:
        raise CermetError(f"fault of the compiler: {error}") from error
