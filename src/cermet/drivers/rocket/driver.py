"""The driver of Rockchip NPUs behind the interface that all drivers share."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cermet.drivers.base import CompileError, CompileOptions, Program, Refusal
from cermet.drivers.rocket.assemble import assemble
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.operations import OPERATIONS
from cermet.drivers.rocket.rules import Query, first_refusal
from cermet.hw.soc import Soc
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph


class RocketDriver:
    """Compiles subgraphs for one SoC, and runs them on a simulated core of it."""

    def __init__(self, soc: Soc) -> None:
        self.soc = soc
        self.name = f"rocket-{soc.name}"

    def refuse(self, subgraph: Subgraph, operation: Operation, options: CompileOptions) -> Refusal | None:
        """None when the operation can run here, else the first rule that it breaks."""
        entry = OPERATIONS.get(operation.kind)
        if entry is None:
            return Refusal("operation_is_known", _unknown(operation))
        broken = first_refusal(entry.rules, Query(self.soc, subgraph, operation))
        return None if broken is None else Refusal(*broken)

    def compile(self, subgraph: Subgraph, options: CompileOptions) -> Program:
        """A program for a subgraph in which nothing is refused. Raises CompileError (our bug)."""
        context = Context(self.soc, subgraph, options)
        tasks = []
        for operation in subgraph.operations:
            tasks += _lower(context, operation)
        return assemble(context, tasks)

    def execute(self, subgraph: Subgraph, inputs: Mapping[int, np.ndarray],
                options: CompileOptions | None = None) -> dict[int, np.ndarray]:
        """Compile and run on one simulated core, in this process."""
        from cermet.drivers.rocket.execute import run_program
        return run_program(self.soc, subgraph, self.compile(subgraph, options or CompileOptions()), inputs)


def _lower(context: Context, operation: Operation) -> list:
    try:
        return OPERATIONS[operation.kind].lower(context, operation)
    except CompileError:
        raise
    except Exception as error:
        raise CompileError(f"lowering of {operation}: {error}") from error


def _unknown(operation: Operation) -> str:
    if operation.kind is Kind.OTHER:
        return f"no NPU program for {operation.name}"
    return f"no NPU program for {operation.kind.value}"
