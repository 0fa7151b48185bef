"""MUL then ADD, both with constants per channel, becomes one program: batch normalisation in front of an activation."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.rocket.eltwise import is_affine
from cermet.drivers.rocket.eltwise_affine import Affine, question_of
from cermet.drivers.rocket.eltwise_operands import Roles, channel_values, roles_of
from cermet.drivers.rocket.normalisation import Step, normalisation
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph


@dataclass(frozen=True, eq=False)
class Normalisation:
    """An ADD that runs together with the MUL before it; data: position of the MUL's computed operand."""

    product: Operation
    add: Operation
    data: int
    numbers: Affine

    @property
    def together(self) -> Operation:
        """One operation from the MUL's operands to the ADD's output, with the indices of both."""
        return replace(self.product, outputs=self.add.outputs,
                       fused=(*self.product.fused, self.add.index, *self.add.fused))


def fuse_normalisations(subgraph: Subgraph, match: str, *, with_addends: bool = True) -> Mapping[int, Normalisation]:
    """Index of each ADD, or SUB of a constant, that runs together with the MUL before it -> both.

    Needs: the ADD is the only reader of the product, which the program does not hand out. No byte's result is more than
    one step from exact (the product's, and the sum's for that product). match "tflite": all are those of two tasks;
    "exact": all but one in 1000, and a product one step off changes no sum by more. Without with_addends none is fused:
    they come from memory (assumed.py).
    """
    if not with_addends:
        return {}
    return {add.index: made for add in subgraph.operations
            if add.kind in (Kind.ADD, Kind.SUB) and (made := _behind_a_product(subgraph, add, match)) is not None}


def _behind_a_product(subgraph: Subgraph, add: Operation, match: str) -> Normalisation | None:
    roles = _affine_roles(subgraph, add)
    if roles is None:
        return None
    product = subgraph.producer(add.inputs[roles.main])
    if product is None or product.kind is not Kind.MUL or product.output in subgraph.outputs:
        return None
    before = _affine_roles(subgraph, product)
    if before is None or subgraph.consumers(product.output) != (add,):
        return None
    numbers = normalisation(_step(subgraph, product, before), _step(subgraph, add, roles), match)
    return None if numbers is None else Normalisation(product, add, before.main, numbers)


def _affine_roles(subgraph: Subgraph, operation: Operation) -> Roles | None:
    """None unless one operand is a constant per channel and the other has the output's shape."""
    roles = roles_of(subgraph, operation)
    if roles is None or not is_affine(operation, roles):
        return None
    data = subgraph.tensor(operation.inputs[roles.main])
    return roles if data.shape == subgraph.tensor(operation.output).shape else None


def _step(subgraph: Subgraph, operation: Operation, roles: Roles) -> Step:
    values = channel_values(subgraph.tensor(operation.inputs[roles.other]), subgraph.tensor(operation.output))
    distinct, index = np.unique(values, return_inverse=True)
    return Step(question_of(subgraph, operation, roles.other, distinct), index.reshape(-1))
