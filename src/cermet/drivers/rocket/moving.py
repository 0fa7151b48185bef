"""Operations made of boxes (ir/moves.py): PAD, CONCATENATION, SPLIT, SLICE, SPACE_TO_DEPTH and relatives, as copies.

Each output is made in one of these ways, the first that applies:

    blocks   SPACE_TO_DEPTH: one convolution whose window is the block, with a single 1 per output channel
    copies   channels begin at multiples of 16 on both sides: DPU copies, behind a fill where a border is left
    padded   PAD of channels that does not: a 1x1 convolution moves channels and adds the border's value to the others;
             where it pads pixels too, a fill and a copy follow
    picks    only the source's channels do not: a 1x1 convolution picks them; through a map of our own when the target's
             pixels are spread (DEPTH_TO_SPACE)
    strided  everything else, in loops over pixels and channels (strided_plan.py). CONCATENATION of channels in between
             becomes copies into a map where each part begins a surface, then one picking convolution (the vendor's
             way, recipes §11)

Bytes are never changed, but by a CONCATENATION of uint8 tensors with different scales: its copies requantise.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from cermet.drivers.rocket.copy import Patch, patch_tasks, pick_geometry
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap, ceil_div, round_up
from cermet.drivers.rocket.limits import MAX_KERNEL_BYTES, MAX_NOTCH, MAX_SIDE, MAX_STRIDE
from cermet.drivers.rocket.nearest import in_two_steps
from cermet.drivers.rocket.regcmd import Address
from cermet.drivers.rocket.strided_pick import Pick
from cermet.drivers.rocket.strided_plan import StridedPlan, plan_strided
from cermet.drivers.rocket.views import MapShape, are_same_bytes, map_shape
from cermet.ir.merge_axes import with_few_axes
from cermet.ir.moves import Box, Layout, MoveError, Run, layout
from cermet.ir.operation import Kind, Operation, Pair
from cermet.ir.subgraph import Subgraph

MAX_PICK_BYTES = 1 << 20    # weights of a picking convolution

Shapes = Mapping[int, MapShape]
AS_THE_MODEL: Shapes = MappingProxyType({})


@dataclass(frozen=True)
class Placed:
    """A box in rows, columns and channels, and the maps' shapes in which it is meant."""

    box: Box
    patch: Patch
    source: MapShape
    target: MapShape

    @property
    def is_aligned(self) -> tuple[bool, bool]:
        """Whether source and target channels begin, and the target's end, where a surface or the tensor does."""
        channels = self.patch.channels
        ends = channels.count % ATOM_BYTES == 0 or channels.target + channels.count == self.target.channels
        return channels.source % ATOM_BYTES == 0, channels.target % ATOM_BYTES == 0 and ends


@dataclass(frozen=True)
class Made:
    """How one output is made."""

    tensor: int
    way: str
    parts: tuple[Placed, ...]
    fill: int | None
    strided: StridedPlan | None = None


def plan_moves(subgraph: Subgraph, operation: Operation, shapes: Shapes = AS_THE_MODEL, *,
               has_homes: bool = False) -> list[Made]:
    """One entry per output. Raises MoveError when the NPU cannot do it.

    shapes      maps of tensors, where they are not what the tensors' own shapes say
    has_homes   operands are read where RESHAPEs would read them, with other channels
    """
    if operation.kind is Kind.RESIZE_NEAREST and not has_homes and all(
            are_same_bytes(shape, map_shape(subgraph.tensor(t))) for t, shape in shapes.items()):
        return [_plan_nearest(subgraph, operation, shapes)]
    return _plan_all(subgraph, operation, shapes, has_homes=has_homes)


def _plan_nearest(subgraph: Subgraph, operation: Operation, shapes: Shapes) -> Made:
    """At once or in two steps, whichever takes fewer tasks. Raises MoveError."""
    ways, problem = [], MoveError("nothing is moved")
    for way in (lambda: _plan_all(subgraph, operation, shapes, has_homes=False)[0],
                lambda: Made(operation.output, "strided", (), None, in_two_steps(
                    subgraph, operation, shapes))):
        try:
            ways.append(way())
        except MoveError as error:
            problem = error
    if not ways:
        raise problem
    return min(ways, key=lambda made: num_tasks([made]))


def _plan_all(subgraph: Subgraph, operation: Operation, shapes: Shapes, *, has_homes: bool) -> list[Made]:
    boxes = layout(subgraph, operation)
    return [_plan(subgraph, operation, boxes, tensor, shapes, has_homes=has_homes) for tensor in operation.outputs]


def _plan(subgraph: Subgraph, operation: Operation, boxes: Layout, tensor: int, shapes: Shapes, *,
          has_homes: bool) -> Made:
    try:
        if has_homes or boxes.loops:
            return _plan_strided(subgraph, boxes, tensor, shapes)
        parts = tuple(placed(piece) for box in boxes.boxes if box.target == tensor for piece in with_few_axes(box, 2))
        for part in parts:
            _check_sizes(part)
            _check_channels(part)
            _check_layout(subgraph, part)
        return Made(tensor, _way(operation, parts, boxes.fill), parts, boxes.fill)
    except MoveError:
        if has_homes or boxes.loops or boxes.fill is not None:
            raise
        return _plan_strided(subgraph, boxes, tensor, shapes)


def _plan_strided(subgraph: Subgraph, boxes: Layout, tensor: int, shapes: Shapes) -> Made:
    def shape_of(number: int) -> MapShape:
        return shapes.get(number) or map_shape(subgraph.tensor(number))
    plan = plan_strided([box for box in boxes.flat if box.target == tensor], shape_of)
    return Made(tensor, "strided", (), None, plan)


