"""Support rules of AVERAGE_POOL_2D, MAX_POOL_2D and MEAN. What a rule is: rules.py."""
from __future__ import annotations

from cermet.drivers.rocket.flying import MAX_CUBE
from cermet.drivers.rocket.max_pooling import selection_stride
from cermet.drivers.rocket.pooling import (
    MAX_KERNEL,
    Region,
    average_gain,
    global_pool_shape,
    global_region,
    global_shape,
    mean_factor,
    mean_numbers,
    pool_regions,
)
from cermet.drivers.rocket.rules import (
    IMAGE_RULES,
    Query,
    Rule,
    activations_are_8_bit,
    activations_are_not_variables,
    activations_are_quantised_per_tensor,
    activations_have_one_type,
    batch_is_one,
    data_is_not_constant,
    shapes_are_known,
)
from cermet.drivers.rocket.tiling import plan
from cermet.ir.operation import Window

MAX_STRIDE = 7              # CONV_X_STRIDE and CONV_Y_STRIDE: 3 bits
MAX_PAD = 15                # PAD_TOP and PAD_LEFT: 4 bits, 16 acts as 0
# A 5x5 window with SAME. More would cost over a millisecond of interrupts (27-41 us each, hw-verified); where the CPU
# is faster is ASSUMED.
MAX_REGIONS = 25


def _window(query: Query) -> Window:
    assert query.operation.window is not None
    return query.operation.window


def _regions(query: Query) -> list[Region]:
    return pool_regions(_window(query), *query.data.shape[1:3])[0]


def window_is_sensible(query: Query) -> str | None:
    """Kernel and stride are at least 1, and the output has the size that they give."""
    window = query.operation.window
    if window is None or min(window.kernel.y, window.kernel.x, window.stride.y, window.stride.x) < 1:
        return "its window has no size"
    out = window.output_size(*query.data.shape[1:3])
    wanted = (1, out.y, out.x, query.data.shape[3])
    return None if query.output.shape == wanted else f"output is {list(query.output.shape)}, must be {list(wanted)}"


def pool_keeps_the_quantisation(query: Query) -> str | None:
    """Input and output of a pool have the same scale and zero point."""
    source, output = query.data.quantisation, query.output.quantisation
    assert source is not None and output is not None
    if (source.scale, source.zero_point) == (output.scale, output.zero_point):
        return None
    return f"input is quantised with {source.scale:.6g}, {source.zero_point} and the output with {output.scale:.6g}, " \
           f"{output.zero_point}: must be equal"


def average_kernel_fits(query: Query) -> str | None:
    """The window of an average is at most 31 by 31, or covers a plane of as many pixels as such a window."""
    kernel = global_pool_shape(_window(query), *query.data.shape[1:3]) or _window(query).kernel
    return None if max(kernel.y, kernel.x) <= MAX_KERNEL else \
        f"window is {kernel.y}x{kernel.x}, each side must be 1..{MAX_KERNEL}"


def average_stride_fits(query: Query) -> str | None:
    """The stride of an average is at most 7 along an axis with several outputs."""
    stride = _regions(query)[0].stride
    return None if max(stride.y, stride.x) <= MAX_STRIDE else \
        f"stride is {stride.y}x{stride.x}, must be 1..{MAX_STRIDE} each"


def average_pads_fit(query: Query) -> str | None:
    """An average covers at most 15 pixels above and left of the plane."""
    pad = max(max(region.rows.pad, region.columns.pad) for region in _regions(query))
    return None if pad <= MAX_PAD else f"{pad} rows or columns of padding, must be 0..{MAX_PAD}"


def average_has_few_divisors(query: Query) -> str | None:
    """Padding leaves at most 25 rectangles of outputs that divide by the same number: each is a task of its own."""
    count = len(_regions(query))
    return None if count <= MAX_REGIONS else \
        f"padding gives {count} rectangles of outputs with a divisor each, at most {MAX_REGIONS} are worth the tasks"


def average_divides_exactly(query: Query) -> str | None:
    """A multiplier exists that divides by the number of taps as TFLite does."""
    for region in _regions(query):
        if average_gain(region, query.output) is None:
            return f"no multiplier divides by {region.count} exactly"
    return None


def average_fits_the_cbuf(query: Query) -> str | None:
    """The rows of one window fit the convolution buffer."""
    for region in _regions(query):
        if plan(query.soc, region.geometry(query.data.shape[3])) is None:
            return f"{region.kernel.y} rows of {region.columns.size} pixels do not fit the convolution buffer"
    return None


