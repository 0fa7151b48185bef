"""What the layouts of moving operations are made of, and their operands."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cermet.ir.flat import FlatBox, Loop, coalesced, strides
from cermet.ir.operation import Kind, Moving, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

MAX_BOXES = 1 << 12


class MoveError(ValueError):
    """The operation makes no sense, or is not made of boxes; the text is the reason for the user."""


@dataclass(frozen=True)
class Run:
    """An arithmetic progression along one axis: source s0, s0 + ss, ... goes to target t0, t0 + ts, ...

    The steps of a Layout's boxes are above 0.
    """

    source: int
    target: int
    count: int
    source_step: int = 1
    target_step: int = 1


@dataclass(frozen=True)
class Box:
    """One Run per axis. The shapes are those of the two tensors, where needed with axes of size 1 put in."""

    source: int
    target: int
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Layout:
    """Boxes in any order: they do not overlap in the targets.

    fill    what the rest holds; None: nothing is left over
    loops   boxes whose axes do not keep their order
    """

    boxes: tuple[Box, ...]
    fill: int | None = None
    loops: tuple[FlatBox, ...] = ()

    @property
    def flat(self) -> tuple[FlatBox, ...]:
        return (*(flat(box) for box in self.boxes), *self.loops)


def flat(box: Box) -> FlatBox:
    """The same elements as loops; a run's source step may be negative here."""
    sources, targets = strides(box.source_shape), strides(box.target_shape)
    each = list(zip(box.runs, sources, targets, strict=True))
    loops = [Loop(run.count, run.source_step * s, run.target_step * t) for run, s, t in each]
    return FlatBox(box.source, box.target, sum(run.source * s for run, s, _ in each),
                   sum(run.target * t for run, _, t in each), coalesced(loops))


def data_inputs(operation: Operation) -> tuple[int | None, ...]:
    """The inputs whose elements are moved; the others say how."""
    if operation.kind in (Kind.CONCATENATION, Kind.PACK):
        return operation.inputs
    return operation.inputs[1:2] if operation.kind is Kind.SPLIT else operation.inputs[:1]


# ---- operands ------------------------------------------------------------------------------------------------------

def data_of(subgraph: Subgraph, operation: Operation) -> Tensor:
    return subgraph.tensor(data_inputs(operation)[0])


def numbers(subgraph: Subgraph, operation: Operation, index: int, count: int | None = None) -> list[int]:
    """Contents of a constant operand of integers."""
    number = operation.inputs[index] if index < len(operation.inputs) else None
    tensor = None if number is None else subgraph.tensor(number)
    if tensor is None or tensor.data is None or tensor.dtype not in (DType.INT32, DType.INT64):
        raise MoveError(f"operand {index} must be a constant of integers")
    values = [int(v) for v in tensor.data.reshape(-1)]
    if count is not None and len(values) != count:
        raise MoveError(f"operand {index} has {len(values)} elements, must have {count}")
    return values


def axis_of(value: int, rank: int) -> int:
    if not -rank <= value < rank:
        raise MoveError(f"axis {value} must be {-rank}..{rank - 1}")
    return value % rank


def moving_of(operation: Operation) -> Moving:
    if operation.moving is None:
        raise MoveError("its options are unknown")
    return operation.moving


def check_shape(tensor: Tensor, wanted: Sequence[int]) -> None:
    if tensor.shape != tuple(wanted):
        raise MoveError(f"output has shape {tensor.shape}, must be {tuple(wanted)}")


def whole_runs(shape: Sequence[int]) -> list[Run]:
    return [Run(0, 0, n) for n in shape]
