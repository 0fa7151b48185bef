"""Writes .tflite files with the schema package's builder functions: no TensorFlow needed.

build_model() writes any tensors and operations, build_graphs() several subgraphs with their signatures.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import flatbuffers
import numpy as np
import tflite

TENSOR_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}
ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3, "TANH": 4, "SIGN_BIT": 5}
PADDINGS = {"SAME": 0, "VALID": 1}

OPTIONS = {     # operator -> (options table, version of an 8-bit operator)
    "CONV_2D": ("Conv2DOptions", 3), "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", 3),
    "FULLY_CONNECTED": ("FullyConnectedOptions", 4), "ADD": ("AddOptions", 2),
    "AVERAGE_POOL_2D": ("Pool2DOptions", 2), "MAX_POOL_2D": ("Pool2DOptions", 2),
    "MEAN": ("ReducerOptions", 2), "RESHAPE": ("ReshapeOptions", 1), "SQUEEZE": ("SqueezeOptions", 1),
    "CONCATENATION": ("ConcatenationOptions", 2), "SOFTMAX": ("SoftmaxOptions", 2),
    "MAXIMUM": ("MaximumMinimumOptions", 2), "MINIMUM": ("MaximumMinimumOptions", 2),
    "MUL": ("MulOptions", 2), "SUB": ("SubOptions", 2), "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", 2),
}


def dtype_range(dtype: str) -> tuple[int, int]:
    """Lowest and highest value of an integer dtype."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def random_quantised(rng: np.random.Generator, shape: Sequence[int], dtype: str) -> np.ndarray:
    """Uniform over the whole dtype; floats are standard normal."""
    if dtype.startswith("float"):
        return rng.standard_normal(shape).astype(dtype)
    low, high = dtype_range(dtype)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


@dataclass(frozen=True, eq=False)
class TensorSpec:
    """One tensor of a model. scales empty: not quantised; data None: not constant; signature: shape with -1."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    data: np.ndarray | None = None
    signature: tuple[int, ...] | None = None
    is_variable: bool = False

    @property
    def scale(self) -> float:
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        return self.zero_points[0]


@dataclass(frozen=True)
class OperationSpec:
    """One operation: TFLite's operator name (or CUSTOM:name), tensor numbers (-1: absent), options by schema name."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    version: int | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """A model and what it was written from."""

    tensors: tuple[TensorSpec, ...]
    operations: tuple[OperationSpec, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def data(self) -> bytes:
        """The .tflite file."""
        return build_model(self.tensors, self.operations, self.inputs, self.outputs)

    def random_inputs(self, rng: np.random.Generator) -> list[np.ndarray]:
        """One array for each input, every value of its dtype equally likely."""
        return [random_quantised(rng, self.tensors[t].shape, self.tensors[t].dtype) for t in self.inputs]


# ---- writing the flatbuffer ----------------------------------------------------------------------------------------

def build_model(tensors: Sequence[TensorSpec], operations: Sequence[OperationSpec], inputs: Sequence[int],
                outputs: Sequence[int], description: str = "generated") -> bytes:
    """A .tflite file with one subgraph."""
    return build_graphs([Model(tuple(tensors), tuple(operations), tuple(inputs), tuple(outputs))],
                        description=description)


def build_graphs(graphs: Sequence[Model], signatures: Mapping[str, int] | None = None,
                 description: str = "generated") -> bytes:
    """A .tflite file with several subgraphs, the first one named main. Buffer 0 is the empty one; each constant has a
    buffer of its own. signatures: key -> subgraph; inputs and outputs are named as their tensors."""
    b = flatbuffers.Builder(1024)
    buffers = [_buffer(b, None)]
    codes = sorted({(op.name, _version(op)) for graph in graphs for op in graph.operations})
    code_offsets = [_operator_code(b, name, version) for name, version in codes]
    names = ["main", *(f"graph{i}" for i in range(1, len(graphs)))]
    subgraphs = [_subgraph(b, graph, name, codes, buffers) for graph, name in zip(graphs, names, strict=True)]
    keys = [_signature(b, key, number, graphs[number]) for key, number in (signatures or {}).items()]
    vectors = [_offsets(b, made) for made in (subgraphs, code_offsets, buffers, keys)]
    text = b.CreateString(description)
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddSubgraphs(b, vectors[0])
    tflite.ModelAddOperatorCodes(b, vectors[1])
    tflite.ModelAddBuffers(b, vectors[2])
    tflite.ModelAddDescription(b, text)
    if keys:
        tflite.ModelAddSignatureDefs(b, vectors[3])
    b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
    return bytes(b.Output())


def _subgraph(b: flatbuffers.Builder, graph: Model, name: str, codes: Sequence[tuple[str, int]],
              buffers: list[int]) -> int:
    """Appends the constants' buffers."""
    tensors = []
    for tensor in graph.tensors:
        if tensor.data is not None:
            buffers.append(_buffer(b, np.ascontiguousarray(tensor.data)))
        tensors.append(_tensor(b, tensor, 0 if tensor.data is None else len(buffers) - 1))
    operations = [_operation(b, op, codes.index((op.name, _version(op)))) for op in graph.operations]
    vectors = [_offsets(b, tensors), _ints(b, graph.inputs), _ints(b, graph.outputs), _offsets(b, operations)]
    text = b.CreateString(name)
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, vectors[0])
    tflite.SubGraphAddInputs(b, vectors[1])
    tflite.SubGraphAddOutputs(b, vectors[2])
    tflite.SubGraphAddOperators(b, vectors[3])
    tflite.SubGraphAddName(b, text)
    return tflite.SubGraphEnd(b)


