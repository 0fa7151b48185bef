"""Operations on batches, and on long signals: which form on other maps they are made in.

A tensor of N images is one feature map, the images one below the other (views.py), so that what sees each pixel by
itself needs nothing here. Windows and broadcasts stay inside an image; what has them is made in one of two forms, the
first that keeps the operation's rules:

    tall        one image of N * H rows, when no window reaches from one image into the next
    by image    N times one image, on the rows that belong to it; constants are stored once

Images of one row may be wider than the registers count. Turned by a quarter the same bytes are a column, which is cut
into tasks:

    upright     rows and columns of all tensors, constants and the window change places
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap
from cermet.drivers.rocket.regcmd import Address, TaskProgram
from cermet.drivers.rocket.rules import MAX_IMAGES, Query, Rule, first_refusal
from cermet.drivers.rocket.view import copy_map
from cermet.drivers.rocket.views import MapShape, map_shape
from cermet.hw.soc import Soc
from cermet.ir.boxes import MoveError, numbers
from cermet.ir.numerics_unary import UNARY_KINDS
from cermet.ir.operation import Kind, Operation, Pair, Window
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import Tensor

BINARY = frozenset({Kind.ADD, Kind.SUB, Kind.MUL, Kind.MAXIMUM, Kind.MINIMUM})
# What computes each image of a batch alone when the first dimension of its input and of its outputs is the batch.
MOVES = frozenset({Kind.PAD, Kind.PADV2, Kind.MIRROR_PAD, Kind.CONCATENATION, Kind.SPLIT, Kind.SPLIT_V, Kind.UNPACK,
                   Kind.STRIDED_SLICE, Kind.SPACE_TO_DEPTH, Kind.DEPTH_TO_SPACE, Kind.RESIZE_NEAREST})
BY_IMAGE = BINARY | MOVES | {Kind.CONV, Kind.DEPTHWISE_CONV, Kind.TRANSPOSE_CONV, Kind.AVERAGE_POOL, Kind.MAX_POOL,
                             Kind.RESIZE_BILINEAR}
# What runs on a column as it does on a row.
TURNED = BINARY | UNARY_KINDS | {Kind.QUANTIZE, Kind.TABLE, Kind.PRELU, Kind.CONV, Kind.DEPTHWISE_CONV,
                                 Kind.AVERAGE_POOL, Kind.MAX_POOL}
# What may read a single pixel as one value per channel, whose surfaces follow each other: it gets a copy.
READS_VECTORS = BINARY | {Kind.RESIZE_BILINEAR}

Lower = Callable[[Context, Sequence[Operation]], list[TaskProgram]]


@dataclass(frozen=True)
class Form:
    """Operations that are made together, in tensors of one image; num_images: how often."""

    subgraph: Subgraph
    operations: tuple[Operation, ...]
    num_images: int


def batch_size(subgraph: Subgraph, operation: Operation) -> int:
    """Images of the operation's output; 1 when it has no such dimension."""
    shape = subgraph.tensor(operation.outputs[0]).shape if operation.outputs else ()
    return shape[0] if len(shape) > 1 else 1


def forms(subgraph: Subgraph, operations: Sequence[Operation]) -> Iterator[Form]:
    """The forms of an operation on a batch, or of one with another fused behind it, the cheapest first."""
    if batch_size(subgraph, operations[0]) < 2:
        found = [_upright(Form(subgraph, tuple(operations), 1))]
    else:
        found = [_tall(subgraph, operations), _by_image(subgraph, operations)]
        found.append(None if found[1] is None else _upright(found[1]))
    yield from (made for made in found if made is not None)


def has_forms(subgraph: Subgraph, operation: Operation) -> bool:
    """Whether there may be a form for it."""
    return (operation.kind in BY_IMAGE and batch_size(subgraph, operation) > 1) or operation.kind in TURNED


def lower_batch(context: Context, operations: Sequence[Operation], rules: tuple[Rule, ...],
                lower: Lower) -> list[TaskProgram]:
    """Tasks of an operation that runs here (and keeps the rules in some form), with what is fused behind it."""
    form = _choose_form(context.soc, context.subgraph, operations, rules)
    return lower(context, operations) if form is None else _lower_form(context, form, lower)


def _choose_form(soc: Soc, subgraph: Subgraph, operations: Sequence[Operation], rules: tuple[Rule, ...]) -> Form | None:
    """None when the lowering takes the tensors as they are."""
    first = operations[0]
    if not has_forms(subgraph, first) or first_refusal(rules, Query(soc, subgraph, first)) is None:
        return None
    for form in forms(subgraph, operations):
        if first_refusal(rules, Query(soc, form.subgraph, form.operations[0])) is None:
            return form
    if batch_size(subgraph, first) < 2:
        return None         # what is wrong will show
    raise CompileError(f"{first}: no form for its batch, a rule should have refused it")


