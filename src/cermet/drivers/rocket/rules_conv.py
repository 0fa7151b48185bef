"""Support rules of CONV_2D and DEPTHWISE_CONV_2D, some of them of all operations with weights. Limits: recipes §1.8."""
from __future__ import annotations

from cermet.drivers.rocket import conv_query as ask
from cermet.drivers.rocket.conv import RangeError, bias_values, layer_requantisation, make_layer
from cermet.drivers.rocket.geometry import MAX_FIRST_ROWS, with_large_pads_in_memory
from cermet.drivers.rocket.large_strides import block_geometry, in_blocks
from cermet.drivers.rocket.layout import MAX_CUBE
from cermet.drivers.rocket.limits import MAX_INPUT_CHANNELS, MAX_KERNEL, MAX_KERNEL_BYTES, MAX_SIDE, MAX_STRIDE
from cermet.drivers.rocket.requantise import ScaleError
from cermet.drivers.rocket.rules import BANDED_RULES, QUANTISED, Query, Rule
from cermet.drivers.rocket.tiling import fits
from cermet.ir.operation import Kind
from cermet.ir.tensor import DType, Quantisation, Tensor

MAX_PICK_BYTES = 1 << 20    # ours: weights that only move elements
MAX_DILATION = 32           # 5 bits hold d - 1, trm; 2 hw-verified, 4 replayed
MAX_PIXELS = (1 << 22) - 1  # output pixels of one task: 22 bits, trm
MAX_SPREAD_BYTES = 8 << 20  # ours: a depthwise convolution as a direct one stores mostly zero points


def weights_are_constant(query: Query) -> str | None:
    """Weights are a constant, 8-bit, quantised tensor of the operation's rank."""
    inputs = query.operation.inputs
    if len(inputs) < 2 or inputs[1] is None:
        return "has no weights"
    weights = query.subgraph.tensor(inputs[1])
    if not weights.is_constant:
        return "its weights are computed at run time, must be constant"
    if weights.dtype not in QUANTISED:
        return f"weights are {weights.dtype.value}, must be int8 or uint8"
    rank = 2 if query.operation.kind is Kind.FULLY_CONNECTED else 4
    if len(weights.shape) != rank or any(d < 1 for d in weights.shape):
        return f"weights have shape {list(weights.shape)}, must have {rank} dimensions"
    return None if weights.quantisation else "weights have no quantisation"


def weights_match_activations(query: Query) -> str | None:
    """Weights have the type of the activations."""
    weights = ask.weights_tensor(query)
    return None if weights.dtype is query.data.dtype else \
        f"weights are {weights.dtype.value}, activations {query.data.dtype.value}: must be of one type"


def weight_quantisation_fits(query: Query) -> str | None:
    """Weights are quantised per tensor or per output channel: scales above 0, zero points inside their type.

    Zero points of int8 weights are 0, but for FULLY_CONNECTED and BATCH_MATMUL with one scale.
    """
    weights = ask.weights_tensor(query)
    quantisation = weights.quantisation
    assert quantisation is not None
    axis = 3 if query.operation.kind is Kind.DEPTHWISE_CONV else 0
    count = len(quantisation.scales)
    if count not in (1, weights.shape[axis]) or (count > 1 and quantisation.axis != axis):
        return (f"weights have {count} scales along axis {quantisation.axis}, "
                f"must have 1 or {weights.shape[axis]} along {axis}")
    if len(quantisation.zero_points) not in (1, count):
        return f"weights have {len(quantisation.zero_points)} zero points for {count} scales"
    if not all(1e-30 < s < 1e30 for s in quantisation.scales):
        return "a weight scale is not above 1e-30 and below 1e30"
    lowest, highest = (0, 255) if weights.dtype is DType.UINT8 else (-128, 127)
    if not all(lowest <= z <= highest for z in quantisation.zero_points):
        return f"a weight zero point is outside {lowest}..{highest}"
    return _ignored_zero_point(query, weights, quantisation)


