"""Chains of element-wise operations become one operation that looks the result up."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cermet.ir.elementwise import Chain, chains, function_of, quantised_source
from cermet.ir.numerics_unary import unary_table
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph

# What a function is called where it is one that has a name: these need no look-up.
NAMED = (Kind.QUANTIZE, Kind.RELU, Kind.RELU6, Kind.RELU_N1_TO_1, Kind.RELU_0_TO_1)


@dataclass(frozen=True)
class Wanted:
    """What a driver says about chains.

    accepts     whether it can look the chain up
    is_worth    whether that is better than the operations one by one
    """

    accepts: Callable[[Chain], bool] = lambda chain: True
    is_worth: Callable[[Chain], bool] = lambda chain: len(chain.operations) > 1


def tabulate(subgraph: Subgraph, match: str = "tflite", wanted: Wanted = Wanted()) -> Subgraph:
    """A chain of operations on each element becomes one TABLE (or QUANTIZE, RELU) with the very same 256 results.

    Needs: the chain reads one 8-bit tensor and constants that are one number, it makes an 8-bit tensor, and nobody else
    reads what is between. Float operations may be between: DEQUANTIZE, SQRT, QUANTIZE.
    """
    found = tabulated(subgraph, match, wanted)
    return _replaced(subgraph, {chain.end: chain for chain in found}, match) if found else subgraph


def tabulated(subgraph: Subgraph, match: str, wanted: Wanted) -> list[Chain]:
    """The chains that tabulate() replaces."""
    def accepted(chain: Chain) -> bool:
        return wanted.accepts(chain) and function_of(subgraph, chain, match) is not None

    return [chain for chain in chains(subgraph, accepted) if wanted.is_worth(chain)]


def _replaced(subgraph: Subgraph, found: dict[int, Chain], match: str) -> Subgraph:
    gone = {op.index for chain in found.values() for op in chain.operations}
    operations = tuple(table_operation(subgraph, found[op.outputs[0]], match) if op.outputs and op.outputs[0] in found
                       else op for op in subgraph.operations
                       if op.index not in gone or (op.outputs and op.outputs[0] in found))
    used = {t for op in operations for t in (*op.inputs, *op.outputs) if t is not None}
    used.update(subgraph.inputs, subgraph.outputs)
    sources = {chain.source for chain in found.values()}
    return replace(subgraph, operations=operations, tensors={
        t: quantised_source(tensor) if t in sources else tensor for t, tensor in subgraph.tensors.items() if t in used})


def table_operation(subgraph: Subgraph, chain: Chain, match: str) -> Operation:
    """The operation in a chain's place."""
    table = function_of(subgraph, chain, match)
    assert table is not None
    last = chain.operations[-1]
    fused = sorted({i for op in chain.operations for i in (op.index, *op.fused)} - {last.index})
    made = Operation(last.index, Kind.TABLE, "TABLE", (chain.source,), (chain.end,), fused=tuple(fused))
    source, end = quantised_source(subgraph.tensor(chain.source)), subgraph.tensor(chain.end)
    for kind in NAMED:
        named = replace(made, kind=kind, name=kind.value)
        if source.dtype is end.dtype or kind is Kind.QUANTIZE:
            if np.array_equal(unary_table(source, end, named, match), table):
                return named
    return replace(made, table=tuple(table.tolist()))
