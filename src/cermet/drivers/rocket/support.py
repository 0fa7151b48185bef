"""Whether an operation can run: its rules, asked about its other forms too (batching.py)."""
from __future__ import annotations

from cermet.drivers.base import Refusal
from cermet.drivers.rocket.batching import forms, has_forms
from cermet.drivers.rocket.no_program import why_no_program
from cermet.drivers.rocket.operations import OPERATIONS
from cermet.drivers.rocket.rules import Query, first_refusal
from cermet.hw.soc import Soc
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph


def refusal_of(soc: Soc, subgraph: Subgraph, operation: Operation) -> Refusal | None:
    """None when the operation can run, else the first rule that it breaks."""
    entry = OPERATIONS.get(operation.kind)
    if entry is None:
        return Refusal("operation_is_known", why_no_program(operation.name))
    broken = first_refusal(entry.rules, Query(soc, subgraph, operation))
    if broken is not None and has_forms(subgraph, operation):
        for form in forms(subgraph, (operation,)):
            broken = first_refusal(entry.rules, Query(soc, form.subgraph, form.operations[0]))
            if broken is None:
                break
    return None if broken is None else Refusal(*broken)
