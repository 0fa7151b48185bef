"""The whole profile of a compiled subgraph: layers, parts of an inference, types, memory."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from cermet.compiler import Compiled
from cermet.cost import CONVERTED_BYTES_PER_US, border_bytes
from cermet.profile.layers import Layer, cpu_layer, npu_layers
from cermet.profile.memory import Memory, memory_of
from cermet.profile.setting import Setting
from cermet.profile.tasks import TimedTask, elapsed_us, npu_us, timed_tasks
from cermet.profile.traffic import compulsory_bytes


@dataclass(frozen=True)
class Part:
    """One partition: the three parts of its invocation, in microseconds, and what lies behind the second."""

    nodes: tuple[int, ...]
    convert_in_us: float
    npu_us: float
    convert_out_us: float
    input_bytes: int
    output_bytes: int
    compulsory_bytes: int
    busy_us: float
    interrupts_us: float
    submit_us: float
    memory: Memory
    tasks: tuple[TimedTask, ...]

    @property
    def total_us(self) -> float:
        return self.convert_in_us + self.npu_us + self.convert_out_us


@dataclass(frozen=True)
class TypeTotal:
    """All layers of a type on one target. share: of the time of all layers, 0..1."""

    type: str
    target: str
    layers: int
    tasks: int
    macs: int
    time_us: float
    share: float
    mac_use: float


@dataclass(frozen=True)
class Totals:
    """Of one inference on one core. per_second: inferences of all cores together; the CPU's part ASSUMED to be side
    by side as well. compulsory_bytes: what had to be moved, whoever compiled it; traffic: times that is moved."""

    layers: int
    tasks: int
    macs: int
    ddr_cycles: int
    npu_cycles: int
    max_cycles: int
    read_bytes: int
    written_bytes: int
    compulsory_bytes: int
    npu_us: float
    convert_us: float
    cpu_us: float
    mac_use: float

    @property
    def total_us(self) -> float:
        return self.npu_us + self.convert_us + self.cpu_us

    @property
    def traffic(self) -> float:
        return (self.read_bytes + self.written_bytes) / self.compulsory_bytes if self.compulsory_bytes else 0.0


@dataclass(frozen=True)
class Profile:
    """One subgraph under one setting."""

    setting: Setting
    layers: tuple[Layer, ...]
    parts: tuple[Part, ...]
    types: tuple[TypeTotal, ...]
    totals: Totals

    @property
    def per_second(self) -> float:
        """Inferences of all cores."""
        return self.setting.inferences * 1e6 / self.totals.total_us if self.totals.total_us else 0.0

    def to_json(self) -> dict[str, object]:
        """docs/profile-json.md."""
        setting = self.setting
        return {
            "setting": {"soc": setting.soc.name, "clock_mhz": setting.clock_mhz, "cores": setting.cores,
                        "kernel": setting.kernel},
            "totals": asdict(self.totals) | {"total_us": self.totals.total_us, "traffic": self.totals.traffic,
                                                 "per_second": self.per_second},
            "layers": [asdict(layer) | {"rw_kb": layer.rw_kb} for layer in self.layers],
            "types": [asdict(kind) for kind in self.types],
            "parts": [_part_json(part) for part in self.parts]}


def _part_json(part: Part) -> dict[str, object]:
    memory = {name: value for name, value in asdict(part.memory).items() if name != "residents"}
    return {"nodes": part.nodes, "convert_in_us": part.convert_in_us, "npu_us": part.npu_us,
            "convert_out_us": part.convert_out_us, "input_bytes": part.input_bytes, "output_bytes": part.output_bytes,
            "compulsory_bytes": part.compulsory_bytes,
            "busy_us": part.busy_us, "interrupts_us": part.interrupts_us, "submit_us": part.submit_us,
            "memory": memory | {"total": part.memory.total},
            "arena": [asdict(each) for each in part.memory.residents],
            "tasks": [_task_json(task) for task in part.tasks]}


def _task_json(task: TimedTask) -> dict[str, object]:
    return {"layer": task.layer, "operations": task.operations, "core": task.core, "kernel_us": task.kernel_us,
            "start_us": task.start_us, "end_us": task.end_us,
            "launches": [{"unit": launch.work.unit, "words": launch.num_words, "fetch": launch.fetch,
                          "fill": launch.fill, **dict(launch.parts), "drain": launch.drain,
                          "bound_by": launch.bound_by} for launch in task.launches]}


def make_profile(compiled: Compiled, setting: Setting) -> Profile:
    """By the cycle model; nothing is run."""
    parts = tuple(_part(compiled, number, setting) for number in range(len(compiled.groups)))
    layers = [layer for number, part in enumerate(parts)
              for layer in npu_layers(compiled.subgraph, part.nodes, number, part.tasks, setting)]
    on_npu = {index for group in compiled.groups for index in group}
    layers += [cpu_layer(compiled.subgraph, operation, setting) for operation in compiled.subgraph.operations
               if operation.index not in on_npu]
    layers.sort(key=lambda layer: layer.operations)
    return Profile(setting, tuple(layers), parts, _types(layers, setting), _totals(layers, parts, setting))


def _part(compiled: Compiled, number: int, setting: Setting) -> Part:
    group, program = compiled.groups[number], compiled.programs[number]
    members = set(group)
    part = compiled.subgraph.extract(op for op in compiled.subgraph.operations if op.index in members)
    into, out = border_bytes(part)
    tasks = timed_tasks(program, setting)
    busy, whole = elapsed_us(tasks, with_kernel=False), npu_us(tasks, setting)
    return Part(
        tuple(group), into / CONVERTED_BYTES_PER_US, whole, out / CONVERTED_BYTES_PER_US, into, out,
        compulsory_bytes=compulsory_bytes(compiled.subgraph, group), busy_us=busy,
        interrupts_us=whole - busy - setting.soc.submit_us,
        submit_us=setting.soc.submit_us, memory=memory_of(program), tasks=tuple(tasks))


def _types(layers: Sequence[Layer], setting: Setting) -> tuple[TypeTotal, ...]:
    groups: dict[tuple[str, str], list[Layer]] = {}
    for layer in layers:
        groups.setdefault((layer.type, layer.target), []).append(layer)
    time = sum(layer.time_us for layer in layers)
    found = [TypeTotal(kind, target, len(own), sum(layer.tasks for layer in own), sum(layer.macs for layer in own),
                       own_time := sum(layer.time_us for layer in own), own_time / time if time else 0.0,
                       _mac_use(own, setting)) for (kind, target), own in groups.items()]
    return tuple(sorted(found, key=lambda kind: -kind.time_us))


def _mac_use(layers: Iterable[Layer], setting: Setting) -> float:
    """Of the NPU's layers, over their time."""
    own = [layer for layer in layers if layer.target == "NPU"]
    available = sum(layer.time_us for layer in own) * setting.clock_mhz * setting.macs_per_cycle * setting.arrays
    return sum(layer.macs for layer in own) / available if available else 0.0


def _totals(layers: Sequence[Layer], parts: Sequence[Part], setting: Setting) -> Totals:
    names = ("tasks", "macs", "ddr_cycles", "npu_cycles", "max_cycles", "read_bytes", "written_bytes")
    sums = {name: sum(getattr(layer, name) for layer in layers) for name in names}
    return Totals(
        len(layers), **sums, compulsory_bytes=sum(part.compulsory_bytes for part in parts),
        npu_us=sum(part.npu_us for part in parts),
        convert_us=sum(part.convert_in_us + part.convert_out_us for part in parts),
        cpu_us=sum(layer.time_us for layer in layers if layer.target == "CPU"), mac_use=_mac_use(layers, setting))