# ---- forms ---------------------------------------------------------------------------------------------------------

def _activations(subgraph: Subgraph, operations: Sequence[Operation]) -> list[Tensor]:
    numbers = {t for op in operations for t in (*op.inputs, *op.outputs) if t is not None}
    return [tensor for t in sorted(numbers) if not (tensor := subgraph.tensor(t)).is_constant]


def _alone(subgraph: Subgraph, operations: Sequence[Operation], tensors: dict[int, Tensor]) -> Subgraph:
    """Nothing but the operations, with some tensors replaced."""
    part = replace(subgraph, operations=tuple(operations)).extract(operations)
    return replace(part, tensors={**part.tensors, **tensors})


def _tall(subgraph: Subgraph, operations: Sequence[Operation]) -> Form | None:
    """All images as one: the window of the first operation keeps inside them, the others see single pixels."""
    window = operations[0].window
    if window is None or operations[0].kind is Kind.TRANSPOSE_CONV:
        return None
    if any(len(t.shape) != 4 for t in _activations(subgraph, operations)):
        return None
    _, height, width, _ = subgraph.tensor(operations[0].inputs[0]).shape
    made = _window_inside_images(window, height, width)
    if made is None:
        return None
    tensors = {t.index: replace(t, shape=(1, t.shape[0] * t.shape[1], *t.shape[2:]))
               for t in _activations(subgraph, operations)}
    together = (replace(operations[0], window=made), *operations[1:])
    return Form(_alone(subgraph, together, tensors), together, 1)


def _window_inside_images(window: Window, height: int, width: int) -> Window | None:
    """The window over images one below the other; None when it would see rows of two of them."""
    if min(window.stride.y, window.stride.x) < 1 or any(window.pads(height, width)[:2]):
        return None
    if window.output_size(height, width).y == 1:    # the stride does nothing: let it lead to the next image
        window = replace(window, stride=Pair(height, window.stride.x))
    fits = window.extent.y <= window.stride.y and height % window.stride.y == 0
    return window if fits else None


def _by_image(subgraph: Subgraph, operations: Sequence[Operation]) -> Form | None:
    """One image of each activation that has as many as the first output."""
    count = batch_size(subgraph, operations[0])
    if not 1 < count <= MAX_IMAGES or any(op.kind not in BY_IMAGE for op in operations[:1]):
        return None
    if any(_has_images(subgraph, op) for op in operations):
        return None
    tensors = {}
    for tensor in _activations(subgraph, operations):
        has_batch = len(tensor.shape) > 1 and not any(_lacks_dimensions(subgraph, op, tensor) for op in operations)
        if has_batch and tensor.shape[0] == count:
            tensors[tensor.index] = replace(tensor, shape=(1, *tensor.shape[1:]))
        elif any(tensor.index in (op.inputs[0], *op.outputs) for op in operations if op.kind not in BINARY):
            return None
    return Form(_alone(subgraph, operations, tensors), tuple(operations), count)


def _upright(form: Form) -> Form | None:
    """Columns in place of rows, for images of one row."""
    if any(operation.kind not in TURNED for operation in form.operations):
        return None
    if any(len(t.shape) != 4 or t.shape[:2] != (1, 1) for t in _activations(form.subgraph, form.operations)):
        return None
    numbers_used = {t for op in form.operations for t in (*op.inputs, *op.outputs) if t is not None}
    turned = {t: _turned(form.subgraph.tensor(t)) for t in numbers_used}
    together = tuple(replace(op, window=_turned_window(op.window)) for op in form.operations)
    return replace(form, subgraph=_alone(form.subgraph, together, turned), operations=together)


def _turned(tensor: Tensor) -> Tensor:
    """Height and width change places, in windows of weights too."""
    if not 1 < len(tensor.shape) <= 4:
        return tensor
    n, height, width, channels = (1,) * (4 - len(tensor.shape)) + tensor.shape
    data = tensor.data
    if data is not None:
        data = np.ascontiguousarray(data.reshape(n, height, width, channels).transpose(0, 2, 1, 3))
    return replace(tensor, shape=(n, width, height, channels), data=data)


