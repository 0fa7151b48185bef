"""Every quirk is named in the docs with the subtests that it makes fail; every expected failure belongs to one."""
from __future__ import annotations

import re

import pytest

from cermet.kmd.behaviour import NO_QUIRKS, QUIRKS, parse_quirks
from tests.kmd.client import ROOT

PAGE = (ROOT / "docs" / "simulated-driver.md").read_text()
SUITE = ROOT / "kernel-uapi" / "conformance"
EXPECTED = [line.split()[0] for line in (SUITE / "expected" / "mainline-7.2.txt").read_text().splitlines()
            if line and not line.startswith("#")]


def rows() -> dict[str, list[str]]:
    """Quirk -> subtests of the first table."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| `") and "@" in line]
    return {cells[1].strip(" `"): re.findall(r"`(\w+@[\w*]+)`", cells[3]) for cells in (
        line.split("|") for line in lines)}


def test_docs_name_every_quirk() -> None:
    assert list(rows()) == list(QUIRKS)


def test_expected_failures_are_those_of_the_quirks() -> None:
    assert sorted(EXPECTED) == sorted(subtest for subtests in rows().values() for subtest in subtests)


@pytest.mark.parametrize("subtest", EXPECTED)
def test_expected_failures_exist(subtest: str) -> None:
    file, name = subtest.split("@")
    assert f"def test_{name.rstrip('*')}(" in (SUITE / f"test_{file}.py").read_text()


def test_none_is_none() -> None:
    assert not parse_quirks(NO_QUIRKS)