def _signature(b: flatbuffers.Builder, key: str, number: int, graph: Model) -> int:
    maps = []
    for tensors in (graph.inputs, graph.outputs):
        entries = []
        for tensor in tensors:
            name = b.CreateString(graph.tensors[tensor].name)
            tflite.TensorMapStart(b)
            tflite.TensorMapAddName(b, name)
            tflite.TensorMapAddTensorIndex(b, tensor)
            entries.append(tflite.TensorMapEnd(b))
        maps.append(_offsets(b, entries))
    text = b.CreateString(key)
    tflite.SignatureDefStart(b)
    tflite.SignatureDefAddInputs(b, maps[0])
    tflite.SignatureDefAddOutputs(b, maps[1])
    tflite.SignatureDefAddSignatureKey(b, text)
    tflite.SignatureDefAddSubgraphIndex(b, number)
    return tflite.SignatureDefEnd(b)


def _version(op: OperationSpec) -> int:
    return op.version if op.version is not None else OPTIONS.get(op.name, ("", 1))[1]


def _offsets(b: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _ints(b: flatbuffers.Builder, values: Sequence[int]) -> int:
    return b.CreateNumpyVector(np.asarray(values, np.int32))


def _buffer(b: flatbuffers.Builder, data: np.ndarray | None) -> int:
    vector = None if data is None else _aligned_bytes(b, data)
    tflite.BufferStart(b)
    if vector is not None:
        tflite.BufferAddData(b, vector)
    return tflite.BufferEnd(b)


def _aligned_bytes(b: flatbuffers.Builder, data: np.ndarray) -> int:
    """A byte vector whose contents start at a multiple of 16, as the schema asks for."""
    raw = data.tobytes()
    b.StartVector(1, len(raw), 16)
    b.head = b.head - len(raw)
    b.Bytes[b.head:b.head + len(raw)] = raw
    return b.EndVector()


def _tensor(b: flatbuffers.Builder, t: TensorSpec, buffer: int) -> int:
    name, shape = b.CreateString(t.name), _ints(b, t.shape)
    signature = None if t.signature is None else _ints(b, t.signature)
    quantisation = _quantisation(b, t) if t.scales else None
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, shape)
    tflite.TensorAddType(b, TENSOR_TYPES[t.dtype])
    tflite.TensorAddBuffer(b, buffer)
    tflite.TensorAddName(b, name)
    if quantisation is not None:
        tflite.TensorAddQuantization(b, quantisation)
    if signature is not None:
        tflite.TensorAddShapeSignature(b, signature)
    tflite.TensorAddIsVariable(b, t.is_variable)
    return tflite.TensorEnd(b)


def _quantisation(b: flatbuffers.Builder, t: TensorSpec) -> int:
    scales = b.CreateNumpyVector(np.asarray(t.scales, np.float32))
    points = b.CreateNumpyVector(np.asarray(t.zero_points, np.int64))
    tflite.QuantizationParametersStart(b)
    tflite.QuantizationParametersAddScale(b, scales)
    tflite.QuantizationParametersAddZeroPoint(b, points)
    tflite.QuantizationParametersAddQuantizedDimension(b, t.axis)
    return tflite.QuantizationParametersEnd(b)


def _operator_code(b: flatbuffers.Builder, name: str, version: int) -> int:
    custom = b.CreateString(name.removeprefix("CUSTOM:")) if name.startswith("CUSTOM:") else None
    code = tflite.BuiltinOperator.CUSTOM if custom is not None else getattr(tflite.BuiltinOperator, name)
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
    tflite.OperatorCodeAddBuiltinCode(b, code)
    tflite.OperatorCodeAddVersion(b, version)
    if custom is not None:
        tflite.OperatorCodeAddCustomCode(b, custom)
    return tflite.OperatorCodeEnd(b)


def _operation(b: flatbuffers.Builder, op: OperationSpec, code: int) -> int:
    inputs, outputs = _ints(b, op.inputs), _ints(b, op.outputs)
    table = OPTIONS.get(op.name, ("", 1))[0]
    options = _options(b, table, op.options) if table else None
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, code)
    tflite.OperatorAddInputs(b, inputs)
    tflite.OperatorAddOutputs(b, outputs)
    if options is not None:
        tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, table))
        tflite.OperatorAddBuiltinOptions(b, options)
    return tflite.OperatorEnd(b)


def _options(b: flatbuffers.Builder, table: str, values: Mapping[str, object]) -> int:
    """An options table; names are the schema's in CamelCase, sequences become int vectors."""
    ready = {k: _ints(b, v) if isinstance(v, (tuple, list)) else v for k, v in values.items()}
    getattr(tflite, table + "Start")(b)
    for name, value in ready.items():
        getattr(tflite, f"{table}Add{name}")(b, value)
    return getattr(tflite, table + "End")(b)
