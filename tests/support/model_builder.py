"""Writes .tflite models with the schema package's builder functions: no TensorFlow needed.

build_model() writes any tensors and operations; conv2d(), depthwise(), ... draw a whole single-operation model from a
seeded generator, with an output scale chosen from the accumulators' statistics so that the outputs spread over their
range instead of saturating or sitting on one value. chain() strings operations together.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import flatbuffers
import numpy as np
import tflite

from tests.support import exact

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


# ---- drawing operands ----------------------------------------------------------------------------------------------

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


def _scale(rng: np.random.Generator, low: float = 0.005, high: float = 0.08) -> float:
    """A float32 scale, logarithmically uniform."""
    return float(np.float32(np.exp(rng.uniform(np.log(low), np.log(high)))))


def _zero_point(rng: np.random.Generator, dtype: str, wanted: int | None) -> int:
    low, high = dtype_range(dtype)
    return int(rng.integers(low, high, endpoint=True)) if wanted is None else wanted


def _activation_tensor(rng: np.random.Generator, name: str, shape: Sequence[int], dtype: str,
                       zero_point: int | None) -> TensorSpec:
    return TensorSpec(name, tuple(shape), dtype, (_scale(rng),), (_zero_point(rng, dtype, zero_point),))


def _weights(rng: np.random.Generator, shape: Sequence[int], dtype: str, axis: int, *, per_channel: bool,
             zero_point: int | None) -> TensorSpec:
    """int8: zero point 0 (TFLite's kernels ignore any other), -127..127; uint8: any zero point, spread around it."""
    low, high = dtype_range(dtype)
    if zero_point is None:
        zero_point = 0 if dtype == "int8" else int(rng.integers(90, 166))
    values = np.rint(rng.normal(zero_point, 42, shape))
    data = np.clip(values, low + 1, high).astype(dtype)
    count = shape[axis] if per_channel else 1
    scales = tuple(_scale(rng, 0.002, 0.02) for _ in range(count))
    return TensorSpec("weights", tuple(shape), dtype, scales, (zero_point,) * count, axis if count > 1 else 0, data)


def _bias(rng: np.random.Generator, source: TensorSpec, weights: TensorSpec, count: int, taps: int) -> TensorSpec:
    """int32, as large as the accumulators of random operands are."""
    scales = tuple(float(np.float32(source.scale) * np.float32(s)) for s in weights.scales)
    spread = 60.0 * 42.0 * max(taps, 1) ** 0.5
    data = np.rint(rng.normal(0, spread, count)).astype(np.int32)
    return TensorSpec("bias", (count,), "int32", scales, (0,) * len(scales), 0, data)


def _calibrated(rng: np.random.Generator, output: TensorSpec, model: Model, zero_point: int | None) -> Model:
    """The model with the output's scale and zero point fitted to what random inputs give (0.1 % to 99.9 %).

    Every other time to what the fused activation leaves of it, as training does: saturation then does the clamping.
    """
    probe = Model((*model.tensors[:-1], replace(output, scales=(1.0,), zero_points=(0,))), model.operations,
                  model.inputs, model.outputs)
    real = exact.run(probe, probe.random_inputs(rng), clip=False)[-1].unrounded
    if rng.integers(2):
        activation = int(model.operations[-1].options.get("FusedActivationFunction", 0))    # type: ignore[call-overload]
        real = np.clip(real, *exact.ACTIVATION_LIMITS[activation])
    return replace(model, tensors=(*model.tensors[:-1], fit_output(output, real, zero_point)))


def fit_output(output: TensorSpec, real: np.ndarray, zero_point: int | None) -> TensorSpec:
    """Scale and zero point such that nearly all of `real` falls inside the dtype's range."""
    low, high = dtype_range(output.dtype)
    bottom, top = (float(v) for v in np.quantile(real, [0.001, 0.999])) if real.size else (0.0, 0.0)
    bottom, top = min(bottom, 0.0), max(top, 0.0)
    if top - bottom < 1e-6:
        bottom, top = -1.0, 1.0
    if zero_point is None:
        scale = (top - bottom) / (high - low)
        zero_point = int(np.clip(round(low - bottom / scale), low, high))
    else:
        room = [(top, high - zero_point), (-bottom, zero_point - low)]
        scale = max(reach / steps for reach, steps in room if steps > 0) or 1.0
    return replace(output, scales=(float(np.float32(scale)),), zero_points=(zero_point,))


# ---- single operations ---------------------------------------------------------------------------------------------

def _window_size(size: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    extent = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == "SAME" else (size - extent) // stride + 1


def conv2d(rng: np.random.Generator, input_shape: Sequence[int], out_channels: int, kernel: tuple[int, int] = (3, 3), *,
           stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1), padding: str = "SAME",
           activation: str = "NONE", dtype: str = "int8", per_channel: bool = False, bias: bool = True, groups: int = 1,
           weight_zero_point: int | None = None, input_zero_point: int | None = None,
           output_zero_point: int | None = None) -> Model:
    """CONV_2D. Pairs are (y, x). Zero points that are None are drawn (weights of int8: 0)."""
    n, height, width, channels = input_shape
    source = _activation_tensor(rng, "input", input_shape, dtype, input_zero_point)
    weights = _weights(rng, (out_channels, *kernel, channels // groups), dtype, 0, per_channel=per_channel,
                       zero_point=weight_zero_point)
    options = {"Padding": PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1],
               "DilationHFactor": dilation[0], "DilationWFactor": dilation[1],
               "FusedActivationFunction": ACTIVATIONS[activation]}
    shape = (n, _window_size(height, kernel[0], stride[0], dilation[0], padding),
             _window_size(width, kernel[1], stride[1], dilation[1], padding), out_channels)
    return _weighted(rng, "CONV_2D", source, weights, shape, options, out_channels,
                     kernel[0] * kernel[1] * channels // groups, bias=bias, output_zero_point=output_zero_point)


def depthwise(rng: np.random.Generator, input_shape: Sequence[int], kernel: tuple[int, int] = (3, 3), *,
              multiplier: int = 1, stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1),
              padding: str = "SAME", activation: str = "NONE", dtype: str = "int8", per_channel: bool = False,
              bias: bool = True, weight_zero_point: int | None = None, input_zero_point: int | None = None,
              output_zero_point: int | None = None) -> Model:
    """DEPTHWISE_CONV_2D. Output channel c * multiplier + m reads input channel c."""
    n, height, width, channels = input_shape
    out_channels = channels * multiplier
    source = _activation_tensor(rng, "input", input_shape, dtype, input_zero_point)
    weights = _weights(rng, (1, *kernel, out_channels), dtype, 3, per_channel=per_channel,
                       zero_point=weight_zero_point)
    options = {"Padding": PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1], "DepthMultiplier": multiplier,
               "DilationHFactor": dilation[0], "DilationWFactor": dilation[1],
               "FusedActivationFunction": ACTIVATIONS[activation]}
    shape = (n, _window_size(height, kernel[0], stride[0], dilation[0], padding),
             _window_size(width, kernel[1], stride[1], dilation[1], padding), out_channels)
    return _weighted(rng, "DEPTHWISE_CONV_2D", source, weights, shape, options, out_channels, kernel[0] * kernel[1],
                     bias=bias, output_zero_point=output_zero_point)


