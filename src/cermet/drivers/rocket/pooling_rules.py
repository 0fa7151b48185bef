"""Support rules of AVERAGE_POOL_2D and MAX_POOL_2D. What a rule is: rules.py."""
from __future__ import annotations

from cermet.drivers.rocket.adding import geometry_of
from cermet.drivers.rocket.flying import MAX_CUBE
from cermet.drivers.rocket.limits import MAX_KERNEL, MAX_NOTCH, MAX_PAD, MAX_STRIDE
from cermet.drivers.rocket.max_pooling import selection_geometry, selection_stride
from cermet.drivers.rocket.pooling import Region, average_gain, pool_regions, way_of_average
from cermet.drivers.rocket.rules import BANDED_RULES, Query, Rule
from cermet.drivers.rocket.tiling import fits
from cermet.ir.operation import Pair, Window

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
    """The window of an average is at most 31 by 31, or has at most about 58000 taps and 25 outputs."""
    for region in _regions(query)[:MAX_REGIONS]:
        if not region.fits_a_window and way_of_average(region, query.data.shape[3]) is None:
            return f"window has {region.count} taps, which are too many"
    return None


def average_pads_fit(query: Query) -> str | None:
    """An average covers at most 15 pixels above and left of the plane."""
    pads = [max(region.rows.pad, region.columns.pad) for region in _regions(query) if region.fits_a_window]
    pad = max(pads, default=0)
    return None if pad <= MAX_PAD else f"{pad} rows or columns of padding, must be 0..{MAX_PAD}"


def average_has_few_divisors(query: Query) -> str | None:
    """Padding and strides above 7 leave at most 25 rectangles of outputs, each a task of its own."""
    count, window = len(_regions(query)), _window(query)
    if count <= MAX_REGIONS:
        return None
    if max(window.kernel.y, window.kernel.x) > MAX_KERNEL:
        return f"window is {window.kernel.y}x{window.kernel.x} with {count} outputs: at most {MAX_REGIONS} above " \
               f"{MAX_KERNEL} a side"
    why = f"strides of {window.stride.y}x{window.stride.x} leave" \
        if max(window.stride.y, window.stride.x) > MAX_STRIDE else "padding gives"
    return f"{why} {count} rectangles of outputs that one task can make, at most {MAX_REGIONS} are worth it"


def average_divides_exactly(query: Query) -> str | None:
    """A multiplier exists that divides by up to 31x31 taps as TFLite does."""
    for region in _regions(query):
        if average_gain(region, query.data.shape[3], query.output) is None:
            return f"no multiplier divides by {region.count} exactly"
    return None


def average_fits_the_cbuf(query: Query) -> str | None:
    """The rows of one window fit the convolution buffer."""
    for region in _regions(query):
        way = None if region.fits_a_window else way_of_average(region, query.data.shape[3])
        channels = query.data.shape[3]
        if not fits(query.soc, geometry_of(way, channels) if way else region.geometry(channels)):
            return f"{region.kernel.y} rows of {region.columns.size} pixels do not fit the convolution buffer"
    return None


def max_stride_fits(query: Query) -> str | None:
    """Of a maximum with a vertical stride above 7 alone, the stride times the padded width is at most 8191."""
    window, (height, width) = _window(query), query.data.shape[1:3]
    stride, (_, _, left, right) = selection_stride(window, height, width), window.pads(height, width)
    pitch = stride.y * (left + width + right)
    return None if stride.y <= MAX_STRIDE or stride.x > 1 or pitch <= MAX_NOTCH else (
        f"rows to select are {pitch} pixels apart, must be at most {MAX_NOTCH}")


def max_fits_the_cube(query: Query) -> str | None:
    """The width with its padding is at most 8192, and there are at most 8192 channels."""
    height, width, channels = query.data.shape[1:]
    _, _, left, right = _window(query).pads(height, width)
    for size, name in ((left + width + right, "width with padding"), (channels, "channels")):
        if size > MAX_CUBE:
            return f"{name} {size} must be 1..{MAX_CUBE}"
    return None


def max_fits_the_cbuf(query: Query) -> str | None:
    """Where a stride of 2 to 7 skips pixels, a row with its padding fits the convolution buffer."""
    window, (height, width, channels) = _window(query), query.data.shape[1:]
    stride, (_, _, left, right) = selection_stride(window, height, width), window.pads(height, width)
    geometry = selection_geometry(left + width + right, channels, window.output_size(height, width), stride)
    if stride == Pair(1, 1) or max(stride.y, stride.x) > MAX_STRIDE or fits(query.soc, geometry):
        return None
    return f"rows of {left + width + right} pixels, {channels} channels, do not fit the convolution buffer"


POOL_RULES: tuple[Rule, ...] = (*BANDED_RULES, window_is_sensible, pool_keeps_the_quantisation)
AVERAGE_POOL_RULES: tuple[Rule, ...] = (
    *POOL_RULES, average_kernel_fits, average_pads_fit, average_has_few_divisors,
    average_divides_exactly, average_fits_the_cbuf)
MAX_POOL_RULES: tuple[Rule, ...] = (*POOL_RULES, max_stride_fits, max_fits_the_cube, max_fits_the_cbuf)
