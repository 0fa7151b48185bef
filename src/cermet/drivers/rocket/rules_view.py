"""Support rules of RESHAPE and SQUEEZE: they cost nothing where the bytes stay where they are, else some moves."""
from __future__ import annotations

from cermet.drivers.rocket.rules import ACTIVATION_RULES, Query, Rule
from cermet.drivers.rocket.strided import MAX_TASKS
from cermet.drivers.rocket.strided_pick import Pick
from cermet.drivers.rocket.tiling import fits
from cermet.drivers.rocket.views import are_same_bytes, is_view, joined, layouts_of, reshaped
from cermet.ir.moves import MoveError
from cermet.ir.operation import Kind


def elements_stay(query: Query) -> str | None:
    """Input and output have the same number of elements."""
    before, after = query.data.num_elements, query.output.num_elements
    return None if before == after else f"input has {before} elements, output {after}"


def quantisation_stays(query: Query) -> str | None:
    """Input and output have the same scale and zero point."""
    before, after = query.data.quantisation, query.output.quantisation
    assert before is not None and after is not None
    same = (before.scale, before.zero_point) == (after.scale, after.zero_point)
    return None if same else "input and output are quantised differently"


def neighbours_run_here(query: Query) -> str | None:
    """An operation beside it runs on the NPU."""
    members = joined(query.subgraph, query.operation.output)
    users = [op for t in members for op in (query.subgraph.producer(t), *query.subgraph.consumers(t)) if op is not None]
    runs = any(op.kind is not Kind.OTHER and not is_view(query.subgraph, op) for op in users)
    return None if runs else "no operation beside it runs on the NPU: not worth a task"


def layout_can_follow(query: Query) -> str | None:
    """Where the channels change between the operations on either side, at most 64 tasks move the bytes.

    They are copies of whole atoms and picking convolutions. A FULLY_CONNECTED behind may flatten a map as it is.
    """
    source, target = query.operation.inputs[0], query.operation.output
    assert source is not None
    layouts = layouts_of(query.subgraph, joined(query.subgraph, target))
    before, after = layouts[source], layouts[target]
    if are_same_bytes(before, after):
        return None
    seen = " and ".join(f"{s.height}x{s.width}x{s.channels}" for s in (before, after))
    try:
        tasks = reshaped(source, target, before, after).tasks
    except MoveError as error:
        return f"changes the channels ({seen}), which would move every byte: {error}"
    if len(tasks) > MAX_TASKS:
        return f"changes the channels ({seen}), which needs {len(tasks)} tasks, at most {MAX_TASKS} are worth it"
    fit = all(fits(query.soc, task.geometry) for task in tasks if isinstance(task, Pick))
    return None if fit else f"changes the channels ({seen}), which does not fit the convolution buffer"


VIEW_RULES: tuple[Rule, ...] = (*ACTIVATION_RULES, elements_stay, quantisation_stays, neighbours_run_here,
                                layout_can_follow)