def fully_connected(rng: np.random.Generator, input_shape: Sequence[int], out_channels: int, *,
                    activation: str = "NONE", dtype: str = "int8", bias: bool = True, keep_num_dims: bool = False,
                    weight_zero_point: int | None = None, input_zero_point: int | None = None,
                    output_zero_point: int | None = None) -> Model:
    """FULLY_CONNECTED, per tensor. The last dimension of the input is the depth."""
    depth = input_shape[-1]
    source = _activation_tensor(rng, "input", input_shape, dtype, input_zero_point)
    weights = _weights(rng, (out_channels, depth), dtype, 0, per_channel=False, zero_point=weight_zero_point)
    batch = int(np.prod(input_shape)) // depth
    shape = (*input_shape[:-1], out_channels) if keep_num_dims else (batch, out_channels)
    options = {"FusedActivationFunction": ACTIVATIONS[activation], "KeepNumDims": keep_num_dims}
    return _weighted(rng, "FULLY_CONNECTED", source, weights, shape, options, out_channels, depth,
                     bias=bias, output_zero_point=output_zero_point)


def _weighted(rng: np.random.Generator, name: str, source: TensorSpec, weights: TensorSpec, shape: Sequence[int],
              options: Mapping[str, object], channels: int, taps: int, *, bias: bool,
              output_zero_point: int | None) -> Model:
    constants = [weights] + ([_bias(rng, source, weights, channels, taps)] if bias else [])
    output = TensorSpec("output", tuple(shape), source.dtype, (1.0,), (0,))
    tensors = (source, *constants, output)
    without_bias = (0, 1, -1) if name == "FULLY_CONNECTED" else (0, 1)      # TFLite: optional, and shorter
    inputs = (0, 1, 2) if bias else without_bias
    op = OperationSpec(name, inputs, (len(tensors) - 1,), options)
    return _calibrated(rng, output, Model(tensors, (op,), (0,), op.outputs), output_zero_point)


