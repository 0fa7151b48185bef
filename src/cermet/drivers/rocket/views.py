"""Which tensors share bytes: RESHAPE and SQUEEZE only rename the shape of a feature map, some QUANTIZEs its type.

A feature map is a list of pixels (rows one after another) times channels; any shape with the same number of pixels
and the same channels describes the same bytes. At the border of a partition even the channels may change, because
both sides of the conversion count elements in NHWC order. Elsewhere a RESHAPE that changes them moves the bytes.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from cermet.drivers.rocket.layout import MapShape
from cermet.drivers.rocket.strided_plan import StridedPlan, plan_strided
from cermet.ir.flat import FlatBox, Loop
from cermet.ir.moves import MoveError
from cermet.ir.operation import Kind, Operation, Pair
from cermet.ir.reductions import REDUCTIONS, reduced_axes, reduction
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

VIEW_KINDS = (Kind.RESHAPE, Kind.SQUEEZE, Kind.EXPAND_DIMS)


def map_shape(tensor: Tensor) -> MapShape:
    """The feature map that a tensor's own shape suggests.

    NHWC keeps its rows and columns, images one below the other; of any other rank the last dimension holds channels
    and the rest is a column of pixels.
    """
    shape = tensor.shape or (1,)
    if len(shape) == 4:
        return MapShape(shape[0] * shape[1], shape[2], shape[3])
    return MapShape(prod(shape[:-1]), 1, shape[-1])


def stored_shape(subgraph: Subgraph, tensor: int) -> MapShape:
    """The feature map that the writer of a tensor makes: its shape's, unless a reduction drops the channels."""
    producer = subgraph.producer(tensor)
    if producer is None or producer.kind not in REDUCTIONS:
        return map_shape(subgraph.tensor(tensor))
    axes = reduced_axes(subgraph, producer)
    made = None if axes is None else reduction(subgraph.tensor(producer.inputs[0]).shape, axes)
    if made is None or not made.over_channels or producer.keep_dims:
        return map_shape(subgraph.tensor(tensor))
    return MapShape(made.output_pixels, 1, 1)


def is_flexible(operation: Operation, tensor: int) -> bool:
    """Whether the operation takes this tensor in any shape: FULLY_CONNECTED's input may stay an image."""
    return operation.kind is Kind.FULLY_CONNECTED and operation.inputs[0] == tensor


def is_view(subgraph: Subgraph, operation: Operation) -> bool:
    """Whether the bytes stay as they are: a new shape, or uint8 to int8 (or back) with the same signed values."""
    if operation.kind in VIEW_KINDS:
        return True
    if operation.kind is Kind.TABLE:
        lowest = min(operation.table)
        return operation.table == tuple(range(lowest, lowest + 256))        # all 256 values: signed, the same byte
    if operation.kind is not Kind.QUANTIZE:
        return False
    before, after = (subgraph.tensor(t) for t in (operation.inputs[0], operation.output))
    if before.quantisation is None or after.quantisation is None:
        return False
    return before.quantisation.scales == after.quantisation.scales and _signed_point(before) == _signed_point(after)


def _signed_point(tensor: Tensor) -> tuple[int, ...]:
    assert tensor.quantisation is not None
    return tuple(p - 128 * (tensor.dtype is DType.UINT8) for p in tensor.quantisation.zero_points)


@dataclass(frozen=True)
class Views:
    """Tensors joined by views. roots: tensor -> the first of its class, in execution order (only where they differ).

    layouts: the feature map of every tensor that a view reads or makes. A view between two layouts moves the bytes.
    """

    roots: Mapping[int, int]
    layouts: Mapping[int, MapShape]

    @staticmethod
    def of(subgraph: Subgraph) -> Views:
        roots: dict[int, int] = {}
        layouts: dict[int, MapShape] = {}
        for op in subgraph.operations:
            if not is_view(subgraph, op):
                continue
            source = op.inputs[0]
            assert source is not None
            if source not in layouts:
                layouts.update(layouts_of(subgraph, joined(subgraph, source)))
            if are_same_bytes(layouts[source], layouts[op.output]) and not needs_copy(subgraph, op, roots):
                roots[op.output] = roots.get(source, source)
        return Views(roots, layouts)

    def root(self, tensor: int) -> int:
        return self.roots.get(tensor, tensor)

    def members(self, root: int) -> list[int]:
        return [root, *(t for t, r in self.roots.items() if r == root)]

    def shape(self, subgraph: Subgraph, tensor: int) -> MapShape:
        """The feature map of a tensor, in its own rows and columns where those describe the same pixels."""
        own = stored_shape(subgraph, tensor)
        layout = self.layouts.get(tensor, own)
        return own if are_same_bytes(own, layout) else layout


