"""RESHAPE and SQUEEZE: nothing to do inside a program, a copy from an input straight to an output."""
from __future__ import annotations

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.flying import FlyingTask, View, copy_stages, flying_program, whole_cube
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.views import needs_copy
from cermet.ir.operation import Operation


def lower_view(context: Context, operation: Operation) -> list[TaskProgram]:
    """No task when input and output are the same bytes; one copy when they lie in different BOs."""
    if not needs_copy(context.subgraph, operation, context.views.roots):
        return []
    source = context.feature_map(operation.inputs[0])       # type: ignore[arg-type]
    target = context.feature_map(operation.output)
    if (source.surface_atoms, source.channels) != (target.surface_atoms, target.channels):
        raise CompileError(f"{operation}: a copy cannot change the layout")
    task = FlyingTask(whole_cube(source), copy_stages(), View.of(source), View(target.address, target.surface_atoms,
                                                                             source.width))
    return [flying_program(context, operation, task)]
