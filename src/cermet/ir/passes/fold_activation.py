"""Activations of their own, fused into the operation before them."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cermet.ir.operation import Activation, Kind, Operation
from cermet.ir.subgraph import Subgraph

FOLDED = {"RELU": Activation.RELU, "RELU6": Activation.RELU6, "RELU_N1_TO_1": Activation.RELU_N1_TO_1}
CLAMPING = frozenset({Kind.CONV, Kind.DEPTHWISE_CONV, Kind.FULLY_CONNECTED, Kind.TRANSPOSE_CONV, Kind.ADD, Kind.SUB,
                      Kind.MUL, Kind.AVERAGE_POOL, Kind.MAX_POOL})


def fold_activation(subgraph: Subgraph, accepts: Callable[[Subgraph, Operation], bool] = lambda *_: True) -> Subgraph:
    """CONV then RELU becomes one CONV(activation=RELU), a clamp of its output.

    Needs: the activation is the only reader of the other operation's output, which has no activation yet and is no
    graph output; both outputs have the same dtype and quantisation, so that the activation does not requantise.
    accepts: whether the operation may be made, in the subgraph that has it.
    """
    for activation in subgraph.operations:
        producer = _foldable(subgraph, activation)
        if producer is None:
            continue
        fused = replace(producer, outputs=activation.outputs, activation=FOLDED[activation.name],
                        fused=(*producer.fused, activation.index))
        made = subgraph.replaced([producer, activation], [fused])
        if accepts(made, fused):
            subgraph = made
    return subgraph


def _foldable(subgraph: Subgraph, activation: Operation) -> Operation | None:
    """The operation that can take this one in, None when there is none."""
    if activation.name not in FOLDED or len(activation.inputs) != 1 or len(activation.outputs) != 1:
        return None
    source = activation.inputs[0]
    producer = subgraph.producer(source)
    if producer is None or producer.kind not in CLAMPING or producer.activation is not Activation.NONE:
        return None
    if source in subgraph.outputs or subgraph.consumers(producer.output) != (activation,):
        return None
    made, clamped = subgraph.tensor(source), subgraph.tensor(activation.output)
    alike = (made.dtype, made.quantisation, made.shape) == (clamped.dtype, clamped.quantisation, clamped.shape)
    return producer if alike and made.quantisation is not None else None
