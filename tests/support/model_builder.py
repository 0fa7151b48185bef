"""Models of one operation, and chains of them.

conv2d(), depthwise(), ... draw a whole model from a seeded generator, with an output scale chosen from the
accumulators' statistics so that the outputs spread over their range instead of saturating or sitting on one value.
chain() strings operations together.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tests.support import exact
from tests.support.model_file import (  # noqa: F401 -- what models are made of, for those who build them here
    ACTIVATIONS,
    OPTIONS,
    PADDINGS,
    Model,
    OperationSpec,
    TensorSpec,
    build_graphs,
    build_model,
    dtype_range,
    random_quantised,
)

# ---- drawing operands ----------------------------------------------------------------------------------------------

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


def three_convolutions() -> bytes:
    """A file: three of 16 channels on 8x8."""
    rng = np.random.default_rng(21)
    return chain(conv2d(rng, (1, 8, 8, 16), 16),
                 lambda t: conv2d(rng, t.shape, 16, input_zero_point=t.zero_point),
                 lambda t: conv2d(rng, t.shape, 16, input_zero_point=t.zero_point)).data