def add(rng: np.random.Generator, shape: Sequence[int], other_shape: Sequence[int] | None = None, *,
        activation: str = "NONE", dtype: str = "int8", zero_points: tuple[int | None, int | None] = (None, None),
        constant: bool = False, output_zero_point: int | None = None) -> Model:
    """ADD of two tensors (other_shape None: of the same shape); constant: the second operand is one."""
    first = _activation_tensor(rng, "first", shape, dtype, zero_points[0])
    second = _activation_tensor(rng, "second", shape if other_shape is None else other_shape, dtype, zero_points[1])
    if constant:
        second = replace(second, data=random_quantised(rng, second.shape, dtype))
    output = TensorSpec("output", np.broadcast_shapes(first.shape, second.shape), dtype, (1.0,), (0,))
    op = OperationSpec("ADD", (0, 1), (2,), {"FusedActivationFunction": ACTIVATIONS[activation]})
    return _calibrated(rng, output, Model((first, second, output), (op,), (0,) if constant else (0, 1), (2,)),
                       output_zero_point)


def pool(rng: np.random.Generator, input_shape: Sequence[int], kind: str = "AVERAGE", window: tuple[int, int] = (2, 2),
         *, stride: tuple[int, int] = (2, 2), padding: str = "VALID", activation: str = "NONE", dtype: str = "int8",
         zero_point: int | None = None) -> Model:
    """AVERAGE_POOL_2D or MAX_POOL_2D (kind AVERAGE, MAX); input and output share their quantisation."""
    n, height, width, channels = input_shape
    source = _activation_tensor(rng, "input", input_shape, dtype, zero_point)
    shape = (n, _window_size(height, window[0], stride[0], 1, padding),
             _window_size(width, window[1], stride[1], 1, padding), channels)
    options = {"Padding": PADDINGS[padding], "StrideH": stride[0], "StrideW": stride[1], "FilterHeight": window[0],
               "FilterWidth": window[1], "FusedActivationFunction": ACTIVATIONS[activation]}
    op = OperationSpec(f"{kind}_POOL_2D", (0,), (1,), options)
    return Model((source, replace(source, name="output", shape=shape)), (op,), (0,), (1,))


def mean(rng: np.random.Generator, input_shape: Sequence[int], axes: Sequence[int] = (1, 2), *, keep_dims: bool = False,
         dtype: str = "int8", zero_point: int | None = None, same_quantisation: bool = False,
         output_zero_point: int | None = None) -> Model:
    """MEAN over axes; the output is requantised unless same_quantisation."""
    source = _activation_tensor(rng, "input", input_shape, dtype, zero_point)
    axis = TensorSpec("axes", (len(axes),), "int32", data=np.asarray(axes, np.int32))
    gone = {a % len(input_shape) for a in axes}
    kept = [(1 if i in gone else n) for i, n in enumerate(input_shape) if keep_dims or i not in gone]
    output = replace(source, name="output", shape=tuple(kept))
    op = OperationSpec("MEAN", (0, 1), (2,), {"KeepDims": keep_dims})
    model = Model((source, axis, output), (op,), (0,), (2,))
    return model if same_quantisation else _calibrated(rng, output, model, output_zero_point)


