"""MEAN, SUM, REDUCE_MAX and REDUCE_MIN over rows, columns, channels, or several of them.

A tensor is [outer, count, inner, channels] (ir/reductions.py). Where the channels stay, each of its surfaces is a stack
of `outer` planes of count x inner pixels, and planes at equal distances are surfaces themselves: `outer` costs nothing.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.base import CompileError
from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.adding import Way, add_pixels, rectangle, way_of_adding
from cermet.drivers.rocket.context import Context, layer_name
from cermet.drivers.rocket.copy import convolve
from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div
from cermet.drivers.rocket.limits import MAX_KERNEL
from cermet.drivers.rocket.pooling_arithmetic import INT32_MAX, LARGEST_WEIGHT, Scaling, SumGain, sum_gain
from cermet.drivers.rocket.reduction_extreme import lower_extreme
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.ir.moves import Run
from cermet.ir.operation import Kind, Operation
from cermet.ir.reductions import EXTREMES, Reduction, reduced_axes, reduction
from cermet.ir.subgraph import Subgraph

# TFLite's first rounding moves results by half of 2**-shift: less than 15 bits of multiplier would.
LARGEST_SHIFT_THAT_SHOWS = 9
MAX_PLANES = 32     # of a sum over pixels and channels: each is a task of its own


@dataclass(frozen=True)
class Plan:
    """How a MEAN or a SUM is made. way: of the pixels, when the channels stay; else one window over both."""

    reduction: Reduction
    scaling: Scaling
    way: Way | None
    window: tuple[int, int]

    def gain(self, match: str) -> SumGain | None:
        """In bands, BS either rounds, with a multiplier of 15 bits, or multiplies, which gives one rounding of 28."""
        if self.way is not None and self.way.bands is not None:
            if match == "tflite" and self.scaling.tflite_shift <= LARGEST_SHIFT_THAT_SHOWS:
                return sum_gain(self.scaling, match, 1)
            return sum_gain(self.scaling, "exact", self.way.largest_weight)
        return sum_gain(self.scaling, match, min(LARGEST_WEIGHT, INT32_MAX // (255 * self.scaling.elements)))


def reduction_of(subgraph: Subgraph, operation: Operation) -> Reduction | None:
    """None when kept dimensions lie between the reduced ones."""
    axes = reduced_axes(subgraph, operation)
    assert axes is not None
    return reduction(subgraph.tensor(operation.inputs[0]).shape, axes)


def plan_sum(subgraph: Subgraph, operation: Operation) -> Plan | str:
    """The plan of a MEAN or a SUM, or why there is none."""
    made = reduction_of(subgraph, operation)
    if made is None:
        return "keeps a dimension between those it goes over"
    source, output = subgraph.tensor(operation.inputs[0]), subgraph.tensor(operation.output)
    assert source.quantisation is not None and output.quantisation is not None
    scaling = Scaling(source.quantisation.scale / output.quantisation.scale, made.elements,
                      operation.kind is Kind.MEAN)
    if made.over_channels:
        return _plan_over_channels(made, scaling)
    way = way_of_adding(made.count, made.inner, made.outer * ceil_div(made.channels, ATOM_BYTES))
    if way is None:
        return f"adds {made.count} pixels for each of {made.inner}: too many, or too many copies"
    return Plan(made, scaling, way, (0, 0))


def _plan_over_channels(made: Reduction, scaling: Scaling) -> Plan | str:
    window = rectangle(made.count) if made.inner == 1 and made.count > MAX_KERNEL else None
    sides = (made.count, 1) if window is None else (window.y, window.x)
    if max(sides) > MAX_KERNEL:
        return f"adds {made.count} pixels and their channels: not the pixels of one window of 31 by 31"
    by_plane = made.count > 1 and (made.inner > 1 or made.count > MAX_KERNEL)
    if by_plane and made.outer > MAX_PLANES:
        return f"adds pixels and channels of {made.outer} planes, at most {MAX_PLANES} are worth the tasks"
    if scaling.elements * 255 > INT32_MAX:
        return f"sums of {scaling.elements} elements need more than 32 bits"
    return Plan(made, scaling, None, sides)


def lower_reduction(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a reduction that keeps the rules."""
    if operation.kind in EXTREMES:
        made = reduction_of(context.subgraph, operation)
        assert made is not None
        return lower_extreme(context, operation, made)
    plan = plan_sum(context.subgraph, operation)
    gain = None if isinstance(plan, str) else plan.gain(context.options.match)
    if isinstance(plan, str) or gain is None:
        raise CompileError(f"lowering of {operation}: a rule should have refused it")
    source, target = context.feature_map(operation.inputs[0]), context.feature_map(operation.output)  # type: ignore[arg-type]
    stages = sum_stages(gain, target.zero_point)
    if plan.way is None:
        return _over_channels(context, operation, plan, source, target, gain, stages)
    return _over_pixels(context, operation, plan, plan.way, source, target, gain, stages)


