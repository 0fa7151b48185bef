"""What the compiler makes of a model, node by node: the data behind `cermet report` and the summary of `cermet run`."""
from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from cermet.compiler import Compiled
from cermet.cost import border_bytes, conversion_us, cpu_us, tensor_bytes
from cermet.drivers.base import Program
from cermet.drivers.rocket.assumed import BY_NAME, Part
from cermet.hw.cycles import Conditions
from cermet.hw.soc import Soc, soc_by_name
from cermet.ir.macs import count_macs
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph
from cermet.profile.tasks import program_cycles
from cermet.report_advice import advice, cut_hint, hints


@dataclass(frozen=True)
class NodeReport:
    """One operation. target: "NPU" or "CPU"; partition is None on the CPU, rule and reason are empty on the NPU.

    bytes     of its inputs, constants and outputs
    advice    what would have to change in the model to bring it onto the NPU; empty there
    hints     what costs time and why: on the NPU, or by cutting its part in two
    assumed   names of the parts that its register programs take for granted: Report.assumptions
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
        moved = f"{self.bytes_share:.2%} of the bytes" if self.bytes else "no bytes"
        return f"{self.nodes_npu} of {self.nodes} nodes, {macs}, {moved}, {partitions}"


@dataclass(frozen=True)
class PartitionReport:
    """One partition.

    nodes                      indices of its operations
    input_bytes, output_bytes  what is converted at its border, in the model's own layout
    npu_us                     as the kernel drives it today, with conversions; cpu_us: the same nodes on the CPU
    """

    nodes: list[int]
    tasks: int
    macs: int
    input_bytes: int
    output_bytes: int
    npu_us: float
    cpu_us: float


@dataclass(frozen=True)
class Assumption:
    """A part of the hardware that programs take for granted, and the nodes that do."""

    name: str
    words: str
    evidence: str
    source: str
    nodes: list[int]

    def __str__(self) -> str:
        return f"{self.words}: {self.evidence} ({self.source})"


@dataclass(frozen=True)
class Estimate:
    """What a board would need for the NPU's part: cycles at the full clock and at the one at which the mainline kernel
    leaves the NPU, and an interrupt for each task, or for each job with the option chains=program.

    ASSUMED: nothing else uses the memory, every interrupt takes one round trip.
    """

    tasks: int
    npu_ms: float
    npu_mainline_ms: float
    interrupts: int
    interrupts_ms: float
    clock_mhz: int
    mainline_clock_mhz: int

    @property
    def total_ms(self) -> float:
        return self.npu_ms + self.interrupts_ms

    @property
    def mainline_ms(self) -> float:
        """At the clock at which the mainline kernel leaves the NPU."""
        return self.npu_mainline_ms + self.interrupts_ms

    def __str__(self) -> str:
        """At the clock a board has today and at the one it could have."""
        interrupts = "1 task interrupt" if self.interrupts == 1 else f"{self.interrupts} task interrupts"
        return (f"{self.mainline_ms:.1f} ms estimated at mainline's {self.mainline_clock_mhz} MHz, "
                f"{self.total_ms:.1f} ms at {self.clock_mhz} MHz; {self.interrupts_ms:.1f} ms of it for {interrupts}")


@dataclass(frozen=True)
class Report:
    """Totals, partitions and nodes of one subgraph."""

    summary: Summary
    nodes: tuple[NodeReport, ...]
    partitions: tuple[PartitionReport, ...]
    assumptions: tuple[Assumption, ...]
    estimate: Estimate
    faults: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """docs/report-json.md."""
        estimate = asdict(self.estimate) | {"total_ms": self.estimate.total_ms}
        return {"summary": asdict(self.summary), "nodes": [asdict(node) for node in self.nodes],
                "partitions": [asdict(partition) for partition in self.partitions],
                "assumptions": [asdict(assumption) for assumption in self.assumptions],
                "estimate": estimate, "faults": list(self.faults)}


def make_report(compiled: Compiled, soc: str) -> Report:
    """The report of a compiled subgraph."""
    partition_of = {index: number for number, group in enumerate(compiled.groups) for index in group}
    tasks, blocks = tasks_by_operation(compiled.programs), blocks_by_operation(compiled.programs)
    nodes = tuple(_node(compiled, operation, partition_of, tasks.get(operation.index, []),
                        blocks.get(operation.index, (1, 1)), soc) for operation in compiled.subgraph.operations)
    summary = summarise(compiled.subgraph, compiled.groups)
    described = soc_by_name(soc)
    partitions = tuple(_partition(compiled.subgraph, group, program, described)
                       for group, program in zip(compiled.groups, compiled.programs, strict=True))
    return Report(summary, nodes, partitions, _assumptions(nodes), estimate(compiled.programs, soc), compiled.faults)


def _npu_us(soc: Soc, program: Program) -> float:
    """As the mainline kernel drives it, at its clock."""
    cycles = program_cycles(soc, program, Conditions(soc.mainline_clock_mhz))
    return soc.submit_us + len(program.chains) * soc.interrupt_us + cycles / soc.mainline_clock_mhz


def _partition(subgraph: Subgraph, group: Sequence[int], program: Program, soc: Soc) -> PartitionReport:
    members = set(group)
    part = subgraph.extract(operation for operation in subgraph.operations if operation.index in members)
    macs = sum(count_macs(subgraph, operation) for operation in part.operations)
    return PartitionReport(
        list(group), len(program.tasks), macs, *border_bytes(part),
        npu_us=round(_npu_us(soc, program) + conversion_us(part), 1),
        cpu_us=round(sum(cpu_us(part, operation) for operation in part.operations), 1))


def _assumptions(nodes: Sequence[NodeReport]) -> tuple[Assumption, ...]:
    """In the order of the list of parts."""
    used = {name: [node.index for node in nodes if name in node.assumed] for name in BY_NAME}
    parts: list[tuple[Part, list[int]]] = [(BY_NAME[name], indices) for name, indices in used.items() if indices]
    return tuple(Assumption(part.name, part.words, part.evidence.value, part.source, indices)
                 for part, indices in parts)


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
    return tensor_bytes(subgraph, {t for t in (*operation.inputs, *operation.outputs) if t is not None})


def estimate(programs: Sequence[Program], soc: str) -> Estimate:
    """Time on a board, by the cycle model."""
    described = soc_by_name(soc)
    tasks = sum(len(program.tasks) for program in programs)
    interrupts = sum(len(program.chains) for program in programs)
    full, mainline = (sum(program_cycles(described, program, Conditions(clock)) for program in programs) / clock / 1000
                      for clock in (described.clock_mhz, described.mainline_clock_mhz))
    return Estimate(tasks, full, mainline, interrupts, interrupts * described.interrupt_us / 1000,
                    described.clock_mhz, described.mainline_clock_mhz)


def tasks_by_operation(programs: Sequence[Program]) -> dict[int, list[dict[str, Any]]]:
    """The compiler's notes on the tasks of each operation, and whether an interrupt follows on mainline."""
    found: dict[int, list[dict[str, Any]]] = {}
    for program in programs:
        tasks, ends = program.debug.get("tasks"), {chain[-1] for chain in program.chains}
        for number, task in enumerate(tasks if isinstance(tasks, list) else []):
            for index in task["operations"]:
                found.setdefault(index, []).append({**task, "interrupts": number in ends})
    return found


