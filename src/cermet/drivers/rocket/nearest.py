"""RESIZE_NEAREST_NEIGHBOR in two steps: rows into a map of our own, columns out of it.

Between sizes of no simple ratio the positions to read repeat late, or never: every combination of rows and columns
would be a copy. In two steps each row and each column of the pattern is one.
"""
from __future__ import annotations

from collections.abc import Mapping

from cermet.drivers.rocket.layout import MapShape
from cermet.drivers.rocket.strided_plan import GATHERED, StridedPlan, plan_strided
from cermet.drivers.rocket.views import map_shape
from cermet.ir.flat import FlatBox, Loop, coalesced
from cermet.ir.moves import Run, nearest_indices, resized_sides, runs_of
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph


def in_two_steps(subgraph: Subgraph, operation: Operation, shapes: Mapping[int, MapShape]) -> StridedPlan:
    """shapes: maps of tensors that are not what the tensors' own shapes say. Raises MoveError."""
    assert operation.moving is not None
    source, target = (subgraph.tensor(t) for t in (operation.inputs[0], operation.output))
    images, height, width, channels = source.shape
    _, new_height, new_width, _ = target.shape
    rows, columns = (runs_of(nearest_indices(*side, operation.moving)) for side in resized_sides(subgraph, operation))
    maps = {source.index: map_shape(source), target.index: map_shape(target), **shapes,
            GATHERED: MapShape(images * new_height, width, channels)}
    line, new_line = width * channels, new_width * channels
    first = plan_strided([_box(source.index, GATHERED, run, line, Loop(
        images, height * line, new_height * line)) for run in rows], lambda t: maps[t])
    second = plan_strided([_box(GATHERED, target.index, run, channels, Loop(
        images * new_height, line, new_line)) for run in columns], lambda t: maps[t])
    return StridedPlan((*first.tasks, *second.tasks), {GATHERED: maps[GATHERED]})


def _box(source: int, target: int, run: Run, size: int, outer: Loop) -> FlatBox:
    """What a run along one axis moves: `size` elements at each of its positions, for each round of the outer loop."""
    loops = (outer, Loop(run.count, run.source_step * size, run.target_step * size), Loop(size, 1, 1))
    return FlatBox(source, target, run.source * size, run.target * size, coalesced(loops))
