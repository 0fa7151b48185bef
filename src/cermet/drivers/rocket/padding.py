"""Padding that the CNA's registers cannot hold, laid out in memory: a fill and a copy (recipes §11)."""
from __future__ import annotations

from dataclasses import replace

from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.convolution_task import Convolution
from cermet.drivers.rocket.copy import Patch, copy_patch, fill
from cermet.drivers.rocket.flying import copy_stages
from cermet.drivers.rocket.geometry import with_large_pads_in_memory
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.views import MapShape
from cermet.ir.boxes import Run
from cermet.ir.operation import Operation


def lay_out_padding(context: Context, operation: Operation, conv: Convolution) -> tuple[Convolution, list[TaskProgram]]:
    """The convolution over a map with its padding, and the tasks that make the map."""
    before, geometry, source = conv.geometry, with_large_pads_in_memory(conv.geometry), conv.source
    top, left = before.pad_top - geometry.pad_top, before.pad_left - geometry.pad_left
    padded = context.scratch_map(f"padded {operation.index} {len(context.buffers)}", source, MapShape(
        geometry.input_height, geometry.input_width, source.channels))
    tasks = fill(context, operation, padded, source.zero_point)
    inside = Patch(Run(0, top, before.input_height), Run(0, left, before.input_width), Run(0, 0, source.channels))
    tasks += copy_patch(context, operation, inside, source, padded, copy_stages(), "padding")
    return replace(conv, geometry=geometry, source=padded), tasks
