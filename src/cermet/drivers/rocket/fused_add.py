"""Tasks of a convolution with an ADD behind it (recipes §7.1)."""
from __future__ import annotations

from dataclasses import replace

from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.conv import convolution_programs, place_layer
from cermet.drivers.rocket.convolution_task import Addend, Convolution
from cermet.drivers.rocket.dpu import Stage, Stages
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.passes.fuse_add import FusedAdd
from cermet.drivers.rocket.regcmd import TaskProgram


def lower_fused_add(context: Context, fused: FusedAdd) -> list[TaskProgram]:
    """Tasks that write the ADD's output; the convolution's own output never exists."""
    conv, numbers = fused.convolution, fused.numbers
    assert conv.window is not None
    source = context.feature_map(conv.inputs[0])            # type: ignore[arg-type]
    outputs = len(numbers.layer.weights.values)
    geometry = Geometry.of(conv.window, (source.height, source.width, source.channels), outputs)
    weights, bs, zero_point = place_layer(context, conv, geometry, numbers.layer, numbers.multipliers, numbers.shift)
    stages = Stages(
        bs=replace(bs, relu=True, relux=numbers.highest),
        bn=Stage(add=numbers.add, multiplier=1 << numbers.guard_bits),
        ew=numbers.elementwise, out=numbers.out)
    target, addend = context.feature_map(fused.add.output), Addend(context.feature_map(fused.addend))
    task = Convolution(context.soc, geometry, source, target, weights, stages, zero_point, addend)
    return convolution_programs(context, task, (conv, fused.add))