def reshape(rng: np.random.Generator, input_shape: Sequence[int], output_shape: Sequence[int], *, dtype: str = "int8",
            zero_point: int | None = None) -> Model:
    """RESHAPE with a constant shape operand."""
    source = _activation_tensor(rng, "input", input_shape, dtype, zero_point)
    shape = TensorSpec("shape", (len(output_shape),), "int32", data=np.asarray(output_shape, np.int32))
    output = replace(source, name="output", shape=tuple(output_shape))
    op = OperationSpec("RESHAPE", (0, 1), (2,), {"NewShape": tuple(output_shape)})
    return Model((source, shape, output), (op,), (0,), (2,))


def squeeze(rng: np.random.Generator, input_shape: Sequence[int], dims: Sequence[int] = (1, 2), *,
            dtype: str = "int8") -> Model:
    """SQUEEZE of dimensions of size 1."""
    source = _activation_tensor(rng, "input", input_shape, dtype, None)
    shape = tuple(n for i, n in enumerate(input_shape) if i not in dims)
    op = OperationSpec("SQUEEZE", (0,), (1,), {"SqueezeDims": tuple(dims)})
    return Model((source, replace(source, name="output", shape=shape)), (op,), (0,), (1,))


def unary(rng: np.random.Generator, name: str, input_shape: Sequence[int], *, dtype: str = "int8") -> Model:
    """An operation without options and with equal quantisation on both sides: RELU, RELU6, LOGISTIC, ..."""
    source = _activation_tensor(rng, "input", input_shape, dtype, None)
    op = OperationSpec(name, (0,), (1,), {}, 2)
    return Model((source, replace(source, name="output")), (op,), (0,), (1,))


# ---- chains --------------------------------------------------------------------------------------------------------

def chain(first: Model, *steps: Callable[[TensorSpec], Model]) -> Model:
    """Models one behind the other, e.g. chain(conv2d(...), lambda t: pool(rng, t.shape, zero_point=t.zero_point)).

    A step gets the previous output and returns a model whose first input has its shape, dtype and zero point; the
    step's scales are then multiplied so that its first input has the previous output's scale (which changes no
    integer). Other inputs of a step become inputs of the chain.
    """
    joined = first
    for step in steps:
        joined = _joined(joined, step(joined.tensors[joined.outputs[0]]))
    return joined


def _joined(first: Model, second: Model) -> Model:
    (bridge,), entry = first.outputs, second.inputs[0]
    made, wanted = first.tensors[bridge], second.tensors[entry]
    if (made.shape, made.dtype, made.zero_points) != (wanted.shape, wanted.dtype, wanted.zero_points):
        raise ValueError(f"chain: {made} does not fit {wanted}")
    numbers: dict[int, int] = {-1: -1, entry: bridge}
    tensors = list(first.tensors)
    for i, tensor in enumerate(second.tensors):
        if i != entry:
            numbers[i] = len(tensors)
            tensors.append(_rescaled(tensor, made.scale / wanted.scale, f"{tensor.name}_{len(tensors)}"))
    operations = [replace(op, inputs=tuple(numbers[i] for i in op.inputs),
                          outputs=tuple(numbers[o] for o in op.outputs)) for op in second.operations]
    inputs = (*first.inputs, *(numbers[i] for i in second.inputs[1:]))
    return Model(tuple(tensors), (*first.operations, *operations), inputs, tuple(numbers[o] for o in second.outputs))


def _rescaled(tensor: TensorSpec, factor: float, name: str) -> TensorSpec:
    """Weights keep their scales: bias, activations and outputs carry the factor of the input."""
    if tensor.name.startswith("weights"):
        return replace(tensor, name=name)
    return replace(tensor, name=name, scales=tuple(float(np.float32(s * factor)) for s in tensor.scales))
