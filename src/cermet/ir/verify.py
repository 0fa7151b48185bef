"""The verifier: what every subgraph keeps, after the frontends and after every pass."""
from __future__ import annotations

from cermet.ir.operation import Operation
from cermet.ir.problems import op_problem
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

__all__ = ["VerifyError", "op_problem", "verify"]


class VerifyError(Exception):
    """A subgraph that breaks a rule; names the operation or tensor."""


def verify(subgraph: Subgraph) -> None:
    """Raise VerifyError unless numbering, single assignment, order, quantisation and constants are in order.

    Only structure: an operation whose shapes or types make no sense is a matter for op_problem(), so that one odd
    operation does not refuse a model that TFLite runs.
    """
    for index, tensor in subgraph.tensors.items():
        _verify_tensor(index, tensor)
    _verify_operations(subgraph)
    _verify_ends(subgraph)


def _verify_tensor(index: int, tensor: Tensor) -> None:
    if tensor.index != index:
        raise VerifyError(f"tensor {index}: its index is {tensor.index}, must be {index}")
    if any(n < 0 for n in tensor.shape):
        raise VerifyError(f"tensor {index}: shape {tensor.shape}, must be 0 or more each")
    q = tensor.quantisation
    if q is not None and not (q.scales and len(q.zero_points) in (1, len(q.scales))):
        raise VerifyError(f"tensor {index}: {len(q.scales)} scales and {len(q.zero_points)} zero points, must be as "
                          "many or one zero point")
    if q is not None and q.is_per_channel and not (
            0 <= q.axis < len(tensor.shape) and tensor.shape[q.axis] == len(q.scales)):
        raise VerifyError(f"tensor {index}: {len(q.scales)} scales on axis {q.axis}, must be one for each index of it, "
                          f"shape {tensor.shape}")
    if tensor.data is not None and tensor.dtype is not DType.OTHER:
        _verify_data(index, tensor)


def _verify_data(index: int, tensor: Tensor) -> None:
    assert tensor.data is not None
    if tensor.data.shape != tensor.shape or tensor.data.dtype != tensor.dtype.numpy:
        raise VerifyError(f"tensor {index}: contents {tensor.data.shape} {tensor.data.dtype}, must be {tensor.shape} "
                          f"{tensor.dtype.value}")


def _verify_operations(subgraph: Subgraph) -> None:
    """Indices ascend strictly except where a pass replaced one; inputs are made before they are read."""
    written: set[int] = set()
    seen: set[int] = set()
    sources = {t for t, tensor in subgraph.tensors.items() if tensor.is_constant} | set(subgraph.inputs)
    for op in subgraph.operations:
        if op.index in seen:
            raise VerifyError(f"{op}: a second operation with that index, must be unique")
        seen.add(op.index)
        _verify_numbers(subgraph, op)
        for t in op.inputs:
            if t is not None and t not in written and t not in sources:
                raise VerifyError(f"{op}: reads tensor {t} before it is written, must be an input, a constant or an "
                                  "earlier output")
        for t in op.outputs:
            if t in written or t in sources:
                raise VerifyError(f"{op}: writes tensor {t} again, must be written once")
            written.add(t)


def _verify_numbers(subgraph: Subgraph, op: Operation) -> None:
    for t in (*op.inputs, *op.outputs):
        if t is not None and t not in subgraph.tensors:
            raise VerifyError(f"{op}: tensor {t} does not exist")


def _verify_ends(subgraph: Subgraph) -> None:
    written = {t for op in subgraph.operations for t in op.outputs}
    for what, ends in (("inputs", subgraph.inputs), ("outputs", subgraph.outputs)):
        if list(ends) != sorted(set(ends)):
            raise VerifyError(f"graph {what}: {ends}, must ascend")
        for t in ends:
            if t not in subgraph.tensors:
                raise VerifyError(f"graph {what}: tensor {t} does not exist")
    for t in subgraph.inputs:
        if t in written or subgraph.tensors[t].is_constant:
            raise VerifyError(f"graph inputs: tensor {t} is constant or written, must come from outside")
    for t in subgraph.outputs:
        if t not in written:
            raise VerifyError(f"graph outputs: tensor {t} is not written by any operation")
