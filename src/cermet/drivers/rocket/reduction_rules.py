"""Support rules of MEAN, SUM, REDUCE_MAX and REDUCE_MIN. What a rule is: rules.py."""
from __future__ import annotations

from cermet.drivers.rocket.adding import geometry_of
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.layout import ATOM_BYTES, ceil_div
from cermet.drivers.rocket.limits import MAX_SIDE
from cermet.drivers.rocket.reduction import Plan, plan_sum, reduction_of
from cermet.drivers.rocket.reduction_extreme import kept_plane
from cermet.drivers.rocket.rules import (
    Query,
    Rule,
    activations_are_8_bit,
    activations_are_not_variables,
    activations_are_quantised_per_tensor,
    activations_have_one_type,
    data_is_not_constant,
    shapes_are_known,
)
from cermet.drivers.rocket.tiling import fits
from cermet.drivers.rocket.views import are_same_bytes, is_view, map_shape, stored_shape
from cermet.ir.operation import Kind, Pair
from cermet.ir.reductions import Reduction, reduction_problem

MAX_EXTREME_CHANNELS = 8192     # DPU cube: 13 bits


def has_data_axes_and_one_output(query: Query) -> str | None:
    """There are an input, constant axes and one output."""
    inputs = query.operation.inputs
    if len(inputs) != 2 or None in inputs or len(query.operation.outputs) != 1:
        return f"has {len(inputs)} inputs and {len(query.operation.outputs)} outputs, must have 2 and 1"
    return None if query.subgraph.tensor(inputs[1]).is_constant else "its axes are not constant"


def reduction_makes_sense(query: Query) -> str | None:
    """Axes and output fit the input; REDUCE_MAX and REDUCE_MIN keep the quantisation; SUM is of uint8."""
    return reduction_problem(query.subgraph, query.operation)


def _reduction(query: Query) -> Reduction | None:
    return reduction_of(query.subgraph, query.operation)


def reduced_dimensions_are_neighbours(query: Query) -> str | None:
    """No dimension larger than 1 is kept between the reduced ones, the last one aside."""
    return None if _reduction(query) else "keeps a dimension between those it goes over"


def reduced_map_fits(query: Query) -> str | None:
    """Width and height of what the convolution unit sees are at most 2047."""
    made, shape = _reduction(query), map_shape(query.data)
    assert made is not None
    sides = (shape.height, shape.width) if made.count == 1 else (made.inner, made.inner)
    if made.over_channels and made.count > 1:
        sides = kept_plane(made)
    return None if max(sides) <= MAX_SIDE else f"works on {sides[0]}x{sides[1]} pixels, at most {MAX_SIDE} each"


def output_layout_is_free(query: Query) -> str | None:
    """Where the channels are dropped, the result has one channel: on the NPU nothing but a RESHAPE reads it."""
    shape, stored = map_shape(query.output), stored_shape(query.subgraph, query.output.index)
    readers = query.subgraph.consumers(query.output.index)
    bound = [op for op in readers if op.kind is not Kind.OTHER and not is_view(query.subgraph, op)]
    if are_same_bytes(shape, stored) or not bound:
        return None
    return f"drops the channels, and {bound[0]} would take the dimension before them for channels"


def _plan(query: Query) -> Plan:
    made = plan_sum(query.subgraph, query.operation)
    assert not isinstance(made, str)
    return made


def sum_is_not_too_large(query: Query) -> str | None:
    """Sums of up to 31x31 elements per column, or over all pixels of a plane; with channels: one window of 31x31."""
    made = plan_sum(query.subgraph, query.operation)
    return made if isinstance(made, str) else None


def sum_fits_the_cbuf(query: Query) -> str | None:
    """What one window of a sum sees fits the convolution buffer."""
    made = _plan(query)
    given, channels = made.reduction, query.data.shape[-1]
    if made.way is not None:
        geometry = geometry_of(made.way, given.outer * ceil_div(channels, ATOM_BYTES) * ATOM_BYTES)
    else:
        shape, kernel = map_shape(query.data), Pair(*made.window)
        height, width = (shape.height, shape.width) if given.count == 1 else \
            (kernel.y, kernel.x if given.inner == 1 else given.inner)
        geometry = Geometry(height, width, channels, height if given.count == 1 else 1,
                            width if given.count == 1 else given.inner, 1, kernel, Pair(1, 1), Pair(1, 1), 0, 0)
    return None if fits(query.soc, geometry) else \
        f"{geometry.input_height}x{geometry.input_width} pixels do not fit the convolution buffer"


def reduction_is_exact_to_one_step(query: Query) -> str | None:
    """The scales of a MEAN or SUM allow multipliers with which no result is off by more than one step."""
    made = _plan(query)
    if made.gain("tflite") is not None and made.gain("exact") is not None:
        return None
    return f"factor {made.scaling.factor:.4g} from the sum to the output has no multiplier that keeps results within " \
           "one step"


def extreme_channels_fit(query: Query) -> str | None:
    """REDUCE_MAX and REDUCE_MIN go over at most 8192 channels."""
    made = _reduction(query)
    assert made is not None
    return None if not made.over_channels or made.channels <= MAX_EXTREME_CHANNELS else \
        f"goes over {made.channels} channels, at most {MAX_EXTREME_CHANNELS}"


REDUCTION_RULES: tuple[Rule, ...] = (
    has_data_axes_and_one_output, activations_are_8_bit, activations_have_one_type,
    activations_are_quantised_per_tensor, shapes_are_known, activations_are_not_variables, data_is_not_constant,
    reduction_makes_sense, reduced_dimensions_are_neighbours, reduced_map_fits, output_layout_is_free)
ADDING_RULES: tuple[Rule, ...] = (
    *REDUCTION_RULES, sum_is_not_too_large, sum_fits_the_cbuf, reduction_is_exact_to_one_step)
EXTREME_RULES: tuple[Rule, ...] = (*REDUCTION_RULES, extreme_channels_fit)
