"""Clients of many kinds, none of which knows that the device is simulated; under qemu also aarch64's."""
from __future__ import annotations

import ctypes
import pathlib
import platform
import re
import shutil
import subprocess
import sys

import pytest

from cermet import paths
from tests.kmd.client import ROOT
from tests.kmd.conftest import AARCH64_GCC, Build, Run

CLIENTS = ROOT / "tests/kmd/clients"
PR_SET_SYSCALL_USER_DISPATCH = 59
PLAIN = ["usual", "paths", "lifetimes", "raw"]


@pytest.mark.parametrize("fortify", ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"])
@pytest.mark.parametrize("name", PLAIN)
def test_c_client(build: Build, run_with_shim: Run, name: str, fortify: str,
                  record_table) -> None:   # type: ignore[no-untyped-def]
    done = run_with_shim(build(CLIENTS / f"{name}.c", "-pthread", "-ldl", fortify))
    assert (done.returncode, done.stderr) == (0, "")
    if match := re.search(r"median ([\d.]+) p99 ([\d.]+)", done.stdout):
        row = {"program": fortify, "median us": match[1], "p99 us": match[2]}
        record_table("Time of an ioctl through the shim", row)


@pytest.mark.parametrize("name", PLAIN)
def test_aarch64_client_under_qemu(build: Build, run_aarch64: Run, name: str) -> None:
    done = run_aarch64(build(CLIENTS / f"{name}.c", "-pthread", "-ldl", compiler=AARCH64_GCC))
    assert (done.returncode, done.stderr) == (0, "")


def has_raw_calls() -> bool:
    return platform.machine() == "x86_64" and ctypes.CDLL(None).prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0) == 0


@pytest.mark.skipif(not has_raw_calls(), reason="this kernel has no syscall user dispatch")
def test_clients_that_enter_the_kernel_by_themselves(build: Build, run_with_shim: Run) -> None:
    program = build(CLIENTS / "instructions.c", "-pthread")
    words = [sys.executable, "-m", "cermet", "exec", "--raw-calls", "--"]
    done = run_with_shim(*words, program, LD_PRELOAD="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "errno 2" in run_with_shim(program).stderr       # without the option they find nothing
    for name in PLAIN:                                      # and it harms nobody else
        done = run_with_shim(*words, build(CLIENTS / f"{name}.c", "-pthread", "-ldl"), LD_PRELOAD="")
        assert (done.returncode, done.stderr) == (0, "")
    done = run_with_shim(*words, sys.executable, CLIENTS / "own.py", LD_PRELOAD="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


def test_client_with_musl(build: Build, run_with_shim: Run) -> None:
    headers = [f"-idirafter{folder}" for folder in ("/usr/include", f"/usr/include/{platform.machine()}-linux-gnu")]
    done = run_with_shim(build(CLIENTS / "usual.c", *headers, compiler="musl-gcc"))
    assert (done.returncode, done.stderr) == (0, "")


def test_address_sanitizer_beside_the_shim(build: Build, run_with_shim: Run) -> None:
    """Its library insists on being the first one."""
    program = build(CLIENTS / "usual.c", "-pthread", "-fsanitize=address")
    done = run_with_shim(program, ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=0")
    assert (done.returncode, done.stderr) == (0, "")


def test_libdrm(build: Build, run_with_shim: Run) -> None:
    if not pathlib.Path("/usr/include/xf86drm.h").exists():
        pytest.skip("libdrm's headers are not installed")
    done = run_with_shim(build(CLIENTS / "libdrm.c", "-I/usr/include/libdrm", "-ldrm"))
    assert (done.returncode, done.stderr) == (0, "")


def test_python_client(run_with_shim: Run) -> None:
    done = run_with_shim(sys.executable, CLIENTS / "own.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


def test_cpp_client(run_with_shim: Run, tmp_path: pathlib.Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    program = tmp_path / "modern"
    subprocess.run(["g++", "-std=c++17", "-Wall", f"-I{paths.uapi_dir()}", "-o", program, CLIENTS / "modern.cpp"],
                   check=True)
    done = run_with_shim(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "/dev/accel/accel0 rocket\n", "")


def test_rust_client(run_with_shim: Run, tmp_path: pathlib.Path) -> None:
    if shutil.which("rustc") is None:
        pytest.skip("no rustc")
    program = tmp_path / "safe"
    subprocess.run(["rustc", "-O", "-o", program, CLIENTS / "safe.rs"], check=True, capture_output=True)
    done = run_with_shim(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "handle 1 at 0\n", "")


@pytest.mark.parametrize(("command", "expected"), [
    ("udevadm info /dev/accel/accel0", "E: DEVTYPE=accel_minor"),
    ("udevadm info -q path -n /dev/accel/accel0", "/devices/platform/rknn/accel/accel0"),
    ("udevadm info -a -p /sys/class/accel/accel0", 'SUBSYSTEM=="accel"'),
    ("udevadm trigger --dry-run --verbose --subsystem-match=accel", "/sys/devices/platform/rknn/accel/accel0"),
    ("find /sys/class /dev -maxdepth 2 -name accel0", "/sys/class/accel/accel0"),
    ("file /dev/accel/accel0", "character special (261/0)"),
    ("stat -f -c %T /sys/class/accel/accel0/", "sysfs"),
    ("strace -f -o /dev/null stat -c %t:%T /dev/accel/accel0", "105:0"),
    ("valgrind -q stat -c %t:%T /dev/accel/accel0", "105:0")])
def test_tools_find_the_device(run_with_shim: Run, command: str, expected: str) -> None:
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"no {command.split()[0]}")
    done = run_with_shim(*command.split())
    assert done.returncode == 0 and expected in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["drmdevice", "drm_info", "lsgpu", "modetest -c"])
def test_tools_for_displays_look_and_pass_by(run_with_shim: Run, command: str) -> None:
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"no {command.split()[0]}")
    done = run_with_shim(*command.split())
    assert done.returncode >= 0 and "accel0" not in done.stdout
