"""Programs that know nothing of the client, run with the shim preloaded."""
from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from cermet import paths
from cermet.cli.exec import preload, preloadable
from tests.kmd.client import ROOT, environment

SHIM = paths.library("libcermet_shim.so")
CFLAGS = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., pathlib.Path]:
    """build(source, *options) -> program."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    folder = tmp_path_factory.mktemp("programs")

    def compile_program(source: pathlib.Path, *options: str) -> pathlib.Path:
        program = folder / f"{source.stem}-{abs(hash(options))}"
        subprocess.run(["gcc", *CFLAGS, f"-I{paths.uapi_dir()}", "-o", str(program), str(source), *options], check=True)
        return program
    return compile_program


@pytest.fixture
def run_with_shim(fake_socket: pathlib.Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run(command...) with the fake driver behind the shim."""
    variables = os.environ | environment(fake_socket) | {"LD_PRELOAD": str(preloadable(SHIM))}

    def run(*command: object, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(word) for word in command], env=variables | more, capture_output=True, text=True,
                              timeout=60)
    return run


@pytest.mark.parametrize("fortify", ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"])
def test_c_program_with_nothing_but_the_header(build, run_with_shim, fortify: str, record_table) -> None:  # type: ignore[no-untyped-def]
    done = run_with_shim(build(ROOT / "tests/kmd/uapi_client.c", "-pthread", fortify))
    assert (done.returncode, done.stderr) == (0, "")
    match = re.search(r"median ([\d.]+) p99 ([\d.]+)", done.stdout)
    assert match
    record_table("Time of an ioctl through the shim", {"program": fortify, "median us": match[1], "p99 us": match[2]})


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


def test_unknown_soc(run_with_shim, tmp_path: pathlib.Path) -> None:       # type: ignore[no-untyped-def]
    done = run_with_shim("sh", "-c", "exec 3<>/dev/accel/accel0", CERMET_SOC="Rk 1",
                         CERMET_SIM_SOCKET=str(tmp_path / "s"))
    assert "soc: 'Rk 1' must be 1 to 16 of" in done.stderr


LIBDRM = """
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xf86drm.h>

int
main(void)
{
   int fd = open("/dev/accel/accel0", O_RDWR | O_CLOEXEC), exported = -1;
   drmVersionPtr version = drmGetVersion(fd);
   uint64_t value = 0;

   if (!version || strcmp(version->name, "rocket") != 0 || strcmp(version->desc, "rocket DRM") != 0)
      return 1;
   if (drmGetCap(fd, DRM_CAP_PRIME, &value) != 0 || value != 3)
      return 2;
   if (drmPrimeHandleToFD(fd, 1, DRM_CLOEXEC, &exported) == 0 || errno != ENOENT)
      return 4;
   drmFreeVersion(version);
   return 0;
}
"""


def test_real_libdrm(build, run_with_shim, tmp_path: pathlib.Path) -> None:    # type: ignore[no-untyped-def]
    """Its wrappers of ioctls work. Its device lists know no accel nodes, on hardware neither: they need device/drm."""
    if not pathlib.Path("/usr/include/xf86drm.h").exists():
        pytest.skip("libdrm's headers are not installed")
    source = tmp_path / "libdrm.c"
    source.write_text(LIBDRM)
    done = run_with_shim(build(source, "-I/usr/include/libdrm", "-ldrm"))
    assert (done.returncode, done.stderr) == (0, "")


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