def are_same_bytes(first: MapShape, second: MapShape) -> bool:
    """Whether two maps hold the same elements in the same atoms."""
    return (first.pixels, first.channels) == (second.pixels, second.channels)


def reshaped(source: int, target: int, before: MapShape, after: MapShape) -> StridedPlan:
    """What moves a tensor's bytes from one layout to another. Raises MoveError."""
    box = FlatBox(source, target, 0, 0, (Loop(before.pixels * before.channels, 1, 1),))
    return plan_strided([box], lambda tensor: after if tensor == target else before)


def layouts_of(subgraph: Subgraph, members: Sequence[int]) -> dict[int, MapShape]:
    """The layouts of joined tensors: one for all where operations agree, else each view's output as its input.

    Where operations do not agree, what they compute with has its own shape, and so has everything else that the
    operations behind could not take otherwise.
    """
    fixed = [stored_shape(subgraph, t) for t in members if _is_fixed(subgraph, t)]
    common = fixed[0] if fixed else map_shape(subgraph.tensor(members[0]))
    if all(are_same_bytes(common, shape) for shape in fixed) and \
            all(_can_flatten(subgraph, t, common) for t in members):
        return dict.fromkeys(members, common)
    views = [op for op in subgraph.operations if is_view(subgraph, op) and op.output in members]
    made = {t: stored_shape(subgraph, t) for t in members}
    for view in views:
        made[view.output] = _behind(subgraph, view, made[view.inputs[0]])    # type: ignore[index]
    return made


def _behind(subgraph: Subgraph, view: Operation, before: MapShape) -> MapShape:
    """The layout of a view's output: that of its input if nothing speaks against it."""
    own = map_shape(subgraph.tensor(view.output))
    if _is_fixed(subgraph, view.output) or not _can_flatten(subgraph, view.output, before):
        return own
    for reader in subgraph.consumers(view.output):
        if not is_view(subgraph, reader):
            continue
        after = map_shape(subgraph.tensor(reader.output))
        if reader.kind not in VIEW_KINDS or (
                _is_fixed(subgraph, reader.output) and not can_change(before, after)):
            return own
    return before


def can_change(before: MapShape, after: MapShape) -> bool:
    """Whether a view may move the bytes of one layout into another."""
    if are_same_bytes(before, after):
        return True
    try:
        reshaped(0, 1, before, after)
    except MoveError:
        return False
    return True


def joined(subgraph: Subgraph, tensor: int) -> list[int]:
    """All tensors that views lead to from this one, forwards and backwards, ascending: the one they begin with first.

    Tensors are numbered in order of first use.
    """
    pending, members = [tensor], set[int]()
    while pending:
        found = pending.pop()
        if found in members:
            continue
        members.add(found)
        producer = subgraph.producer(found)
        if producer is not None and is_view(subgraph, producer) and producer.inputs[0] is not None:
            pending.append(producer.inputs[0])
        pending += [op.output for op in subgraph.consumers(found) if is_view(subgraph, op) and op.inputs[0] == found]
    return sorted(members)


def needs_copy(subgraph: Subgraph, view: Operation, roots: Mapping[int, int]) -> bool:
    """A view from an input of the program to an output of it: the two lie in different BOs."""
    source = view.inputs[0]
    assert source is not None
    return roots.get(source, source) in subgraph.inputs and view.output in subgraph.outputs


def _is_fixed(subgraph: Subgraph, tensor: int) -> bool:
    """Whether an operation other than a view writes the tensor, or reads it and insists on its shape.

    Operations of no known kind run elsewhere: they see the tensor as the model does.
    """
    producer = subgraph.producer(tensor)
    if producer is not None and producer.kind is not Kind.OTHER and not is_view(subgraph, producer):
        return True
    return any(op.kind is not Kind.OTHER and not is_view(subgraph, op) and not is_flexible(op, tensor)
               for op in subgraph.consumers(tensor))


def _can_flatten(subgraph: Subgraph, tensor: int, layout: MapShape) -> bool:
    """Whether the FULLY_CONNECTEDs that read the tensor can read it in some layout."""
    for op in subgraph.consumers(tensor):
        if is_flexible(op, tensor) and len(op.inputs) > 1 and op.inputs[1] is not None:
            weights = subgraph.tensor(op.inputs[1])
            if weights.shape and window_over(layout, weights.shape[-1]) is None:
                return False
    return True


def window_over(shape: MapShape, depth: int) -> Pair | None:
    """Kernel of a FULLY_CONNECTED with `depth` inputs per output: each pixel, the whole map, None when neither fits."""
    if depth == shape.channels:
        return Pair(1, 1)
    return Pair(shape.height, shape.width) if depth == shape.pixels * shape.channels else None
