"""Programs that know nothing of the client, run with the shim preloaded."""
from __future__ import annotations

import pathlib
import platform
import struct
import subprocess
import sys

import pytest

from cermet import paths
from cermet.cli.exec import preload, preloadable
from cermet.elf import Program, program_of
from tests.kmd.client import ROOT
from tests.kmd.conftest import AARCH64_GCC

SHIM = paths.library("libcermet_shim.so")


PYTHON_CHECKS = """
import os, stat, glob
node = os.stat("/dev/accel/accel0")
assert stat.S_ISCHR(node.st_mode) and os.major(node.st_rdev) == 261 and os.minor(node.st_rdev) == 0
assert os.path.exists("/dev/accel/accel0") and os.access("/dev/accel/accel0", os.R_OK | os.W_OK)
assert os.listdir("/dev/accel") == ["accel0"] and os.listdir("/sys/class/accel") == ["accel0"]
assert glob.glob("/dev/accel/accel*") == ["/dev/accel/accel0"]
assert not os.path.exists("/dev/accel/accel1")
assert open("/sys/class/accel/accel0/dev").read() == "261:0\\n"
assert "DEVNAME=accel/accel0" in open("/sys/dev/char/261:0/uevent").read()
assert os.readlink("/sys/dev/char/261:0/device/subsystem").endswith("bus/platform")
assert os.path.realpath("/sys/class/accel/accel0") == "/sys/devices/platform/rknn/accel/accel0"
fd = os.open("/dev/accel/accel0", os.O_RDWR)
assert stat.S_ISCHR(os.fstat(fd).st_mode)
assert os.readlink(f"/proc/self/fd/{fd}") == "/dev/accel/accel0"
folder = os.open("/dev/accel", os.O_RDONLY | os.O_DIRECTORY)
again = os.open("accel0", os.O_RDWR, dir_fd=folder)
assert os.fstat(again).st_rdev == node.st_rdev
os.chdir("/dev")
assert os.stat("accel/accel0").st_rdev == node.st_rdev
assert os.stat("/dev/null").st_rdev == os.makedev(1, 3) and len(os.listdir("/sys/class")) > 1
"""


def test_python_sees_node_and_sysfs(run_with_shim) -> None:    # type: ignore[no-untyped-def]
    done = run_with_shim(sys.executable, "-c", PYTHON_CHECKS)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [
    "test -c /dev/accel/accel0", "test -r /dev/accel/accel0 -a -w /dev/accel/accel0", "! test -e /dev/accel/accel7",
    "ls -l /dev/accel/accel0 | grep '261, *0'", "ls /sys/class/accel | grep -x accel0",
    "test $(cat /sys/class/accel/accel0/dev) = 261:0", "exec 3<>/dev/accel/accel0",
    "stat -c %F /dev/accel/accel0 | grep character", "ls / | grep -x dev", "sh -c 'exit 0'"])
def test_shell_tools(run_with_shim, command: str) -> None:     # type: ignore[no-untyped-def]
    done = run_with_shim("sh", "-c", command)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_driver_that_does_not_start_is_told_on_stderr(run_with_shim, tmp_path: pathlib.Path) -> None:     # type: ignore[no-untyped-def]
    done = run_with_shim("sh", "-c", "exec 3<>/dev/accel/accel0", FAKE_DRIVER_FAILS="1",
                         CERMET_SIM_SOCKET=str(tmp_path / "s"))
    assert done.returncode != 0 and "fake driver: told to fail" in done.stderr


def test_driver_has_a_python_of_its_own(run_with_shim, tmp_path: pathlib.Path) -> None:     # type: ignore[no-untyped-def]
    done = run_with_shim("sh", "-c", "exec 3<>/dev/accel/accel0", PYTHONHOME=str(tmp_path),
                         CERMET_SIM_SOCKET=str(tmp_path / "s"))
    assert (done.returncode, done.stderr) == (0, "")


def test_unknown_soc(run_with_shim, tmp_path: pathlib.Path) -> None:       # type: ignore[no-untyped-def]
    done = run_with_shim("sh", "-c", "exec 3<>/dev/accel/accel0", CERMET_SOC="Rk 1",
                         CERMET_SIM_SOCKET=str(tmp_path / "s"))
    assert "soc: 'Rk 1' must be 1 to 16 of" in done.stderr


# --- cermet exec ------------------------------------------------------------------------------------------------------


