"""Unary functions of one feature map: a task of the DPU alone, which computes TFLite's table exactly.

The wanted result of all 256 inputs is known beforehand. Where a multiplication with clamps gives all of them (RELU,
QUANTIZE, mostly) the task does that; else it looks the result up.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.rocket.context import Context, signed_zero_point
from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.flying import Cube, FlyingTask, View, copy_stages, flying_program, task_parts
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap
from cermet.drivers.rocket.lut import ENTRY_OFFSET, Lut, make_lut
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.requantise import Clamp, Requantisation, ScaleError, requantise
from cermet.drivers.rocket.rounding import rounded
from cermet.ir.numerics_unary import unary_table
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

STEP_BITS = 5           # entries 32 apart, as in every known program
BYTES = np.arange(-128, 128, dtype=np.int64)
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
# A multiplication with clamps may give all of their results.
LINEAR_KINDS = frozenset({Kind.QUANTIZE, Kind.RELU, Kind.RELU6, Kind.RELU_N1_TO_1, Kind.RELU_0_TO_1})


@dataclass(frozen=True, eq=False)
class Table:
    """An operation as the NPU sees it: everything in the signed domain.

    outputs      int64[256], -128..127, for x = -128..127
    zero_point   of the input
    """

    outputs: np.ndarray
    zero_point: int

    @property
    def clamp(self) -> Clamp | None:
        """The limits when the function is x between two limits, else None."""
        low, high = int(self.outputs[0]), int(self.outputs[-1])
        return Clamp(low, high) if np.array_equal(self.outputs, np.clip(BYTES, low, high)) else None


def table_of(subgraph: Subgraph, operation: Operation, match: str) -> Table:
    """The results of a unary operation, TFLite's or exact ones."""
    source, output = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
    outputs = unary_table(source, output, operation, match)
    return Table(outputs - 128 if output.dtype is DType.UINT8 else outputs, signed_zero_point(source))


def lower_unary(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a unary operation that keeps the rules; one unless a side passes the cube's limit."""
    if context.views.root(operation.output) == context.views.root(operation.inputs[0]):     # type: ignore[arg-type]
        return []           # QUANTIZE that only renames the type
    table = table_of(context.subgraph, operation, context.options.match)
    return _tasks_of(context, operation, unary_stages(table, context.subgraph, operation))


def lookup_tasks(context: Context, operation: Operation, table: Table) -> list[TaskProgram]:
    """Tasks of any operation that is a function of each byte of its first input."""
    return _tasks_of(context, operation, lut_stages(table))


def _tasks_of(context: Context, operation: Operation, stages: Stages) -> list[TaskProgram]:
    """The tables in the same task, or one of their own."""
    tasks = _unary_tasks(context, operation, stages)
    if stages.lut is None or context.options.assume == "on":
        return tasks
    apart = _unary_tasks(context, operation, replace(stages, tables=None))
    return [_upload(context, operation, stages.lut), *(replace(task, needs_previous=True) for task in apart)]


def _upload(context: Context, operation: Operation, lut: Lut) -> TaskProgram:
    """A task that loads the tables and copies one atom, as in working int8 programs (numerics document §12)."""
    source = context.feature_map(operation.inputs[0])       # type: ignore[arg-type]
    target = context.new_buffer(f"tables of {operation}", ATOM_BYTES)
    copy = FlyingTask(Cube(1, 1, 1), replace(copy_stages(), tables=lut), View(source.address, 1, 1), View(target, 1, 1))
    return flying_program(context, operation, copy, "tables")


def _unary_tasks(context: Context, operation: Operation, stages: Stages) -> list[TaskProgram]:
    """One task unless a side passes the cube's limit."""
    source, output = context.feature_map(operation.inputs[0]), context.feature_map(operation.output)    # type: ignore
    return [flying_program(context, operation, FlyingTask(cube, stages, task_part(source, output, row, surface),
                                                          task_part(output, output, row, surface)), part)
            for row, surface, cube, part in task_parts(output)]


def unary_stages(table: Table, subgraph: Subgraph, operation: Operation) -> Stages:
    """The cheapest stages that give the table."""
    if table.clamp == Clamp():
        return copy_stages()
    if operation.kind in LINEAR_KINDS:
        source, output = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
        for match in ("tflite", "exact"):
            stages = _linear_stages(table, source, output, match)
            if stages is not None:
                return stages
    return lut_stages(table)


def lut_stages(table: Table) -> Stages:
    """BN makes the index, 32 * (x - zero point); nothing is rounded on the way."""
    lut = make_lut(table.outputs, table.zero_point, STEP_BITS)
    return Stages(bn=Stage(add=-table.zero_point << STEP_BITS, multiplier=1 << STEP_BITS),
                  out=OutputConverter(-ENTRY_OFFSET), lut=lut, tables=lut)


def _linear_stages(table: Table, source: Tensor, output: Tensor, match: str) -> Stages | None:
    """(x - zero point) times a number, clamped; None when that misses one of the 256 results."""
    assert source.quantisation is not None and output.quantisation is not None
    clamp = Clamp(int(table.outputs.min()), int(table.outputs.max()))
    ratio = np.array([source.quantisation.scale / output.quantisation.scale])
    reach = np.array([max(127 - table.zero_point, table.zero_point + 128)], np.float64)
    for limits in (Clamp(), clamp):
        try:
            numbers = requantise(ratio, reach, signed_zero_point(output), limits, match)
        except ScaleError:
            continue
        if numbers.powers is None and np.array_equal(_results(table, numbers), table.outputs):
            return _stages_of(table, numbers)
    return None


def _stages_of(table: Table, numbers: Requantisation) -> Stages:
    clamps = numbers.high is not None
    return Stages(
        bs=Stage(add=-table.zero_point, multiplier=int(numbers.multipliers[0]), shift=numbers.bs_shift),
        bn=Stage(add=-numbers.low if clamps and numbers.low else None, multiplier=numbers.second,
                 shift=numbers.second_shift, relu=clamps, relux=numbers.high),
        out=numbers.out)


def _results(table: Table, numbers: Requantisation) -> np.ndarray:
    """What the stages make of -128..127 (numerics document §6, §7, §9)."""
    v = rounded((BYTES - table.zero_point) * int(numbers.multipliers[0]), numbers.bs_shift, ties_away=False)
    v = v * (numbers.second or 1)
    if numbers.high is not None:
        v = v - numbers.low
    v = np.clip(rounded(v, numbers.second_shift, ties_away=False), INT32_MIN, INT32_MAX)
    if numbers.high is not None:
        v = np.clip(v, 0, numbers.high)
    out = numbers.out
    return np.clip(rounded(v * out.scale, out.shift, out.ties_away) + out.offset, -128, 127)


def task_part(source: FeatureMap, output: FeatureMap, row: int, surface: int) -> View:
    """A map from a row and surface on; its pixels are the output's, whatever its own rows and columns."""
    atoms = surface * output.surface_atoms + row * output.width
    return View(source.address + atoms * ATOM_BYTES, output.surface_atoms, output.width)