def sum_stages(numbers: SumGain, zero_point: int) -> Stages:
    """One rounding in OUT_CVT, or the first of two in BS."""
    gain = numbers.gain
    bs = Stage(add_from_memory=True, data_use=dpu.USE_ALU)
    if numbers.second_shift is None:
        return Stages(bs=bs, out=OutputConverter(zero_point, gain.multiplier, gain.shift))
    return Stages(bs=replace(bs, multiplier=gain.multiplier, shift=gain.shift),
                  out=OutputConverter(zero_point, 1, numbers.second_shift))


def planes_of(made: Reduction, source: FeatureMap) -> FeatureMap:
    """The planes of a tensor as surfaces, for tasks that look at each by itself."""
    plane = replace(source, height=made.count, width=made.inner, pitch=source.surface_atoms)
    if made.outer == 1:
        return plane
    surfaces = ceil_div(source.channels, ATOM_BYTES) * made.outer
    return replace(plane, channels=surfaces * ATOM_BYTES, num_surfaces=surfaces, pitch=made.count * made.inner)


def _over_pixels(context: Context, operation: Operation, plan: Plan, way: Way, source: FeatureMap, target: FeatureMap,
                 gain: SumGain, stages: Stages) -> list[TaskProgram]:
    planes = planes_of(plan.reduction, source)
    made = plan.reduction
    row = replace(target, height=1, width=made.inner, pitch=target.surface_atoms if made.outer == 1 else made.inner)
    return add_pixels(context, operation, way, planes, row, gain.gain, -source.zero_point * made.count,
                      stages, gain.extra_bias)


def _over_channels(context: Context, operation: Operation, plan: Plan, source: FeatureMap, target: FeatureMap,
                   gain: SumGain, stages: Stages) -> list[TaskProgram]:
    """A direct convolution with one output channel; a task for each plane unless pixels stay as they are."""
    made, (rows, columns) = plan.reduction, plan.window
    bias = -source.zero_point * made.elements * gain.weight + gain.extra_bias
    weights = np.full((1, rows, columns, made.channels), gain.weight, np.int8)
    if made.count == 1:
        return convolve(context, operation, source, replace(target, height=source.height, width=source.width),
                        Run(0, 0, source.height), Run(0, 0, source.width), weights, "channels", stages, bias)
    if made.inner == 1 and made.count <= MAX_KERNEL:    # each plane a row
        planes = replace(source, height=made.outer, width=made.count)
        return convolve(context, operation, planes, replace(target, height=made.outer, width=1),
                        Run(0, 0, made.outer), Run(0, 0, 1), weights.reshape(1, 1, made.count, made.channels),
                        "planes", stages, bias)
    tasks: list[TaskProgram] = []
    for plane in range(made.outer):
        first = source.address + plane * made.count * made.inner * ATOM_BYTES
        inside = replace(source, address=first, height=rows, width=columns if made.inner == 1 else made.inner,
                         pitch=source.surface_atoms)
        row = replace(target, address=target.address + plane * made.inner * ATOM_BYTES, height=1, width=made.inner,
                      pitch=target.surface_atoms)
        made_tasks = convolve(context, operation, inside, row, Run(0, 0, 1), Run(0, 0, made.inner), weights,
                              f"plane {plane}", stages, bias)
        tasks += [replace(task, layer=layer_name(operation, f"plane {plane}")) for task in made_tasks]
    return tasks
