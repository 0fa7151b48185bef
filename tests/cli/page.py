"""Pages that the command writes with --html, as a browser's parser sees them."""
from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from tests.cli.conftest import Cermet

VOID = {"meta"}
LOADING_ATTRIBUTES = {"src", "srcset", "action", "data", "poster"}


class Page(HTMLParser):
    """Checks that elements are closed in order; keeps what the tests ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


def page_of(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def check_names_are_text(cermet: Cermet, verb: str, model: Path, folder: Path) -> None:
    """A model's file name with markup in it is shown, not obeyed."""
    named = folder / "<b>&x.tflite"
    named.write_bytes(model.read_bytes())
    assert cermet(verb, named, "--html", folder / "page.html").status == 0
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert "<b>" not in text and "&lt;b&gt;&amp;x.tflite" in text
    page_of(text)
