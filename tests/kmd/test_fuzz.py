"""Seconds of what `python -m tests.kmd.fuzz` does for hours, and that it notices when the driver is wrong."""
from __future__ import annotations

import errno
import pathlib
from collections.abc import Callable

import pytest

import cermet.kmd
from cermet.kmd import rocket_ioctls
from cermet.kmd.bo import Bo
from cermet.kmd.file import File
from cermet.kmd.rocket_ioctls import end_wait
from cermet.kmd.scheduler import Scheduler
from cermet.sim.core import Core
from tests.kmd.fuzz import npu, remote
from tests.kmd.fuzz.choices import Step
from tests.kmd.fuzz.reached import Tracer
from tests.kmd.fuzz.search import search, shrink
from tests.kmd.fuzz.world import WEIGHTS

NUM_CALLS = 6000
MISTAKE_CALLS = 12_000
NUM_REMOTE_CALLS = 1500
NUM_PROGRAMS = 1200


@pytest.fixture
def tracer() -> Tracer:
    return Tracer(pathlib.Path(cermet.kmd.__file__).parent)


def test_calls(tracer: Tracer) -> None:
    result = search(NUM_CALLS, 1, tracer)
    assert not result.failure, (result.failure, result.steps)
    assert result.calls >= NUM_CALLS and result.kept > 50 and result.lines > 600


def test_calls_through_the_socket(tmp_path: pathlib.Path) -> None:
    assert remote.search(tmp_path, NUM_REMOTE_CALLS, 1) >= NUM_REMOTE_CALLS


def test_programs() -> None:
    wrong, progress = npu.run_in_child(1, 0, NUM_PROGRAMS, lambda progress: None)
    assert not wrong and progress.done == NUM_PROGRAMS
    assert min(progress.completed, progress.faulted, progress.hung) > NUM_PROGRAMS // 20, progress


# --- what it notices --------------------------------------------------------------------------------------------------


def wrong_errno(patch: pytest.MonkeyPatch) -> None:
    right = File.bo_or_error

    def wrong(self: File, handle: int) -> Bo:
        return right(self, handle or 1)
    patch.setattr(File, "bo_or_error", wrong)


def lost_wait(patch: pytest.MonkeyPatch) -> None:
    def wrong(bo: Bo, file: File) -> None:
        if bo.references > 2:        # a handle besides the job and the wait
            end_wait(bo, file)
    patch.setattr(rocket_ioctls, "end_wait", wrong)


def lost_fence(patch: pytest.MonkeyPatch) -> None:
    right = Scheduler._release

    def wrong(self: Scheduler, job: object, error: int) -> None:
        if error != errno.ESRCH and job.number % 97 == 0:       # type: ignore[attr-defined]
            job.fence.signal = lambda error: None               # type: ignore[attr-defined]
        right(self, job, error)     # type: ignore[arg-type]
    patch.setattr(Scheduler, "_release", wrong)


def kept_handle(patch: pytest.MonkeyPatch) -> None:
    right = File.close_handle
    patch.setattr(File, "close_handle", lambda self, handle: handle == 3 or right(self, handle))


@pytest.mark.parametrize("mistake", [wrong_errno, lost_wait, lost_fence, kept_handle])
def test_mistakes_in_the_driver_are_found(mistake: Callable[[pytest.MonkeyPatch], None], tracer: Tracer,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    monkeypatch.setattr("tests.kmd.fuzz.local.SETTLE_S", 1.0)
    monkeypatch.setattr("tests.kmd.fuzz.search.SHRINK_S", 0.0)
    result = search(MISTAKE_CALLS, 1, tracer)
    assert result.failure and result.steps


@pytest.mark.parametrize("kind", ["exception", "stray write", "wrong copy"])
def test_mistakes_of_the_npu_are_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Core.reset

    def wrong(self: Core) -> None:
        right(self)
        if kind == "exception":
            self.lut = None             # type: ignore[assignment]
        elif kind == "wrong copy":
            self.wedged = "for ever"
    monkeypatch.setattr(Core, "reset", wrong)
    if kind == "stray write":
        monkeypatch.setattr(npu.Lab, "still_works", lambda self: self.arena.__array_interface__ and write_behind(self))
    assert npu.run_in_child(1, 0, 100, lambda progress: None)[0]


def write_behind(lab: npu.Lab) -> bool:
    """As a kernel in C might."""
    import ctypes
    ctypes.memset(lab.arena.ctypes.data + lab.arena.size, 0, 1)
    return True


def test_shrinking() -> None:
    """Only the steps that matter are left."""
    steps = [Step(name, 0, ()) for name in [*WEIGHTS, *WEIGHTS]]
    left = shrink(steps, lambda some: sum(step.name == "submit" for step in some) == 2)
    assert [step.name for step in left] == ["submit", "submit"]
