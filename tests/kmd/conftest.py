"""A driver with fake cores for the tests of this folder."""
from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator

import pytest

from tests.kmd.client import Node, environ, environment


@pytest.fixture(scope="session")
def fake_socket() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="kmd") as folder:
        yield pathlib.Path(folder) / "s"


@pytest.fixture
def fake_driver(fake_socket: pathlib.Path) -> Iterator[pathlib.Path]:
    """Clients reach (and start) a driver with fake cores; its socket. The log is beside it, with .log added."""
    with environ(**environment(fake_socket)):
        yield fake_socket


@pytest.fixture
def node(fake_driver: pathlib.Path) -> Iterator[Node]:
    with Node() as opened:
        yield opened


@pytest.fixture
def second(fake_driver: pathlib.Path) -> Iterator[Node]:
    with Node() as opened:
        yield opened
