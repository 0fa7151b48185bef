"""The layers of a profile: operations with the tasks that compute them together, and operations of the CPU."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cermet.cost import cpu_us
from cermet.hw.cycles import ddr_cycles
from cermet.ir.macs import count_macs
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph
from cermet.profile.setting import Setting
from cermet.profile.tasks import TimedTask, elapsed_us

KB = 1024


@dataclass(frozen=True)
class Layer:
    """One line of the table.

    operations      indices; several where tasks compute them together
    type            names of the operations, joined by "+"
    target          NPU or CPU
    partition       None on the CPU
    macs            of the model, padding included
    ddr_cycles      all bytes over the memory's rate; npu_cycles: of the array; max_cycles: the larger one, task by
                    task: the vendor's three columns
    time_us         by the cycle model, with the kernel's work between tasks; ASSUMED on the CPU
    mac_use         share of the array's multipliers that worked in that time, 0..1
    load            share of time_us in which each core was busy, 0..1
    read_bytes, written_bytes   of memory
    bound_by        what would have to become faster; empty when there is nothing to do
    """

    operations: tuple[int, ...]
    type: str
    dtype: str
    target: str
    partition: int | None
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    macs: int
    tasks: int
    ddr_cycles: int
    npu_cycles: int
    max_cycles: int
    time_us: float
    mac_use: float
    load: tuple[float, ...]
    read_bytes: int
    written_bytes: int
    bound_by: str

    @property
    def place(self) -> str:
        """NPU 0."""
        return self.target if self.partition is None else f"{self.target} {self.partition}"

    @property
    def load_text(self) -> str:
        """Percent of each core: 93/0/0."""
        return "/".join(f"{100 * share:.0f}" for share in self.load) if self.tasks else ""

    @property
    def rw_kb(self) -> float:
        return (self.read_bytes + self.written_bytes) / KB


def shape_text(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes)) or "scalar"


def npu_layers(subgraph: Subgraph, group: Sequence[int], partition: int, tasks: Sequence[TimedTask],
               setting: Setting) -> list[Layer]:
    """One layer for each set of operations that share tasks; operations without a task have a layer of nothing."""
    return [_npu_layer(subgraph, members, partition, own, setting) for members, own in _shared(group, tasks)]


def _shared(group: Sequence[int], tasks: Sequence[TimedTask]) -> list[tuple[tuple[int, ...], list[TimedTask]]]:
    """Sets of operations, each with its tasks. Tasks that have an operation in common belong together."""
    sets: list[tuple[set[int], list[TimedTask]]] = []
    for task in tasks:
        members, own = set(task.operations), [task]
        for other in [entry for entry in sets if entry[0] & members]:
            sets.remove(other)
            members, own = members | other[0], other[1] + own
        sets.append((members, own))
    covered = {index for members, _ in sets for index in members}
    sets += [({index}, []) for index in group if index not in covered]
    return sorted(((tuple(sorted(members)), own) for members, own in sets), key=lambda entry: entry[0])


def _npu_layer(subgraph: Subgraph, members: tuple[int, ...], partition: int, tasks: Sequence[TimedTask],
               setting: Setting) -> Layer:
    operations = _find(subgraph, members)
    works = [launch.work for task in tasks for launch in task.launches]
    ddr = [ddr_cycles(setting.soc, work) for work in works]
    time = elapsed_us(tasks, with_kernel=True)
    macs = sum(count_macs(subgraph, operation) for operation in operations)
    available = setting.macs_per_cycle * setting.arrays * time * setting.clock_mhz
    return Layer(
        members, _type(operations), _dtype(subgraph, operations), "NPU", partition, *_shapes(subgraph, operations),
        macs=macs, tasks=len(tasks), ddr_cycles=round(sum(ddr)),
        npu_cycles=sum(work.array_cycles for work in works),
        max_cycles=round(sum(max(work.array_cycles, cycles) for work, cycles in zip(works, ddr, strict=True))),
        time_us=time, mac_use=macs / available if available else 0.0,
        load=tuple(_load(tasks, core, time, setting) for core in range(setting.soc.cores)),
        read_bytes=sum(work.read_bytes for work in works), written_bytes=sum(work.stored_bytes for work in works),
        bound_by=bound_by(tasks, setting))


def _load(tasks: Sequence[TimedTask], core: int, time: float, setting: Setting) -> float:
    """Share of a layer's time in which a core is busy with it. Inferences side by side load their cores alike."""
    if not time or core >= setting.cores:
        return 0.0
    return sum(task.busy_us for task in tasks if task.core == core or not setting.has_queues) / time


def bound_by(tasks: Iterable[TimedTask], setting: Setting) -> str:
    """The part that most of the time goes to: of the cycle model, or the interrupts."""
    shares: dict[str, float] = {}
    for task in tasks:
        for launch in task.launches:
            shares[launch.bound_by] = shares.get(launch.bound_by, 0.0) + setting.us(launch.total)
        if task.kernel_us:
            shares["interrupt"] = shares.get("interrupt", 0.0) + task.kernel_us
    return max(shares, key=lambda name: shares[name], default="")


def cpu_layer(subgraph: Subgraph, operation: Operation, setting: Setting) -> Layer:
    """An operation that stays on the CPU."""
    return Layer((operation.index,), operation.name, _dtype(subgraph, [operation]), "CPU", None,
                 *_shapes(subgraph, [operation]), macs=count_macs(subgraph, operation), tasks=0, ddr_cycles=0,
                 npu_cycles=0, max_cycles=0, time_us=cpu_us(subgraph, operation), mac_use=0.0,
                 load=(0.0,) * setting.soc.cores, read_bytes=0, written_bytes=0, bound_by="cpu")


def _find(subgraph: Subgraph, members: Iterable[int]) -> list[Operation]:
    wanted = set(members)
    return [operation for operation in subgraph.operations if operation.index in wanted]


def _type(operations: Sequence[Operation]) -> str:
    return "+".join(operation.name for operation in operations)


def _dtype(subgraph: Subgraph, operations: Sequence[Operation]) -> str:
    tensors = [subgraph.tensor(t) for operation in operations for t in operation.outputs]
    return tensors[-1].dtype.value if tensors else ""


def _shapes(subgraph: Subgraph,
            operations: Sequence[Operation]) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """(what comes from outside of these operations, constants of more than one dimension included; last output)."""
    made = {t for operation in operations for t in operation.outputs}
    read = dict.fromkeys(t for operation in operations for t in operation.inputs if t is not None and t not in made)
    shapes = tuple(subgraph.tensor(t).shape for t in read
                   if not subgraph.tensor(t).is_constant or len(subgraph.tensor(t).shape) > 1)
    outputs = [t for operation in operations for t in operation.outputs]
    return shapes, subgraph.tensor(outputs[-1]).shape if outputs else ()
