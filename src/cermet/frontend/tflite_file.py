"""A .tflite file to the subgraph blob, byte for byte what the delegate writes for the same model.

What the runtime shows a delegate differs from what the file says; to_blob follows the runtime (TFLite's
interpreter_builder.cc): quantisation counts when it has scales, not min/max; a tensor is constant when its buffer
has bytes; an operator's number is the larger of its two code fields; absent options are zeros.
"""
from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tflite

from cermet.frontend.blob import read_blob
from cermet.frontend.blob_layout import aligned, blob_layout
from cermet.frontend.errors import FrontendError
from cermet.frontend.operators import CUSTOM, KINDS
from cermet.frontend.tflite_params import params_of
from cermet.ir.operation import Kind
from cermet.ir.subgraph import Subgraph

MAX_FILE_BYTES = 1 << 31        # a flatbuffer's offsets end there
SCHEMA_VERSION = 3
MAX_CONSTANT_SHARE = 16         # constants may be this many times the file's size, counting shared buffers again

# TensorType of the schema -> TfLiteType of the runtime
RUNTIME_TYPES = {0: 1, 1: 10, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, 8: 8, 9: 9, 10: 11, 11: 12, 12: 13, 13: 14, 14: 15,
                 15: 16, 16: 17, 17: 18, 18: 19, 19: 20, 20: 21}
ELEMENT_BYTES = {1: 4, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 8: 8, 9: 1, 10: 2, 11: 8, 12: 16, 13: 8, 16: 4, 17: 2, 19: 2}

DAMAGE = (struct.error, IndexError, TypeError, ValueError, OverflowError, AttributeError, KeyError, MemoryError)


def load(path: str | Path, subgraph_index: int = 0) -> Subgraph:
    """The subgraph of a .tflite file. Raises FrontendError."""
    return read_tflite(read_file(path), subgraph_index, place=str(path))


def read_file(path: str | Path) -> bytes:
    """Contents of a model file. Raises FrontendError when it is no readable file or too large."""
    try:
        if Path(path).is_dir():
            raise FrontendError(f"{path}: a folder, must be a .tflite model")
        if not Path(path).is_file():
            raise FrontendError(f"{path}: {'no such file' if not Path(path).exists() else 'no regular file'}, "
                                "must be a .tflite model")
        size = Path(path).stat().st_size
        if size > MAX_FILE_BYTES:
            raise FrontendError(f"{path}: {size} bytes, must be at most {MAX_FILE_BYTES}")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise FrontendError(f"{path}: cannot be read: {error}") from error


def read_tflite(model: bytes, subgraph_index: int = 0, *, place: str = "model") -> Subgraph:
    """The subgraph of a model's bytes: the blob's way, so that both frontends give the same object."""
    return read_blob(to_blob(model, subgraph_index, place=place), place=place)


def to_blob(model: bytes, subgraph_index: int = 0, *, place: str = "model") -> bytes:
    """The canonical blob (cermet_blob.h) of one subgraph of a .tflite. Raises FrontendError, nothing else.

    place is how messages name the model.
    """
    if len(model) < 8 or bytes(model[4:8]) != b"TFL3":
        raise FrontendError(f"{place}: not a TFLite model, bytes 4..7 must be TFL3")
    try:
        return _Writer(model, subgraph_index, place).blob()
    except DAMAGE as error:
        raise FrontendError(f"{place}: damaged flatbuffer ({error}), every offset must lie inside the "
                            f"{len(model)} bytes") from error


