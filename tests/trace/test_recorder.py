"""What the preloaded recorder writes, for programs that know nothing of it."""
from __future__ import annotations

import collections
import json
import pathlib
import struct
from collections.abc import Callable

import pytest

from cermet.cli import main
from tests.trace import frames
from tests.trace.frames import CALL, CHECK, CLOSE, END, FILE, PAGES, PROCESS, SUBMIT, PagesFrame, RawFrame

COPY = """
data = bytes(range(64))
source, target = lab.buffer(node, data), lab.buffer(node)
node.submit(lab.copy(source, target))
assert target.get() == data
"""


def kinds(read: list[RawFrame]) -> collections.Counter[int]:
    return collections.Counter(frame.kind for frame in read)


def replayed(path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict]:
    capsys.readouterr()
    status = main(["replay", "--json", str(path)])
    return status, json.loads(capsys.readouterr().out)


def calls_of(read: list[RawFrame], request: int) -> list[RawFrame]:
    return [frame for frame in read if frame.kind == CALL and frames.CALL_HEAD.unpack_from(frame.payload)[5] == request]


def test_a_copy_is_recorded_and_replays_equal(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    done, path = record(COPY)
    assert done.returncode == 0, done.stderr
    assert "1 jobs, 1 tasks on a simulated NPU" in done.stderr
    read = frames.read(path)
    assert kinds(read)[PROCESS] == kinds(read)[FILE] == kinds(read)[END] == 1
    submits = calls_of(read, SUBMIT)
    assert len(submits) == 1
    head = frames.CALL_HEAD.unpack_from(submits[0].payload)
    assert head[6:8] == (0, 0) and head[10] == 1 and head[1] <= head[2]
    written = [PagesFrame.parse(frame.payload) for frame in read if frame.kind == PAGES]
    assert any(bytes(pages.pages[0][:64]) == bytes(range(64)) and pages.side == 0 for pages in written)
    assert any(bytes(pages.pages[0][:64]) == bytes(range(64)) and pages.side == 1 for pages in written)
    assert kinds(read)[CHECK] == 1
    status, report = replayed(path, capsys)
    assert status == 0 and report["equal"] and [task["verdict"] for task in report["tasks"]] == ["equal"]
    assert report["tasks"][0]["atoms_compared"] == 4 and not report["remarks"]


def test_only_changed_pages_are_written_again(record: Callable) -> None:
    done, path = record("""
big = lab.buffer(node, bytes([7]) * 40960)
target = lab.buffer(node, 40960)
job = lab.copy(big, target, 64)
for value in range(5):
    node.submit(job)
    target.get(64)
    big.put(bytes([value + 1]) * 64, 8192)
""")
    assert done.returncode == 0, done.stderr
    pages = [PagesFrame.parse(frame.payload) for frame in frames.read(path) if frame.kind == PAGES]
    by_handle = collections.Counter()
    for one in pages:
        by_handle[one.handle] += len(one.pages)
    assert by_handle[1] == 10 + 4      # all of it once, then the page that changes
    assert by_handle[2] == 1           # the copied bytes are the same every time


def test_a_killed_program_leaves_a_readable_file(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    done, path = record(COPY + "os.kill(os.getpid(), signal.SIGKILL)\n")
    assert done.returncode == 137
    read = frames.read(path)
    assert END not in kinds(read) and kinds(read)[CHECK] == 1
    assert replayed(path, capsys)[0] == 0


def test_what_nobody_waited_for_is_recorded_at_the_end(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    done, path = record("""
source, target = lab.buffer(node, b"x" * 64), lab.buffer(node)
node.submit(lab.copy(source, target))
""")
    assert done.returncode == 0, done.stderr
    status, report = replayed(path, capsys)
    assert status == 0 and report["tasks"][0]["verdict"] == "equal"


FORK = COPY + """
child = os.fork()
if child == 0:
    node.submit(lab.fill(target, 5))
    assert target.get() == b"\\5" * 64
    own = lab.open()
    second, third = lab.buffer(own, data), lab.buffer(own)
    own.submit(lab.copy(second, third))
    assert third.get() == data
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
node.submit(lab.fill(target, 9))
assert target.get() == b"\\11" * 64
"""


def test_a_forked_child_records_into_the_same_file(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    done, path = record(FORK)
    assert done.returncode == 0, done.stderr
    read = frames.read(path)
    assert kinds(read)[PROCESS] == 2 and len({frame.process for frame in read}) == 2
    status, report = replayed(path, capsys)
    assert status == 0 and [task["verdict"] for task in report["tasks"]] == ["equal"] * 4


DUP = """
import fcntl
for copy in (os.dup(node.fd), os.dup2(node.fd, 77), fcntl.fcntl(node.fd, fcntl.F_DUPFD_CLOEXEC, 90)):
    os.close(node.fd)
    node.fd = copy
""" + COPY


def test_duplicates_of_an_fd_are_one_file(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    done, path = record(COPY + DUP + "node.close()\n")
    assert done.returncode == 0, done.stderr
    read = frames.read(path)
    assert kinds(read)[FILE] == 1 and kinds(read)[CLOSE] == 1
    assert replayed(path, capsys)[0] == 0


THREADS = """
def work(seed):
    own = lab.open()
    for number in range(8):
        data = bytes([seed + number]) * 64
        source, target = lab.buffer(own, data), lab.buffer(own)
        own.submit(lab.copy(source, target))
        assert target.get() == data
        source.close()
        target.close()
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(0, 100, 25)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads_with_files_of_their_own(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    done, path = record(THREADS)
    assert done.returncode == 0, done.stderr
    status, report = replayed(path, capsys)
    assert status == 0 and [task["verdict"] for task in report["tasks"]] == ["equal"] * 32
    assert len({frames.CALL_HEAD.unpack_from(frame.payload)[4] for frame in calls_of(frames.read(path), SUBMIT)}) == 4


WILD = """
import ctypes
assert node.raw(0xC0186440, 0) == 14                                # CREATE_BO at address 0: EFAULT
assert node.raw(0x40186441, 8) == 14
wild = Job([(0, 4)], [1], [])
wild.record.tasks = 0xDEAD0000
assert node.submit_error(wild) == 0                                 # mainline drops the job in silence
assert node.submit_error(wild, job_count=1 << 30) in (12, 14)
assert node.error("PREP_BO", handle=99) == 2
assert os.close(node.fd) is None
try:
    os.close(node.fd)
except OSError as error:
    assert error.errno == 9
node.fd = -1
node = lab.open()
""" + COPY


def test_wild_calls_reach_the_driver_unharmed(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    done, path = record(WILD)
    assert done.returncode == 0, done.stderr
    status, report = replayed(path, capsys)
    assert status == 0 and report["failed_calls"] >= 4
    assert any("cannot read: mainline drops" in remark for remark in report["remarks"])


def test_each_task_shows_what_would_be_overwritten(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
target = lab.buffer(node)
fills = [lab.buffer(node, programs.fill(target.address, target.address, value)) for value in (3, 4, 5)]
job = Job([(one.address, 4096 // 64 and len(programs.fill(0, 0, 1)) // 8) for one in fills],
          [one.handle for one in fills], [target.handle])
node.submit(job)
assert target.get() == b"\\5" * 64
"""
    done, path = record(text)
    assert done.returncode == 0, done.stderr
    assert [task["verdict"] for task in replayed(path, capsys)[1]["tasks"]] == ["unseen", "unseen", "equal"]
    done, path = record(text, "--each", "task")
    assert done.returncode == 0, done.stderr
    status, report = replayed(path, capsys)
    assert status == 0 and [task["verdict"] for task in report["tasks"]] == ["equal"] * 3


def test_a_closed_trace_file_is_opened_again(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    done, path = record(COPY + """
os.closerange(500, 600)
mine = [os.open("/dev/null", os.O_WRONLY) for _ in range(3)]
notes = os.open("notes.txt", os.O_CREAT | os.O_RDWR)
os.dup2(notes, 500)
""".replace("notes.txt", "/proc/self/fd/2").replace("os.O_CREAT | os.O_RDWR", "os.O_WRONLY") + COPY)
    assert done.returncode == 0, done.stderr
    assert "CMTR" not in done.stderr
    status, report = replayed(path, capsys)
    assert status == 0 and len(report["tasks"]) == 2


def test_a_limit_ends_contents_not_calls(record: Callable) -> None:
    done, path = record(COPY * 3, "--limit", "0")
    assert done.returncode == 0, done.stderr      # 0: no limit
    done, path = record("big = lab.buffer(node, b'x' * (3 << 20))\n" + COPY * 3, "--limit", "1")
    assert done.returncode == 0, done.stderr
    read = frames.read(path)
    assert len(calls_of(read, SUBMIT)) == 3 and sum(len(frame.payload) for frame in read) < 5 << 20


def test_a_program_without_npu_is_an_error(record: Callable, tmp_path: pathlib.Path,
                                           capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "none.trace"
    assert main(["trace", "-o", str(output), "--", "true"]) == 1
    assert "used no NPU" in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_the_exit_status_is_the_programs(record: Callable) -> None:
    done, _ = record(COPY + "sys.exit(9)\n")
    assert done.returncode == 9


def test_command_line_errors(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "-o", str(tmp_path / "x"), "--", str(tmp_path / "missing")]) == 127
    assert main(["trace", "-o", str(tmp_path / "x"), "--", str(tmp_path)]) == 126
    assert capfd.readouterr().err.splitlines() == [f"cermet trace: {tmp_path / 'missing'}: No such file or directory",
                                                   f"cermet trace: {tmp_path}: Permission denied"]
    precious = tmp_path / "precious.txt"
    precious.write_text("my notes")
    assert main(["trace", "-o", str(precious), "--", "true"]) == 1
    assert "exists and is no trace" in capfd.readouterr().err and precious.read_text() == "my notes"
    assert main(["trace", "-o", str(tmp_path / "no" / "x"), "--", "true"]) == 1
    assert main(["trace"]) == 2


def test_arguments_are_recorded_as_they_were_and_came_back(record: Callable) -> None:
    _, path = record(COPY)
    made = calls_of(frames.read(path), frames.CREATE_BO)
    assert len(made) == 3
    before, after = struct.unpack_from("<IIQQIIQQ", made[1].payload, frames.CALL_HEAD.size)[:4], struct.unpack_from(
        "<IIQQIIQQ", made[1].payload, frames.CALL_HEAD.size)[4:]
    assert before == (4096, 0, 0, 0) and after[:3] == (4096, 2, 4096) and after[3] >= 1 << 32


def test_pages_that_come_again_are_stored_once(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
noise = os.urandom(65536)
for _ in range({times}):
    own = lab.open()
    source, target = lab.buffer(own, noise), lab.buffer(own, 65536)
    own.submit(lab.copy(source, target, 65536))
    assert target.get(65536) == noise
    own.close()
"""
    sizes = {}
    for times in (1, 6):
        done, path = record(text.replace("{times}", str(times)))
        assert done.returncode == 0, done.stderr
        status, report = replayed(path, capsys)
        assert status == 0 and len(report["tasks"]) == times and not report["remarks"]
        sizes[times] = path.stat().st_size
    assert sizes[1] < sizes[6] < sizes[1] + 40000 < 2 * 65536 + 40000
    repeats = [frame for frame in frames.read(path, resolves=False) if frame.kind == frames.REPEAT]
    assert len(repeats) >= 5 and all(len(frame.payload) == 40 for frame in repeats)


def test_dropped_jobs_are_named(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer to "my job does nothing and nobody says why"."""
    done, path = record(COPY + """
text = lab.buffer(node, programs.fill(target.address, target.address, 5))
words = len(programs.fill(0, 0, 5)) // 8
for reads, writes in (([text.handle, target.handle], [target.handle]), ([99], [target.handle])):
    node.submit(Job([(text.address, words)], reads, writes))
    assert target.get() == data
""")
    assert done.returncode == 0, done.stderr
    status, report = replayed(path, capsys)
    assert status == 0 and len(report["tasks"]) == 1
    assert [remark.split(": ")[1] for remark in report["remarks"]] == ["handle 2 is listed twice",
                                                                       "handle 99 does not exist"]


def test_a_handle_closed_by_a_child_is_made_again(record: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    done, path = record(COPY + """
child = os.fork()
if child == 0:
    target.close()
    os._exit(0)
os.waitpid(child, 0)
target.mapping.unmap()
again = lab.buffer(node)
assert again.handle == target.handle
node.submit(lab.copy(source, again))
assert again.get() == data
""")
    assert done.returncode == 0, done.stderr
    status, report = replayed(path, capsys)
    assert status == 0 and [task["verdict"] for task in report["tasks"]] == ["equal"] * 2
