"""Passes: a valid subgraph in, a valid subgraph out. run_passes() runs a pipeline and verifies after each."""
from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

from cermet import debug as debug_variable
from cermet.ir.passes.drop_dead import drop_dead
from cermet.ir.passes.fold_activation import fold_activation
from cermet.ir.subgraph import Subgraph
from cermet.ir.text import format_subgraph
from cermet.ir.verify import VerifyError, verify

Pass = Callable[[Subgraph], Subgraph]

PASSES: tuple[Pass, ...] = (fold_activation, drop_dead)     # what every driver may run first


class PassError(Exception):
    """Our bug: a pass failed or left an invalid subgraph; names the pass and what it broke."""


def run_passes(subgraph: Subgraph, passes: Sequence[Pass] = PASSES, debug: bool | None = None) -> Subgraph:
    """The subgraph after all passes. Raises PassError when one of them breaks it.

    debug   print the subgraph to stderr under the name of each pass; None: when CERMET_DEBUG names passes
    """
    show = is_shown() if debug is None else debug
    for one in passes:
        name = pass_name(one)
        before, subgraph = subgraph, _checked(one, name, subgraph)
        if show:
            changed = before is not subgraph and before != subgraph
            show_result(name, format_subgraph(subgraph) if changed else "")
    return subgraph


def is_shown() -> bool:
    """Whether CERMET_DEBUG names passes."""
    return debug_variable.is_shown("passes")


def show_result(name: str, text: str) -> None:
    """What a pass made, on stderr; empty: nothing changed."""
    print(f"---- {name}\n{text or 'no change'}", file=sys.stderr)


def pass_name(one: Pass) -> str:
    """The function's name, whatever of its arguments are bound."""
    while isinstance(one, partial):
        one = one.func
    return getattr(one, "__name__", str(one)).strip("_")


def _checked(one: Pass, name: str, subgraph: Subgraph) -> Subgraph:
    try:
        result = one(subgraph)
        verify(result)
        return result
    except VerifyError as error:
        raise PassError(f"pass {name}: {error}") from error
