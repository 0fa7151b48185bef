"""PRELU with one slope per channel, or one for all: a task of the DPU alone (numerics document §10.3).

    BS    v = (x - zero point) * 2**p, shifted right by p again where it is negative
    BN    v = v * slope[c] where v < 0, slopes in units of 2**-p
    OUT   y = saturate8(round(v * C >> S) + zero point)

With p = 14 these are the numbers of working programs; slopes of 2 and more leave fewer bits.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.drivers.base import CompileError
from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.context import Context, signed_zero_point
from cermet.drivers.rocket.dpu import OutputConverter, Stage, Stages
from cermet.drivers.rocket.flying import FlyingTask, flying_program, task_parts
from cermet.drivers.rocket.layout import ATOM_BYTES, round_up
from cermet.drivers.rocket.limits import MAX_SHIFT
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.rounding import rounded
from cermet.drivers.rocket.unary import BYTES, task_part
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph

MAX_BITS = 14
INT16_MAX = 32767


@dataclass(frozen=True, eq=False)
class Slopes:
    """Register values: slopes int16 per channel in units of 2**-bits, OUT_CVT, the input's zero point."""

    values: np.ndarray
    bits: int
    out: OutputConverter
    zero_point: int

    def results(self) -> np.ndarray:
        """[channels][256]: what the stages make of -128..127."""
        x = BYTES - self.zero_point
        v = np.where(x >= 0, x << self.bits, x * self.values[:, None].astype(np.int64))
        return np.clip(rounded(v * self.out.scale, self.out.shift, ties_away=True) + self.out.offset, -128, 127)


def slopes_of(subgraph: Subgraph, operation: Operation) -> Slopes | None:
    """None when the numbers do not fit the registers."""
    source, alpha, output = (subgraph.tensor(t) for t in (*operation.inputs, operation.output))
    assert source.quantisation and alpha.quantisation and output.quantisation and alpha.data is not None
    real = alpha.quantisation.scale * (alpha.data.reshape(-1).astype(np.float64) - alpha.quantisation.zero_point)
    real = np.broadcast_to(real, source.shape[-1:])
    largest = float(np.abs(real).max(initial=0.0))
    bits = MAX_BITS if largest == 0 else int(min(MAX_BITS, np.floor(np.log2(INT16_MAX / largest))))
    if bits < 0:
        return None
    fraction, exponent = np.frexp(source.quantisation.scale / output.quantisation.scale * 2.0 ** -bits)
    scale, shift = min(int(np.rint(fraction * 2 ** 15)), INT16_MAX), int(15 - exponent)
    if not 0 <= shift <= MAX_SHIFT:
        return None
    out = OutputConverter(signed_zero_point(output), scale, shift)
    return Slopes(np.rint(real * 2.0 ** bits).astype(np.int16), bits, out, signed_zero_point(source))


def lower_prelu(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a PRELU that keeps the rules."""
    slopes = slopes_of(context.subgraph, operation)
    if slopes is None:
        raise CompileError(f"lowering of {operation}: no multipliers, a rule should have refused")
    padded = np.zeros(round_up(len(slopes.values), ATOM_BYTES), "<i2")
    padded[:len(slopes.values)] = slopes.values
    operands = context.constant(f"slopes {operation.index}", padded.tobytes())
    stages = Stages(
        bs=Stage(add=-slopes.zero_point, multiplier=1 << slopes.bits, shift_negative=slopes.bits),
        bn=Stage(multiplier_from_memory=True, prelu=True, operands=operands, data_use=dpu.USE_MULTIPLIER),
        out=slopes.out)
    source, output = context.feature_map(operation.inputs[0]), context.feature_map(operation.output)    # type: ignore
    return [flying_program(context, operation, FlyingTask(cube, stages, task_part(source, output, row, surface),
                                                          task_part(output, output, row, surface)), part)
            for row, surface, cube, part in task_parts(output)]
