"""Support rules of ADD, SUB, MUL, MAXIMUM and MINIMUM. What a rule is: rules.py."""
from __future__ import annotations

from cermet.drivers.rocket.eltwise import affine_of, arithmetic_of, is_affine, product_limits
from cermet.drivers.rocket.eltwise_operands import roles_of
from cermet.drivers.rocket.flying import MAX_CUBE
from cermet.drivers.rocket.rules import ACTIVATION_RULES, MAX_SIDE, Query, Rule, data_is_not_constant
from cermet.drivers.rocket.views import map_shape
from cermet.ir.problems import op_problem


def has_two_inputs(query: Query) -> str | None:
    """There are two inputs."""
    inputs = [t for t in query.operation.inputs if t is not None]
    return None if len(inputs) == len(query.operation.inputs) == 2 else f"has {len(inputs)} inputs, must have 2"


def an_operand_is_computed(query: Query) -> str | None:
    """At most one operand is a constant."""
    inputs = [query.subgraph.tensor(t) for t in query.operation.inputs]
    return "both operands are constants" if all(t.is_constant for t in inputs) else None


def operands_make_sense(query: Query) -> str | None:
    """Constants have the type of the rest and one scale; shapes broadcast; MAXIMUM and MINIMUM: one quantisation."""
    return op_problem(query.subgraph, query.operation)


def operands_can_be_delivered(query: Query) -> str | None:
    """Computed operands have the output's shape, or one value per channel, one per pixel, or a single one."""
    if roles_of(query.subgraph, query.operation) is not None:
        return None
    first, second = (list(query.subgraph.tensor(t).shape) for t in query.operation.inputs)
    return f"operands of shapes {first} and {second}: a computed operand can be repeated over channels, and over " \
           "height and width together"


def spread_operand_fits(query: Query) -> str | None:
    """Width and height are at most 2047 and channels at most 8192 where an operand is repeated over channels."""
    roles, shape = roles_of(query.subgraph, query.operation), map_shape(query.output)
    assert roles is not None
    if not any(form.is_spread for form in roles.forms):
        return None
    fits = shape.width <= MAX_SIDE and shape.height <= MAX_SIDE and shape.channels <= MAX_CUBE
    made = f"{shape.height}x{shape.width}x{shape.channels}"
    return None if fits else f"an operand is repeated over channels, for which the output {made} is too large"


def rows_fit_the_cube(query: Query) -> str | None:
    """Width is at most 8192."""
    width = map_shape(query.output).width
    return None if width <= MAX_CUBE else f"width {width} must be 1..{MAX_CUBE}"


def sum_is_exact_to_one_step(query: Query) -> str | None:
    """The scales allow multipliers with which no sum or product is off by more than one output step."""
    roles = roles_of(query.subgraph, query.operation)
    assert roles is not None
    if is_affine(query.operation, roles):
        matches = [affine_of(query.subgraph, query.operation, roles, m) for m in ("tflite", "exact")]
        fits = all(m is not None for m in matches)
    else:
        fits = bool(arithmetic_of(query.subgraph, query.operation, roles))
    return None if fits else _too_large(query)


def product_is_exact_to_one_step(query: Query) -> str | None:
    """As for sums; behind a product of computed tensors an activation may clamp at zero and above, not below zero."""
    roles = roles_of(query.subgraph, query.operation)
    assert roles is not None
    if is_affine(query.operation, roles):
        return sum_is_exact_to_one_step(query)
    fits = product_limits(query.subgraph, query.operation, roles).is_expressible
    return None if fits else "its fused activation clamps below zero, which the product's stage cannot"


def _too_large(query: Query) -> str:
    first, second, output = (query.subgraph.tensor(t).quantisation.scale     # type: ignore[union-attr]
                             for t in (*query.operation.inputs, query.operation.output))
    return f"input scales {first:.4g} and {second:.4g} are too large for the output scale {output:.4g}: " \
           "results could be off by more than one step"


OPERAND_RULES: tuple[Rule, ...] = (
    has_two_inputs, *(rule for rule in ACTIVATION_RULES if rule is not data_is_not_constant), an_operand_is_computed,
    operands_make_sense, operands_can_be_delivered, spread_operand_fits, rows_fit_the_cube)
SUM_RULES: tuple[Rule, ...] = (*OPERAND_RULES, sum_is_exact_to_one_step)
PRODUCT_RULES: tuple[Rule, ...] = (*OPERAND_RULES, product_is_exact_to_one_step)
COMPARE_RULES: tuple[Rule, ...] = OPERAND_RULES