def test_exec_runs_a_command_with_the_shim(run_with_shim) -> None:     # type: ignore[no-untyped-def]
    def cermet_exec(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run_with_shim(sys.executable, "-m", "cermet", "exec", *words, LD_PRELOAD="", **more)
    assert cermet_exec("--", "sh", "-c", "exit 7").returncode == 7
    assert cermet_exec("--", "test", "-c", "/dev/accel/accel0").returncode == 0
    listing = cermet_exec("--", "ls", "-l", "/dev/accel")
    assert listing.returncode == 0 and "accel0" in listing.stdout and listing.stderr == ""
    assert cermet_exec("--soc", "rk3588", "--", "sh", "-c", "test $CERMET_SOC = rk3588").returncode == 0
    missing = cermet_exec("--", "/no/such/program")
    assert missing.returncode == 127 and "/no/such/program: No such file or directory" in missing.stderr
    assert cermet_exec("--", "/").returncode == 126
    assert cermet_exec().returncode == 2


def test_exec_works_where_the_installation_has_a_blank_in_its_path(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "with blank"
    folder.mkdir()
    (folder / "libshim.so").write_bytes(SHIM.read_bytes())
    link = preloadable(folder / "libshim.so")
    assert " " not in str(link)
    assert link.resolve() == folder / "libshim.so"
    assert preloadable(folder / "libshim.so") == link


def test_exec_keeps_what_is_preloaded() -> None:
    assert preload("/shim.so", None) == "/shim.so"
    assert preload("/shim.so", "/other.so") == "/shim.so:/other.so"


def fake_program(path: pathlib.Path, machine: int = 62, bits: int = 2, interpreter: bool = True) -> pathlib.Path:
    """An ELF file of one program header."""
    header = struct.pack("<4sBB10xHHIQQQIHHH", b"\x7fELF", bits, 1, 2, machine, 1, 0, 64, 0, 0, 64, 56, 1)
    path.write_bytes(header.ljust(64, b"\0") + struct.pack("<I52x", 3 if interpreter else 1))
    path.chmod(0o755)
    return path


def test_what_kind_of_program(tmp_path: pathlib.Path) -> None:
    assert program_of(fake_program(tmp_path / "a")) == Program("x86_64", True)
    assert program_of(fake_program(tmp_path / "b", machine=183, interpreter=False)) == Program("aarch64", False)
    assert program_of(fake_program(tmp_path / "c", bits=1)) is None
    assert program_of(tmp_path / "missing") is None and program_of(tmp_path) is None
    whole = (tmp_path / "a").read_bytes()
    for length in range(len(whole)):        # damaged files are no programs
        (tmp_path / "d").write_bytes(whole[:length])
        assert program_of(tmp_path / "d") is None


def test_exec_says_what_cannot_work(run_with_shim, tmp_path: pathlib.Path) -> None:     # type: ignore[no-untyped-def]
    def cermet_exec(*words: object, **more: str) -> subprocess.CompletedProcess[str]:
        return run_with_shim(sys.executable, "-m", "cermet", "exec", *words, LD_PRELOAD="", **more)
    other = fake_program(tmp_path / "other", machine=183 if platform.machine() == "x86_64" else 62)
    done = cermet_exec("--", other)
    assert done.returncode == 1 and "name one for" in done.stderr and done.stderr.count("\n") == 1
    static = fake_program(tmp_path / "static", machine=62 if platform.machine() == "x86_64" else 183, interpreter=False)
    assert "is statically linked and will not see the simulated device" in cermet_exec("--", static).stderr
    done = cermet_exec("--shim", tmp_path / "none.so", "--", "true")
    assert done.returncode == 1 and "none.so: no such file" in done.stderr
    done = cermet_exec("--shim", __file__, "--", "true")
    assert done.returncode == 1 and "is no 64-bit library" in done.stderr
    done = cermet_exec("--shim", other, "--", other, PATH="")
    assert done.returncode == 1 and "needs qemu-" in done.stderr


def test_exec_runs_aarch64_programs(build, aarch64_shim, run_with_shim) -> None:    # type: ignore[no-untyped-def]
    program = build(ROOT / "tests/kmd/clients/usual.c", "-pthread", compiler=AARCH64_GCC)
    words = [sys.executable, "-m", "cermet", "exec", "--shim", aarch64_shim, "--"]
    done = run_with_shim(*words, program, LD_PRELOAD="")
    assert (done.returncode, done.stderr) == (0, "")
    missing = run_with_shim(*words, "/no/such", LD_PRELOAD="")
    assert missing.returncode == 127 and "/no/such: No such file or directory" in missing.stderr
