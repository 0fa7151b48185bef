"""The table of operations: for each kind its support rules and its lowering. One entry per kind, one file per subject."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.rules import Rule
from cermet.ir.operation import Kind, Operation

Lowering = Callable[[Context, Operation], list[TaskProgram]]


@dataclass(frozen=True)
class Entry:
    """rules: all must hold; lower: turns an operation that keeps them into tasks."""

    rules: tuple[Rule, ...]
    lower: Lowering


OPERATIONS: Mapping[Kind, Entry] = {
}
