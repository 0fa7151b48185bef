"""Support rules of CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED. Limits: recipes §1.8."""
from __future__ import annotations

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.conv import RangeError, bias_values, conv_weights, layer_requantisation, make_layer
from cermet.drivers.rocket.convolution_task import MAX_GRAINS, grains
from cermet.drivers.rocket.depthwise import depthwise_weights
from cermet.drivers.rocket.geometry import MAX_KERNEL_BYTES, Geometry
from cermet.drivers.rocket.grouped import Blocks, plan_blocks, spread_groups
from cermet.drivers.rocket.requantise import ScaleError
from cermet.drivers.rocket.rules import ACTIVATION_RULES, IMAGE_RULES, MAX_SIDE, QUANTISED, Query, Rule
from cermet.drivers.rocket.tiling import plan
from cermet.drivers.rocket.views import MapShape, Views, map_shape, window_over
from cermet.drivers.rocket.weights import Weights, signed_weights
from cermet.ir.operation import Kind, Padding, Pair, Window
from cermet.ir.tensor import DType, Quantisation, Tensor

MAX_KERNEL = 31             # 5 bits, trm; 1..7 hw-verified
MAX_STRIDE = 7              # 3 bits, trm; 1..3 hw-verified
MAX_DILATION = 32           # 5 bits hold d - 1, trm; 2 hw-verified, 4 replayed
MAX_PAD = 15                # 4 bits, 16 acts as 0: hw-verified
MAX_INPUT_CHANNELS = 16_352     # 16 bits, trm; the limit of the vendor's tool
MAX_KERNELS = 16_383        # 14 bits, trm
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
    weights = _weights_tensor(query)
    return None if weights.dtype is query.data.dtype else \
        f"weights are {weights.dtype.value}, activations {query.data.dtype.value}: must be of one type"


def weight_quantisation_fits(query: Query) -> str | None:
    """Weights are quantised per tensor or per output channel: scales above 0, zero points inside their type.

    Zero points of int8 weights are 0, but for FULLY_CONNECTED with one scale.
    """
    weights = _weights_tensor(query)
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
        return "a weight scale is not above 0 and finite"
    lowest, highest = (0, 255) if weights.dtype is DType.UINT8 else (-128, 127)
    if not all(lowest <= z <= highest for z in quantisation.zero_points):
        return f"a weight zero point is outside {lowest}..{highest}"
    return _ignored_zero_point(query, weights, quantisation)


def _ignored_zero_point(query: Query, weights: Tensor, quantisation: Quantisation) -> str | None:
    """TFLite's int8 kernels subtract no zero point from weights; FULLY_CONNECTED with one scale is the exception."""
    is_subtracted = query.operation.kind is Kind.FULLY_CONNECTED and len(quantisation.scales) == 1
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
    channels = _output_channels(query)
    return None if bias.num_elements == channels else f"bias has {bias.num_elements} values, must have {channels}"


def shapes_agree(query: Query) -> str | None:
    """Input, weights, window and output have shapes that belong together."""
    source, weights, output = query.data.shape, _weights_tensor(query).shape, query.output.shape
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
    expected = (size.y, size.x, _output_channels(query))
    return None if output[1:] == expected else f"output is {list(output[1:])}, must be {list(expected)}"


def kernel_fits(query: Query) -> str | None:
    """Kernel height and width are 1..31."""
    kernel = _window(query).kernel
    fits = max(kernel.y, kernel.x) <= MAX_KERNEL
    return None if fits else f"kernel is {kernel.y}x{kernel.x}, must be 1..{MAX_KERNEL}"


def stride_fits(query: Query) -> str | None:
    """Strides are 1..7."""
    stride = _window(query).stride
    fits = max(stride.y, stride.x) <= MAX_STRIDE
    return None if fits else f"stride is {stride.y}x{stride.x}, must be 1..{MAX_STRIDE}"


def dilation_fits(query: Query) -> str | None:
    """Dilations are 1..32."""
    dilation = _window(query).dilation
    return None if max(dilation.y, dilation.x) <= MAX_DILATION else \
        f"dilation is {dilation.y}x{dilation.x}, must be 1..{MAX_DILATION}"


def pads_fit(query: Query) -> str | None:
    """Padding above and on the left is at most 15 pixels."""
    geometry = _geometry(query)
    pad = max(geometry.pad_top, geometry.pad_left)
    return None if pad <= MAX_PAD else f"padding is {pad} pixels at the top or left, at most {MAX_PAD} are possible"


