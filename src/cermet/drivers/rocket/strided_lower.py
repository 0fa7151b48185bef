"""Tasks of strided moves."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.copy import convolve_plane, exact_stages
from cermet.drivers.rocket.dpu import Stages
from cermet.drivers.rocket.flying import FlyingTask, View, copy_stages, flying_program
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.strided_copy import AtomCopy
from cermet.drivers.rocket.strided_pick import Pick
from cermet.drivers.rocket.strided_plan import StridedPlan
from cermet.ir.operation import Operation


def lower_strided(context: Context, operation: Operation, plan: StridedPlan, map_of: Callable[[int], FeatureMap],
                  stages_of: Callable[[int], Stages], what: str = "") -> list[TaskProgram]:
    """map_of: where a tensor lies. stages_of: what happens to a source's bytes on the way, once. what: for people."""
    target = plan.tasks[-1].target
    maps: dict[int, FeatureMap] = {}
    for number, shape in plan.gathered.items():
        maps[number] = context.scratch_map(f"gathered {target} {number}", map_of(target), shape)
    made: list[TaskProgram] = []
    for number, task in enumerate(plan.tasks):
        for tensor in (task.source, task.target):
            if tensor not in maps:
                maps[tensor] = map_of(tensor)
        stages = copy_stages() if task.source in (target, *plan.gathered) else stages_of(task.source)
        name = (what or f"tensor {target}") + (f", part {number}" if len(plan.tasks) > 1 else "")
        lower = _copy if isinstance(task, AtomCopy) else _pick
        made += lower(context, operation, task, maps[task.source], maps[task.target], stages, name)  # type: ignore
    return made


def _copy(context: Context, operation: Operation, task: AtomCopy, source: FeatureMap, target: FeatureMap,
          stages: Stages, name: str) -> list[TaskProgram]:
    views = [View(which.address + task.starts[side] * ATOM_BYTES, task.surface_pitches[side], task.line_pitches[side])
             for side, which in enumerate((source, target))]
    return [flying_program(context, operation, FlyingTask(task.cube, stages, *views), name)]


def _pick(context: Context, operation: Operation, task: Pick, source: FeatureMap, target: FeatureMap, stages: Stages,
          name: str) -> list[TaskProgram]:
    geometry = task.geometry
    height, width = geometry.input_height, geometry.input_width
    read = _part(source, task.source_pixel, task.first_surface, height, task.line if height > 1 else width)
    line = task.columns if task.is_spread or task.rows == 1 else task.target_line
    written = _part(target, task.target_pixel, task.target_surface, task.rows, line)
    spread = task.target_line if task.is_spread else None
    stages = exact_stages() if stages == copy_stages() else stages
    return convolve_plane(context, operation, geometry, replace(read, channels=geometry.input_channels), written,
                          task.weights, name, stages, group_pitch=task.group_pitch, column_pitch=spread)


def _part(whole: FeatureMap, pixel: int, surface: int, height: int, width: int) -> FeatureMap:
    """A rectangle of pixels `width` apart from line to line."""
    at = whole.address + (surface * whole.surface_atoms + pixel) * ATOM_BYTES
    return replace(whole, address=at, height=height, width=width, pitch=whole.surface_atoms)
