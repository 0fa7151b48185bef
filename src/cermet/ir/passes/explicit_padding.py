"""SAME becomes the number of pixels that it means."""
from __future__ import annotations

from dataclasses import replace

from cermet.ir.operation import Kind, Operation, Padding
from cermet.ir.subgraph import Subgraph

PADDED = frozenset({Kind.CONV, Kind.DEPTHWISE_CONV, Kind.AVERAGE_POOL, Kind.MAX_POOL})


def explicit_padding(subgraph: Subgraph) -> Subgraph:
    """CONV and pools with SAME get VALID and a border: what is behind need not know the rule.

    TRANSPOSE_CONV keeps its own, where SAME is cut off the output.
    """
    operations = tuple(_explicit(subgraph, op) for op in subgraph.operations)
    return subgraph if operations == subgraph.operations else replace(subgraph, operations=operations)


def _explicit(subgraph: Subgraph, operation: Operation) -> Operation:
    window = operation.window
    if operation.kind not in PADDED or window is None or window.padding is not Padding.SAME:
        return operation
    _, height, width, _ = subgraph.tensor(operation.inputs[0]).shape
    border = window.pads(height, width)
    return replace(operation, window=replace(window, padding=Padding.VALID, border=border))
