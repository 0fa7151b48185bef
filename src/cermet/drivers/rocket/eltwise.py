"""ADD, SUB, MUL, MAXIMUM, MINIMUM: one task of the DPU per 8192 rows and channels.

Operands: two feature maps of the output's size, or one of them and one value per channel (eltwise_operands says which);
a constant per channel takes no second operand but the stages' own operands (eltwise_affine).
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.context import Context, signed_zero_point
from cermet.drivers.rocket.dpu import (
    ALGO_MAX,
    ALGO_MIN,
    USE_ALU,
    USE_MULTIPLIER,
    Elementwise,
    OutputConverter,
    Stage,
    Stages,
)
from cermet.drivers.rocket.eltwise_affine import Affine, affine, question_of
from cermet.drivers.rocket.eltwise_arithmetic import AddArithmetic, AddRange, add_choices
from cermet.drivers.rocket.eltwise_operands import Roles, channel_values, roles_of, view_of, written_out
from cermet.drivers.rocket.eltwise_product import ProductLimits, product_stages, twice_rounded_stages
from cermet.drivers.rocket.eltwise_sum import PairQuestion, closest, wanted_results
from cermet.drivers.rocket.flying import FlyingTask, View, flying_program, task_parts
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, round_up
from cermet.drivers.rocket.lut import MAX_WIDTH
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.requantise import Clamp
from cermet.drivers.rocket.unary import Table, lookup_tasks
from cermet.drivers.rocket.views import map_shape
from cermet.ir.numerics_binary import product_multiplier
from cermet.ir.operation import Activation, Kind, Operation
from cermet.ir.subgraph import Subgraph

StagesOf = Callable[[Subgraph, Operation, Roles, str], tuple[Roles, Stages] | None]


def lower_binary(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of an operation that keeps the rules."""
    roles = roles_of(context.subgraph, operation)
    if roles is None:
        raise CompileError(f"lowering of {operation}: operands that do not fit, a rule should have refused")
    if is_affine(operation, roles):
        return _affine_tasks(context, operation, roles)
    if is_square(context.subgraph, operation):
        return lookup_tasks(context, operation, square_table(context.subgraph, operation, context.options.match))
    output = context.feature_map(operation.output)
    clamp = clamp_of(operation.activation, context.tensor(operation.output))
    if clamp.is_trivial or context.options.assume == "on":
        return _stage_tasks(context, operation, roles, output)
    plain = replace(operation, activation=Activation.NONE)
    whole = context.scratch_map(f"unclamped {operation}", output)
    return _stage_tasks(context, plain, roles, whole) + _clamp_tasks(context, operation, whole, output, clamp)


def _clamp_tasks(context: Context, operation: Operation, source: FeatureMap, output: FeatureMap,
                 clamp: Clamp) -> list[TaskProgram]:
    """Clamps bytes in BS, as working programs for RELU6 do, where EW would have to (assumed.py)."""
    stages = Stages(bs=Stage(add=-clamp.lowest, relu=True, relux=clamp.highest - clamp.lowest),
                    out=OutputConverter(clamp.lowest))
    return [flying_program(context, operation, FlyingTask(
        cube, stages, _moved(View.of(source), row, surface), _moved(View.of(output), row, surface)), "clamp " + part)
        for row, surface, cube, part in task_parts(output)]


def _stage_tasks(context: Context, operation: Operation, roles: Roles, output: FeatureMap) -> list[TaskProgram]:
    """Tasks that write the result into a feature map like the output's."""
    match = context.options.match
    if operation.kind is Kind.MUL and context.options.assume != "on":
        match = "exact"         # both roundings need a shift in EW (assumed.py)
    found = STAGES[operation.kind](context.subgraph, operation, roles, match)
    if found is None:
        raise CompileError(f"lowering of {operation}: no multipliers, a rule should have refused")
    roles, stages = found
    is_vector = roles.forms[roles.other].is_vector
    writing: list[TaskProgram] = []
    written: list[FeatureMap | None] = [None, None]
    for position in (0, 1):
        if roles.forms[position].is_written_out:
            tasks, written[position] = written_out(context, operation, position, roles.forms[position])
            writing += tasks
    source = view_of(context, operation, roles.main, output, as_vector=False, written=written[roles.main])
    operand = view_of(context, operation, roles.other, output, as_vector=is_vector, written=written[roles.other])
    target = View.of(output)
    if stages.ew is not None and is_vector:
        stages = replace(stages, ew=replace(stages.ew, per_element=False))
    return writing + [flying_program(context, operation, FlyingTask(
        cube, stages, _moved(source, row, surface), _moved(target, row, surface),
        _moved(operand, 0 if is_vector else row, surface)), part)
        for row, surface, cube, part in task_parts(output)]