def channels_fit(query: Query) -> str | None:
    """There are at most 16352 input channels and 16383 output channels."""
    geometry = _geometry(query)
    if geometry.input_channels > MAX_INPUT_CHANNELS:
        return f"has {geometry.input_channels} input channels, at most {MAX_INPUT_CHANNELS} are possible"
    if geometry.output_channels > MAX_KERNELS - 1:
        return f"has {geometry.output_channels} output channels, at most {MAX_KERNELS - 1} are possible"
    return None


def kernel_bytes_fit(query: Query) -> str | None:
    """One kernel (height x width x input channels rounded up to 16) has at most 524287 bytes."""
    size = _geometry(query).kernel_bytes
    return None if size <= MAX_KERNEL_BYTES else f"one kernel has {size} bytes, at most {MAX_KERNEL_BYTES} are possible"


def spread_weights_are_small(query: Query) -> str | None:
    """With groups, or a depth multiplier above 1, the weights with what is between the groups take at most 8 MiB."""
    blocks = _blocks(query)
    return None if blocks is None or blocks.weight_bytes <= MAX_SPREAD_BYTES else (
        f"{_num_groups(query)} groups: weights as full convolutions of {blocks.groups} groups take "
        f"{blocks.weight_bytes} bytes, at most {MAX_SPREAD_BYTES} are allowed")


def window_rows_fit_the_cbuf(query: Query) -> str | None:
    """The input rows of one window fit the convolution buffer, and the prefetch counter (1022 rows)."""
    geometry = _geometry(query)
    if grains(geometry) > MAX_GRAINS:
        return f"the window spans {geometry.kernel_height_extent} rows, the prefetch counter holds {MAX_GRAINS}"
    if geometry.output_width > MAX_SIDE or geometry.output_width * geometry.output_height > MAX_PIXELS:
        return f"output of {geometry.output_height}x{geometry.output_width} pixels is too large for one task"
    if plan(query.soc, geometry) is None:
        return (f"{geometry.kernel_height_extent} rows of {geometry.input_width}x{geometry.input_channels} do not fit "
                f"the convolution buffer of {query.soc.cbuf.banks * query.soc.cbuf.bank_bytes // 1024} KiB")
    return None


def numbers_fit(query: Query) -> str | None:
    """Accumulators stay inside 32 bits, and all scales can be held to within one step of the exact result."""
    bias = bias_values(query.subgraph, query.operation)
    try:
        layer = make_layer(query.data, _weights(query), bias, query.output, query.operation.kind)
        for match in ("tflite", "exact"):
            layer_requantisation(layer, query.operation, query.output, match)
    except (RangeError, ScaleError) as error:
        return str(error)
    return None


def flattening_is_possible(query: Query) -> str | None:
    """FULLY_CONNECTED: weights are [outputs, inputs], and inputs are the channels of the map or all of it."""
    return None if _window_or_none(query) is not None else (
        f"{_weights_tensor(query).shape[1]} weights per output do not divide the input of {list(query.data.shape)}")


def flattened_input_fits(query: Query) -> str | None:
    """FULLY_CONNECTED: the input also fits as one pixel per row, for when the flattening before it stays on the CPU."""
    shape = map_shape(query.data)
    if query.operation.kind is not Kind.FULLY_CONNECTED or shape == _fc_shape(query):
        return None
    if shape.channels > MAX_INPUT_CHANNELS:
        return f"has {shape.channels} input channels, at most {MAX_INPUT_CHANNELS} are possible"
    geometry = Geometry.of(Window(Pair(1, 1), Pair(1, 1), Padding.VALID), (shape.pixels, 1, shape.channels),
                           _output_channels(query))
    fits = plan(query.soc, geometry) is not None
    return None if fits else f"a row of {shape.channels} inputs does not fit the convolution buffer"


def rows_agree(query: Query) -> str | None:
    """FULLY_CONNECTED: the output holds one row per row of the input."""
    source, weights, output = query.data, _weights_tensor(query), query.output
    rows = source.num_elements // weights.shape[1]
    if output.num_elements != rows * weights.shape[0] or output.shape[-1] != weights.shape[0]:
        return f"output has shape {list(output.shape)}, must have {rows} rows of {weights.shape[0]}"
    return None if rows <= MAX_SIDE else f"has {rows} rows, at most {MAX_SIDE} are possible"


def weights_are_not_shuffled(query: Query) -> str | None:
    """FULLY_CONNECTED: weights are stored in the default format."""
    return None if query.operation.weights_format == 0 else "weights are in the shuffled format"


