"""Support rules of ADD, SUB, MUL, MAXIMUM and MINIMUM. What a rule is: rules.py."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

from cermet.drivers.rocket.eltwise import affine_of, arithmetic_of, is_affine, product_limits
from cermet.drivers.rocket.eltwise_operands import Form, form_of, repetition, roles_of
from cermet.drivers.rocket.flying import MAX_CUBE
from cermet.drivers.rocket.limits import MAX_SIDE
from cermet.drivers.rocket.rules import ACTIVATION_RULES, MAX_IMAGES, Query, Rule, data_is_not_constant
from cermet.drivers.rocket.strided import MAX_TASKS
from cermet.drivers.rocket.strided_pick import Pick
from cermet.drivers.rocket.strided_plan import StridedPlan
from cermet.drivers.rocket.tiling import plan as tiling
from cermet.drivers.rocket.views import map_shape
from cermet.ir.moves import MoveError
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


def repeated_operand_can_be_written_out(query: Query) -> str | None:
    """A computed operand broadcast along some axes only is written out by at most 64 copies or convolutions."""
    for number, plan in _repetitions(query):
        shape, wanted = list(query.subgraph.tensor(number).shape), list(query.output.shape)
        if isinstance(plan, MoveError):
            return f"operand of shape {shape} cannot be repeated to {wanted}: {plan}"
        if len(plan.tasks) > _most_tasks(query, shape):
            return f"operand of shape {shape} takes {len(plan.tasks)} tasks to repeat, more than it is worth"
        for task in plan.tasks:
            if isinstance(task, Pick) and tiling(query.soc, task.geometry) is None:
                return f"operand of shape {shape}: its rows do not fit the CBUF where they are repeated"
    return None


def _repetitions(query: Query) -> Iterator[tuple[int, StridedPlan | MoveError]]:
    for position, number in enumerate(query.operation.inputs):
        assert number is not None
        if form_of(query.subgraph, query.operation, position) is Form.REPEATED:
            try:
                yield number, repetition(query.subgraph.tensor(number), query.output)
            except MoveError as error:
                yield number, error


def _most_tasks(query: Query, shape: Sequence[int]) -> int:
    """Images of a batch can be made alone, which takes a task each, or two where an operand is copied first."""
    images, *inner = query.output.shape or (1,)
    if len(inner) != 3 or not 1 < images <= MAX_IMAGES:
        return MAX_TASKS
    if list(shape) == [images, 1, 1, inner[2]]:
        return 2 * images - 2
    return images - 2 if list(shape) in ([1, *inner], inner) else MAX_TASKS


def spread_operand_fits(query: Query) -> str | None:
    """Width is at most 2047 and channels at most 8192 where an operand is repeated over channels."""
    roles, shape = roles_of(query.subgraph, query.operation), map_shape(query.output)
    assert roles is not None
    if not any(form.is_spread for form in roles.forms):
        return None
    fits = shape.width <= MAX_SIDE and shape.channels <= MAX_CUBE
    made = f"{shape.height}x{shape.width}x{shape.channels}"
    return None if fits else f"an operand is repeated over channels, for which the output {made} is too large"


def rows_fit_the_cube(query: Query) -> str | None:
    """Width is at most 8192, but for images of one row, which are turned into columns."""
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
    operands_make_sense, repeated_operand_can_be_written_out, spread_operand_fits, rows_fit_the_cube)
SUM_RULES: tuple[Rule, ...] = (*OPERAND_RULES, sum_is_exact_to_one_step)
PRODUCT_RULES: tuple[Rule, ...] = (*OPERAND_RULES, product_is_exact_to_one_step)
COMPARE_RULES: tuple[Rule, ...] = OPERAND_RULES
