"""Results drawn on a picture: boxes with captions, a coloured mask with a legend."""
from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
GOLDEN_ANGLE = 137.508      # degrees of hue from one class to the next: any few of them look different
OPACITY = 0.55


@dataclass(frozen=True)
class Box:
    """A named part of a picture; top, left, bottom, right in shares of its height and width, maybe beyond its edges."""

    label: str
    score: float
    top: float
    left: float
    bottom: float
    right: float


def colour_of(number: int) -> Colour:
    """The colour of a class, the same in every picture."""
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN_ANGLE / 360 % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_colour(background: Colour) -> Colour:
    """Black or white, whichever is readable on it."""
    red, green, blue = background
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE


def draw_boxes(picture: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """A copy with a frame and a caption for each box, each in a colour of its own."""
    drawn = picture.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    font, line = _font(drawn), max(2, drawn.width // 200)
    captions = []
    for number, box in reversed(list(enumerate(boxes))):        # the best one on top
        left, right = (int(np.clip(x, 0, 1) * (drawn.width - 1)) for x in (box.left, box.right))
        top, bottom = (int(np.clip(y, 0, 1) * (drawn.height - 1)) for y in (box.top, box.bottom))
        draw.rectangle((left, top, right, bottom), outline=colour_of(number), width=line)
        captions.append((f"{box.label} {box.score:.0%}", left, top, colour_of(number)))
    for text, left, top, colour in captions:
        _caption(draw, drawn, font, text, left, top, colour)
    return drawn


def draw_mask(picture: Image.Image, mask: np.ndarray, labels: Mapping[int, str], background: int = 0) -> Image.Image:
    """A copy with each class of the mask as a translucent colour, outlined, and a legend of those named in labels.

    mask    class numbers of shape (height, width), stretched over the picture; `background` stays as it is
    """
    classes = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(picture.size, Image.Resampling.NEAREST))
    pixels = np.asarray(picture.convert("RGB"), np.float64)
    colours = np.zeros_like(pixels)
    for number in np.unique(classes):
        colours[classes == number] = colour_of(int(number))
    is_shown = (classes != background)[..., None]
    mixed = np.where(is_shown, pixels * (1 - OPACITY) + colours * OPACITY, pixels)
    drawn = Image.fromarray(np.where(_edges(classes)[..., None], 255, mixed).round().astype(np.uint8))
    _legend(drawn, [(name, colour_of(number)) for number, name in labels.items() if number != background])
    return drawn


def _edges(classes: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour is of another class."""
    edges = np.zeros(classes.shape, bool)
    edges[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    edges[:-1] |= classes[:-1] != classes[1:]
    return edges


def font_of(size: float) -> Any:
    """Pillow's own font."""
    try:
        return ImageFont.load_default(size)
    except TypeError:       # before Pillow 10.1 it has one size
        return ImageFont.load_default()


def _font(picture: Image.Image) -> Any:
    return font_of(max(12, picture.width // 32))


def _caption(draw: ImageDraw.ImageDraw, picture: Image.Image, font: Any, text: str, left: int, top: int,
             colour: Colour) -> None:
    """Text on a filled bar above (left, top), or below it where there is no room; inside the picture."""
    margin = 4
    x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=font)
    width, height = x1 - x0 + 2 * margin, y1 - y0 + 2 * margin
    left = max(min(left, picture.width - int(width)), 0)
    top = top - int(height) if top >= height else top
    draw.rectangle((left, top, left + width, top + height), fill=colour)
    draw.text((left + margin - x0, top + margin - y0), text, fill=text_colour(colour), font=font)


def _legend(picture: Image.Image, entries: Sequence[tuple[str, Colour]]) -> None:
    """Bars with names in the lower left corner, the first one at the top."""
    draw, font = ImageDraw.Draw(picture), _font(picture)
    line = int(draw.textbbox((0, 0), "Ag", font=font)[3]) + 14
    top = picture.height - line * len(entries)
    for row, (name, colour) in enumerate(entries):
        _caption(draw, picture, font, name, 8, top + row * line + line - 6, colour)
