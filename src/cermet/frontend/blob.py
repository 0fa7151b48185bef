"""The subgraph blob (cermet_blob.h) to a Subgraph. The blob may be hostile: only the canonical form is accepted."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cermet.frontend.blob_layout import BlobLayout, aligned, blob_layout
from cermet.frontend.blob_params import with_params
from cermet.frontend.errors import FrontendError
from cermet.frontend.operators import KINDS, NUM_PARAMS, operator_name
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Quantisation, Tensor
from cermet.ir.verify import VerifyError, verify

DTYPES = {1: DType.FLOAT32, 2: DType.INT32, 3: DType.UINT8, 4: DType.INT64, 6: DType.BOOL, 7: DType.INT16,
          9: DType.INT8, 10: DType.FLOAT16, 11: DType.FLOAT64, 16: DType.UINT32, 17: DType.UINT16}    # of TfLiteType
MAX_RANK = 32
MAX_ELEMENTS = 1 << 40


class _Sections(NamedTuple):
    """The blob cut into its sections, all counts and offsets checked against its size."""

    raw: memoryview
    header: dict[str, int]
    operations: list[dict[str, int]]
    tensors: list[dict[str, int]]
    ints: np.ndarray
    strings: bytes


def read_blob(blob: bytes, *, place: str = "blob") -> Subgraph:
    """The subgraph of a blob; constants are read-only views of it. Raises FrontendError."""
    try:
        sections = _sections(blob, blob_layout())
        _check_arrays(sections)
        names = _names(sections)
        custom = [next(names) for _ in sections.operations]
        tensors = list(_tensors(sections, names))
        operations = tuple(_operation(sections, i, row, name, tensors)
                           for i, (row, name) in enumerate(zip(sections.operations, custom, strict=True)))
        subgraph = Subgraph({t.index: t for t in tensors}, operations, *_graph_ends(sections))
        verify(subgraph)
        return subgraph
    except (FrontendError, VerifyError) as error:
        raise FrontendError(f"{place}: {error}") from error


# ---- sections ------------------------------------------------------------------------------------------------------

def _sections(blob: bytes, layout: BlobLayout) -> _Sections:
    raw = memoryview(blob).cast("B")
    if len(raw) < layout.header.itemsize:
        raise FrontendError(f"header: {len(raw)} bytes, must be at least {layout.header.itemsize}")
    header = _rows(raw, layout.header, 0, 1)[0]
    constants = layout.constants
    for member, wanted in (("magic", constants["CERMET_BLOB_MAGIC"]), ("version", constants["CERMET_BLOB_VERSION"]),
                           ("file_bytes", len(raw))):
        if header[member] != wanted:
            raise FrontendError(f"header.{member}: {header[member]:#x}, must be {wanted:#x}")
    _check_offsets(header, layout)
    ints = np.frombuffer(raw, "<i4", header["num_ints"], header["ints_offset"])
    strings = bytes(raw[header["strings_offset"]:header["strings_offset"] + header["strings_bytes"]])
    return _Sections(raw, header, _rows(raw, layout.operation, header["operations_offset"], header["num_operations"]),
                     _rows(raw, layout.tensor, header["tensors_offset"], header["num_tensors"]), ints, strings)


def _rows(raw: memoryview, dtype: np.dtype, offset: int, count: int) -> list[dict[str, int]]:
    names = dtype.names or ()
    rows = np.frombuffer(raw, dtype, count, offset).tolist()
    return [dict(zip(names, row, strict=True)) for row in rows]


def _check_offsets(header: dict[str, int], layout: BlobLayout) -> None:
    """Each section starts where the one before ends, aligned; together they are the file."""
    position = layout.header.itemsize
    for name, size in (("operations", header["num_operations"] * layout.operation.itemsize),
                       ("tensors", header["num_tensors"] * layout.tensor.itemsize), ("ints", header["num_ints"] * 4),
                       ("strings", header["strings_bytes"]), ("data", header["data_bytes"])):
        if header[f"{name}_offset"] != aligned(position):
            raise FrontendError(f"header.{name}_offset: {header[f'{name}_offset']}, must be {aligned(position)}")
        position = aligned(position) + size
    if position != header["file_bytes"]:
        raise FrontendError(f"header.file_bytes: {header['file_bytes']}, sections end at {position}")


def _check_arrays(sections: _Sections) -> None:
    """Arrays of `ints` follow each other without sharing, in the canonical order, and fill the section."""
    position = 0
    for i, row in enumerate(sections.operations):
        for array in ("inputs", "outputs", "params"):
            position = _next_start(f"operation {i}", row, array, position)
    for i, row in enumerate(sections.tensors):
        for array, count in (("dims", "rank"), ("scales", "num_scales"), ("zero_points", "num_zero_points")):
            position = _next_start(f"tensor {i}", row, array, position, count)
    for array in ("graph_inputs", "graph_outputs"):
        position = _next_start("header", sections.header, array, position)
    if position != sections.header["num_ints"]:
        raise FrontendError(f"header.num_ints: {sections.header['num_ints']}, arrays end at {position}")


def _next_start(where: str, row: dict[str, int], array: str, position: int, count: str = "") -> int:
    if row[f"{array}_start"] != position:
        raise FrontendError(f"{where}: {array}_start {row[f'{array}_start']}, must be {position}")
    return position + row[count or f"num_{array}"]


def _names(sections: _Sections) -> Iterator[str]:
    """Custom names of all operations, then names of all tensors; they follow each other without sharing."""
    strings, position = sections.strings, 1
    if strings[:1] != b"\0":
        raise FrontendError("strings: must begin with a NUL")
    for row, member in [(r, "custom_name") for r in sections.operations] + [(r, "name") for r in sections.tensors]:
        if row[member] == 0:
            yield ""
            continue
        end = strings.find(b"\0", position)
        if row[member] != position or end <= position:
            raise FrontendError(f"strings: {member} at {row[member]}, must be a NUL-terminated string at {position}")
        yield strings[position:end].decode("utf-8", "backslashreplace")
        position = end + 1
    if position != len(strings):
        raise FrontendError(f"strings: {len(strings)} bytes, names end at {position}")


def _array(sections: _Sections, row: dict[str, int], array: str, count: str = "") -> list[int]:
    start = row[f"{array}_start"]
    return sections.ints[start:start + row[count or f"num_{array}"]].tolist()


def _graph_ends(sections: _Sections) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (tuple(_array(sections, sections.header, "graph_inputs")),
            tuple(_array(sections, sections.header, "graph_outputs")))


# ---- tensors -------------------------------------------------------------------------------------------------------

def _tensors(sections: _Sections, names: Iterator[str]) -> Iterator[Tensor]:
    constants = blob_layout().constants
    start, position = sections.header["data_offset"], 0
    end = sections.header["data_offset"]
    for index, (row, name) in enumerate(zip(sections.tensors, names, strict=True)):
        flags = row["flags"]
        if flags >= 8:
            raise FrontendError(f"tensor {index}: flags {flags:#x}, must be below 0x8")
        dims = _dims(sections, index, row)
        dtype = DTYPES.get(row["type"], DType.OTHER)
        data = None
        if flags & constants["CERMET_TENSOR_CONSTANT"]:
            wanted = start + aligned(position)
            if row["data_offset"] != wanted or not 0 < row["data_bytes"] <= sections.header["file_bytes"] - wanted:
                raise FrontendError(f"tensor {index}: {row['data_bytes']} bytes of data at {row['data_offset']}, must "
                                    f"be at {wanted} and inside the file")
            position = aligned(position) + row["data_bytes"]
            end = start + position
            dtype, data = _data(sections, row, dtype, dims)
        elif row["data_offset"] or row["data_bytes"]:
            raise FrontendError(f"tensor {index}: data without the constant flag, must have none")
        yield Tensor(index, name, dims, dtype, _quantisation(sections, index, row), data,
                     is_variable=bool(flags & constants["CERMET_TENSOR_VARIABLE"]),
                     is_dynamic=bool(flags & constants["CERMET_TENSOR_DYNAMIC"]))
    if end != sections.header["file_bytes"]:
        raise FrontendError(f"header.data_bytes: {sections.header['data_bytes']}, constants end at {end}")


def _dims(sections: _Sections, index: int, row: dict[str, int]) -> tuple[int, ...]:
    if row["rank"] > MAX_RANK:
        raise FrontendError(f"tensor {index}: rank {row['rank']}, must be 0..{MAX_RANK}")
    dims = tuple(_array(sections, row, "dims", "rank"))
    elements = 1
    for n in dims:
        elements *= max(n, 1)
    if any(n < 0 for n in dims) or elements > MAX_ELEMENTS:
        raise FrontendError(f"tensor {index}: shape {dims}, must be 0 or more each and at most 2**40 elements")
    return dims


def _data(sections: _Sections, row: dict[str, int], dtype: DType, dims: tuple[int, ...]) -> tuple[DType, np.ndarray]:
    """Contents of a constant. Sparse, packed or unknown ones are OTHER: raw bytes that nothing here computes with."""
    offset, num_bytes = row["data_offset"], row["data_bytes"]
    if dtype is not DType.OTHER:
        numpy = dtype.numpy.newbyteorder("<")
        count = int(np.prod(dims, dtype=np.int64))
        if count * numpy.itemsize == num_bytes:
            return dtype, np.frombuffer(sections.raw, numpy, count, offset).reshape(dims)
    return DType.OTHER, np.frombuffer(sections.raw, np.uint8, num_bytes, offset)


def _quantisation(sections: _Sections, index: int, row: dict[str, int]) -> Quantisation | None:
    num_scales, num_points = row["num_scales"], row["num_zero_points"]
    if num_scales == 0:
        if num_points:
            raise FrontendError(f"tensor {index}: {num_points} zero points without scales, must be 0")
        return None
    if num_points not in (1, num_scales):
        raise FrontendError(f"tensor {index}: {num_points} zero points, must be 1 or {num_scales}")
    start = row["scales_start"]
    scales = sections.ints[start:start + num_scales].view("<f4").tolist()
    return Quantisation(tuple(scales), tuple(_array(sections, row, "zero_points")), row["quantised_dimension"])


# ---- operations ----------------------------------------------------------------------------------------------------

def _operation(sections: _Sections, index: int, row: dict[str, int], custom: str,
               tensors: Sequence[Tensor]) -> Operation:
    kind = KINDS.get(row["builtin_code"], Kind.OTHER)
    params = _array(sections, row, "params")
    if len(params) != NUM_PARAMS.get(kind, 0):
        raise FrontendError(f"operation {index}: {len(params)} parameters, must be {NUM_PARAMS.get(kind, 0)}")
    inputs = tuple(None if t == -1 else t for t in _array(sections, row, "inputs"))
    outputs = tuple(_array(sections, row, "outputs"))
    for t in (*inputs, *outputs):
        if t is not None and not 0 <= t < len(tensors):
            raise FrontendError(f"operation {index}: tensor {t}, must be 0..{len(tensors) - 1}")
    plain = Operation(index, kind, operator_name(row["builtin_code"], custom), inputs, outputs, version=row["version"])
    return with_params(plain, params, tensors)
