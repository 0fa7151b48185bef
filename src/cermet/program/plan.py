"""What the compiler answers for one subgraph blob: node by node NPU or CPU, and a program for each partition."""
from __future__ import annotations

from dataclasses import dataclass, field

from cermet.drivers.base import Program, Refusal
from cermet.errors import CermetError


class PlanError(CermetError):
    """The bytes are not a plan, or the plan cannot be written; one line says where and what."""


@dataclass(frozen=True)
class PlanNode:
    """Where one operation runs: the number of a partition, or None with the reason."""

    partition: int | None
    refusal: Refusal | None = None


@dataclass(frozen=True)
class PlanPartition:
    """A group of operations (ascending numbers) and the program that replaces it."""

    nodes: tuple[int, ...]
    program: Program


@dataclass(frozen=True)
class Plan:
    """key: 32 bytes, see cermet.program.cache; nodes in the blob's order of operations."""

    key: bytes
    build_id: str
    soc: str
    nodes: tuple[PlanNode, ...]
    partitions: tuple[PlanPartition, ...] = field(repr=False)
