"""Support rules of FULLY_CONNECTED, and of BATCH_MATMUL by a constant matrix."""
from __future__ import annotations

from cermet.drivers.base import CompileError
from cermet.drivers.rocket import conv_query as ask
from cermet.drivers.rocket.flattening import flatten, vectors_per_task
from cermet.drivers.rocket.fully_connected import matrix_shape
from cermet.drivers.rocket.limits import MAX_KERNEL_BYTES
from cermet.drivers.rocket.rules import ACTIVATION_RULES, Query, Rule
from cermet.drivers.rocket.rules_conv import CONSTANT_RULES, WEIGHT_RULES, numbers_fit
from cermet.drivers.rocket.views import MapShape, Views, map_shape, window_over
from cermet.ir.tensor import DType

MAX_VECTORS = 1 << 20       # ours: more than any tensor that fits in memory beside its weights


def weights_are_not_shuffled(query: Query) -> str | None:
    """Weights are stored in the default format."""
    return None if query.operation.weights_format == 0 else "weights are in the shuffled format"


def flattening_is_possible(query: Query) -> str | None:
    """Weights are [outputs, inputs], and inputs are the channels of the map or all of it."""
    return None if flatten(_shape(query), _depth(query)) is not None else (
        f"{_depth(query)} weights per output do not divide the input of {list(query.data.shape)}")


def rows_agree(query: Query) -> str | None:
    """The output holds one row per row of the input."""
    output, (outputs, inputs) = query.output, matrix_shape(query.operation, ask.weights_tensor(query))
    rows = query.data.num_elements // inputs
    if output.num_elements != rows * outputs or output.shape[-1] != outputs:
        return f"output has shape {list(output.shape)}, must have {rows} rows of {outputs}"
    return None if rows <= MAX_VECTORS else f"has {rows} rows, at most {MAX_VECTORS} are possible"


def inputs_fit_the_cbuf(query: Query) -> str | None:
    """The inputs of one output fit the convolution buffer (some 190000)."""
    return _inputs_problem(query, _shape(query))


def flattened_input_fits(query: Query) -> str | None:
    """The input also fits as one pixel per row, for when the flattening before it stays on the CPU."""
    shape = map_shape(query.data)
    return None if shape == _shape(query) else _inputs_problem(query, shape)


def _inputs_problem(query: Query, shape: MapShape) -> str | None:
    flat, outputs = flatten(shape, _depth(query)), ask.output_channels(query)
    if flat is None:
        return f"{_depth(query)} weights per output do not fit a map of {shape.height}x{shape.width}x{shape.channels}"
    size = flat.geometry(outputs).kernel_bytes
    if size > MAX_KERNEL_BYTES:
        return f"one output has {size} bytes of weights, at most {MAX_KERNEL_BYTES} are possible"
    return None if vectors_per_task(query.soc, flat, outputs) else (
        f"{_depth(query)} inputs do not fit the convolution buffer of "
        f"{query.soc.cbuf.banks * query.soc.cbuf.bank_bytes // 1024} KiB beside weights")


def _depth(query: Query) -> int:
    return matrix_shape(query.operation, ask.weights_tensor(query))[1]


def _shape(query: Query) -> MapShape:
    """The map that is read: with views seen through, as far as they agree."""
    tensor = query.operation.inputs[0]
    assert tensor is not None
    try:
        shape = Views.of(query.subgraph).shape(query.subgraph, tensor)
    except CompileError:
        shape = map_shape(query.data)
    return shape if window_over(shape, _depth(query)) else map_shape(query.data)


def matrix_is_constant(query: Query) -> str | None:
    """The second operand is a constant int8 matrix with one scale, the same for the whole batch.

    The weights of a convolution come in an order of their own (data layouts §7), and the bias has to make up for the
    input's zero point times their sum: both would have to be computed at run time.
    """
    operation = query.operation
    if len(operation.inputs) != 2 or operation.inputs[1] is None:
        return "has not two operands"
    weights = query.subgraph.tensor(operation.inputs[1])
    if not weights.is_constant:
        return "both operands are computed at run time: the NPU multiplies by matrices that it finds in its own order"
    if weights.dtype is not DType.INT8 or weights.quantisation is None or weights.quantisation.is_per_channel:
        return f"the second operand is {weights.dtype.value}, must be int8 with one scale"
    if len(weights.shape) < 2 or min(weights.shape) < 1 or any(n != 1 for n in weights.shape[:-2]):
        return f"the second operand has shape {list(weights.shape)}, must be one matrix"
    return None


def rows_are_multiplied(query: Query) -> str | None:
    """The rows of the first operand are multiplied, not its columns, by as many numbers as they have."""
    if query.operation.adjoint[0]:
        return "multiplies the columns of the first operand, which would move every byte"
    source = query.data.shape
    return None if len(source) > 1 and source[-1] == _depth(query) else (
        f"rows of {list(source)} must have {_depth(query)} elements")


FULLY_CONNECTED_RULES: tuple[Rule, ...] = (
    *CONSTANT_RULES, *ACTIVATION_RULES, *WEIGHT_RULES, weights_are_not_shuffled, flattening_is_possible, rows_agree,
    inputs_fit_the_cbuf, numbers_fit, flattened_input_fits)
BATCH_MATMUL_RULES: tuple[Rule, ...] = (
    matrix_is_constant, *ACTIVATION_RULES, *WEIGHT_RULES, rows_are_multiplied, rows_agree, inputs_fit_the_cbuf,
    numbers_fit)
