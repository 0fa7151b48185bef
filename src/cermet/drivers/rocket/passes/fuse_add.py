"""CONV then ADD becomes one program: the DPU adds the other operand while it writes the convolution's result."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.convolution_task import MIN_OPERAND_SURFACE
from cermet.drivers.rocket.fused_add_arithmetic import FusedNumbers, fused_numbers
from cermet.drivers.rocket.large_strides import in_blocks
from cermet.drivers.rocket.views import map_shape
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph


@dataclass(frozen=True, eq=False)
class FusedAdd:
    """An ADD that runs behind the convolution of one of its operands; `addend` is the other operand's tensor."""

    convolution: Operation
    add: Operation
    addend: int
    numbers: FusedNumbers


def fuse_adds(subgraph: Subgraph, match: str, *, with_clamps: bool = True) -> Mapping[int, FusedAdd]:
    """Index of each ADD that runs behind a convolution -> what runs there.

    Needs: the ADD is the only reader of the convolution, both operands have the output's shape, and the numbers
    fit. When both operands are such convolutions the later one takes the ADD, so that the other is in memory by then.
    Without with_clamps only an ADD that does not clamp is fused: EW would have to (assumed.py).
    match "tflite": none, because the stages before the sum round the convolution once where TFLite does so twice: 1 in
    1000 sums would differ, against one interrupt and the way through memory.
    """
    fused: dict[int, FusedAdd] = {}
    if match == "tflite":
        return fused
    for add in subgraph.operations:
        if add.kind is Kind.ADD and (with_clamps or clamp_of(add.activation, subgraph.tensor(add.output)).is_trivial):
            made = _behind_a_convolution(subgraph, add)
            if made is not None:
                fused[add.index] = made
    return fused


def _behind_a_convolution(subgraph: Subgraph, add: Operation) -> FusedAdd | None:
    first, second = add.inputs
    if first is None or second is None or first == second:
        return None
    hosts = [(conv, other) for mine, other in ((first, second), (second, first))
             if (conv := _host(subgraph, add, mine, other)) is not None]
    for conv, other in sorted(hosts, key=lambda host: -subgraph.operations.index(host[0])):
        numbers = fused_numbers(subgraph, conv, add, other)
        if numbers is not None:
            return FusedAdd(conv, add, other, numbers)
    return None


def _host(subgraph: Subgraph, add: Operation, operand: int, other: int) -> Operation | None:
    """The convolution that makes `operand` for this ADD alone."""
    conv = subgraph.producer(operand)
    if conv is None or conv.kind is not Kind.CONV or operand in subgraph.outputs \
            or subgraph.tensor(other).is_constant:
        return None
    if subgraph.consumers(operand) != (add,):
        return None
    if subgraph.tensor(conv.inputs[1]).shape[3:] != subgraph.tensor(conv.inputs[0]).shape[3:]:
        return None         # grouped: several programs
    if in_blocks(subgraph, conv) is not None:
        return None
    shapes = {subgraph.tensor(t).shape for t in (operand, other, add.output)}
    if len(shapes) > 1 or map_shape(subgraph.tensor(operand)).pixels < MIN_OPERAND_SURFACE:
        return None
    return conv
