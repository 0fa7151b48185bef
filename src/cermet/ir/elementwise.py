"""Chains: operations between two 8-bit tensors that together are one function of one element, hence of 256 values.

HARD_SWISH as ADD, RELU6, MUL, MUL; x * sigmoid(x); a DEQUANTIZE, float operations, a QUANTIZE: whatever is computed
element by element from one tensor and from constants that are one number.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from cermet.ir.numerics import evaluate
from cermet.ir.numerics_binary import BINARY as BINARY_8_BIT
from cermet.ir.numerics_float import EIGHT_BIT, FLOAT_KINDS, LARGEST_STEPS, evaluate_float, float_steps, is_float
from cermet.ir.numerics_unary import UNARY_KINDS
from cermet.ir.operation import Kind, Operation
from cermet.ir.problems import op_problem
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Quantisation, Tensor

ELEMENTWISE = frozenset({*UNARY_KINDS, *BINARY_8_BIT, Kind.ADD, Kind.PRELU, *FLOAT_KINDS})
ULPS = 8                # libm's functions: glibc's, musl's and bionic's are within 2
SLACK_STEPS = 0.25      # see function_of()
SATURATED_STEPS = 512   # beyond any zero point's reach


@dataclass(frozen=True)
class Chain:
    """The operations that make tensor `end` of tensor `source`, in their order."""

    source: int
    end: int
    operations: tuple[Operation, ...]

def chains(subgraph: Subgraph, accepts: Callable[[Chain], bool] = lambda chain: True) -> list[Chain]:
    """All chains that are accepted, as long as can be, in the order of their ends.

    An 8-bit tensor that others read as well ends a chain. A float tensor that others read belongs to none, because
    its operation has to stay. Of a chain that is not accepted the last operation stays.
    """
    members = {op.index for op in subgraph.operations if _is_member(subgraph, op)}
    ends: set[int] = set()
    while True:
        found = _sources(subgraph, members, ends)
        needed = _needed(subgraph, found)
        new_ends = {t for t in needed if subgraph.tensor(t).dtype in EIGHT_BIT} - ends
        kept = {_producer(subgraph, t).index for t in needed if subgraph.tensor(t).dtype is DType.FLOAT32}
        if not new_ends and not kept:
            made = [_chain(subgraph, found, ends, end) for end in found if end in ends]
            kept = {chain.operations[-1].index for chain in made if not accepts(chain)}
            if not kept:
                return made
        ends, members = ends | new_ends, members - kept


def function_of(subgraph: Subgraph, chain: Chain, match: str) -> np.ndarray | None:
    """int64[256]: the end's value for every value of the source; None where float32 arithmetic leaves it open.

    Open: a float result that is no number or beyond int32, or one that moves by a quarter of an output step when the
    results of libm's functions move by ULPS. Other implementations are nearer than that, so that a table differs from
    any TFLite's by 1 LSB at most.
    """
    small = _of_256(subgraph, chain)
    info = np.iinfo(subgraph.tensor(chain.source).dtype.numpy)
    inputs = np.arange(info.min, int(info.max) + 1).astype(info.dtype)
    runs = {ulps: {chain.source: inputs} for ulps in (0, ULPS, -ULPS)}
    for op in chain.operations:
        made = evaluate(small, op, runs[0], match)
        if small.tensor(op.output).dtype is DType.FLOAT32:
            for ulps, values in runs.items():
                values[op.output] = evaluate_float(small, op, values, ulps)
        elif is_float(small, op) and not _is_clear(small, op, list(runs.values())):
            return None
        else:
            for values in runs.values():
                values[op.output] = made
    return runs[0][chain.end].astype(np.int64)


# ---- finding them --------------------------------------------------------------------------------------------------

def _is_member(subgraph: Subgraph, op: Operation) -> bool:
    """Whether the operation computes element by element; its constants are one number each."""
    if op.kind not in ELEMENTWISE or op_problem(subgraph, op) is not None:
        return False
    inputs, out = [subgraph.tensor(t) for t in op.inputs], subgraph.tensor(op.output)
    computed = [t for t in inputs if not t.is_constant]
    return bool(computed) and all(t.shape == out.shape and not t.is_variable for t in computed) and \
        all(_is_one_number(t) for t in inputs if t.is_constant)


def _is_one_number(tensor: Tensor) -> bool:
    data = tensor.data
    return data is not None and data.size > 0 and bool((data == data.reshape(-1)[0]).all())


def _producer(subgraph: Subgraph, tensor: int) -> Operation:
    producer = subgraph.producer(tensor)
    assert producer is not None
    return producer


def _computed(subgraph: Subgraph, op: Operation) -> list[int]:
    return [t for t in op.inputs if t is not None and not subgraph.tensor(t).is_constant]


def _sources(subgraph: Subgraph, members: set[int], ends: set[int]) -> dict[int, int]:
    """Tensor -> the 8-bit tensor that it is a function of, for what members make of one tensor alone."""
    found: dict[int, int] = {}
    for op in subgraph.operations:
        if op.index in members:
            origins = {t if t in ends else found.get(t, t) for t in _computed(subgraph, op)}
            (origin, *others) = origins
            if not others and subgraph.tensor(origin).dtype in EIGHT_BIT:
                found[op.output] = origin
    return found


def _needed(subgraph: Subgraph, found: Mapping[int, int]) -> set[int]:
    """Tensors of `found` that operations which stay read, or nobody, or the caller. An 8-bit one becomes an end."""
    stays: set[int] = set()
    needed: set[int] = set()
    for op in reversed(subgraph.operations):
        if any(t not in found for t in op.outputs) or not op.outputs:
            stays.add(op.index)
            continue
        readers = subgraph.consumers(op.output)
        if not readers or op.output in subgraph.outputs or any(reader.index in stays for reader in readers):
            needed.add(op.output)
            if subgraph.tensor(op.output).dtype is DType.FLOAT32:
                stays.add(op.index)
    return needed


def _chain(subgraph: Subgraph, found: Mapping[int, int], ends: set[int], end: int) -> Chain:
    source, pending, operations = found[end], [end], dict[int, Operation]()
    while pending:
        op = _producer(subgraph, pending.pop())
        if op.index not in operations:
            operations[op.index] = op
            pending += [t for t in _computed(subgraph, op) if t != source]
    return Chain(source, end, tuple(op for op in subgraph.operations if op.index in operations))


# ---- computing them ------------------------------------------------------------------------------------------------

def _of_256(subgraph: Subgraph, chain: Chain) -> Subgraph:
    """The subgraph with the chain's tensors in the shape [256] and its constants as scalars."""
    tensors = dict(subgraph.tensors)
    for op in chain.operations:
        for t in (*op.inputs, *op.outputs):
            tensor = tensors[t]     # type: ignore[index]
            if tensor.data is None:
                tensors[tensor.index] = replace(tensor, shape=(256,))
            else:
                tensors[tensor.index] = replace(tensor, shape=(), data=tensor.data.reshape(-1)[:1].reshape(()))
    return replace(subgraph, tensors=tensors)


def _is_clear(subgraph: Subgraph, op: Operation, runs: list[dict[int, np.ndarray]]) -> bool:
    """Whether a QUANTIZE's steps are numbers, near each other in all runs unless they saturate."""
    (number,) = _computed(subgraph, op)
    with np.errstate(all="ignore"):
        steps = np.stack([float_steps(subgraph.tensor(op.output), values[number]) for values in runs])
    if not (np.abs(steps) < LARGEST_STEPS).all():       # False for NaN
        return False
    bounded = steps.clip(-SATURATED_STEPS, SATURATED_STEPS)
    return bool(np.abs(bounded - bounded[0]).max() <= SLACK_STEPS)


def quantised_source(tensor: Tensor) -> Tensor:
    """A chain's source: what only a CAST reads needs no quantisation in the model, but does on the NPU."""
    return tensor if tensor.quantisation is not None else replace(tensor, quantisation=Quantisation((1.0,), (0,)))
