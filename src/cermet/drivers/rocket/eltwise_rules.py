"""Support rules of ADD. What a rule is: rules.py."""
from __future__ import annotations

from cermet.drivers.rocket.eltwise import arithmetic_of
from cermet.drivers.rocket.flying import MAX_CUBE
from cermet.drivers.rocket.rules import ACTIVATION_RULES, Query, Rule
from cermet.drivers.rocket.views import map_shape


def has_two_inputs(query: Query) -> str | None:
    """There are two inputs."""
    inputs = [t for t in query.operation.inputs if t is not None]
    return None if len(inputs) == len(query.operation.inputs) == 2 else f"has {len(inputs)} inputs, must have 2"


def second_operand_is_not_constant(query: Query) -> str | None:
    """The second operand is computed, not a constant."""
    is_constant = query.subgraph.tensor(query.operation.inputs[1]).is_constant
    return "its second operand is a constant, only two computed tensors are added" if is_constant else None


def operands_have_one_shape(query: Query) -> str | None:
    """Both operands have the output's shape: no broadcast."""
    shapes = [query.subgraph.tensor(t).shape for t in query.operation.inputs]
    if shapes[0] == shapes[1] == query.output.shape:
        return None
    return f"adds {list(shapes[0])} and {list(shapes[1])}: operands of different shapes are not supported"


def rows_fit_the_cube(query: Query) -> str | None:
    """Width is at most 8192."""
    width = map_shape(query.output).width
    return None if width <= MAX_CUBE else f"width {width} must be 1..{MAX_CUBE}"


def sum_is_exact_to_one_step(query: Query) -> str | None:
    """The scales allow multipliers with which no sum is off by more than one output step."""
    if arithmetic_of(query.subgraph, query.operation) is not None:
        return None
    first, second, output = (query.subgraph.tensor(t).quantisation.scale     # type: ignore[union-attr]
                             for t in (*query.operation.inputs, query.operation.output))
    return f"input scales {first:.4g} and {second:.4g} are too large for the output scale {output:.4g}: " \
           "results could be off by more than one step"


ADD_RULES: tuple[Rule, ...] = (
    has_two_inputs, *ACTIVATION_RULES, second_operand_is_not_constant, operands_have_one_shape, rows_fit_the_cube,
    sum_is_exact_to_one_step)
