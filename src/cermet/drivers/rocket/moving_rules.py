"""Support rules of operations that move elements. What a rule is: rules.py."""
from __future__ import annotations

from cermet.drivers.rocket.concat import can_requantise
from cermet.drivers.rocket.moving import num_tasks, picking_geometries, plan_moves
from cermet.drivers.rocket.rules import (
    Query,
    Rule,
    activations_are_8_bit,
    activations_are_not_variables,
    activations_are_quantised_per_tensor,
    activations_have_one_type,
    shapes_are_known,
)
from cermet.drivers.rocket.strided import MAX_TASKS
from cermet.drivers.rocket.tiling import fits
from cermet.ir.moves import MoveError, data_inputs
from cermet.ir.problems import op_problem


def moved_data_is_computed(query: Query) -> str | None:
    """What is moved is there, and not all of it is constant."""
    moved = data_inputs(query.operation)
    if not moved or any(number is None for number in moved):
        return "one of its inputs is absent"
    return "its inputs are constants" if all(query.subgraph.tensor(t).is_constant for t in moved) else None


def move_makes_sense(query: Query) -> str | None:
    """Operands are constants that fit the shapes; only a uint8 CONCATENATION requantises."""
    return op_problem(query.subgraph, query.operation)


def scales_can_be_converted(query: Query) -> str | None:
    """Two multipliers of 15 bits hold the quotient of the scales."""
    output = query.subgraph.tensor(query.operation.outputs[0])
    for number in data_inputs(query.operation):
        if not can_requantise(query.subgraph.tensor(number), output):
            return f"scales of tensors {number} and {output.index} are too far apart"
    return None


def copies_are_possible(query: Query) -> str | None:
    """The elements can be moved by at most 64 copies of whole atoms and picking convolutions."""
    try:
        made = plan_moves(query.subgraph, query.operation)
    except MoveError as error:
        return str(error)
    tasks = num_tasks(made)
    return None if tasks <= MAX_TASKS else f"needs {tasks} tasks, at most {MAX_TASKS} are worth it"


def picks_fit_the_cbuf(query: Query) -> str | None:
    """Where a convolution moves the channels, one row of its input fits the convolution buffer."""
    for made in plan_moves(query.subgraph, query.operation):
        for geometry in picking_geometries(made):
            if not fits(query.soc, geometry):
                return f"rows of {geometry.input_width} pixels, {geometry.input_channels} channels, do not fit the CBUF"
    return None


MOVE_RULES: tuple[Rule, ...] = (
    moved_data_is_computed, activations_are_8_bit, activations_have_one_type, activations_are_quantised_per_tensor,
    shapes_are_known, activations_are_not_variables, move_makes_sense, scales_can_be_converted, copies_are_possible,
    picks_fit_the_cbuf)
