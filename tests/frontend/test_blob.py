"""The blob: layout as the C compiler sees it, canonical form enforced."""
from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cermet import paths
from cermet.frontend.blob import read_blob
from cermet.frontend.blob_layout import aligned, blob_layout
from cermet.frontend.errors import FrontendError
from cermet.frontend.tflite_file import to_blob
from tests.support import model_builder


@pytest.fixture(scope="module")
def blob() -> bytes:
    rng = np.random.default_rng(3)
    return to_blob(model_builder.conv2d(rng, (1, 4, 4, 3), 8, per_channel=True).data)


def member(struct_name: str, name: str) -> int:
    """Offset of a member in its struct."""
    fields = getattr(blob_layout(), struct_name).fields
    assert fields is not None
    return fields[name][1]


def patched(blob: bytes, offset: int, value: int, size: str = "<I") -> bytes:
    changed = bytearray(blob)
    struct.pack_into(size, changed, offset, value)
    return bytes(changed)


def test_layout_is_the_c_compiler_s(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    lines = []
    for name in ("header", "operation", "tensor"):
        dtype = getattr(blob_layout(), name)
        lines.append(f"_Static_assert(sizeof(struct cermet_blob_{name}) == {dtype.itemsize}, \"size\");")
        lines += [f"_Static_assert(offsetof(struct cermet_blob_{name}, {m}) == {offset}, \"{m}\");"
                  for m, (_, offset) in dtype.fields.items()]
    lines += [f"_Static_assert({name} == {value}u, \"{name}\");" for name, value in blob_layout().constants.items()]
    assert len(lines) > 40
    source = tmp_path / "check.c"
    source.write_text("#include <stddef.h>\n#include <cermet_blob.h>\n" + "\n".join(lines) + "\n")
    subprocess.run([compiler, "-std=c11", "-fsyntax-only", f"-I{paths.header('cermet_blob.h').parent}", str(source)],
                   check=True)


def test_sections_of_a_small_model(blob: bytes) -> None:
    header = dict(zip(blob_layout().header.names or (), np.frombuffer(blob, blob_layout().header, 1)[0].tolist(),
                      strict=True))
    assert (header["num_operations"], header["num_tensors"]) == (1, 4)
    assert header["file_bytes"] == len(blob) == header["data_offset"] + header["data_bytes"]
    assert header["data_bytes"] == aligned(8 * 3 * 3 * 3) + 8 * 4
    strings = blob[header["strings_offset"]:header["strings_offset"] + header["strings_bytes"]]
    assert strings == b"\0input\0weights\0bias\0output\0"
    ints = np.frombuffer(blob, "<i4", header["num_ints"], header["ints_offset"]).tolist()
    assert ints[:10] == [0, 1, 2, 3, 1, 1, 1, 0, 1, 1]      # inputs, output, parameters
    assert ints[-2:] == [0, 3]                              # graph input and output


def test_header_errors(blob: bytes) -> None:
    for offset, value, message in [
            (0, 1, "blob: header.magic: 0x1, must be 0x424d5243"), (4, 9, "blob: header.version: 0x9, must be 0x1"),
            (8, 5, f"blob: header.file_bytes: {5:#x}, must be {len(blob):#x}"),
            (member("header", "tensors_offset"), 64, "blob: header.tensors_offset: 64, must be 128"),
            (member("header", "num_ints"), 0x7fffffff, "blob: header.strings_offset")]:
        with pytest.raises(FrontendError) as caught:
            read_blob(patched(blob, offset, value))
        assert str(caught.value).startswith(message)
    with pytest.raises(FrontendError, match="header: 3 bytes, must be at least 80"):
        read_blob(blob[:3])


def test_operation_and_tensor_errors(blob: bytes) -> None:
    operation, tensor = 80, 128
    for offset, value, message in [
            (operation + member("operation", "num_params"), 5, "blob: tensor 0: dims_start 10, must be 9"),
            (operation + member("operation", "builtin_code"), 9, "blob: operation 0: 6 parameters, must be 3"),
            (tensor + member("tensor", "flags"), 77, "blob: tensor 0: flags 0x4d, must be below 0x8"),
            (tensor + member("tensor", "flags"), 1, "blob: tensor 0: 0 bytes of data at 0"),
            (tensor + member("tensor", "name"), 2, "blob: strings: name at 2"),
            (tensor + member("tensor", "num_zero_points"), 0, "blob: tensor 1: dims_start 16, must be 15")]:
        with pytest.raises(FrontendError) as caught:
            read_blob(patched(blob, offset, value))
        assert str(caught.value).startswith(message)


def test_trailing_bytes_are_refused(blob: bytes) -> None:
    longer = patched(blob + bytes(16), 8, len(blob) + 16, "<Q")
    with pytest.raises(FrontendError, match="sections end at"):
        read_blob(longer)