def _weights_tensor(query: Query) -> Tensor:
    return query.subgraph.tensor(query.operation.inputs[1])


def _output_channels(query: Query) -> int:
    shape = _weights_tensor(query).shape
    return shape[3] if query.operation.kind is Kind.DEPTHWISE_CONV else shape[0]


def _window_or_none(query: Query) -> Window | None:
    """The window; of a FULLY_CONNECTED the one that its lowering uses."""
    if query.operation.kind is not Kind.FULLY_CONNECTED:
        return query.operation.window
    kernel = window_over(_fc_shape(query), _weights_tensor(query).shape[1])
    return None if kernel is None else Window(kernel, Pair(1, 1), Padding.VALID)


def _window(query: Query) -> Window:
    window = _window_or_none(query)
    assert window is not None
    return window


def _fc_shape(query: Query) -> MapShape:
    """The map that a FULLY_CONNECTED reads: with views seen through, as far as they agree."""
    tensor = query.operation.inputs[0]
    assert tensor is not None
    try:
        shape = Views.of(query.subgraph).shape(query.subgraph, tensor)
    except CompileError:
        shape = map_shape(query.data)
    return shape if window_over(shape, _weights_tensor(query).shape[1]) else map_shape(query.data)


def _geometry(query: Query) -> Geometry:
    window = _window(query)
    if query.operation.kind is Kind.FULLY_CONNECTED:
        shape = _fc_shape(query)
        size = (shape.pixels, 1, shape.channels) if window.kernel == Pair(1, 1) else (shape.height, shape.width,
                                                                                    shape.channels)
        return Geometry.of(window, size, _output_channels(query))
    blocks = _blocks(query)
    return _whole_geometry(query) if blocks is None else blocks.geometry


def _whole_geometry(query: Query) -> Geometry:
    """Of a convolution, with the channels of all groups."""
    _, height, width, channels = query.data.shape
    outputs = _output_channels(query)
    native = query.operation.kind is Kind.DEPTHWISE_CONV and outputs == channels
    return Geometry.of(_window(query), (height, width, channels), outputs, is_depthwise=native)


def _num_groups(query: Query) -> int:
    """Groups that are computed as blocks; 1 for all but grouped convolutions and depthwise ones with a multiplier."""
    channels = query.data.shape[-1]
    if query.operation.kind is Kind.DEPTHWISE_CONV:
        return channels if _output_channels(query) != channels else 1
    return channels // _weights_tensor(query).shape[3] if query.operation.kind is Kind.CONV else 1


def _blocks(query: Query) -> Blocks | None:
    """How groups are computed; None when there are none. All in one where nothing fits, so that a rule can say why."""
    groups = _num_groups(query)
    if groups == 1:
        return None
    whole = _whole_geometry(query)
    return plan_blocks(query.soc, whole, groups) or Blocks(1, groups, whole)


def _weights(query: Query) -> Weights:
    """As the lowering has them."""
    tensor = _weights_tensor(query)
    if query.operation.kind is Kind.FULLY_CONNECTED:
        assert tensor.data is not None
        return signed_weights(tensor, tensor.data.reshape(tensor.shape[0], 1, 1, tensor.shape[1]))
    weights = (depthwise_weights if query.operation.kind is Kind.DEPTHWISE_CONV else conv_weights)(tensor)
    blocks = _blocks(query)
    return weights if blocks is None else spread_groups(weights, _num_groups(query), blocks.groups)


# First what must be constant, so that it does not count as an activation.
_CONSTANTS: tuple[Rule, ...] = (weights_are_constant, bias_fits)
_WEIGHTS: tuple[Rule, ...] = (weights_match_activations, weight_quantisation_fits)
_SIZES: tuple[Rule, ...] = (kernel_fits, stride_fits, dilation_fits, pads_fit, channels_fit, kernel_bytes_fit,
                            spread_weights_are_small, window_rows_fit_the_cbuf, numbers_fit)
CONV_RULES: tuple[Rule, ...] = (*_CONSTANTS, *IMAGE_RULES, *_WEIGHTS, shapes_agree, *_SIZES)
DEPTHWISE_RULES = CONV_RULES
FULLY_CONNECTED_RULES: tuple[Rule, ...] = (*_CONSTANTS, *ACTIVATION_RULES, *_WEIGHTS, weights_are_not_shuffled,
                                           flattening_is_possible, rows_agree, *_SIZES,
                                           flattened_input_fits)
