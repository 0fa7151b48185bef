"""Options, the device, and a runner in which each subtest has a process of its own.

A subtest ends as pass, fail, skip or crash (its process died or did not end in time). The kernel's log must stay silent
unless the subtest is marked log("part of a line"). Expected failures: expected/NAME.txt, "subtest  reason" per line;
one that passes is a failure too.
"""
from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import pathlib
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Generator, Iterator
from typing import IO

import pytest
from _pytest.runner import runtestprotocol

from cermet import paths

from .kernel_log import KernelLog
from .laboratory import Laboratory
from .queues import QUEUES, Bench
from .uapi import Node, System

FOLDER = pathlib.Path(__file__).resolve().parent
SUBTEST_LIMIT_S = 60.0
SIMULATED = "sim"
SIMULATED_PATH = "/dev/accel/accel0"
MAINLINE = "mainline-7.2"
SYSTEM = pytest.StashKey[System]()
KEPT_OPEN = pytest.StashKey[Node]()
LOG = pytest.StashKey[KernelLog]()
TAP = pytest.StashKey[IO[str]]()
SKIPPED = pytest.StashKey[bool]()
# Comes when the last reference goes, so perhaps in the time of a later subtest. Subtests of it look for it themselves.
LATE = ("use after free",)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("accel/rocket conformance")
    group.addoption("--device", default=SIMULATED, metavar="PATH", help="the node, or sim (default)")
    group.addoption("--quirks", default=MAINLINE, metavar="NAMES",
                    help=f"sim: the kernel's bugs to reproduce (default: {MAINLINE})")
    group.addoption("--coherent", action="store_true", help="sim: without the simulated CPU caches")
    group.addoption("--proposals", default="", metavar="NAMES",
                    help="sim: interfaces of kernel-uapi/proposals to offer; a node is asked what it has")
    group.addoption("--expect", metavar="NAME", help="expected failures: expected/NAME.txt "
                    f"(default: the quirks' name for sim, {MAINLINE} for a node)")
    group.addoption("--tap", metavar="FILE", help="also write the results as TAP version 13")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "log(text, *more, must=True): lines of the kernel's log with these texts are "
                            "expected, one with the first must come")
    config.addinivalue_line("markers", "quirk(name): shows what user space meets on a kernel with this bug")
    config.addinivalue_line("markers", "simulated: needs the simulated device")


# --- the device -------------------------------------------------------------------------------------------------------


def open_system(config: pytest.Config) -> System:
    """The system calls to use, and where the device's log is."""
    device = config.getoption("--device")
    if device != SIMULATED:
        config.stash[LOG] = KernelLog(None)
        return System(None, device)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rocket-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ.update(CERMET_SIM_SOCKET=str(folder / "s"), CERMET_SIM_QUIRKS=config.getoption("--quirks"),
                      CERMET_SIM_PROPOSALS=config.getoption("--proposals"),
                      CERMET_SIM_CACHES="" if config.getoption("--coherent") else "1")
    config.stash[LOG] = KernelLog(folder / "s.log")
    return System(str(paths.library("libcermet_shim.so")), SIMULATED_PATH)


def pytest_collection_finish(session: pytest.Session) -> None:
    """The device is opened once before the first subtest and stays open: a simulated one lives as long."""
    config = session.config
    if config.option.collectonly or not any(FOLDER in item.path.parents for item in session.items):
        return
    system = config.stash[SYSTEM] = open_system(config)
    try:
        config.stash[KEPT_OPEN] = Node(system)
    except OSError as error:
        raise pytest.UsageError(f"--device {config.getoption('--device')}: {error}") from None
    if path := config.getoption("--tap"):
        tap = config.stash[TAP] = open(path, "w")
        print(f"TAP version 13\n1..{len(session.items)}", file=tap, flush=True)


# --- expected failures ------------------------------------------------------------------------------------------------


