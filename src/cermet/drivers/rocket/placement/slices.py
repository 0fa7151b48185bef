"""Parts of a tensor that are read where they lie: what a SPLIT or SLICE of channels makes needs no copy.

The counterpart of parts.py: channels from a multiple of 16 on, of all pixels, are a feature map inside the other one.
"""
from __future__ import annotations

from collections.abc import Mapping

from cermet.drivers.rocket.layout import ATOM_BYTES
from cermet.drivers.rocket.moving import Placed, plan_moves
from cermet.drivers.rocket.placement.parts import Part
from cermet.drivers.rocket.views import Views, are_same_bytes
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph

TAKING_APART = frozenset({Kind.SPLIT, Kind.SPLIT_V, Kind.SLICE, Kind.STRIDED_SLICE})


def place_slices(subgraph: Subgraph, views: Views, parts: Mapping[int, Part]) -> Mapping[int, Part]:
    """Places of the tensors (the first of each class of views) that lie inside what they were taken from.

    parts   tensors that have a place already: they keep it
    Needs: all pixels of one image; the channels begin at a multiple of 16, and end at one or with the tensor they are
    taken from; the program does not hand the part out.
    """
    made: dict[int, Part] = {}
    for operation in subgraph.operations:
        if operation.kind not in TAKING_APART or subgraph.tensor(operation.outputs[0]).shape[:1] != (1,):
            continue
        for plan in plan_moves(subgraph, operation):
            if plan.way == "copies" and len(plan.parts) == 1 and plan.fill is None \
                    and plan.tensor not in parts and _lies_inside(subgraph, views, operation, plan.parts[0]):
                made[plan.tensor] = Part(plan.parts[0].box.source, plan.parts[0].patch.channels.source // ATOM_BYTES)
    return made


def _lies_inside(subgraph: Subgraph, views: Views, operation: Operation, part: Placed) -> bool:
    source, target, channels = part.box.source, part.box.target, part.patch.channels
    if any(t in subgraph.outputs for t in views.members(target)) or subgraph.tensor(source).is_constant:
        return False
    if part.source.pixels != part.target.pixels or channels.count != part.target.channels:
        return False        # a part of the pixels
    if not all(are_same_bytes(views.shape(subgraph, t), shape) for t, shape in ((source, part.source),
                                                                                (target, part.target))):
        return False        # a view has turned pixels into channels
    is_last = channels.source + channels.count == part.source.channels
    return channels.source % ATOM_BYTES == 0 and (is_last or channels.count % ATOM_BYTES == 0)
