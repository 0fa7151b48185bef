"""What the pages share: the document around them, their header, and tiles with numbers. No script, no other file."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from cermet.report_html.style import STYLE


@dataclass(frozen=True)
class Heading:
    """What the page is about."""

    model: str
    soc: str
    build_id: str


def document(heading: Heading, parts: Iterable[str], more_style: str = "") -> str:
    """The whole page; empty parts vanish."""
    title = escape(f"{heading.model} on {heading.soc}")
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{STYLE}{more_style}</style></head>\n<body><main>\n" + "\n".join(filter(None, parts)) +
            "\n</main></body></html>\n")


def header(heading: Heading, words: str) -> str:
    """words: what cermet did with the model."""
    return (f"<header><h1>{escape(heading.model)}</h1><p>on the NPU of {escape(heading.soc)}, as cermet "
            f"{escape(heading.build_id)} {escape(words)}</p></header>")


def tiles(made: Iterable[str]) -> str:
    return '<section class="tiles">' + "".join(made) + "</section>"


def tile(name: str, value: str, detail: str, share: float | None = None) -> str:
    """A number with its name; with a bar when it is a share."""
    bar = "" if share is None else f'<div class="bar"><i style="width:{100 * share:.2f}%"></i></div>'
    return (f'<div class="tile"><h2>{escape(name)}</h2><p class="big">{escape(value)}</p>{bar}'
            f"<p>{escape(detail)}</p></div>")


def percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + " %"


def amount(number: float) -> str:
    """1.23 M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:g}"
