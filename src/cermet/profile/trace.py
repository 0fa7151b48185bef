"""A profile's timeline in the trace event format that Perfetto and chrome://tracing open."""
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from cermet.ir.subgraph import Subgraph
from cermet.profile.memory import alive
from cermet.profile.profile import Profile
from cermet.profile.timeline import CPU, UNITS, Event, events, steps

CPU_PROCESS = 1             # cores follow


def make_trace(subgraph: Subgraph, profile: Profile, model: str) -> str:
    """JSON: a process for the CPU and one for each core, a thread for each unit, arena and traffic as counters."""
    rows = [*_names(profile), *map(_row, events(subgraph, profile)), *_arena(subgraph, profile)]
    return json.dumps({"traceEvents": rows, "displayTimeUnit": "ns", "otherData": {
        "model": model, "soc": profile.setting.soc.name, "clock_mhz": profile.setting.clock_mhz,
        "kernel": profile.setting.kernel, "source": "cermet profile, estimated"}}) + "\n"


def _process(core: int | None) -> int:
    return CPU_PROCESS if core is None else CPU_PROCESS + 1 + core


def _thread(unit: str) -> int:
    return 0 if unit == CPU else 1 + UNITS.index(unit)


def _names(profile: Profile) -> Iterator[dict[str, object]]:
    cores: Sequence[int | None] = [None, *range(profile.setting.cores)]
    for core in cores:
        name = CPU if core is None else f"NPU core {core}"
        yield {"ph": "M", "name": "process_name", "pid": _process(core), "args": {"name": name}}
        for unit in (CPU,) if core is None else UNITS:
            yield {"ph": "M", "name": "thread_name", "pid": _process(core), "tid": _thread(unit),
                   "args": {"name": unit}}
            yield {"ph": "M", "name": "thread_sort_index", "pid": _process(core), "tid": _thread(unit),
                   "args": {"sort_index": _thread(unit)}}


def _row(event: Event) -> dict[str, object]:
    return {"ph": "X", "name": event.name, "cat": event.unit, "pid": _process(event.core), "tid": _thread(event.unit),
            "ts": round(event.start_us, 3), "dur": round(event.duration_us, 3), "args": dict(event.details)}


def _arena(subgraph: Subgraph, profile: Profile) -> Iterator[dict[str, object]]:
    """Bytes of the arena whose contents matter, task by task."""
    for step in steps(subgraph, profile):
        if step.part is None:
            continue
        npu = step.start_us + step.part.convert_in_us
        for task in step.part.tasks:
            yield _counter(npu + task.start_us, alive(step.part.memory.residents, task.number))
        yield _counter(npu + step.part.npu_us, 0)


def _counter(time_us: float, value: int) -> dict[str, object]:
    return {"ph": "C", "name": "arena bytes in use", "pid": CPU_PROCESS, "ts": round(time_us, 3),
            "args": {"bytes": value}}