def expected_failures(name: str) -> list[tuple[str, str]]:
    """(pattern of subtest names, reason) of a list."""
    path = FOLDER / "expected" / f"{name}.txt"
    if not path.exists():
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.txt")))
        raise pytest.UsageError(f"--expect: {name} must be one of {known}")
    lines = (line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#"))
    return [(parts[0], parts[1]) for parts in (line.split(None, 1) for line in lines)]


def list_name(config: pytest.Config) -> str:
    is_simulated = config.getoption("--device") == SIMULATED
    return str(config.getoption("--expect") or (config.getoption("--quirks") if is_simulated else MAINLINE))


def subtest_name(item: pytest.Item) -> str:
    """For example submit@reserved: the file without test_, the function without test_."""
    return f"{item.path.stem.removeprefix('test_')}@{item.name.removeprefix('test_')}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if FOLDER in item.path.parents]
    expected = expected_failures(list_name(config)) if mine else []
    for item in mine:
        for pattern, reason in expected:
            if fnmatch.fnmatchcase(subtest_name(item), pattern):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
        quirk = item.get_closest_marker("quirk")
        if quirk and list_name(config) != MAINLINE:
            item.add_marker(pytest.mark.skip(reason=f"shows mainline's {quirk.args[0]}"))
        if item.get_closest_marker("simulated") and config.getoption("--device") != SIMULATED:
            item.add_marker(pytest.mark.skip(reason="needs the simulated device"))


# --- one process per subtest ------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if FOLDER not in item.path.parents:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = run_in_child(item)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    if TAP in item.config.stash:
        print(tap_line(item, reports), file=item.config.stash[TAP], flush=True)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def run_in_child(item: pytest.Item) -> list[pytest.TestReport]:
    """The reports of a subtest that ran in a process of its own; one of a crash when it sent none."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        send_reports(item, writer)
    os.close(writer)
    data = receive(reader, time.monotonic() + SUBTEST_LIMIT_S)
    os.close(reader)
    if data is None:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if data:
        return [report_from(item.config, one) for one in json.loads(data)]
    died = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return [crash_report(item, f"no end within {SUBTEST_LIMIT_S:g} s" if data is None else died)]


def send_reports(item: pytest.Item, writer: int) -> None:
    """In the child: run, write what came out, and end without any of the parent's cleaning up."""
    try:
        reports = runtestprotocol(item, log=False, nextitem=None)
        hook = item.config.hook.pytest_report_to_serializable
        data = json.dumps([hook(config=item.config, report=report) for report in reports]).encode()
        with open(writer, "wb") as stream:
            stream.write(data)
    finally:
        os._exit(0)


def report_from(config: pytest.Config, data: dict[str, object]) -> pytest.TestReport:
    report = config.hook.pytest_report_from_serializable(config=config, data=data)
    if isinstance(report.longrepr, list):       # of a skip: JSON has no tuples
        report.longrepr = tuple(report.longrepr)
    return report


def receive(reader: int, deadline: float) -> bytes | None:
    """Everything until the other end is closed; None when that takes too long."""
    chunks = []
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([reader], [], [], left)[0]:
            break
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
    return None


def crash_report(item: pytest.Item, what: str) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", f"crash: {what}", "call")


def tap_line(item: pytest.Item, reports: list[pytest.TestReport]) -> str:
    name = subtest_name(item)
    number = item.session.items.index(item) + 1
    failed = next((report for report in reports if report.failed), None)
    skipped = next((report for report in reports if report.skipped), None)
    if failed is not None:
        crash = str(failed.longrepr).startswith("crash:")
        return f"not ok {number} - {name}" + (f" # {failed.longrepr}" if crash else "")
    if skipped is not None:
        reason = getattr(skipped, "wasxfail", None)
        return f"not ok {number} - {name} # TODO {reason}" if reason is not None else f"ok {number} - {name} # SKIP"
    return f"ok {number} - {name}"


# --- fixtures: all of them made and gone within the child ------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A subtest that skips itself causes nothing, so nothing is missing in the log."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        item.stash[SKIPPED] = True
    return report


@pytest.fixture(autouse=True)
def silent_kernel(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing worse than a notice in the kernel's log, except what the subtest announces."""
    kernel_log = request.config.stash[LOG]
    announced = [*LATE, *(text for mark in request.node.iter_markers("log") for text in mark.args)]
    needed = [mark.args[0] for mark in request.node.iter_markers("log") if mark.kwargs.get("must", True)]
    start = kernel_log.position()
    yield
    lines = kernel_log.problems_since(start)
    unexpected = [line for line in lines if not any(text in line for text in announced)]
    assert not unexpected, "the kernel's log:\n" + "\n".join(unexpected)
    for text in needed if SKIPPED not in request.node.stash else []:
        assert kernel_log.is_silent_source or any(text in line for line in lines), f"not in the kernel's log: {text}"


@pytest.fixture
def kernel_log(request: pytest.FixtureRequest) -> KernelLog:
    return request.config.stash[LOG]


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """The device: opens files, makes jobs; closes what is left open."""
    laboratory = Laboratory(request.config.stash[SYSTEM])
    yield laboratory
    with contextlib.suppress(OSError):
        laboratory.close()


@pytest.fixture
def node(lab: Laboratory) -> Node:
    """One open file."""
    return lab.open()


@pytest.fixture
def second(lab: Laboratory) -> Node:
    """Another open file."""
    return lab.open()


@pytest.fixture
def bench(lab: Laboratory, node: Node) -> Bench:
    """An address space of one open file; proposal "queues"."""
    if not node.features & QUEUES:
        pytest.skip("no queues on this node")
    return Bench.make(lab, node)


def pytest_unconfigure(config: pytest.Config) -> None:
    if TAP in config.stash:
        config.stash[TAP].close()
    if KEPT_OPEN in config.stash:
        config.stash[KEPT_OPEN].close()
