"""One inference as events on tracks: the CPU, and the units of each core."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from cermet.hw.cycles import LaunchTime
from cermet.ir.operation import Operation
from cermet.ir.subgraph import Subgraph
from cermet.profile.layers import Layer
from cermet.profile.profile import Part, Profile
from cermet.profile.tasks import TimedTask

CPU = "CPU"
TASKS, FETCH, LOAD, ARRAY, STREAM, OUTPUT, STORE = "tasks", "PC", "CNA", "array", "RDMA", "DPU, PPU", "WDMA"
UNITS = (TASKS, FETCH, LOAD, ARRAY, STREAM, OUTPUT, STORE)


@dataclass(frozen=True)
class Event:
    """core: None on the CPU. unit: one of UNITS, or CPU. Microseconds from the beginning of the inference."""

    core: int | None
    unit: str
    name: str
    start_us: float
    duration_us: float
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """A partition, or an operation of the CPU, and when its turn comes."""

    part: Part | None
    layer: Layer | None
    start_us: float

    @property
    def nodes(self) -> tuple[int, ...]:
        if self.part is not None:
            return self.part.nodes
        return self.layer.operations if self.layer is not None else ()

    @property
    def duration_us(self) -> float:
        if self.part is not None:
            return self.part.total_us
        return self.layer.time_us if self.layer is not None else 0.0


def steps(subgraph: Subgraph, profile: Profile) -> list[Step]:
    """Of one inference, one after another: what is ready and comes first in the model goes first."""
    waiting = sorted([Step(part, None, 0.0) for part in profile.parts]
                     + [Step(None, layer, 0.0) for layer in profile.layers if layer.target == "CPU"],
                     key=lambda step: step.nodes)
    operations = {operation.index: operation for operation in subgraph.operations}
    missing = {t for operation in subgraph.operations for t in operation.outputs}
    found: list[Step] = []
    now = 0.0
    while waiting:
        step = next((each for each in waiting if not _needs(each, operations) & missing), waiting[0])
        waiting.remove(step)
        missing -= {t for index in step.nodes for t in operations[index].outputs}
        found.append(replace(step, start_us=now))
        now += step.duration_us
    return found


def _needs(step: Step, operations: Mapping[int, Operation]) -> set[int]:
    """Tensors that come from outside of the step."""
    own = [operations[index] for index in step.nodes]
    made = {t for operation in own for t in operation.outputs}
    return {t for operation in own for t in operation.inputs if t is not None} - made


def events(subgraph: Subgraph, profile: Profile) -> list[Event]:
    """Of one inference on each of the setting's cores."""
    found: list[Event] = []
    for step in steps(subgraph, profile):
        if step.layer is not None:
            found.append(Event(None, CPU, step.layer.type, step.start_us, step.layer.time_us,
                               {"operations": list(step.layer.operations)}))
        if step.part is not None:
            found += _part(step.part, step.start_us, profile)
    return found


def _part(part: Part, start_us: float, profile: Profile) -> Iterator[Event]:
    npu = start_us + part.convert_in_us
    yield Event(None, CPU, "convert in", start_us, part.convert_in_us, {"bytes": part.input_bytes})
    yield Event(None, CPU, "submit", npu, part.submit_us)
    for task in part.tasks:
        if task.kernel_us:
            yield Event(None, CPU, "interrupt", npu + task.end_us, task.kernel_us, {"task": task.number})
        for core in (task.core,) if profile.setting.has_queues else range(profile.setting.cores):
            yield from _task(task, core, npu, profile)
    yield Event(None, CPU, "convert out", npu + part.npu_us, part.convert_out_us, {"bytes": part.output_bytes})


def _task(task: TimedTask, core: int, npu: float, profile: Profile) -> Iterator[Event]:
    us = profile.setting.us
    details = {"operations": list(task.operations), "task": task.number,
               "bound by": task.launches[0].bound_by if task.launches else ""}
    yield Event(core, TASKS, task.layer, npu + task.start_us, task.busy_us, details)
    now = npu + task.start_us + task.wait_us
    fetch = us(sum(launch.fetch for launch in task.launches))
    yield Event(core, FETCH, task.layer, now - fetch, fetch, {"words": sum(each.num_words for each in task.launches)})
    for launch in task.launches:
        for unit, start, cycles, more in _units(launch):
            if cycles:
                yield Event(core, unit, task.layer, now + us(start), us(cycles), more)
        now += us(launch.run)


def _units(launch: LaunchTime) -> Iterator[tuple[str, int, int, dict[str, object]]]:
    """(unit, first cycle, cycles, details) from the start of the blocks on."""
    work, parts = launch.work, dict(launch.parts)
    if work.feature_bytes or work.weight_bytes:
        yield LOAD, 0, launch.fill + parts["load"], {"features": work.feature_bytes, "weights": work.weight_bytes}
    yield ARRAY, launch.fill, parts["array"], {"programmed MACs": work.macs}
    yield STREAM, launch.fill, parts["stream"], {"bytes": work.stream_bytes + work.operand_bytes}
    yield OUTPUT, launch.fill, parts["output"], {}
    yield STORE, launch.run - launch.drain - parts["store"], parts["store"] + launch.drain, {"bytes": work.stored_bytes}