def _turned_window(window: Window | None) -> Window | None:
    if window is None:
        return None
    top, bottom, left, right = window.border
    kernel, stride, dilation = (Pair(p.x, p.y) for p in (window.kernel, window.stride, window.dilation))
    return Window(kernel, stride, window.padding, dilation, (left, right, top, bottom))


def _lacks_dimensions(subgraph: Subgraph, operation: Operation, tensor: Tensor) -> bool:
    """Whether it is an operand that is broadcast: its first dimension is not the output's, whatever its size."""
    return operation.kind in BINARY and tensor.index in operation.inputs and (
        len(tensor.shape) < len(subgraph.tensor(operation.output).shape))


def _has_images(subgraph: Subgraph, operation: Operation) -> bool:
    """Whether a constant operand differs between images, or their order changes."""
    if operation.kind is Kind.STRIDED_SLICE:
        return _reverses_images(subgraph, operation)
    if operation.kind not in BINARY:
        return False
    rank = len(subgraph.tensor(operation.output).shape)
    constants = [t for i in operation.inputs if i is not None and (t := subgraph.tensor(i)).is_constant]
    return any(len(t.shape) == rank and t.shape[0] > 1 for t in constants)


def _reverses_images(subgraph: Subgraph, operation: Operation) -> bool:
    """Whether a STRIDED_SLICE has, or may have, a step below 0 along the batch."""
    try:
        return min(numbers(subgraph, operation, 3)[:1], default=-1) < 0
    except MoveError:
        return True


# ---- lowering ------------------------------------------------------------------------------------------------------

def _lower_form(context: Context, form: Form, lower: Lower) -> list[TaskProgram]:
    """Tasks of all images; `lower` makes those of one."""
    tasks: list[TaskProgram] = []
    for image in range(form.num_images):
        seen = ImageContext(context, form, image)
        made = seen.with_copies(lower(seen, form.operations))
        name = f", image {image}" if form.num_images > 1 else ""
        tasks += [replace(task, layer=task.layer + name) for task in made]
    return tasks


class ImageContext(Context):
    """A context in which activations are one image of those of another context; buffers are shared."""

    def __init__(self, whole: Context, form: Form, image: int) -> None:
        super().__init__(whole.soc, form.subgraph, whole.options)
        self.views, self.fused_unaries, self.parts = whole.views, whole.fused_unaries, whole.parts
        self.buffers, self._constants, self.sharing = whole.buffers, whole._constants, whole.sharing
        self._whole, self._form, self._image = whole, form, image
        self._copies: dict[int, FeatureMap] = {}

    def feature_map(self, tensor: int) -> FeatureMap:
        """The rows of the image, or a copy of them where surfaces must follow each other."""
        if tensor in self._copies:
            return self._copies[tensor]
        rows = self._rows(tensor)
        kind = self._form.operations[0].kind
        is_vector = kind in READS_VECTORS and rows.num_pixels == 1
        if rows.is_dense or not is_vector:
            return rows
        self._copies[tensor] = self.scratch_map(f"tensor {tensor}", rows)
        return self._copies[tensor]

    def _rows(self, tensor: int) -> FeatureMap:
        whole, shape = self._whole.feature_map(tensor), map_shape(self.tensor(tensor))
        if self.tensor(tensor).shape == self._whole.tensor(tensor).shape:
            return whole
        if (shape.pixels * self._form.num_images, shape.channels) != (whole.num_pixels, whole.channels):
            raise CompileError(f"tensor {tensor}: its map of {whole.height}x{whole.width}x{whole.channels} is not "
                               f"{self._form.num_images} images of {shape}")
        return replace(whole, address=whole.address + self._image * shape.pixels * ATOM_BYTES, height=shape.height,
                       width=shape.width, pitch=whole.surface_atoms)

    def with_copies(self, tasks: list[TaskProgram]) -> list[TaskProgram]:
        """The tasks between copies into and out of the maps that were made for them."""
        first, last = self._form.operations[0], self._form.operations[-1]
        before, behind = [], []
        for tensor, own in self._copies.items():
            if tensor in last.outputs:
                behind += copy_map(self, last, own, self._rows(tensor))
            else:
                before += copy_map(self, first, self._rows(tensor), own)
        return [*before, *tasks, *behind]

    def scratch_map(self, name: str, like: FeatureMap, shape: MapShape | None = None) -> FeatureMap:
        return super().scratch_map(f"{name} of {self._form.operations[0]}", like, shape)

    def new_buffer(self, name: str, size_bytes: int, role: str = "arena") -> Address:
        """Each image has its own."""
        prefix = f"image {self._image}: " if self._form.num_images > 1 else ""
        return super().new_buffer(prefix + name, size_bytes, role)
