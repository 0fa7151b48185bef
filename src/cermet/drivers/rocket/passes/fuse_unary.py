"""CONV then LEAKY_RELU (or any unary function) becomes one program: the DPU looks the result up on its way out."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.context import signed_zero_point
from cermet.drivers.rocket.requantise import Clamp, ScaleError, requantise, whole_steps
from cermet.drivers.rocket.unary import Table, table_of
from cermet.ir.numerics_conv import effective_multipliers
from cermet.ir.numerics_unary import UNARY_KINDS
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph

HOST_KINDS = frozenset({Kind.CONV, Kind.DEPTHWISE_CONV, Kind.FULLY_CONNECTED, Kind.TRANSPOSE_CONV,
                        Kind.BATCH_MATMUL})
ANY_ACCUMULATOR = 2.0 ** 31


@dataclass(frozen=True, eq=False)
class FusedUnary:
    """A unary operation that runs in the tasks of the convolution before it.

    clamp   the limits when activation and function together only clamp (RELU that does not requantise), else None
    """

    convolution: Operation
    unary: Operation
    table: Table
    clamp: Clamp | None


def fuse_unaries(subgraph: Subgraph, match: str, *, with_tables: bool = True) -> Mapping[int, FusedUnary]:
    """Index of each convolution with a unary function behind it -> both.

    Needs: the function is the only reader of the convolution's output, which the program does not hand out, and the
    convolution's scales fit two stages. match "tflite": only what clamps, because behind TFLite's first rounding one
    stage is left before the table, and the second rounding needs OUT_CVT's ties, which come after it. match "exact":
    what moves by one step at most when the convolution does, so that both together stay within one step of exact.
    Without with_tables only clamps are fused.
    """
    fused = {}
    for unary in subgraph.operations:
        if unary.kind not in UNARY_KINDS:
            continue
        convolution = subgraph.producer(unary.inputs[0])
        if convolution is None or convolution.kind not in HOST_KINDS or convolution.output in subgraph.outputs:
            continue
        if subgraph.consumers(convolution.output) != (unary,):
            continue
        table = table_of(subgraph, unary, match)
        made = FusedUnary(convolution, unary, table, _clamp(subgraph, convolution, table))
        may_look_up = with_tables and match == "exact" and _is_gentle(subgraph, made)
        if (made.clamp is not None or may_look_up) and _scales_fit(subgraph, made, match):
            fused[convolution.index] = made
    return fused


def _is_gentle(subgraph: Subgraph, fused: FusedUnary) -> bool:
    """Whether the function's results for neighbouring bytes of the convolution are one step apart at most."""
    limits = clamp_of(fused.convolution.activation, subgraph.tensor(fused.convolution.output))
    steps = np.diff(fused.table.outputs[limits.lowest + 128:limits.highest + 129])
    return int(np.abs(steps).max(initial=0)) <= 1


def _clamp(subgraph: Subgraph, convolution: Operation, table: Table) -> Clamp | None:
    own, mine = clamp_of(convolution.activation, subgraph.tensor(convolution.output)), table.clamp
    if mine is None:
        return None
    low, high = np.clip([own.lowest, own.highest], mine.lowest, mine.highest).tolist()
    return Clamp(low, high)


def _scales_fit(subgraph: Subgraph, fused: FusedUnary, match: str) -> bool:
    """Asked for the largest accumulators, whatever the weights are."""
    conv = fused.convolution
    source, weights, output = (subgraph.tensor(t) for t in (*conv.inputs[:2], conv.output))
    multipliers = np.array(effective_multipliers(source, weights, output, conv.kind))
    bounds = np.full(len(multipliers), ANY_ACCUMULATOR)
    try:
        if fused.clamp is None:
            whole_steps(multipliers, bounds, match)
        else:
            requantise(multipliers, bounds, signed_zero_point(output), fused.clamp, match)
    except ScaleError:
        return False
    return True
