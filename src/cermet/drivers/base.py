"""What every driver offers to the layers above."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph


class CompileError(Exception):
    """A mistake of ours: the text names the pass or lowering and the operation. Never a way to refuse."""


@dataclass(frozen=True)
class Refusal:
    """Why an operation stays on the CPU: the rule's name (stable, for tools) and the reason in words (for people)."""

    rule: str
    reason: str


class Refused(Exception):
    """What only the lowering could know: operations (by index) that the options keep off the NPU, and why."""

    def __init__(self, refusals: Mapping[int, Refusal]) -> None:
        super().__init__(", ".join(f"operation {index}: {refusal.reason}" for index, refusal in refusals.items()))
        self.refusals = refusals


@dataclass(frozen=True)
class CompileOptions:
    """What the user may choose; each is part of the cache key.

    match     "exact": round once, like real-valued arithmetic; "tflite": imitate the two roundings of TFLite's kernels
    allow     operation names that may go to the NPU; empty: all. deny: names that may not
    allow, deny also take operations by their index: 12, or FIRST-LAST
    min_partition_nodes   smaller groups of nodes stay on the CPU
    assume    parts of the hardware without proof on silicon: "on" uses them all, "replayed" those that a program of the
              vendor's uses, "off" none
    prefer    "speed": what is clearly slower on the NPU stays on the CPU; "npu": all that can runs on the NPU
    registers "all": each task writes all registers; "changed": those that the tasks before it in its job left otherwise
    chains    "kernel": mainline starts each task; "program": a job's programs lead to each other by themselves (Q-X12)
    first_rows   of which a convolution waits: "proven", as many as programs that are known to work wait for; "least",
                 as few as the register's description allows
    cores     how many one inference may use at a time, where the kernel lets it
    groups    when not empty: the partitions, as the runtime insists on them, lists of operation indices
    """

    match: str = "tflite"
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    min_partition_nodes: int = 1
    assume: str = "on"
    prefer: str = "speed"
    registers: str = "all"
    chains: str = "kernel"
    first_rows: str = "proven"
    cores: int = 1
    groups: tuple[tuple[int, ...], ...] = ()

    @property
    def chains_itself(self) -> bool:
        """Only where all parts are taken for granted, and cores need not wait for each other."""
        return self.chains == "program" and self.assume == "on" and self.cores == 1

    @property
    def starts_early(self) -> bool:
        return self.first_rows == "least" and self.assume == "on"


@dataclass(frozen=True)
class Bo:
    """One buffer of a program: role is one of constant, arena, input, output; data is its initial contents."""

    role: str
    size_bytes: int
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Relocation:
    """Add the NPU address of BO `target_bo` plus addend to the value field of a program word, at an offset of `bo`."""

    bo: int
    offset_bytes: int
    target_bo: int
    addend_bytes: int


@dataclass(frozen=True)
class Task:
    """A register program inside a BO. words includes the four trailing ones.

    next_words   struct cermet_plan_task: how its trailer leads to the program behind it
    """

    bo: int
    offset_bytes: int
    num_words: int
    next_words: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Step:
    """Consecutive tasks of one lane that follow each other without the CPU: struct cermet_plan_step."""

    first_task: int
    num_tasks: int
    lane: int
    stage: int


@dataclass(frozen=True)
class Job:
    """Consecutive tasks and the BOs that they read and write (a written BO is not also listed as read).

    witness_bo, witness_offset_bytes   the last atom that the last task writes, and no other job: struct cermet_plan_job
    """

    first_task: int
    num_tasks: int
    in_bos: tuple[int, ...]
    out_bos: tuple[int, ...]
    witness_bo: int
    witness_offset_bytes: int = 0


@dataclass(frozen=True)
class TensorPort:
    """Where a tensor that crosses the border lies; meaning of each member: struct cermet_plan_io (cermet_plan.h)."""

    tensor: int
    bo: int
    layout: str                 # "atoms" or "packed"
    offset_bytes: int
    batch: int
    height: int
    width: int
    channels: int
    batch_stride_bytes: int
    line_stride_bytes: int
    surface_stride_bytes: int
    flip: int
    fill: int
    fold_y: int = 1
    fold_x: int = 1

    @property
    def map_sizes(self) -> tuple[int, int, int, int]:
        """Images, rows, columns, channels of the feature map: of blocks of the tensor's pixels where it is folded."""
        return (self.batch, -(-self.height // self.fold_y), -(-self.width // self.fold_x),
                self.fold_y * self.fold_x * self.channels)


@dataclass(frozen=True)
class Program:
    """A compiled partition: everything the runtime needs, nothing it has to understand."""

    bos: tuple[Bo, ...]
    relocations: tuple[Relocation, ...]
    tasks: tuple[Task, ...]
    jobs: tuple[Job, ...]
    inputs: tuple[TensorPort, ...]
    outputs: tuple[TensorPort, ...]
    debug: Mapping[str, object] = field(default_factory=dict)   # JSON-able: layers, MACs, names per task
    steps: tuple[Step, ...] = ()    # none: only as jobs

    @property
    def chains(self) -> tuple[range, ...]:
        """The tasks that mainline starts, one after another: without steps with those that they lead to."""
        found: list[range] = []
        for job in self.jobs:
            for task in range(job.first_task, job.first_task + job.num_tasks):
                is_led_to = task > job.first_task and not self.steps and self.tasks[task - 1].next_words[0]
                start = found.pop().start if is_led_to else task
                found.append(range(start, task + 1))
        return tuple(found)


class Driver(Protocol):
    """A target for subgraphs."""

    name: str

    def refuse(self, subgraph: Subgraph, operation: Operation, options: CompileOptions) -> Refusal | None:
        """None when the operation can run here."""

    def compile(self, subgraph: Subgraph, options: CompileOptions) -> Program:
        """Program for a subgraph in which nothing is refused.

        Raises CompileError (our bug) with pass and operation, Refused when the options allow no program for some.
        """

    def npu_us(self, program: Program) -> float:
        """Microseconds that the program takes on a board as its kernel drives it today, without conversions."""

    def execute(self, subgraph: Subgraph, inputs: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Run a subgraph: tensor number -> array, in and out."""