def _moved(view: View, row: int, surface: int) -> View:
    """The view from a row and surface on."""
    return replace(view, address=view.address + (surface * view.surface_pitch + row * view.line_pitch) * ATOM_BYTES)


# ---- two feature maps, or one and a value per channel --------------------------------------------------------------

def arithmetic_of(subgraph: Subgraph, operation: Operation, roles: Roles) -> tuple[AddArithmetic, ...]:
    """Register values for an ADD or SUB to choose from; none when no values keep the result within one step."""
    first, second, output = (subgraph.tensor(t).quantisation for t in (*operation.inputs[:2], operation.output))
    assert first is not None and second is not None and output is not None
    return add_choices(first.scale / output.scale, second.scale / output.scale, limits_of(subgraph, operation),
                       None if roles.free else roles.main)


def limits_of(subgraph: Subgraph, operation: Operation) -> AddRange:
    """Zero points and clamp of an ADD in the signed domain."""
    first, second, output = (subgraph.tensor(t) for t in (*operation.inputs[:2], operation.output))
    clamp = clamp_of(operation.activation, output)
    points = (signed_zero_point(first), signed_zero_point(second), signed_zero_point(output))
    return AddRange(points, clamp.lowest, clamp.highest)


def _sum(subgraph: Subgraph, operation: Operation, roles: Roles, match: str) -> tuple[Roles, Stages] | None:
    choices, limits = arithmetic_of(subgraph, operation, roles), limits_of(subgraph, operation)
    if not choices:
        return None
    arithmetic = closest(PairQuestion.of(subgraph, operation, limits), choices, match)
    stages = add_stages(arithmetic, limits, subtracts=operation.kind is Kind.SUB)
    return replace(roles, main=int(arithmetic.swapped)), stages


def add_stages(arithmetic: AddArithmetic, limits: AddRange, *, subtracts: bool = False) -> Stages:
    """BS scales the main operand, EW the other one and adds, OUT_CVT scales the sum (eltwise_arithmetic says how).

    SUB has a negative multiplier where the second tensor goes, as in the vendor's programs.
    """
    z1, z2, zero_point = limits.zero_points
    if arithmetic.swapped:
        z1, z2 = z2, z1
    main, other = arithmetic.first_multiplier, arithmetic.second_multiplier
    if subtracts:
        main, other = (-main, other) if arithmetic.swapped else (main, -other)
    lower = arithmetic.lower
    return Stages(
        bs=Stage(add=-z1, multiplier=main, shift=arithmetic.first_shift),
        bn=Stage(add=-lower) if lower else Stage(),
        ew=Elementwise(-z2, other, 0, relu=lower is not None, relux=arithmetic.upper),
        out=OutputConverter(zero_point if lower is None else limits.lowest, arithmetic.out_multiplier,
                            arithmetic.out_shift))


def product_limits(subgraph: Subgraph, operation: Operation, roles: Roles) -> ProductLimits:
    """Zero points in the order main operand, other operand, output."""
    first, second, output = (subgraph.tensor(t) for t in (*operation.inputs[:2], operation.output))
    points = [signed_zero_point(first), signed_zero_point(second)]
    return ProductLimits((points[roles.main], points[roles.other], signed_zero_point(output)),
                         clamp_of(operation.activation, output))


def _product(subgraph: Subgraph, operation: Operation, roles: Roles, match: str) -> tuple[Roles, Stages] | None:
    scales = [subgraph.tensor(t).quantisation.scale                              # type: ignore[union-attr]
              for t in (*operation.inputs[:2], operation.output)]
    real, limits = product_multiplier((scales[0], scales[1], scales[2])), product_limits(subgraph, operation, roles)
    stages = twice_rounded_stages(real, limits) if match == "tflite" else None
    return roles, stages or product_stages(real, limits)


def is_square(subgraph: Subgraph, operation: Operation) -> bool:
    """A tensor times itself, which is a unary function."""
    first, second = operation.inputs[:2]
    return operation.kind is Kind.MUL and first == second and map_shape(subgraph.tensor(first)).width <= MAX_WIDTH


