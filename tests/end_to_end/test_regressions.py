"""Small networks that once failed: recipes in tests/data/regressions, one in a file, with what was wrong on top."""
from __future__ import annotations

import pytest

from tests.end_to_end.test_random_graphs import REGRESSIONS
from tests.support.networks.recipe import from_text, to_text
from tests.support.networks.shrink import checked

FILES = sorted(REGRESSIONS.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_right_by_now(path) -> None:  # type: ignore[no-untyped-def]
    checked(from_text(path.read_text()))


def test_there_are_some_and_each_says_why() -> None:
    assert FILES
    for path in FILES:
        assert path.read_text().startswith("# "), path
        recipe = from_text(path.read_text())
        assert from_text(to_text(recipe)) == recipe
