"""Which operations become one program: the grouping that the TFLite runtime will make of the operations we claim.

The delegate only says which nodes it wants; the runtime forms the groups. So the compiler forms the same groups
beforehand (TensorFlow Lite, graph_info.cc: PartitionGraphIntoIndependentNodeSubsets, the greedy form), and the
delegate compares them with the runtime's own before anything runs.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable

from cermet.drivers.base import Refusal
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph

# What moves no data and computes next to nothing: alone it is not worth a job.
IDLE_KINDS = frozenset({Kind.RESHAPE, Kind.SQUEEZE, Kind.EXPAND_DIMS, Kind.QUANTIZE})
# Control flow, and everything that touches a resource: the runtime keeps these in the model's order.
_RESOURCE_MAKERS = frozenset({"VAR_HANDLE", "HASHTABLE"})
_CONTROL_FLOW = frozenset({"IF", "WHILE", "CALL_ONCE"})


def group_nodes(subgraph: Subgraph, claimed: Callable[[Operation], bool]) -> list[tuple[int, ...]]:
    """Groups of claimed operations (their indices, ascending), in the order in which the runtime will run them.

    Epoch after epoch takes every operation that is ready and of the epoch's kind, claimed or not; the first ready
    operation decides the kind. Execution order is topological, so one walk completes an epoch.
    """
    waits_for = _side_effect_chain(subgraph)
    ready = _always_ready(subgraph)
    done: set[int] = set()
    pending = list(subgraph.operations)
    groups: list[tuple[int, ...]] = []
    while pending:
        epoch = _next_epoch(pending, ready, done, waits_for, claimed)
        if not epoch:
            raise ValueError(f"{pending[0]}: its inputs are never produced")
        if claimed(epoch[0]):
            groups.append(tuple(operation.index for operation in epoch))
        pending = [operation for operation in pending if operation.index not in done]
    return groups


def _next_epoch(pending: list[Operation], ready: set[int], done: set[int], waits_for: dict[int, int],
                claimed: Callable[[Operation], bool]) -> list[Operation]:
    epoch: list[Operation] = []
    for operation in pending:
        if not all(tensor is None or tensor in ready for tensor in operation.inputs):
            continue
        if waits_for.get(operation.index, -1) not in done | {-1}:
            continue
        if epoch and claimed(operation) is not claimed(epoch[0]):
            continue
        epoch.append(operation)
        ready.update(operation.outputs)
        done.add(operation.index)
    return epoch


def _always_ready(subgraph: Subgraph) -> set[int]:
    """Tensors that no operation makes: constants, graph inputs, variables."""
    made = {tensor for operation in subgraph.operations for tensor in operation.outputs}
    return set(subgraph.tensors) - made


def _side_effect_chain(subgraph: Subgraph) -> dict[int, int]:
    """Operation index -> the one with side effects before it, for operations with side effects."""
    resources = {tensor for operation in subgraph.operations if operation.name in _RESOURCE_MAKERS
                 for tensor in operation.outputs}
    chain: dict[int, int] = {}
    last = None
    for operation in subgraph.operations:
        touches = resources.intersection((*operation.inputs, *operation.outputs))
        if not touches and operation.name not in _CONTROL_FLOW:
            continue
        if last is not None:
            chain[operation.index] = last
        last = operation.index
    return chain


def partition(subgraph: Subgraph, refusals: dict[int, Refusal], min_nodes: int) -> list[tuple[int, ...]]:
    """Groups of the operations without a refusal. Adds refusals for groups that are not worth a job.

    Leaving a group out changes what the runtime makes of the rest, so it groups again until nothing changes.
    """
    while True:
        groups = group_nodes(subgraph, lambda operation: operation.index not in refusals)
        left_out = [(group, refusal) for group in groups
                    if (refusal := refuse_group(_operations(subgraph, group), min_nodes)) is not None]
        if not left_out:
            return groups
        for group, refusal in left_out:
            refusals.update(dict.fromkeys(group, refusal))


def _operations(subgraph: Subgraph, indices: Iterable[int]) -> list[Operation]:
    by_index = {operation.index: operation for operation in subgraph.operations}
    return [by_index[index] for index in indices]


def refuse_group(operations: list[Operation], min_nodes: int) -> Refusal | None:
    """Why a group of operations, each of which could run on the NPU, stays on the CPU."""
    if all(operation.kind in IDLE_KINDS for operation in operations):
        return Refusal("group_does_work", "no operation next to it runs on the NPU, and alone it is not worth a job")
    if len(operations) < min_nodes:
        return Refusal("group_has_min_nodes",
                       f"only {len(operations)} operations could run together, min_partition_nodes is {min_nodes}")
    return None
