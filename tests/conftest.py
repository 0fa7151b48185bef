"""What all tests share: private cache and runtime folders, reference models, golden texts, tables in the summary."""
from __future__ import annotations

import atexit
import difflib
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED_MODELS = ROOT.parent / "shared" / "models"
BUNDLED_MODELS = ROOT / "tests" / "data" / "models"
GOLDENS = ROOT / "tests" / "data" / "golden"
TOGETHER = ("tests/drivers/rocket/", "kernel-uapi/conformance/")     # one counts its cases, one opens its device once
KEPT_VARIABLES = {"CERMET_LIB_DIR", "CERMET_COMMAND"}     # choose what is tested; others change how it behaves


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden texts instead of comparing with them")
    parser.addoption("--graphs", type=int, default=300, metavar="N", help="random networks to compile and simulate")
    parser.addoption("--first-graph", type=int, default=0, metavar="SEED", help="the first of their seeds")


def pytest_configure(config: pytest.Config) -> None:
    """Nothing that the user keeps is read or written: cache, sockets and settings are this session's own.

    Set in the environment, not in a fixture: child processes and module-scoped fixtures must see it too.
    """
    # Short names: a socket's path has at most 107 bytes. A worker's folder is beside its controller's.
    inside = pathlib.Path(os.environ["TMPDIR"]).parent if hasattr(config, "workerinput") else None
    private = pathlib.Path(tempfile.mkdtemp(prefix="w" if inside else "cermet-test-", dir=inside))
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    for name in [name for name in os.environ if name.startswith("CERMET_") and name not in KEPT_VARIABLES]:
        del os.environ[name]
    for variable, folder in (("XDG_CACHE_HOME", "cache"), ("XDG_RUNTIME_DIR", "runtime"), ("TMPDIR", "tmp")):
        (private / folder).mkdir(mode=0o700)
        os.environ[variable] = str(private / folder)
    tempfile.tempdir = None     # look at TMPDIR again
    os.environ["CERMET_SIM_CACHES"] = "1"       # a missing PREP_BO or FINI_BO shows
    # The delegate starts `cermet`, the one of this Python, whatever the shell's PATH says.
    scripts = str(pathlib.Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests run in one process, and all of the folders whose tests count or share something."""
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrFolder(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in TOGETHER if nodeid.startswith(folder)), super()._split_scope(nodeid))
    return ByFileOrFolder(config, log)


@pytest.fixture(scope="session")
def models_dir() -> pathlib.Path:
    """A folder with manifest.yaml, models and goldens/: the whole reference set, or the bundled part of it."""
    return SHARED_MODELS if SHARED_MODELS.is_dir() else BUNDLED_MODELS


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The developers' reference folder (models, programs, hardware documents); skips where it is not there."""
    if not SHARED_MODELS.is_dir():
        pytest.skip("the reference set is not beside this tree")
    return SHARED_MODELS.parent


@pytest.fixture
def golden_text(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden_text(name, text) compares with tests/data/golden/NAME, or writes it with --update-golden."""
    def check(name: str, text: str) -> None:
        path = GOLDENS / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        expected = path.read_text() if path.exists() else ""
        difference = "".join(difflib.unified_diff(expected.splitlines(True), text.splitlines(True), name, "now"))
        assert not difference, f"differs from its golden text (--update-golden accepts it):\n{difference}"
    return check


# --- tables -----------------------------------------------------------------------------------------------------------

TABLE = "cermet table"
tables: dict[str, list[dict[str, object]]] = {}


@pytest.fixture
def record_table(request: pytest.FixtureRequest) -> Callable[[str, dict[str, object]], None]:
    """record_table(title, row) adds a row {column: value} to a table that the end of the run prints."""
    def add(title: str, row: dict[str, object]) -> None:
        request.node.user_properties.append((TABLE, (title, {column: str(value) for column, value in row.items()})))
    return add


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call":
        return
    for name, value in report.user_properties:
        if name == TABLE:
            title, row = value     # type: ignore[misc]
            tables.setdefault(title, []).append(row)


def format_table(rows: list[dict[str, object]]) -> list[str]:
    """Lines of a Markdown table with padded columns."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
             for line in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for title, rows in tables.items():
        terminalreporter.section(title, sep="-")
        for line in format_table(rows):
            terminalreporter.write_line(line)
