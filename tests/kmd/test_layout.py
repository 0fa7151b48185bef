"""The headers give the kernel's layout wherever they are compiled."""
from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

import pytest

from cermet import paths
from cermet.kmd import uapi

CHECK = pathlib.Path(__file__).resolve().parents[2] / "kernel-uapi" / "layout_check.c"
LANGUAGES = {
    "c90": ["-x", "c", "-std=c90", "-pedantic", "-Wno-long-long"], "c11": ["-x", "c", "-std=c11", "-pedantic"],
    "c++98": ["-x", "c++", "-std=c++98", "-Wno-unused-local-typedefs"]}


def compiler(bits: int, language: str = "c11") -> list[str]:
    """gcc for this word size. The kernel's headers are the same for both; -isystem finds them without a multilib."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc")
    machine = subprocess.run([gcc, "-print-multiarch"], capture_output=True, text=True).stdout.strip()
    options = [gcc, "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    if bits == 32:
        options += ["-m32", "-isystem", f"/usr/include/{machine}"]
    probe = subprocess.run([*options, *LANGUAGES[language], "-"], input="#include <linux/types.h>\n",
                           capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"gcc cannot compile {language} for {bits} bit here")
    return options


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("language", LANGUAGES)
def test_layout_check_compiles(language: str, bits: int) -> None:
    done = subprocess.run([*compiler(bits, language), *LANGUAGES[language], f"-I{paths.uapi_dir()}", "-"],
                          input=CHECK.read_text(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("header", uapi.HEADERS)
def test_each_header_compiles_alone(header: str, language: str) -> None:
    done = subprocess.run([*compiler(64, language), *LANGUAGES[language], f"-I{paths.uapi_dir()}", "-"],
                          input=f'#include "{header}"\n#include "{header}"\n', capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_layout_check_notices_a_change(tmp_path: pathlib.Path) -> None:
    """A reserved field that grows is refused: the checks are not empty."""
    for name in uapi.HEADERS:
        text = paths.header(name).read_text()
        (tmp_path / name).write_text(text.replace("__u32 reserved;", "__u64 reserved;", 1))
    done = subprocess.run([*compiler(64), f"-I{tmp_path}", "-x", "c", "-"], input=CHECK.read_text(),
                          capture_output=True, text=True)
    assert done.returncode != 0 and "drm_rocket_prep_bo" in done.stderr


def test_every_struct_and_number_is_checked() -> None:
    text = CHECK.read_text()
    declared = "".join(paths.header(name).read_text() for name in uapi.HEADERS)
    for struct in re.findall(r"^struct (\w+) \{", declared, flags=re.MULTILINE):
        assert f"CHECK_SIZE({struct}," in text
        for member, _ in uapi.ffi.typeof(f"struct {struct}").fields:
            assert f"CHECK_MEMBER({struct}, {member}," in text
    for name in uapi.IOCTLS:
        assert f"CHECK_NUMBER({name.removeprefix('DRM_IOCTL_')}," in text


def test_python_sees_the_same_layout() -> None:
    """Offsets that cffi computes for the structs of the rocket header, against the numbers in layout_check.c."""
    rows = re.findall(r"CHECK_MEMBER\((drm_rocket_\w+), (\w+), (\d+), (\d+)\)", CHECK.read_text())
    assert len(rows) == 75
    for struct, member, offset, size in rows:
        members = dict(uapi.ffi.typeof(f"struct {struct}").fields)
        assert (members[member].offset, uapi.ffi.sizeof(members[member].type)) == (int(offset), int(size))