class _Writer:
    """Collects the sections of one blob."""

    def __init__(self, model: bytes, subgraph_index: int, place: str) -> None:
        self.place = place
        self.num_bytes = len(model)
        self.model = tflite.Model.GetRootAs(model, 0)
        if self.model.Version() != SCHEMA_VERSION:
            raise self.error(f"schema version {self.model.Version()}, must be {SCHEMA_VERSION}")
        num_subgraphs = self.model.SubgraphsLength()
        if not 0 <= subgraph_index < num_subgraphs:
            raise self.error(f"subgraph {subgraph_index} does not exist, must be 0..{num_subgraphs - 1}")
        self.subgraph = self.model.Subgraphs(subgraph_index)
        self.num_tensors = self.subgraph.TensorsLength()
        self.ints: list[int] = []
        self.strings = bytearray(1)
        self.constants: list[np.ndarray] = []
        self.data_bytes = 0
        self.numbers: dict[int, int] = {}       # tensor of the file -> canonical number
        self.produced: set[int] = set()
        self.read: set[int] = set()
        self.custom_outputs: set[int] = set()

    def error(self, text: str) -> FrontendError:
        return FrontendError(f"{self.place}: {text}")

    def blob(self) -> bytes:
        layout = blob_layout()
        num_operations = self.count("operators", self.subgraph.OperatorsLength())
        operations = np.array([self.operation(i) for i in range(num_operations)], layout.operation)
        constant = set()
        rows = []
        for file_number, number in self.numbers.items():
            rows.append(self.tensor(file_number))
            if rows[-1][-1]:
                constant.add(number)
        tensors = np.array(rows, layout.tensor)
        inputs = sorted(set(self.numbers.values()) - self.produced - constant)
        self.checked("graph input", self.subgraph.InputsAsNumpy(), -1)
        wanted = {self.numbers.get(t) for t in self.checked("graph output", self.subgraph.OutputsAsNumpy(), -1)}
        outputs = sorted(t for t in wanted if t is not None and t in self.produced)
        inputs_start, outputs_start = self.append(inputs), self.append(outputs)
        return self.join(operations, tensors, (len(inputs), inputs_start, len(outputs), outputs_start))

    # -- operations

    def operation(self, index: int) -> tuple[int, ...]:
        op = self.subgraph.Operators(index)
        where = f"operation {index}"
        code, version, custom = self.operator_code(op.OpcodeIndex(), where)
        inputs = self.tensors(where + " input", op.InputsAsNumpy(), lowest=-1)
        outputs = self.tensors(where + " output", op.OutputsAsNumpy(), lowest=0)
        self.produced.update(outputs)
        self.read.update(inputs)
        if code == CUSTOM:
            self.custom_outputs.update(outputs)
        inputs_start = self.append(inputs)
        outputs_start = self.append(outputs)
        params = params_of(op, KINDS.get(code, Kind.OTHER))
        return (code, version, self.string(custom), len(inputs), inputs_start, len(outputs), outputs_start,
                len(params), self.append(params), 0)

    def operator_code(self, index: int, where: str) -> tuple[int, int, bytes]:
        if index >= self.model.OperatorCodesLength():
            raise self.error(f"{where}: operator code {index}, must be below {self.model.OperatorCodesLength()}")
        entry = self.model.OperatorCodes(index)
        code = max(entry.DeprecatedBuiltinCode(), entry.BuiltinCode())
        custom = entry.CustomCode()
        if code < 0 or (code == CUSTOM and not custom):
            raise self.error(f"{where}: operator number {code}, must be 0 or more, and have a name when it is {CUSTOM}")
        return code, entry.Version(), custom if code == CUSTOM else b""

    def tensors(self, where: str, vector: object, lowest: int) -> list[int]:
        """Canonical numbers, given out in order of first use; -1 stays."""
        return [-1 if t < 0 else self.numbers.setdefault(t, len(self.numbers))
                for t in self.checked(where, vector, lowest)]

    def checked(self, where: str, vector: object, lowest: int) -> list[int]:
        """The file's numbers of tensors, as the runtime accepts them."""
        found = self.vector(where, vector)
        for t in found:
            if not lowest <= t < self.num_tensors:
                raise self.error(f"{where}: tensor {t}, must be {lowest}..{self.num_tensors - 1}")
        return found

    # -- tensors

    def tensor(self, file_number: int) -> tuple[int, ...]:
        tensor = self.subgraph.Tensors(file_number)
        where = f"tensor {file_number}"
        runtime_type = RUNTIME_TYPES.get(tensor.Type())
        if runtime_type is None:
            raise self.error(f"{where}: type {tensor.Type()}, must be 0..{max(RUNTIME_TYPES)}")
        name = self.string(tensor.Name() or b"")
        has_shape = self.numbers[file_number] not in self.custom_outputs - self.read
        dims = self.vector(where + " shape", tensor.ShapeAsNumpy()) if has_shape else []
        data = self.constant(tensor, where)
        if data is not None and runtime_type in ELEMENT_BYTES and tensor.Sparsity() is None:
            self.check_size(where, dims, ELEMENT_BYTES[runtime_type], len(data))
        dims_start = self.append(dims)
        quantisation = self.quantisation(tensor, where, dims)
        offset, num_bytes = (0, 0) if data is None else self.place_constant(data)
        flags = self.flags(tensor, where, data is not None, has_shape)
        return runtime_type, flags, name, len(dims), dims_start, *quantisation, offset, num_bytes

    def check_size(self, where: str, dims: Sequence[int], element_bytes: int, num_bytes: int) -> None:
        wanted = element_bytes
        for n in dims:
            wanted *= n
        if wanted != num_bytes:
            raise self.error(f"{where}: {num_bytes} bytes of contents, shape {tuple(dims)} needs {wanted}")

    def flags(self, tensor: tflite.Tensor, where: str, is_constant: bool, has_shape: bool) -> int:
        constants = blob_layout().constants
        signature = self.vector(where + " shape signature", tensor.ShapeSignatureAsNumpy())
        return (constants["CERMET_TENSOR_CONSTANT"] * is_constant
                + constants["CERMET_TENSOR_VARIABLE"] * bool(tensor.IsVariable())
                + constants["CERMET_TENSOR_DYNAMIC"] * (has_shape and not is_constant and -1 in signature))

    def constant(self, tensor: tflite.Tensor, where: str) -> np.ndarray | None:
        index = tensor.Buffer()
        if index == 0:
            return None
        if index >= self.model.BuffersLength():
            raise self.error(f"{where}: buffer {index}, must be below {self.model.BuffersLength()}")
        buffer = self.model.Buffers(index)
        if buffer.Offset() > 1:
            raise self.error(f"{where}: buffer {index} lies behind the flatbuffer (64-bit offset), must be inside it")
        data = buffer.DataAsNumpy()
        return data if isinstance(data, np.ndarray) and data.size else None

    def quantisation(self, tensor: tflite.Tensor, where: str, dims: Sequence[int]) -> tuple[int, ...]:
        """num_scales, scales_start, num_zero_points, zero_points_start, quantised_dimension."""
        q = tensor.Quantization()
        affine = q is not None and q.DetailsType() in (0, 1) and q.ScaleLength() > 0
        if not affine:
            return 0, self.append(()), 0, self.append(()), 0
        scales = self.array(where + " scales", q.ScaleAsNumpy())
        points = self.array(where + " zero points", q.ZeroPointAsNumpy())
        if points.size not in (1, scales.size):
            raise self.error(f"{where}: {points.size} zero points, must be 1 or {scales.size}")
        axis = q.QuantizedDimension() if scales.size > 1 else 0
        if scales.size > 1 and not (0 <= axis < len(dims) and dims[axis] == scales.size):
            raise self.error(f"{where}: {scales.size} scales on axis {axis}, must be one for each index of the axis, "
                             f"shape {tuple(dims)}")
        narrow = points.astype(np.int32)        # the runtime holds int32
        if (narrow == narrow[0]).all():
            narrow = narrow[:1]
        return (scales.size, self.append(scales.astype("<f4").view("<i4").tolist()), narrow.size,
                self.append(narrow.tolist()), axis)

    # -- sections

    def array(self, where: str, vector: object) -> np.ndarray:
        """A vector of the file; absent ones are empty. Refuses more elements than the file can hold unshared."""
        if not isinstance(vector, np.ndarray):
            return np.zeros(0, np.int32)
        if vector.size + len(self.ints) > self.num_bytes:
            raise self.error(f"{where}: {vector.size} elements, vectors overlap: all together must fit in the file")
        return vector

    def vector(self, where: str, vector: object) -> list[int]:
        return self.array(where, vector).tolist()

    def count(self, what: str, number: int) -> int:
        if number * 4 > self.num_bytes:
            raise self.error(f"{number} {what}, must fit in the {self.num_bytes} bytes of the file")
        return number

    def append(self, values: Iterable[int]) -> int:
        start = len(self.ints)
        self.ints.extend(values)
        return start

    def string(self, text: bytes) -> int:
        """Offset of a string, which ends at its first NUL as it does in the runtime."""
        text = text.split(b"\0", 1)[0]
        if not text:
            return 0
        if len(text) + len(self.strings) > self.num_bytes + 1:
            raise self.error("names overlap: all together must fit in the file")
        start = len(self.strings)
        self.strings += text + b"\0"
        return start

    def place_constant(self, data: np.ndarray) -> tuple[int, int]:
        """Offset (from the start of the data section, until join() moves it) and size."""
        start = aligned(self.data_bytes)
        if start + data.size > MAX_CONSTANT_SHARE * self.num_bytes:
            raise self.error(f"constants: more than {MAX_CONSTANT_SHARE} times the file's size, tensors share buffers")
        self.constants.append(data)
        self.data_bytes = start + data.size
        return start, data.size

    def join(self, operations: np.ndarray, tensors: np.ndarray, graph: tuple[int, int, int, int]) -> bytes:
        layout = blob_layout()
        ints = np.array(self.ints, np.int64).astype("<i4").tobytes()
        sizes = [layout.header.itemsize, operations.nbytes, tensors.nbytes, len(ints), len(self.strings)]
        starts = [0]
        for size in sizes:
            starts.append(aligned(starts[-1] + size))
        data_offset = starts[-1]
        constant = tensors["data_bytes"] > 0
        tensors["data_offset"][constant] += data_offset
        header = np.array((layout.constants["CERMET_BLOB_MAGIC"], layout.constants["CERMET_BLOB_VERSION"],
                           data_offset + self.data_bytes, len(operations), starts[1], len(tensors), starts[2],
                           len(self.ints), starts[3], len(self.strings), starts[4], *graph, data_offset,
                           self.data_bytes), layout.header)
        blob = np.zeros(data_offset + self.data_bytes, np.uint8)
        sections = (header.tobytes(), operations.tobytes(), tensors.tobytes(), ints, bytes(self.strings))
        for start, section in zip(starts, sections, strict=False):
            blob[start:start + len(section)] = np.frombuffer(section, np.uint8)
        for data, offset in zip(self.constants, tensors["data_offset"][constant].tolist(), strict=True):
            blob[offset:offset + data.size] = data
        return blob.tobytes()
