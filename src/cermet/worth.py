"""What could run on the NPU but is better off on the CPU: small partitions, and moves that only widen a border."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from cermet.cost import CLEAR_LOSS, border_bytes, conversion_us, cpu_us
from cermet.drivers.base import Refusal
from cermet.ir.moves import LAYOUTS
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph

Group = tuple[int, ...]


def better_on_cpu(subgraph: Subgraph, npu_us: Mapping[Group, float]) -> dict[int, Refusal]:
    """Refusals for operations of the groups. npu_us: what each group's program takes, without conversions."""
    return slow_groups(subgraph, npu_us) or wide_borders(subgraph, list(npu_us))


def slow_groups(subgraph: Subgraph, npu_us: Mapping[Group, float]) -> dict[int, Refusal]:
    """Groups that take CLEAR_LOSS times the CPU's time or more.

    The one with the most work for a CPU is never judged: who loads the delegate wants the model on the NPU.
    """
    parts = {group: _part(subgraph, group) for group in npu_us}
    on_cpu = {group: sum(cpu_us(part, operation) for operation in part.operations) for group, part in parts.items()}
    largest = max(on_cpu, key=lambda group: on_cpu[group], default=None)
    found: dict[int, Refusal] = {}
    for group, part in parts.items():
        total = npu_us[group] + conversion_us(part)
        if group != largest and total >= CLEAR_LOSS * on_cpu[group]:
            them = "takes" if len(group) == 1 else f"and {len(group) - 1} beside it take"
            reason = f"{them} about {on_cpu[group]:.0f} us on the CPU, {total:.0f} us on the NPU"
            found.update(dict.fromkeys(group, Refusal("partition_pays_off", reason)))
    return found


def wide_borders(subgraph: Subgraph, groups: Sequence[Group]) -> dict[int, Refusal]:
    """Operations next to the CPU that only move data (PAD, SLICE, resizing) and make more of it cross the border."""
    found = {}
    for group in groups:
        part = _part(subgraph, group)
        for operation in part.operations:
            if operation.kind in LAYOUTS and len(group) > 1 and _is_beside_the_cpu(subgraph, part, operation):
                without = _part(subgraph, [index for index in group if index != operation.index])
                after, before = sum(border_bytes(part)), sum(border_bytes(without))
                if before < after:
                    found[operation.index] = Refusal("border_is_narrow", (
                        f"would make {after:,} bytes cross its partition's border, {before:,} do without it"))
    return found


def _is_beside_the_cpu(subgraph: Subgraph, part: Subgraph, operation: Operation) -> bool:
    """All that it reads, or all that it makes, belongs to operations outside of its part."""
    given = [t for t in operation.inputs if t is not None and not subgraph.tensor(t).is_constant]
    is_first = all(part.producer(t) is None and subgraph.producer(t) is not None for t in given)
    is_last = all(not part.consumers(t) and subgraph.consumers(t) and t not in subgraph.outputs
                  for t in operation.outputs)
    return is_first or is_last


def _part(subgraph: Subgraph, indices: Sequence[int]) -> Subgraph:
    wanted = set(indices)
    return subgraph.extract(operation for operation in subgraph.operations if operation.index in wanted)