def blocks_by_operation(programs: Sequence[Program]) -> dict[int, tuple[int, int]]:
    """Rows and columns of pixels that an operation reads as one, where the compiler has decided so (fold_strides)."""
    found: dict[int, tuple[int, int]] = {}
    for program in programs:
        noted = program.debug.get("blocks")
        found |= {index: (rows, columns) for index, rows, columns in (noted if isinstance(noted, list) else [])}
    return found


def _node(compiled: Compiled, operation: Operation, partition_of: Mapping[int, int], tasks: Sequence[dict[str, Any]],
          block: tuple[int, int], soc: str) -> NodeReport:
    partition = partition_of.get(operation.index)
    refusal = compiled.refusals.get(operation.index)
    output = compiled.subgraph.tensor(operation.outputs[0]) if operation.outputs else None
    return NodeReport(
        operation.index, operation.name, "CPU" if partition is None else "NPU", partition,
        refusal.rule if refusal else "", refusal.reason if refusal else "", count_macs(compiled.subgraph, operation),
        list(output.shape) if output else [], output.dtype.value if output else "",
        count_bytes(compiled.subgraph, operation), advice(operation, refusal) if refusal else "",
        cut_hint(compiled.subgraph, operation, partition_of) if partition is None else
        hints(compiled.subgraph, operation, tasks, soc, block),
        list(dict.fromkeys(name for task in tasks for name in task["assumed"])))
