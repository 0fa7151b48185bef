"""The timeline of CPU, cores and units, and the arena over the same time: drawings that zoom without a script."""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from cermet.profile.layers import KB
from cermet.profile.memory import alive
from cermet.profile.profile import Profile
from cermet.profile.timeline import ARRAY, CPU, FETCH, LOAD, OUTPUT, STORE, STREAM, TASKS, UNITS, Event, Step
from cermet.profile_html.style import COLOURS, ZOOMS

LANE, BAR, ARENA_HEIGHT = 22, 16, 220
SCALE = 1000.0                  # units of a drawing's width
COLOUR_OF_UNIT = {FETCH: "p4", LOAD: "p2", ARRAY: "p0", STREAM: "p5", OUTPUT: "p1", STORE: "p7"}
NUM_COLOURS = 8
TICKS = 9                       # at zoom 1, at most
LAST_TICK = 0.97                # of the width: a label behind it would be cut


def timeline(profile: Profile, events: Sequence[Event], total_us: float) -> str:
    """Names of the lanes, and the lanes; empty when nothing takes time."""
    if total_us <= 0:
        return ""
    lanes: list[tuple[int | None, str]] = [(None, CPU)]
    lanes += [(core, unit) for core in range(profile.setting.cores) for unit in UNITS]
    place = {lane: number for number, lane in enumerate(lanes)}
    names = "".join(f'<div class="{"core" if unit in (CPU, TASKS) else "unit"}">{escape(_name(core, unit))}</div>'
                    for core, unit in lanes)
    height = LANE * len(lanes)
    grid = "".join(f'<path class="lane" d="M0 {LANE * number + LANE}H{SCALE:.0f}" vector-effect="non-scaling-stroke"/>'
                   for number in range(len(lanes)))
    bars = "\n".join(_bar(event, place[event.core, event.unit], total_us) for event in events if event.duration_us > 0)
    return _figure(names, f'<svg viewBox="0 0 {SCALE:.0f} {height}" height="{height}" '
                   f'preserveAspectRatio="none" role="img" aria-label="timeline">{grid}\n{bars}</svg>', total_us)


def arena(steps: Sequence[Step], total_us: float) -> str:
    """Buffers by address, each from its first task to its last; a line for the bytes in use."""
    parts = [step for step in steps if step.part is not None and step.part.memory.residents]
    size = max((step.part.memory.arena for step in parts if step.part), default=0)
    if not size:
        return ""
    drawn = "\n".join(line for step in parts for line in _arena(step, size, total_us))
    name = f'<div class="tall" style="height:{ARENA_HEIGHT}px">{size / KB:,.0f} KB at the top</div>'
    return _figure(name, f'<svg viewBox="0 0 {SCALE:.0f} {ARENA_HEIGHT}" height="{ARENA_HEIGHT}" '
                   f'preserveAspectRatio="none" role="img" aria-label="arena over time">{drawn}</svg>', total_us)


def _figure(names: str, drawing: str, total_us: float) -> str:
    """Names beside a drawing that widens, with the times below it."""
    return (f'<div class="lanes"><div class="names">{names}<div></div></div><div class="view"><div class="wide">'
            f'{drawing}<div class="ticks">{"".join(_ticks(total_us))}</div></div></div></div>')


def zoom_buttons() -> str:
    """Radio buttons that come before all that they widen."""
    return "".join(f'<input type="radio" name="zoom" id="z{zoom}"{" checked" if zoom == 1 else ""}/>'
                   f'<label for="z{zoom}">{zoom}x</label> ' for zoom in ZOOMS)


def _name(core: int | None, unit: str) -> str:
    if core is None:
        return CPU
    return f"core {core}: tasks" if unit == TASKS else unit


def _bar(event: Event, lane: int, total_us: float) -> str:
    colour = COLOURS["cpu"] if event.core is None else COLOUR_OF_UNIT.get(event.unit, "")
    if event.unit == TASKS:
        colour = COLOURS[str(event.details["bound by"])]
    elif event.name == "interrupt":
        colour = COLOURS["interrupt"]
    more = "".join(f", {name} {value}" for name, value in event.details.items())
    told = f"{event.name}: {event.duration_us:,.1f} us from {event.start_us:,.1f}{more}"
    start, width = SCALE * event.start_us / total_us, SCALE * event.duration_us / total_us
    return (f'<rect class="{colour}" x="{start:.3f}" y="{LANE * lane + (LANE - BAR) // 2}" width="{width:.3f}" '
            f'height="{BAR}"><title>{escape(told)}</title></rect>')


def _arena(step: Step, size: int, total_us: float) -> Iterator[str]:
    part = step.part
    assert part is not None
    npu = step.start_us + part.convert_in_us
    for number, each in enumerate(part.memory.residents):
        first = SCALE * (npu + part.tasks[each.first_task].start_us) / total_us
        last = SCALE * (npu + part.tasks[each.last_task].end_us) / total_us
        top = ARENA_HEIGHT * (1 - (each.offset_bytes + each.size_bytes) / size)
        told = (f"{each.name}: {each.size_bytes:,} bytes at {each.offset_bytes:,}, tasks {each.first_task} to "
                f"{each.last_task}")
        yield (f'<rect class="p{number % NUM_COLOURS}" opacity=".75" x="{first:.3f}" y="{top:.2f}" '
               f'width="{last - first:.3f}" height="{ARENA_HEIGHT * each.size_bytes / size:.2f}">'
               f"<title>{escape(told)}</title></rect>")
    points = []
    for task in part.tasks:
        y = ARENA_HEIGHT * (1 - alive(part.memory.residents, task.number) / size)
        points += [f"{SCALE * (npu + at) / total_us:.3f},{y:.2f}" for at in (task.start_us, task.end_us)]
    yield f'<polyline class="alive" points="{" ".join(points)}"/>'


def _ticks(total_us: float) -> Iterator[str]:
    """Round times, other ones at each zoom."""
    for zoom in ZOOMS:
        step = _round_step(total_us / (TICKS * zoom))
        for number in range(math.ceil(LAST_TICK * total_us / step)):
            share = number * step / total_us
            first = " first" if number == 0 else ""
            yield f'<span class="t{zoom}{first}" style="left:{100 * share:.4f}%">{_time(number * step)}</span>'


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten, not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def _time(us: float) -> str:
    return f"{us / 1000:.6g} ms" if us >= 1000 else f"{us:.4g} µs"
