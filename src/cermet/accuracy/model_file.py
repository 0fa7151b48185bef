"""A .tflite file with other ends: fewer operations, other inputs, other outputs; constants and all else untouched.

TFLite lets an operation write over its input's memory unless that tensor is an output of the graph. With every tensor
an output all of them can be read after the run.
"""
from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import tflite

from cermet.errors import CermetError
from cermet.frontend.blob import DTYPES
from cermet.frontend.tflite_file import RUNTIME_TYPES

# Places of SubGraph's members in its vtable (schema.fbs).
_INPUTS, _OUTPUTS, _OPERATORS = 6, 8, 10


def file_numbers(model: bytes) -> list[int]:
    """Tensor numbers of the file by canonical number: tensors of the main subgraph in order of first use.

    The model must be one that the frontend has read without complaint.
    """
    subgraph = tflite.Model.GetRootAs(model, 0).Subgraphs(0)
    numbers: dict[int, None] = {}
    for index in range(subgraph.OperatorsLength()):
        operator = subgraph.Operators(index)
        for vector in (operator.InputsAsNumpy(), operator.OutputsAsNumpy()):
            numbers.update((int(t), None) for t in _array(vector) if t >= 0)
    return list(numbers)


def graph_inputs(model: bytes) -> list[int]:
    """Tensor numbers (of the file) of the model's inputs, in the order in which applications set them."""
    return [int(t) for t in _array(tflite.Model.GetRootAs(model, 0).Subgraphs(0).InputsAsNumpy())]


def input_details(model: bytes) -> list[dict[str, Any]]:
    """name, shape and dtype of each input, as interpreters tell them. Raises CermetError for a type without numbers."""
    subgraph = tflite.Model.GetRootAs(model, 0).Subgraphs(0)
    details = []
    for number in graph_inputs(model):
        tensor = subgraph.Tensors(number)
        name = (tensor.Name() or b"").decode("utf-8", "replace")
        dtype = DTYPES.get(RUNTIME_TYPES.get(tensor.Type(), 0))
        if dtype is None:
            raise CermetError(f"input {name!r}: has a type that holds no numbers")
        details.append({"name": name, "shape": [int(n) for n in _array(tensor.ShapeAsNumpy())], "dtype": dtype.numpy})
    return details


def rewired(model: bytes, outputs: Sequence[int], inputs: Sequence[int] | None = None,
            operations: Sequence[int] | None = None) -> bytes:
    """The model with other outputs, and, when given, other inputs and only some of its operations (ascending).

    Tensors by their numbers in the file. New vectors go to the end of the file, where every offset, which counts
    forwards only, can reach them; operators move to the front of their vector for the same reason.
    """
    made = bytearray(model) + bytes(-len(model) % 4)
    table = tflite.Model.GetRootAs(model, 0).Subgraphs(0)._tab
    _replace_vector(made, _member(table, _OUTPUTS), outputs)
    if inputs is not None:
        _replace_vector(made, _member(table, _INPUTS), inputs)
    if operations is not None:
        _keep_operators(made, _member(table, _OPERATORS), operations)
    return bytes(made)


def _member(table: Any, place: int) -> int:
    """Where the offset of a member of a table lies."""
    offset = table.Offset(place)
    if not offset:
        raise CermetError("the model's subgraph has no inputs, outputs or operators to replace")
    return int(table.Pos + offset)


def _replace_vector(made: bytearray, member: int, values: Sequence[int]) -> None:
    struct.pack_into("<I", made, member, len(made) - member)
    made += struct.pack(f"<I{len(values)}i", len(values), *values)


def _keep_operators(made: bytearray, member: int, operations: Sequence[int]) -> None:
    vector = member + struct.unpack_from("<I", made, member)[0]
    first = vector + 4
    tables = [first + 4 * index + struct.unpack_from("<I", made, first + 4 * index)[0] for index in operations]
    struct.pack_into("<I", made, vector, len(tables))
    for slot, table in enumerate(tables):
        struct.pack_into("<I", made, first + 4 * slot, table - first - 4 * slot)


def _array(vector: object) -> np.ndarray:
    return vector if isinstance(vector, np.ndarray) else np.zeros(0, np.int32)
