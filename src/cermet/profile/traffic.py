"""What a partition has to move between the NPU and memory, whoever compiles it: what its traffic is held against."""
from __future__ import annotations

from collections.abc import Iterable, Sequence

from cermet.drivers.rocket.views import VIEW_KINDS
from cermet.ir.subgraph import Subgraph


def compulsory_bytes(subgraph: Subgraph, group: Sequence[int], kept_bytes: int = 0) -> int:
    """Constants once, each tensor that is made once out, each that is read once in; by the model's own sizes.

    kept_bytes   tensors inside the group that take as many or less move not at all, as if the buffer kept them from one
                 operation to the next. No known way: the DPU writes to memory only
    """
    members = set(group)
    operations = [op for op in subgraph.operations if op.index in members and op.kind not in VIEW_KINDS]
    given = {t for op in operations for t in op.inputs if t is not None}
    constants = {t for t in given if subgraph.tensor(t).is_constant}
    made = {t for op in operations for t in op.outputs}
    read = given - constants
    inside = {t for t in read & made if _size(subgraph, [t]) <= kept_bytes}
    return _size(subgraph, constants) + _size(subgraph, read - inside) + _size(subgraph, made - inside)


def _size(subgraph: Subgraph, tensors: Iterable[int]) -> int:
    found = [subgraph.tensor(t) for t in tensors]
    return sum(tensor.num_elements * tensor.dtype.numpy.itemsize for tensor in found)
