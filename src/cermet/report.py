"""What the compiler makes of a model, node by node: the data behind `cermet report` and the summary of `cermet run`."""
from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from cermet.compiler import Compiled
from cermet.drivers.base import Program
from cermet.hw.soc import soc_by_name
from cermet.ir.macs import count_macs
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor
from cermet.report_advice import TASK_INTERRUPT_US, advice, cut_hint, hints

MAINLINE_CLOCK_MHZ = 200        # where the mainline device tree pins the NPU of RK3588


@dataclass(frozen=True)
class NodeReport:
    """One operation. target: "NPU" or "CPU"; partition is None on the CPU, rule and reason are empty on the NPU.

    bytes     of its inputs, constants and outputs
    advice    what would have to change in the model to bring it onto the NPU; empty there
    hints     what costs time and why: on the NPU, or by cutting its part in two
    assumed   what its register programs rely on that no source has seen on silicon
    """

    index: int
    operation: str
    target: str
    partition: int | None
    rule: str
    reason: str
    macs: int
    output_shape: list[int]
    output_dtype: str
    bytes: int
    advice: str
    hints: list[str]
    assumed: list[str]


@dataclass(frozen=True)
class Summary:
    """Totals. macs_share is macs_npu / macs, 0 for a model without any; bytes_share likewise."""

    nodes: int
    nodes_npu: int
    macs: int
    macs_npu: int
    macs_share: float
    partitions: int
    bytes: int
    bytes_npu: int
    bytes_share: float

    def __str__(self) -> str:
        partitions = "1 partition" if self.partitions == 1 else f"{self.partitions} partitions"
        macs = f"{self.macs_share:.2%} of the MACs" if self.macs else "no MACs"
        return f"{self.nodes_npu} of {self.nodes} nodes, {macs}, {partitions}"


@dataclass(frozen=True)
class Estimate:
    """What a board would need for the NPU's part: cycles at the full clock, and an interrupt for each task.

    ASSUMED: nothing else uses the memory, every task ends with one round trip of TASK_INTERRUPT_US.
    """

    tasks: int
    npu_ms: float
    interrupts_ms: float
    clock_mhz: int

    @property
    def total_ms(self) -> float:
        return self.npu_ms + self.interrupts_ms

    def __str__(self) -> str:
        """At the clock a board has today and at the one it could have."""
        mainline_ms = self.npu_ms * self.clock_mhz / MAINLINE_CLOCK_MHZ + self.interrupts_ms
        return (f"{mainline_ms:.1f} ms estimated at mainline's {MAINLINE_CLOCK_MHZ} MHz, {self.total_ms:.1f} ms at "
                f"{self.clock_mhz} MHz; {self.interrupts_ms:.1f} ms of it for {self.tasks} task interrupts")


@dataclass(frozen=True)
class Report:
    """Totals and nodes of one subgraph."""

    summary: Summary
    nodes: tuple[NodeReport, ...]
    estimate: Estimate
    faults: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """docs/report-json.md."""
        estimate = asdict(self.estimate) | {"total_ms": self.estimate.total_ms}
        return {"summary": asdict(self.summary), "nodes": [asdict(node) for node in self.nodes],
                "estimate": estimate, "faults": list(self.faults)}


def make_report(compiled: Compiled, soc: str) -> Report:
    """The report of a compiled subgraph."""
    partition_of = {index: number for number, group in enumerate(compiled.groups) for index in group}
    tasks = tasks_by_operation(compiled.programs)
    nodes = tuple(_node(compiled, operation, partition_of, tasks.get(operation.index, []), soc)
                  for operation in compiled.subgraph.operations)
    summary = summarise(compiled.subgraph, compiled.groups)
    return Report(summary, nodes, estimate(compiled.programs, soc), compiled.faults)


def summarise(subgraph: Subgraph, groups: Sequence[Sequence[int]]) -> Summary:
    """Totals of a subgraph whose operations in `groups` run on the NPU."""
    on_npu = {index for group in groups for index in group}
    macs = {operation.index: count_macs(subgraph, operation) for operation in subgraph.operations}
    moved = {operation.index: count_bytes(subgraph, operation) for operation in subgraph.operations}
    return Summary(len(macs), len(on_npu), *_shares(macs, on_npu), len(groups), *_shares(moved, on_npu))


def _shares(amounts: Mapping[int, int], chosen: Set[int]) -> tuple[int, int, float]:
    """All, of the chosen, and the chosen's share: 0 when there is nothing."""
    total, taken = sum(amounts.values()), sum(amounts[index] for index in chosen)
    return total, taken, taken / total if total else 0.0


def count_bytes(subgraph: Subgraph, operation: Operation) -> int:
    """Bytes of an operation's inputs, constants and outputs, each tensor once; types without numbers count nothing."""
    tensors = {t for t in (*operation.inputs, *operation.outputs) if t is not None}
    return sum(_tensor_bytes(subgraph.tensor(t)) for t in tensors)


def _tensor_bytes(tensor: Tensor) -> int:
    return 0 if tensor.dtype is DType.OTHER else tensor.num_elements * tensor.dtype.numpy.itemsize


def estimate(programs: Sequence[Program], soc: str) -> Estimate:
    """Time on a board, from the cycles that the compiler expects of each task."""
    clock_mhz = soc_by_name(soc).clock_mhz
    cycles = sum(_cycles(program) for program in programs)
    tasks = sum(len(program.tasks) for program in programs)
    return Estimate(tasks, cycles / (clock_mhz * 1000), tasks * TASK_INTERRUPT_US / 1000, clock_mhz)


def _cycles(program: Program) -> float:
    tasks = program.debug.get("tasks")
    if not isinstance(tasks, list):
        return 0.0
    return sum(float(task.get("cycles", 0)) for task in tasks if isinstance(task, dict))


def tasks_by_operation(programs: Sequence[Program]) -> dict[int, list[dict[str, Any]]]:
    """The compiler's notes on the tasks of each operation."""
    found: dict[int, list[dict[str, Any]]] = {}
    for program in programs:
        tasks = program.debug.get("tasks")
        for task in tasks if isinstance(tasks, list) else []:
            for index in task["operations"]:
                found.setdefault(index, []).append(task)
    return found


def _node(compiled: Compiled, operation: Operation, partition_of: Mapping[int, int], tasks: Sequence[dict[str, Any]],
          soc: str) -> NodeReport:
    partition = partition_of.get(operation.index)
    refusal = compiled.refusals.get(operation.index)
    output = compiled.subgraph.tensor(operation.outputs[0]) if operation.outputs else None
    return NodeReport(
        operation.index, operation.name, "CPU" if partition is None else "NPU", partition,
        refusal.rule if refusal else "", refusal.reason if refusal else "", count_macs(compiled.subgraph, operation),
        list(output.shape) if output else [], output.dtype.value if output else "",
        count_bytes(compiled.subgraph, operation), advice(operation, refusal) if refusal else "",
        cut_hint(compiled.subgraph, operation, partition_of) if partition is None else
        hints(compiled.subgraph, operation, tasks, soc),
        list(dict.fromkeys(words for task in tasks for words in task["assumed"])))