def placed(box: Box) -> Placed:
    """A box of two dimensions and the channels."""
    return Placed(box, Patch(*box.runs), MapShape(*box.source_shape), MapShape(*box.target_shape))


def _check_sizes(part: Placed) -> None:
    rows = part.patch.rows
    for shape, step in ((part.source, rows.source_step), (part.target, rows.target_step)):
        if shape.width * step > MAX_NOTCH or shape.width > MAX_SIDE:
            raise MoveError(f"rows of {shape.width} pixels, {step} apart, must be at most {MAX_SIDE}")


def _check_channels(part: Placed) -> None:
    """Copies and picks take channels that follow each other; every k-th is a strided plan's work."""
    channels = part.patch.channels
    if channels.count > 1 and (channels.source_step, channels.target_step) != (1, 1):
        raise MoveError(f"channels {channels.source_step} apart go {channels.target_step} apart")


def _check_layout(subgraph: Subgraph, part: Placed) -> None:
    """UNPACK along the last axis would turn pixels into channels: an output of one dimension holds channels."""
    for number, shape in ((part.box.source, part.source), (part.box.target, part.target)):
        own = map_shape(subgraph.tensor(number))
        if (own.pixels, own.channels) != (shape.pixels, shape.channels):
            raise MoveError(f"turns {shape.pixels} pixels of {shape.channels} channels into {own.pixels} of "
                            f"{own.channels}, which would move every byte")


def _way(operation: Operation, parts: tuple[Placed, ...], filled: int | None) -> str:
    if operation.kind is Kind.SPACE_TO_DEPTH and _fits_blocks(parts[0]):
        return "blocks"
    if all(all(part.is_aligned) for part in parts):
        return "copies"
    if filled is not None:
        if len(parts) > 1:
            raise MoveError("pads channels of what falls into several boxes of pixels")
        _check_pick(parts[0].source.channels, parts[0].target.channels)
        return "padded"
    if all(part.is_aligned[1] for part in parts):
        _check_pick(parts[0].source.channels, sum(round_up(p.patch.channels.count, ATOM_BYTES) for p in parts))
        return "picks"
    raise MoveError("channels begin at no multiple of 16 in the output")


def _fits_blocks(part: Placed) -> bool:
    """Whether a convolution with the block as its window is small enough."""
    step, channels = part.patch.rows.source_step, part.source.channels
    kernel_bytes = step * step * round_up(channels, ATOM_BYTES)
    return step <= MAX_STRIDE and kernel_bytes <= MAX_KERNEL_BYTES and \
        kernel_bytes * part.target.channels <= MAX_PICK_BYTES


def _check_pick(inputs: int, outputs: int) -> None:
    if inputs * outputs > MAX_PICK_BYTES:
        raise MoveError(f"{outputs} channels picked of {inputs} would need {inputs * outputs} weights, at most "
                        f"{MAX_PICK_BYTES} are worth it")


def gathered_channels(parts: tuple[Placed, ...]) -> int:
    return sum(round_up(part.patch.channels.count, ATOM_BYTES) for part in parts)


def num_tasks(made: list[Made]) -> int:
    """Tasks of all outputs, without those that a convolution's tiling adds."""
    def copies(part: Placed) -> int:
        return len(patch_tasks(part.patch, _shaped(part.source), _shaped(part.target)))
    return sum(len(one.strided.tasks) if one.strided else (
        0 if one.way == "blocks" else sum(copies(part) for part in one.parts))
        + (one.fill is not None) + (one.way != "copies") for one in made)


def picking_geometries(made: Made) -> list[Geometry]:
    """The convolutions that move an output's channels."""
    if made.strided is not None:
        return [task.geometry for task in made.strided.tasks if isinstance(task, Pick)]
    return [] if made.way == "copies" else [_picking_geometry(made)]


def _picking_geometry(made: Made) -> Geometry:
    part = made.parts[0]
    source, rows, columns, channels = _shaped(part.source), part.patch.rows, part.patch.columns, part.patch.channels
    if made.way == "padded":
        return pick_geometry(source, Run(0, 0, source.height), Run(0, 0, source.width), part.target.channels,
                             Pair(1, 1))
    if made.way == "blocks":
        return pick_geometry(source, from_start(rows), from_start(columns), part.target.channels,
                             Pair(rows.source_step, columns.source_step))
    if is_picked_directly(made):
        return pick_geometry(source, rows, columns, channels.count, Pair(1, 1))
    return pick_geometry(source, Run(0, 0, source.height), Run(0, 0, source.width), gathered_channels(made.parts),
                         Pair(1, 1))


def from_start(run: Run) -> Run:
    return replace(run, source=0)


def is_picked_directly(made: Made) -> bool:
    """Straight into the output: one box of whole pixels."""
    rows, columns, channels = made.parts[0].patch.rows, made.parts[0].patch.columns, made.parts[0].patch.channels
    return (len(made.parts) == 1 and (rows.target_step, columns.target_step) == (1, 1)
            and max(rows.source_step, columns.source_step) <= MAX_STRIDE and channels.target == 0)


def _shaped(shape: MapShape) -> FeatureMap:
    """A feature map of no address."""
    return FeatureMap(Address(""), shape.height, shape.width, shape.channels, 0, 1.0,
                      ceil_div(shape.channels, ATOM_BYTES))
