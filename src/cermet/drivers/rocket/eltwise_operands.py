"""The two operands of ADD and its relatives: which of them the DPU reads how.

MRDMA delivers the main operand, a feature map as large as the output. ERDMA delivers the other one, a feature map too
or one value per channel (recipes §6.1). Constants are laid out as either. A computed operand that is broadcast
otherwise is written out first: along channels a 1x1 convolution with all weights 1 copies its one channel into the
others, along rows or columns the tasks of BROADCAST_TO repeat its pixels.
"""
from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from cermet.drivers.rocket.context import Context, stored_bytes
from cermet.drivers.rocket.copy import pick, selection
from cermet.drivers.rocket.flying import View, copy_stages
from cermet.drivers.rocket.layout import FeatureMap
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.strided_lower import lower_strided
from cermet.drivers.rocket.strided_plan import StridedPlan, plan_strided
from cermet.drivers.rocket.views import MapShape, map_shape
from cermet.ir.flat import FlatBox, broadcast_loops
from cermet.ir.moves import Run
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import Tensor


class Form(enum.Enum):
    """How an operand relates to the output."""

    MAP = "as large as the output"
    VECTOR = "one value per channel"
    CONSTANT_MAP = "constant that differs between pixels"
    CONSTANT_VECTOR = "constant with one value per channel"
    SPREAD_MAP = "one value per pixel"
    SPREAD_VECTOR = "one value"
    REPEATED = "broadcast along rows, columns or images, not along all of them"

    @property
    def is_constant(self) -> bool:
        return self in (Form.CONSTANT_MAP, Form.CONSTANT_VECTOR)

    @property
    def is_vector(self) -> bool:
        return self in (Form.VECTOR, Form.CONSTANT_VECTOR, Form.SPREAD_VECTOR)

    @property
    def is_spread(self) -> bool:
        """Broadcast along channels, and along all pixels or none."""
        return self in (Form.SPREAD_MAP, Form.SPREAD_VECTOR)

    @property
    def is_written_out(self) -> bool:
        """Read from a map of our own."""
        return self.is_spread or self is Form.REPEATED


@dataclass(frozen=True)
class Roles:
    """Positions of the operands among the operation's inputs. free: the two may change their roles."""

    main: int
    forms: tuple[Form, Form]
    free: bool = False

    @property
    def other(self) -> int:
        return 1 - self.main

    @property
    def has_constant_vector(self) -> bool:
        """A feature map with a constant: an affine function of each channel."""
        return set(self.forms) == {Form.MAP, Form.CONSTANT_VECTOR}


def roles_of(subgraph: Subgraph, operation: Operation) -> Roles | None:
    """None when the DPU cannot deliver both operands."""
    first, second = (form_of(subgraph, operation, i) for i in (0, 1))
    forms = first, second
    if first.is_constant and second.is_constant:
        return None
    if first.is_vector and second.is_vector:        # one of them is a constant that is written out as a map
        return Roles(0 if first.is_constant else 1, forms) if first.is_constant or second.is_constant else None
    if first.is_vector or second.is_vector:
        return Roles(1 if first.is_vector else 0, forms)
    return Roles(0, forms, free=True)


def form_of(subgraph: Subgraph, operation: Operation, position: int) -> Form:
    """The form of an operand; shapes broadcast to the output's."""
    operand, output = subgraph.tensor(operation.inputs[position]), subgraph.tensor(operation.output)
    channels = output.shape[-1] if output.shape else 1
    if operand.data is not None:
        rows = _rows(operand)
        return Form.CONSTANT_VECTOR if (rows == rows[0]).all() else Form.CONSTANT_MAP
    if operand.num_elements == output.num_elements:
        return Form.MAP
    last = operand.shape[-1] if operand.shape else 1
    if operand.num_elements == channels == last:
        return Form.VECTOR
    if last == 1 and operand.num_elements * channels == output.num_elements:
        return Form.SPREAD_MAP
    return Form.SPREAD_VECTOR if operand.num_elements == 1 else Form.REPEATED


def channel_values(operand: Tensor, output: Tensor) -> np.ndarray:
    """The constant of each of the output's channels; its form is CONSTANT_VECTOR."""
    return np.broadcast_to(_rows(operand)[0], output.shape[-1:] or (1,))


def _rows(operand: Tensor) -> np.ndarray:
    """A constant's values: [its pixels][its channels, or 1]."""
    assert operand.data is not None
    return operand.data.reshape(-1, operand.shape[-1] if operand.shape else 1)


def repetition(operand: Tensor, output: Tensor) -> StridedPlan:
    """What writes an operand out in the output's shape, from tensor 0 to tensor 1. Raises MoveError."""
    shapes = {0: map_shape(operand), 1: map_shape(output)}
    return plan_strided([FlatBox(0, 1, 0, 0, broadcast_loops(operand.shape, output.shape))], lambda t: shapes[t])


def written_out(context: Context, operation: Operation, position: int,
                form: Form) -> tuple[list[TaskProgram], FeatureMap]:
    """The tasks that write an operand out, and where they write."""
    return (spread if form.is_spread else _repeat)(context, operation, position)


def _repeat(context: Context, operation: Operation, position: int) -> tuple[list[TaskProgram], FeatureMap]:
    """An operand as large as the output."""
    number, output = operation.inputs[position], context.tensor(operation.output)
    source = context.feature_map(number)        # type: ignore[arg-type]
    target = context.scratch_map(f"operand {position} of {operation}", source, map_shape(output))
    tasks = lower_strided(context, operation, repetition(context.tensor(number), output), lambda t: (source, target)[t],
                          lambda t: copy_stages(), f"operand {position}, repeated")
    return tasks, target


def spread(context: Context, operation: Operation, position: int) -> tuple[list[TaskProgram], FeatureMap]:
    """An operand of one channel in as many as the output has: the tasks, and where they write."""
    source = context.feature_map(operation.inputs[position])        # type: ignore[arg-type]
    channels = context.feature_map(operation.output).channels
    target = context.scratch_map(f"operand {position} of {operation}", source,
                                 MapShape(source.height, source.width, channels))
    return pick(context, operation, source, target, Run(0, 0, source.height), Run(0, 0, source.width),
                selection([0] * channels, 1), f"operand {position} in all channels"), target


def view_of(context: Context, operation: Operation, position: int, output: FeatureMap, *, as_vector: bool,
            written: FeatureMap | None = None) -> View:
    """Where an operand lies. A vector: 16 channels per atom, one atom per surface. written: where spread() put it."""
    tensor = context.tensor(operation.inputs[position])
    if written is None and tensor.data is None:
        written = context.feature_map(tensor.index)
    if written is not None:
        return View(written.address, written.surface_atoms, 1 if as_vector else output.width)
    address = context.constant(f"operand {tensor.index} of {operation}",
                               _constant_bytes(tensor, context.tensor(operation.output), as_vector=as_vector))
    return View(address, 1, 1) if as_vector else View(address, output.num_pixels, output.width)


def _constant_bytes(operand: Tensor, output: Tensor, *, as_vector: bool) -> bytes:
    """A constant in the NPU's layout, signed, channels behind the last one 0."""
    assert operand.data is not None
    if as_vector:
        pixels = channel_values(operand, output)[None, :]
    else:
        pixels = np.broadcast_to(operand.data, output.shape).reshape(-1, output.shape[-1] if output.shape else 1)
    return stored_bytes(pixels, operand.dtype)
