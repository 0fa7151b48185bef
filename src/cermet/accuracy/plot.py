"""A drawing of the errors along a network: shapes once, written as SVG or, with Pillow, as PNG."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from cermet.accuracy.error import Error
from cermet.accuracy.measure import Row
from cermet.errors import CermetError

WIDTH, HEIGHT = 1200, 640
LEFT, RIGHT = 70, 24
PANELS = ((90, 300), (380, 590))        # top and bottom of each
CHAINED, ALONE, CPU, INK, GRID = "#d9603b", "#2f6fb2", "#eceef1", "#222b36", "#d5d9df"


@dataclass(frozen=True)
class Box:
    """A filled rectangle; title: shown when the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str = ""


@dataclass(frozen=True)
class Line:
    """A polyline."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0


@dataclass(frozen=True)
class Text:
    """anchor: start, middle or end of the text lies at x; y is its base line."""

    x: float
    y: float
    text: str
    size: int = 13
    anchor: str = "start"
    colour: str = INK


Shape = Box | Line | Text


def write_plot(path: Path, title: str, rows: Sequence[Row]) -> None:
    """.svg or .png, as the name says. Raises CermetError for another ending."""
    shapes = list(draw(title, rows))
    if path.suffix.lower() == ".svg":
        path.write_text(to_svg(shapes), encoding="utf-8")
    elif path.suffix.lower() == ".png":
        write_png(path, shapes)
    else:
        raise CermetError(f"--plot: {path.name} must end in .svg or .png")


def draw(title: str, rows: Sequence[Row]) -> Iterator[Shape]:
    """Two panels over the network in the order of execution: the largest error, and the share that differs."""
    yield Text(LEFT, 34, title, 18)
    yield from _legend()
    largest = Scale(max([error.max for row in rows for error in (row.chained, row.alone) if error] or [0.0]))
    share = Scale(100 * max([error.differing for row in rows for error in (row.chained, row.alone) if error] or [0.0]))
    yield from _panel(rows, PANELS[0], "largest error, LSB", largest, lambda error: error.max)
    yield from _panel(rows, PANELS[1], "elements that differ, %", share, lambda error: 100 * error.differing)
    yield Text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "operation, in the order of execution", anchor="middle")


class Scale:
    """From 0 to a round number at or above the largest value."""

    def __init__(self, largest: float) -> None:
        self.step = next(factor * 10.0 ** power for power in range(-6, 40) for factor in (1, 2, 5)
                         if factor * 10.0 ** power * 5 >= largest)
        self.top = self.step * max(1, -int(-largest // self.step))

    def ticks(self) -> list[float]:
        return [self.step * index for index in range(round(self.top / self.step) + 1)]


def _legend() -> Iterator[Shape]:
    for x, colour, text in ((LEFT, ALONE, "the layer alone, on the reference's inputs"),
                            (LEFT + 320, CHAINED, "chained, on the NPU's own intermediates"),
                            (LEFT + 630, CPU, "computed by the CPU")):
        yield Box(x, 50, 14, 14, colour)
        yield Text(x + 20, 62, text)


def _panel(rows: Sequence[Row], place: tuple[int, int], name: str, scale: Scale,
           value: Callable[[Error], float]) -> Iterator[Shape]:
    top, bottom = place
    pitch = (WIDTH - LEFT - RIGHT) / max(len(rows), 1)

    def height(amount: float) -> float:
        return bottom - (bottom - top) * amount / scale.top
    yield Text(LEFT, top - 8, name)
    for index, row in enumerate(rows):
        if row.partition is None:
            yield Box(LEFT + index * pitch, top, pitch, bottom - top, CPU)
    for tick in scale.ticks():
        yield Line(((LEFT, height(tick)), (WIDTH - RIGHT, height(tick))), GRID)
        yield Text(LEFT - 8, height(tick) + 4, f"{tick:g}", 12, "end")
    for index, row in enumerate(rows):
        if row.alone is not None:
            y = height(value(row.alone))
            yield Box(LEFT + (index + 0.15) * pitch, y, 0.7 * pitch, bottom - y, ALONE, f"{row.label}: {row.name}")
    points = [(LEFT + (index + 0.5) * pitch, height(value(row.chained)))
              for index, row in enumerate(rows) if row.chained is not None]
    yield Line(tuple(points), CHAINED, 2)
    yield from _numbers(rows, bottom, pitch)


def _numbers(rows: Sequence[Row], bottom: int, pitch: float) -> Iterator[Shape]:
    """Operation numbers below, as many as there is room for."""
    every = max(1, -(-34 // max(int(pitch), 1)))
    for index in range(0, len(rows), every):
        yield Text(LEFT + (index + 0.5) * pitch, bottom + 18, str(rows[index].operations[-1][0]), 12, "middle")


def to_svg(shapes: Sequence[Shape]) -> str:
    """A stand-alone SVG document."""
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
             f'height="{HEIGHT}" font-family="system-ui, sans-serif">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    return "\n".join([*lines, *(_svg(shape) for shape in shapes), "</svg>", ""])


def _svg(shape: Shape) -> str:
    if isinstance(shape, Box):
        title = f"<title>{escape(shape.title)}</title>" if shape.title else ""
        return (f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}" '
                f'fill="{shape.colour}">{title}</rect>')
    if isinstance(shape, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        return f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"/>'
    return (f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size}" text-anchor="{shape.anchor}" '
            f'fill="{shape.colour}">{escape(shape.text)}</text>')


def write_png(path: Path, shapes: Sequence[Shape]) -> None:
    """The same shapes as pixels."""
    from PIL import Image, ImageDraw

    from cermet.drawing import font_of
    picture = Image.new("RGB", (WIDTH, HEIGHT), "#ffffff")
    pencil = ImageDraw.Draw(picture)
    for shape in shapes:
        if isinstance(shape, Box):
            right, bottom = max(shape.x + shape.width, shape.x), max(shape.y + shape.height, shape.y)
            pencil.rectangle((shape.x, shape.y, right, bottom), fill=shape.colour)
        elif isinstance(shape, Line):
            if len(shape.points) > 1:
                pencil.line(shape.points, fill=shape.colour, width=round(shape.width))
        else:
            font = font_of(shape.size)
            width = pencil.textlength(shape.text, font)
            x = shape.x - {"start": 0.0, "middle": width / 2, "end": width}[shape.anchor]
            pencil.text((x, shape.y - shape.size), shape.text, fill=shape.colour, font=font)
    picture.save(path, "PNG")
