"""Support rules of unary functions. What a rule is: rules.py."""
from __future__ import annotations

import math

from cermet.drivers.rocket.lut import MAX_WIDTH
from cermet.drivers.rocket.rules import ACTIVATION_RULES, Query, Rule, activations_have_one_type
from cermet.drivers.rocket.views import map_shape


def has_one_input(query: Query) -> str | None:
    """There is one input."""
    return None if len(query.operation.inputs) == 1 else f"has {len(query.operation.inputs)} inputs, must have 1"


def output_has_the_inputs_shape(query: Query) -> str | None:
    """Input and output have the same shape."""
    before, after = query.data.shape, query.output.shape
    return None if before == after else f"makes {list(after)} of {list(before)}, must keep the shape"


def rows_fit_one_cube(query: Query) -> str | None:
    """Width is at most 8190, but for images of one row, which are turned into columns."""
    width = map_shape(query.output).width
    return None if width <= MAX_WIDTH else f"width {width} must be 1..{MAX_WIDTH}"


def slope_is_finite(query: Query) -> str | None:
    """LEAKY_RELU's slope is finite."""
    return None if math.isfinite(query.operation.alpha) else f"its slope is {query.operation.alpha}, must be finite"


UNARY_RULES: tuple[Rule, ...] = (
    has_one_input, *ACTIVATION_RULES, output_has_the_inputs_shape, rows_fit_one_cube, slope_is_finite)
# QUANTIZE between int8 and uint8 is what the operation is for.
QUANTIZE_RULES: tuple[Rule, ...] = tuple(rule for rule in UNARY_RULES if rule is not activations_have_one_type)
