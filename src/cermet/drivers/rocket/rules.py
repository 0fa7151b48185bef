"""Support rules: why an operation stays on the CPU.

One small function per constraint. The first line of its docstring is the public rule, its name the stable name for
tools; it returns the reason, or None when the constraint holds. A rule may rely on those before it in the table.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cermet.drivers.rocket.limits import MAX_SIDE
from cermet.hw.soc import Soc
from cermet.ir.operation import Activation, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

# Each image takes a task or more, at 27-41 us each (hw-verified). Where the CPU is faster is ASSUMED.
MAX_IMAGES = 64
QUANTISED = (DType.INT8, DType.UINT8)


@dataclass(frozen=True)
class Query:
    """One operation in its graph, asked about for one SoC."""

    soc: Soc
    subgraph: Subgraph
    operation: Operation

    @property
    def data(self) -> Tensor:
        return self.subgraph.tensor(self.operation.inputs[0])

    @property
    def output(self) -> Tensor:
        return self.subgraph.tensor(self.operation.output)

    @property
    def activations(self) -> list[Tensor]:
        """Inputs that are not constant, and outputs."""
        inputs = [self.subgraph.tensor(t) for t in self.operation.inputs if t is not None]
        return [t for t in inputs if not t.is_constant] + [self.subgraph.tensor(t) for t in self.operation.outputs]


Rule = Callable[[Query], str | None]


def has_data_and_one_output(query: Query) -> str | None:
    """There is a first input and exactly one output."""
    if not query.operation.inputs or query.operation.inputs[0] is None:
        return "has no input"
    return None if len(query.operation.outputs) == 1 else f"has {len(query.operation.outputs)} outputs, must have 1"


def activations_are_8_bit(query: Query) -> str | None:
    """Activations are int8 or uint8."""
    for tensor in query.activations:
        if tensor.dtype not in QUANTISED:
            return f"tensor {tensor.index} is {tensor.dtype.value}, must be int8 or uint8"
    return None


def activations_have_one_type(query: Query) -> str | None:
    """Inputs and outputs are all int8 or all uint8."""
    types = sorted({tensor.dtype.value for tensor in query.activations})
    return None if len(types) == 1 else f"activations are {' and '.join(types)}, must be of one type"


def activations_are_quantised_per_tensor(query: Query) -> str | None:
    """Activations have one scale above 0 and one zero point inside their type's range."""
    for tensor in query.activations:
        quantisation = tensor.quantisation
        if quantisation is None:
            return f"tensor {tensor.index} has no quantisation"
        if len(quantisation.scales) != 1 or len(quantisation.zero_points) != 1:
            return f"tensor {tensor.index} is quantised per channel, activations must be per tensor"
        lowest, highest = (0, 255) if tensor.dtype is DType.UINT8 else (-128, 127)
        if not lowest <= quantisation.zero_point <= highest:
            return f"tensor {tensor.index}: zero point {quantisation.zero_point} must be {lowest}..{highest}"
        if not 1e-30 < quantisation.scale < 1e30:
            return f"tensor {tensor.index}: scale {quantisation.scale:.4g} must be above 1e-30 and below 1e30"
    return None


def shapes_are_known(query: Query) -> str | None:
    """All shapes are known before the run, and no dimension is 0."""
    for tensor in query.activations:
        if any(d < 1 for d in tensor.shape):
            return f"tensor {tensor.index} has shape {list(tensor.shape)}, must be known and not empty"
    return None


def activations_are_not_variables(query: Query) -> str | None:
    """No activation is a variable tensor that keeps its value between invocations."""
    for tensor in query.activations:
        if tensor.is_variable:
            return f"tensor {tensor.index} is a variable, which the NPU cannot keep"
    return None


def data_is_not_constant(query: Query) -> str | None:
    """The first input is computed, not a constant."""
    return "its input is a constant" if query.data.is_constant else None


def batch_is_one(query: Query) -> str | None:
    """The batch of four-dimensional activations is 1, or up to 64 images that are computed one by one.

    batching.py asks the rules about an operation on one image, which keeps this one.
    """
    for tensor in query.activations:
        if len(tensor.shape) == 4 and tensor.shape[0] != 1:
            return f"batch is {tensor.shape[0]}, must be 1..{MAX_IMAGES} images that are computed one by one"
    return None


def activations_have_four_dimensions(query: Query) -> str | None:
    """Activations have four dimensions: batch, height, width, channels."""
    for tensor in query.activations:
        if len(tensor.shape) != 4:
            return f"tensor {tensor.index} has {len(tensor.shape)} dimensions, must have 4"
    return None


def sides_fit(query: Query) -> str | None:
    """Width and height are at most 2047."""
    for tensor in query.activations:
        for side, name in zip(tensor.shape[-3:-1], ("height", "width"), strict=False):
            if side > MAX_SIDE:
                return f"tensor {tensor.index}: {name} {side} must be 1..{MAX_SIDE}"
    return None


def width_fits(query: Query) -> str | None:
    """Width is at most 2047, but for images of one row, which are turned into columns."""
    for tensor in query.activations:
        if tensor.shape[-2] > MAX_SIDE:
            return f"tensor {tensor.index}: width {tensor.shape[-2]} must be 1..{MAX_SIDE} where there are several rows"
    return None


def activation_is_known(query: Query) -> str | None:
    """The fused activation is none, RELU, RELU_N1_TO_1 or RELU6."""
    return "the fused activation is neither RELU, RELU_N1_TO_1 nor RELU6" \
        if query.operation.activation is Activation.OTHER else None


ACTIVATION_RULES: tuple[Rule, ...] = (
    has_data_and_one_output, activations_are_8_bit, activations_have_one_type, activations_are_quantised_per_tensor,
    shapes_are_known, activations_are_not_variables, data_is_not_constant, activation_is_known)
IMAGE_RULES: tuple[Rule, ...] = (*ACTIVATION_RULES, activations_have_four_dimensions, batch_is_one, sides_fit)
# Of what is cut into bands of rows, however many there are.
BANDED_RULES: tuple[Rule, ...] = (*IMAGE_RULES[:-1], width_fits)


def first_refusal(rules: tuple[Rule, ...], query: Query) -> tuple[str, str] | None:
    """(rule name, reason) of the first rule that is not kept."""
    for rule in rules:
        reason = rule(query)
        if reason is not None:
            return rule.__name__, reason
    return None
