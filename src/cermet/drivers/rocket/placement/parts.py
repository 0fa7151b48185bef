"""Tensors that lie inside another one: what is only joined by a CONCATENATION of channels is written in place.

Surfaces of one plane lie one behind the other, so a part that begins a surface of the joined tensor is a feature map
like any other, at an offset (recipes §11, "let producers write into slices"; the vendor copies instead).
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cermet.drivers.rocket.layout import ATOM_BYTES, ceil_div
from cermet.drivers.rocket.moving import Placed, plan_moves
from cermet.drivers.rocket.views import VIEW_KINDS, Views
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph

# Surfaces that any writer may complete at once (depthwise: 4): a part must end with such a group, or be the last.
GROUP = 4
# What convolutions alone write completes pairs.
PAIRS = {Kind.CONV: 2}


@dataclass(frozen=True)
class Part:
    """A place: surfaces of `host` (a tensor) from `surface` on."""

    host: int
    surface: int


def place_parts(subgraph: Subgraph, views: Views) -> Mapping[int, Part]:
    """Places of the tensors (the first of each class of views) that lie inside others.

    Needs: an operation of this program writes the part, which is no output of it; it has the joined tensor's
    quantisation, and is joined there only, once; no writer's group of surfaces reaches into the next part.
    """
    made: dict[int, Part] = {}
    for operation in subgraph.operations:
        if operation.kind is not Kind.CONCATENATION:
            continue
        (plan,) = plan_moves(subgraph, operation)
        if plan.way != "copies":
            continue
        for part in plan.parts:
            root = views.root(part.box.source)
            if root not in made and _can_move_in(subgraph, views, operation, part):
                made[root] = Part(operation.output, part.patch.channels.target // ATOM_BYTES)
    return made


def _can_move_in(subgraph: Subgraph, views: Views, concatenation: Operation, part: Placed) -> bool:
    source, target = part.box.source, part.box.target
    members = views.members(views.root(source))
    producer = subgraph.producer(views.root(source))
    if producer is None or producer.kind in VIEW_KINDS or any(t in subgraph.outputs for t in members):
        return False
    if subgraph.tensor(source).quantisation != subgraph.tensor(target).quantisation:
        return False
    if sum(concatenation.inputs.count(t) for t in members) != 1 or part.source.pixels != part.target.pixels:
        return False
    channels = part.patch.channels
    group = PAIRS.get(producer.kind, GROUP)
    is_last = channels.target + channels.count == part.target.channels
    return is_last or ceil_div(channels.count, ATOM_BYTES) % group == 0
