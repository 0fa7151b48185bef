"""CERMET_DEBUG: what to show of the inside, words joined by commas."""
from __future__ import annotations

import os
from collections.abc import Mapping

WORDS: Mapping[str, str] = {"passes": "the subgraph after each pass of the compiler"}


def asked() -> list[str]:
    """The words that the variable names."""
    return [word for word in (text.strip() for text in os.environ.get("CERMET_DEBUG", "").split(",")) if word]


def is_shown(word: str) -> bool:
    return word in asked()


def complaint() -> str:
    """What is wrong with the variable, in one line; empty when nothing is."""
    unknown = [word for word in asked() if word not in WORDS]
    known = ", ".join(f"{word} ({text})" for word, text in WORDS.items())
    return f"CERMET_DEBUG: {unknown[0][:60]!r} is not known, must be {known}" if unknown else ""
