"""What a task did: completion, hang, fault, diagnostics."""
from __future__ import annotations

from dataclasses import dataclass, field

from cermet.hw.cycles import LaunchTime
from cermet.sim.memory import IommuFault


@dataclass(frozen=True)
class Diagnostic:
    """A broken rule of the hardware documents. rule is a stable short name, text says what was seen."""

    rule: str
    text: str


class Hang(Exception):
    """The task will never raise a completion interrupt. Internal: Core.run turns it into an outcome."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


class Cancelled(Exception):
    """The caller asked to stop. Internal to the simulator."""


@dataclass
class TaskOutcome:
    """One run of a core.

    interrupts   raw status bits that the run set (execution model §6)
    hang         why no completion interrupt will ever come, or None
    fault        the access that nothing was mapped for, or None; such a task does not complete either
    cycles       estimate of NPU cycles (cermet.hw.cycles)
    launches     the same, start by start of blocks
    macs         multiply-accumulates of the programmed (padded) work
    """

    interrupts: int = 0
    hang: str | None = None
    fault: IommuFault | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    cycles: int = 0
    macs: int = 0
    launches: list[LaunchTime] = field(default_factory=list)

    def warn(self, rule: str, text: str) -> None:
        self.diagnostics.append(Diagnostic(rule, text))
