"""Each layer by its multiply-accumulates per byte of traffic and per second, below what the cores can do."""
from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from cermet.profile.layers import Layer
from cermet.profile.profile import Profile
from cermet.profile_html.style import COLOURS

WIDTH, HEIGHT = 1140, 440
LEFT, RIGHT, TOP, BOTTOM = 66, 20, 18, 46
HEADROOM = 2.5                  # above the array's line, for its name
NAME_AT = {"roof": 0.25, "port": 0.6}     # of a slope's length
SMALLEST, LARGEST = 4.0, 22.0           # radii of a layer, whose area is its time


class Axis:
    """A logarithmic scale that begins at a power of ten."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = math.floor(math.log10(low)), math.log10(high)
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0), 1) * (self.end - self.start)

    @property
    def decades(self) -> list[float]:
        return [10.0 ** power for power in range(self.low, math.floor(self.high) + 1)]


def roofline(profile: Profile) -> str:
    """An <svg> element; empty without a layer that multiplies on the NPU."""
    layers = [layer for layer in profile.layers if layer.tasks and layer.macs]
    if not layers:
        return ""
    setting, timing = profile.setting, profile.setting.soc.timing
    peak = setting.arrays * setting.macs_per_cycle * setting.clock_mhz / 1000
    across = Axis(min([0.5, *map(intensity, layers)]), max([200, *map(intensity, layers)]), LEFT, WIDTH - RIGHT)
    upward = Axis(min([1.0, *map(rate, layers)]), HEADROOM * peak, HEIGHT - BOTTOM, TOP)
    roofs = [("roof", timing.memory_gb_s.value / setting.inferences, "memory"),
             ("port", setting.arrays * timing.load_bytes.value * setting.clock_mhz / 1000, "load ports")]
    lines = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" role="img" aria-label="roofline of the layers">']
    lines += [*_grid(across, upward), *(_roof(name, speed, peak, across, upward, words)
                                        for name, speed, words in roofs)]
    lines.append(f'<text x="{WIDTH - RIGHT - 4}" y="{upward.place(peak) - 8:.1f}" text-anchor="end">'
                 f"array, {peak:,.0f} GMAC/s</text>")
    longest = max(layer.time_us for layer in layers)
    lines += [_point(layer, longest, across, upward) for layer in sorted(layers, key=lambda layer: -layer.time_us)]
    return "\n".join([*lines, "</svg>"])


def intensity(layer: Layer) -> float:
    """Multiply-accumulates per byte."""
    return layer.macs / (layer.read_bytes + layer.written_bytes)


def rate(layer: Layer) -> float:
    """Giga multiply-accumulates per second."""
    return layer.macs / layer.time_us / 1000


def _grid(across: Axis, upward: Axis) -> Iterator[str]:
    for value in across.decades:
        x = across.place(value)
        yield f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield f'<text class="soft" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>'
    for value in upward.decades:
        y = upward.place(value)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text class="soft" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>'
    yield (f'<text class="soft" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
           "multiply-accumulates per byte of memory traffic</text>")
    yield (f'<text class="soft" transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
           'text-anchor="middle">GMAC/s, with interrupts</text>')


def _roof(name: str, speed: float, peak: float, across: Axis, upward: Axis, words: str) -> str:
    """The line y = speed * x up to the array's peak, and its name along it."""
    low = max(10.0 ** across.low, 10.0 ** upward.low / speed)
    knee = peak / speed
    start, end = (across.place(low), upward.place(low * speed)), (across.place(knee), upward.place(peak))
    flat = f"H{WIDTH - RIGHT}" if name == "roof" else ""
    angle = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))
    x, y = (low + NAME_AT[name] * (high - low) for low, high in zip(start, end, strict=True))
    return (f'<path class="{name}" d="M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}{flat}"/>'
            f'<text class="soft" transform="translate({x:.1f} {y - 6:.1f}) rotate({angle:.1f})">'
            f"{escape(words)}, {speed:.1f} GB/s</text>")


def _point(layer: Layer, longest: float, across: Axis, upward: Axis) -> str:
    radius = max(SMALLEST, LARGEST * math.sqrt(layer.time_us / longest))
    told = (f"{' '.join(map(str, layer.operations))} {layer.type}: {layer.time_us:,.1f} us, {rate(layer):,.1f} GMAC/s, "
            f"{intensity(layer):,.1f} MAC per byte, bound by {layer.bound_by}")
    return (f'<a href="#l{layer.operations[0]}"><circle class="{COLOURS[layer.bound_by]}" '
            f'cx="{across.place(intensity(layer)):.1f}" cy="{upward.place(rate(layer)):.1f}" r="{radius:.1f}">'
            f"<title>{escape(told)}</title></circle></a>")
