"""Additions, subtractions and products with constants that change no byte become views: no task.

Converters leave the normalisation of a network's input in front of it, in steps that its quantisation has already
taken: a subtraction of 1e-6, a product that only renames the scale.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from cermet.drivers.rocket.eltwise import is_affine
from cermet.drivers.rocket.eltwise_affine import changes_no_byte, question_of
from cermet.drivers.rocket.eltwise_operands import channel_values, roles_of
from cermet.ir.operation import Activation, Kind, Operation
from cermet.ir.subgraph import Subgraph

KINDS = (Kind.ADD, Kind.SUB, Kind.MUL)


def drop_identities(subgraph: Subgraph) -> Subgraph:
    """ADD, SUB and MUL become RESHAPEs where TFLite's result of each of the 256 bytes is that byte, in all channels."""
    for operation in subgraph.operations:
        if operation.kind in KINDS and (data := _unchanged(subgraph, operation)) is not None:
            view = replace(operation, kind=Kind.RESHAPE, inputs=(data,), activation=Activation.NONE)
            subgraph = subgraph.replaced([operation], [view])
    return subgraph


def _unchanged(subgraph: Subgraph, operation: Operation) -> int | None:
    """The input that the output repeats; None when it does not."""
    roles = roles_of(subgraph, operation)
    if roles is None or not is_affine(operation, roles):
        return None
    data = operation.inputs[roles.main]
    if data is None or subgraph.tensor(data).shape != subgraph.tensor(operation.output).shape:
        return None
    values = np.unique(channel_values(subgraph.tensor(operation.inputs[roles.other]),
                                      subgraph.tensor(operation.output)))
    return data if changes_no_byte(question_of(subgraph, operation, roles.other, values)) else None
