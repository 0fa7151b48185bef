"""The table of all single operations that this folder ran; as the folder's last test it has seen them all."""
from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.drivers.rocket.whole_grid import counted, started

MIN_CASES, MIN_CASES_IN_ALL = 15, 1500


def supported() -> set[str]:
    """The operations of the public table."""
    text = (ROOT / "docs" / "operations.md").read_text()
    return set(re.findall(r"^\| ([A-Z][A-Z0-9_]+) \| all", text, re.MULTILINE))


def test_every_operation_has_a_grid(request: pytest.FixtureRequest,
                                    record_table: Callable[[str, dict[str, object]], None]) -> None:
    """Never more than 1 LSB off, nor from the numerics, which other tests hold against TFLite and exact arithmetic."""
    number, seconds = sum(cases.count for cases in counted.values()), time.monotonic() - started
    for name, cases in sorted(counted.items()):
        record_table(f"single operations on the simulated NPU: {number} cases in {seconds:.0f} s", {
            "operation": name, "cases": cases.count, "elements": cases.numerics.elements,
            "off by 1, numerics": cases.numerics.share, "off by 1, exact": cases.exact.share,
            "largest": max(cases.numerics.largest, cases.exact.largest)})
    assert all(max(cases.numerics.largest, cases.exact.largest) <= 1 for cases in counted.values())
    here = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    if here - {item.path.name for item in request.session.items} or request.config.option.keyword:
        return      # only some of the folder's tests were asked for
    assert supported() - counted.keys() == set()
    assert {name: counted[name].count for name in supported() if counted[name].count < MIN_CASES} == {}
    assert number >= MIN_CASES_IN_ALL
