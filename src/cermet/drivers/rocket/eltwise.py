"""ADD of two feature maps of one shape: one task of the DPU per 8192 rows and channels."""
from __future__ import annotations

from collections.abc import Iterator

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.context import Context, signed_zero_point
from cermet.drivers.rocket.dpu import Elementwise, OutputConverter, Stage, Stages
from cermet.drivers.rocket.eltwise_arithmetic import AddArithmetic, AddRange, add_arithmetic
from cermet.drivers.rocket.flying import MAX_CUBE, Cube, FlyingTask, View, flying_program
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph


def lower_add(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of an ADD that keeps the rules."""
    arithmetic = arithmetic_of(context.subgraph, operation)
    if arithmetic is None:
        raise CompileError(f"lowering of {operation}: no multipliers, a rule should have refused")
    first, second = operation.inputs[:2]
    assert first is not None and second is not None
    if arithmetic.swapped:
        first, second = second, first
    source, operand, output = (context.feature_map(t) for t in (first, second, operation.output))
    stages = add_stages(arithmetic, limits_of(context.subgraph, operation))
    return [flying_program(context, operation, FlyingTask(
        cube, stages, _part(source, row, surface, output), _part(output, row, surface, output),
        _part(operand, row, surface, output)), part)
        for row, surface, cube, part in _parts(output)]


def arithmetic_of(subgraph: Subgraph, operation: Operation) -> AddArithmetic | None:
    """Register values of an ADD; None when no values keep the result within one step."""
    first, second, output = (subgraph.tensor(t).quantisation for t in (*operation.inputs[:2], operation.output))
    assert first is not None and second is not None and output is not None
    return add_arithmetic(first.scale / output.scale, second.scale / output.scale, limits_of(subgraph, operation))


def limits_of(subgraph: Subgraph, operation: Operation) -> AddRange:
    """Zero points and clamp of an ADD in the signed domain."""
    first, second, output = (subgraph.tensor(t) for t in (*operation.inputs[:2], operation.output))
    clamp = clamp_of(operation.activation, output)
    points = (signed_zero_point(first), signed_zero_point(second), signed_zero_point(output))
    return AddRange(points, clamp.lowest, clamp.highest)


def add_stages(arithmetic: AddArithmetic, limits: AddRange) -> Stages:
    """BS scales the main operand, EW the other one and adds, OUT_CVT scales the sum (eltwise_arithmetic says how)."""
    z1, z2, zero_point = limits.zero_points
    if arithmetic.swapped:
        z1, z2 = z2, z1
    lower = arithmetic.lower
    return Stages(
        bs=Stage(add=-z1, multiplier=arithmetic.first_multiplier, shift=arithmetic.first_shift),
        bn=Stage(add=-lower) if lower else Stage(),
        ew=Elementwise(-z2, arithmetic.second_multiplier, 0, relu=lower is not None, relux=arithmetic.upper),
        out=OutputConverter(zero_point if lower is None else limits.lowest, arithmetic.out_multiplier,
                            arithmetic.out_shift))


def _parts(output: FeatureMap) -> Iterator[tuple[int, int, Cube, str]]:
    """(first row, first surface, cube, name) of each task; one unless a side passes the cube's limit."""
    surfaces = ceil_div(output.channels, ATOM_BYTES)
    step = MAX_CUBE // ATOM_BYTES
    is_whole = surfaces <= step and output.height <= MAX_CUBE
    for surface in range(0, surfaces, step):
        for row in range(0, output.height, MAX_CUBE):
            cube = Cube(output.width, min(MAX_CUBE, output.height - row), min(step, surfaces - surface))
            yield row, surface, cube, "" if is_whole else f"row {row}, channel {surface * ATOM_BYTES}"


def _part(source: FeatureMap, row: int, surface: int, output: FeatureMap) -> View:
    """The operand from a row and surface on; its pixels are the output's, whatever its own rows and columns."""
    atoms = surface * output.surface_atoms + row * output.width
    return View(source.address + atoms * ATOM_BYTES, output.surface_atoms, output.width)