def square_table(subgraph: Subgraph, operation: Operation, match: str) -> Table:
    """The results for all bytes."""
    question = PairQuestion.of(subgraph, operation, limits_of(subgraph, operation))
    return Table(np.diagonal(wanted_results(question, match)), question.limits.zero_points[0])


def _largest(subgraph: Subgraph, operation: Operation, roles: Roles, match: str) -> tuple[Roles, Stages]:
    """MAXIMUM and MINIMUM compare bytes: all are quantised alike."""
    algo = ALGO_MAX if operation.kind is Kind.MAXIMUM else ALGO_MIN
    return roles, Stages(ew=Elementwise(0, 1, 0, algo=algo), out=OutputConverter(0))


STAGES: dict[Kind, StagesOf] = {Kind.ADD: _sum, Kind.SUB: _sum, Kind.MUL: _product, Kind.MAXIMUM: _largest,
                                Kind.MINIMUM: _largest}


# ---- a constant per channel ----------------------------------------------------------------------------------------

def is_affine(operation: Operation, roles: Roles) -> bool:
    """A feature map with a constant per channel, added, subtracted or multiplied."""
    return roles.has_constant_vector and operation.kind in (Kind.ADD, Kind.SUB, Kind.MUL)


def affine_of(subgraph: Subgraph, operation: Operation, roles: Roles, match: str) -> tuple[Affine, np.ndarray] | None:
    """(register values for each distinct constant, which of them each channel has)."""
    constant = roles.other
    values = channel_values(subgraph.tensor(operation.inputs[constant]), subgraph.tensor(operation.output))
    distinct, index = np.unique(values, return_inverse=True)
    made = affine(question_of(subgraph, operation, constant, distinct), match)
    return None if made is None else (made, index.reshape(-1))


def _affine_tasks(context: Context, operation: Operation, roles: Roles) -> list[TaskProgram]:
    found = affine_of(context.subgraph, operation, roles, context.options.match)
    if found is None:
        raise CompileError(f"lowering of {operation}: no multipliers, a rule should have refused")
    return affine_tasks(context, operation, roles.main, found[0].of(found[1]))


def affine_tasks(context: Context, operation: Operation, main: int, numbers: Affine) -> list[TaskProgram]:
    """Tasks that make the output of the operation's operand number `main` and numbers for each channel."""
    output = context.feature_map(operation.output)
    source = view_of(context, operation, main, output, as_vector=False)
    bs, bn = _affine_stages(context, operation, numbers, -signed_zero_point(context.tensor(operation.inputs[main])))
    return [flying_program(context, operation, FlyingTask(
        cube, Stages(bs=_from(bs, surface, 2), bn=_from(bn, surface, 4), out=numbers.out),
        _moved(source, row, surface), _moved(View.of(output), row, surface)), part)
        for row, surface, cube, part in task_parts(output)]


def _affine_stages(context: Context, operation: Operation, numbers: Affine, offset: int) -> tuple[Stage, Stage]:
    """BS and BN; what differs between channels lies in memory (int16 factors, int32 addends)."""
    bs = Stage(add=offset, shift=numbers.first_shift, relu=numbers.first_relu, relux=numbers.first_relux)
    if len(numbers.factors) > 1:
        data = _padded(numbers.factors.astype("<i2"))
        bs = replace(bs, multiplier_from_memory=True, data_use=USE_MULTIPLIER,
                     operands=context.constant(f"factors of {operation}", data))
    else:
        bs = replace(bs, multiplier=int(numbers.factors[0]))
    bn = Stage(multiplier=numbers.second, shift=numbers.second_shift, relu=numbers.relu, relux=numbers.relux)
    if len(numbers.addends) > 1:
        data = _padded(numbers.addends.astype("<i4"))
        bn = replace(bn, add_from_memory=True, data_use=USE_ALU,
                     operands=context.constant(f"addends of {operation}", data))
    elif numbers.addends[0]:
        bn = replace(bn, add=int(numbers.addends[0]))
    return bs, bn


def _padded(values: np.ndarray) -> bytes:
    """Operands for whole atoms of channels."""
    return np.pad(values, (0, round_up(len(values), ATOM_BYTES) - len(values))).tobytes()


def _from(stage: Stage, surface: int, operand_bytes: int) -> Stage:
    """The stage of a task that begins at some surface."""
    if stage.operands is None:
        return stage
    return replace(stage, operands=stage.operands + surface * ATOM_BYTES * operand_bytes)
