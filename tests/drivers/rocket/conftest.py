"""The table of all cases comes last; several cores whatever that costs."""
from __future__ import annotations

import pytest

from cermet.drivers.rocket import lanes

LAST = "test_whole_grid.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Behind everything that it counts."""
    items.sort(key=lambda item: item.path.name == LAST)


@pytest.fixture
def always_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever can be shared is."""
    monkeypatch.setattr(lanes, "worth_sharing", lambda soc, order, saved_us: frozenset(saved_us))
