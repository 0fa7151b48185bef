"""The table of all cases comes last."""
from __future__ import annotations

import pytest

LAST = "test_whole_grid.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Behind everything that it counts."""
    items.sort(key=lambda item: item.path.name == LAST)