def _ignored_zero_point(query: Query, weights: Tensor, quantisation: Quantisation) -> str | None:
    """TFLite's int8 kernels subtract no zero point from weights; matrices with one scale are the exception."""
    is_matrix = query.operation.kind in (Kind.FULLY_CONNECTED, Kind.BATCH_MATMUL)
    is_subtracted = is_matrix and len(quantisation.scales) == 1
    if weights.dtype is not DType.INT8 or is_subtracted:
        return None
    ignored = [z for z in quantisation.zero_points if z != 0]
    return f"int8 weights have zero point {ignored[0]}, which TFLite ignores: must be 0" if ignored else None


def bias_fits(query: Query) -> str | None:
    """The bias is absent, or a constant int32 per output channel."""
    if len(query.operation.inputs) < 3 or query.operation.inputs[2] is None:
        return None
    bias = query.subgraph.tensor(query.operation.inputs[2])
    if not bias.is_constant:
        return "its bias is computed at run time, must be constant"
    if bias.dtype is not DType.INT32:
        return f"bias is {bias.dtype.value}, must be int32"
    channels = ask.output_channels(query)
    return None if bias.num_elements == channels else f"bias has {bias.num_elements} values, must have {channels}"


def shapes_agree(query: Query) -> str | None:
    """Input, weights, window and output have shapes that belong together."""
    source, weights, output = query.data.shape, ask.weights_tensor(query).shape, query.output.shape
    window = query.operation.window
    if window is None:
        return "has no window"
    if min(window.stride.y, window.stride.x, window.dilation.y, window.dilation.x) < 1:
        return "stride and dilation must be at least 1"
    if query.operation.kind is Kind.DEPTHWISE_CONV:
        if weights[0] != 1 or weights[3] % source[3]:
            return f"weights have shape {list(weights)}, must be 1 x height x width x a multiple of {source[3]}"
    elif source[3] % weights[3] or weights[0] % (source[3] // weights[3]):
        return (f"weights are {weights[0]} kernels of {weights[3]} channels, which cannot share out the input's "
                f"{source[3]} channels in groups")
    size = window.output_size(source[1], source[2])
    expected = (size.y, size.x, ask.output_channels(query))
    return None if output[1:] == expected else f"output is {list(output[1:])}, must be {list(expected)}"


def kernel_fits(query: Query) -> str | None:
    """Kernel height and width are 1..31."""
    kernel = ask.window(query).kernel
    fits = max(kernel.y, kernel.x) <= MAX_KERNEL
    return None if fits else f"kernel is {kernel.y}x{kernel.x}, must be 1..{MAX_KERNEL}"


def stride_fits(query: Query) -> str | None:
    """Strides are 1..7; of a plain CONV_2D also products of two such numbers, by way of blocks of pixels."""
    stride = ask.window(query).stride
    fits = max(stride.y, stride.x) <= MAX_STRIDE
    return None if fits else f"stride is {stride.y}x{stride.x}, must be 1..{MAX_STRIDE}, or a product of two such " \
                             "numbers without groups and dilation"


def blocks_of_pixels_fit(query: Query) -> str | None:
    """With a stride above 7 the convolution that makes blocks has at most 1 MiB of weights, and rows that fit."""
    made = in_blocks(query.subgraph, query.operation)
    if made is None:
        return None
    _, height, width, channels = query.data.shape
    geometry = block_geometry(made, height, width, channels)
    if geometry.weight_bytes > MAX_PICK_BYTES:
        return f"blocks of {made.block.y}x{made.block.x} pixels for its stride need {geometry.weight_bytes} weights, " \
               f"at most {MAX_PICK_BYTES} are worth it"
    return None if fits(query.soc, geometry) else \
        f"rows of {width} pixels, {channels} channels, do not fit the convolution buffer where blocks are made of them"


def dilation_fits(query: Query) -> str | None:
    """Dilations are 1..32."""
    dilation = ask.window(query).dilation
    return None if max(dilation.y, dilation.x) <= MAX_DILATION else \
        f"dilation is {dilation.y}x{dilation.x}, must be 1..{MAX_DILATION}"


def padded_map_fits(query: Query) -> str | None:
    """With more than 15 pixels of padding above or on the left, laid out in memory, it is at most 8192 by 2047."""
    geometry = with_large_pads_in_memory(ask.geometry(query))
    if geometry == ask.geometry(query) or (geometry.input_height <= MAX_CUBE and geometry.input_width <= MAX_SIDE):
        return None
    return f"with its padding the input is {geometry.input_height}x{geometry.input_width}, must be at most " \
           f"{MAX_CUBE}x{MAX_SIDE}"


def channels_fit(query: Query) -> str | None:
    """There are at most 16352 input channels."""
    channels = ask.geometry(query).input_channels
    return None if channels <= MAX_INPUT_CHANNELS else (
        f"has {channels} input channels, at most {MAX_INPUT_CHANNELS} are possible")


def kernel_bytes_fit(query: Query) -> str | None:
    """One kernel (height x width x input channels rounded up to 16) has at most 524287 bytes."""
    size = ask.geometry(query).kernel_bytes
    return None if size <= MAX_KERNEL_BYTES else f"one kernel has {size} bytes, at most {MAX_KERNEL_BYTES} are possible"


def spread_weights_are_small(query: Query) -> str | None:
    """With groups, or a depth multiplier above 1, the weights with what is between the groups take at most 8 MiB."""
    blocks = ask.blocks(query)
    return None if blocks is None or blocks.weight_bytes <= MAX_SPREAD_BYTES else (
        f"{ask.num_groups(query)} groups: weights as full convolutions of {blocks.groups} groups take "
        f"{blocks.weight_bytes} bytes, at most {MAX_SPREAD_BYTES} are allowed")


def window_rows_fit_the_cbuf(query: Query) -> str | None:
    """The input rows of one window fit the convolution buffer, and the prefetch counter (1022 rows)."""
    geometry = with_large_pads_in_memory(ask.geometry(query))
    if geometry.first_rows > MAX_FIRST_ROWS:
        return f"the window spans {geometry.kernel_height_extent} rows, the prefetch counter holds {MAX_FIRST_ROWS}"
    if geometry.output_width > MAX_SIDE or geometry.output_width * geometry.output_height > MAX_PIXELS:
        return f"output of {geometry.output_height}x{geometry.output_width} pixels is too large for one task"
    if not fits(query.soc, geometry):
        return (f"{geometry.kernel_height_extent} rows of {geometry.input_width}x{geometry.input_channels} do not fit "
                f"the convolution buffer of {query.soc.cbuf.banks * query.soc.cbuf.bank_bytes // 1024} KiB")
    return None


def numbers_fit(query: Query) -> str | None:
    """Accumulators stay inside 32 bits, and all scales can be held to within one step of the exact result."""
    bias = bias_values(query.subgraph, query.operation)
    try:
        layer = make_layer(query.data, ask.weights(query), bias, query.output, query.operation.kind)
        for match in ("tflite", "exact"):
            layer_requantisation(layer, query.operation, query.output, match)
    except (RangeError, ScaleError) as error:
        return str(error)
    return None


# First what must be constant, so that it does not count as an activation.
CONSTANT_RULES: tuple[Rule, ...] = (weights_are_constant, bias_fits)
WEIGHT_RULES: tuple[Rule, ...] = (weights_match_activations, weight_quantisation_fits)
_SIZES: tuple[Rule, ...] = (
    kernel_fits, stride_fits, blocks_of_pixels_fit, dilation_fits, padded_map_fits, channels_fit, kernel_bytes_fit,
    spread_weights_are_small, window_rows_fit_the_cbuf, numbers_fit)
CONV_RULES: tuple[Rule, ...] = (*CONSTANT_RULES, *BANDED_RULES, *WEIGHT_RULES, shapes_agree, *_SIZES)
DEPTHWISE_RULES = CONV_RULES
