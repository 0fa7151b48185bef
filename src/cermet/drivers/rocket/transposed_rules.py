"""Support rules of TRANSPOSE_CONV."""
from __future__ import annotations

from cermet.drivers.rocket.rules import IMAGE_RULES, Query, Rule
from cermet.drivers.rocket.rules_conv import CONSTANT_RULES, WEIGHT_RULES, kernel_fits, numbers_fit
from cermet.drivers.rocket.transposed import native_geometry, phases_problem, transposition_of

MAX_SPREAD = 8              # DECONV_X_STRIDE and DECONV_Y_STRIDE hold one less in 3 bits


def transposed_shapes_agree(query: Query) -> str | None:
    """Weights have the input's and the output's channels, and the window is known."""
    weights = query.subgraph.tensor(query.operation.inputs[1]).shape
    source, output = query.data.shape, query.output.shape
    if query.operation.window is None or len(query.operation.inputs) != 4:
        return "has no window, or not the operands of a transposed convolution"
    if weights[3] != source[3] or output[3] != weights[0]:
        return f"weights have shape {list(weights)}, must lead from {source[3]} to {output[3]} channels"
    return None


def transposed_stride_fits(query: Query) -> str | None:
    """Strides of a transposed convolution are 1..8."""
    assert query.operation.window is not None
    stride = query.operation.window.stride
    fits = 1 <= min(stride.y, stride.x) and max(stride.y, stride.x) <= MAX_SPREAD
    return None if fits else f"stride is {stride.y}x{stride.x}, must be 1..{MAX_SPREAD}"


def transposed_way_exists(query: Query) -> str | None:
    """The transposed mode takes it (strides 1, 2, 4, 8; the input fits the CBUF), or a convolution and 64 copies do."""
    shapes = transposition_of(query.subgraph, query.operation)
    return None if native_geometry(query.soc, shapes) is not None else phases_problem(query.soc, shapes)


TRANSPOSE_CONV_RULES: tuple[Rule, ...] = (
    *CONSTANT_RULES, *IMAGE_RULES, *WEIGHT_RULES, transposed_shapes_agree, kernel_fits,
    transposed_stride_fits, transposed_way_exists, numbers_fit)