def max_stride_fits(query: Query) -> str | None:
    """The stride of a maximum is at most 7 along an axis with several outputs."""
    stride = selection_stride(_window(query), *query.data.shape[1:3])
    return None if max(stride.y, stride.x) <= MAX_STRIDE else \
        f"stride is {stride.y}x{stride.x}, must be 1..{MAX_STRIDE} each"


def max_fits_the_cube(query: Query) -> str | None:
    """The plane with its padding is at most 8192 by 8192 pixels, and there are at most 8192 channels."""
    height, width, channels = query.data.shape[1:]
    top, bottom, left, right = _window(query).pads(height, width)
    for size, name in ((top + height + bottom, "height with padding"), (left + width + right, "width with padding"),
                       (channels, "channels")):
        if size > MAX_CUBE:
            return f"{name} {size} must be 1..{MAX_CUBE}"
    return None


def has_data_axes_and_one_output(query: Query) -> str | None:
    """There are an input, constant axes and one output."""
    inputs = query.operation.inputs
    if len(inputs) != 2 or None in inputs or len(query.operation.outputs) != 1:
        return f"has {len(inputs)} inputs and {len(query.operation.outputs)} outputs, must have 2 and 1"
    return None if query.subgraph.tensor(inputs[1]).is_constant else "its axes are not constant"


def mean_is_over_the_plane(query: Query) -> str | None:
    """MEAN goes over height and width, axes 1 and 2, of a tensor of four dimensions."""
    axes = query.subgraph.tensor(query.operation.inputs[1]).data
    assert axes is not None
    rank = len(query.data.shape)
    if rank != 4:
        return f"its input has {rank} dimensions, must have 4"
    given = sorted({int(axis) + (rank if axis < 0 else 0) for axis in axes.reshape(-1)})
    return None if given == [1, 2] else f"goes over axes {given}, must be 1 and 2"


def mean_output_is_channels(query: Query) -> str | None:
    """The output of a MEAN has the input's channels and nothing else."""
    channels = query.data.shape[3]
    wanted = (1, 1, 1, channels) if query.operation.keep_dims else (1, channels)
    return None if query.output.shape == wanted else f"output is {list(query.output.shape)}, must be {list(wanted)}"


def plane_fits_one_window(query: Query) -> str | None:
    """The pixels of a MEAN's plane form a rectangle of at most 31 by 31."""
    height, width = query.data.shape[1:3]
    return None if global_shape(height, width) else \
        f"plane is {height}x{width}: not the pixels of a rectangle with sides 1..{MAX_KERNEL}"


def mean_fits_the_cbuf(query: Query) -> str | None:
    """The plane of a MEAN fits the convolution buffer."""
    height, width, channels = query.data.shape[1:]
    shape = global_shape(height, width)
    assert shape is not None
    return None if plan(query.soc, global_region(shape).geometry(channels)) else \
        f"plane of {height}x{width} pixels does not fit the convolution buffer"


def mean_is_exact_to_one_step(query: Query) -> str | None:
    """The scales of a MEAN allow multipliers with which no result is off by more than one step."""
    pixels = query.data.shape[1] * query.data.shape[2]
    if mean_numbers(query.data, query.output, pixels, "exact") is not None:
        return None
    return f"factor {mean_factor(query.data, query.output, pixels):.4g} from the sum to the output has no multiplier " \
           "that keeps results within one step"


POOL_RULES: tuple[Rule, ...] = (*IMAGE_RULES, window_is_sensible, pool_keeps_the_quantisation)
AVERAGE_POOL_RULES: tuple[Rule, ...] = (
    *POOL_RULES, average_kernel_fits, average_stride_fits, average_pads_fit, average_has_few_divisors,
    average_divides_exactly, average_fits_the_cbuf)
MAX_POOL_RULES: tuple[Rule, ...] = (*POOL_RULES, max_stride_fits, max_fits_the_cube)
MEAN_RULES: tuple[Rule, ...] = (
    has_data_axes_and_one_output, activations_are_8_bit, activations_have_one_type,
    activations_are_quantised_per_tensor, shapes_are_known, activations_are_not_variables, data_is_not_constant,
    batch_is_one, mean_is_over_the_plane, mean_output_is_channels, plane_fits_one_window, mean_fits_the_cbuf,
    mean_is_exact_to_one_step)
