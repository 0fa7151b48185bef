"""DEPTHWISE_CONV_2D: natively with one output channel per input channel, else as a direct convolution."""
from __future__ import annotations

import numpy as np

from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.conv import convolution_tasks, lower_direct
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.weights import Weights, signed_weights
from cermet.ir.operation import Operation
from cermet.ir.tensor import Tensor


def depthwise_weights(tensor: Tensor) -> Weights:
    """[C, KH, KW, 1] from TFLite's [1, KH, KW, C]."""
    assert tensor.data is not None
    return signed_weights(tensor, np.ascontiguousarray(tensor.data.transpose(3, 1, 2, 0)))


def spread_weights(weights: Weights, input_channels: int) -> Weights:
    """Direct weights [OC, KH, KW, IC]: the zero point wherever input and output channel do not belong together."""
    kernels, height, width, _ = weights.values.shape
    values = np.empty((kernels, height, width, input_channels), np.int8)
    values[...] = weights.zero_points[:, None, None, None]
    channel = np.arange(kernels)
    values[channel, :, :, channel * input_channels // kernels] = weights.values[..., 0]
    return Weights(values, weights.zero_points, weights.scales)


def lower_depthwise(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a DEPTHWISE_CONV_2D."""
    source = context.feature_map(operation.inputs[0])       # type: ignore[arg-type]
    weights = depthwise_weights(context.tensor(operation.inputs[1]))
    if len(weights.values) != source.channels:
        return lower_direct(context, operation, source, spread_weights(weights, source.channels))
    assert operation.window is not None
    geometry = Geometry.of(operation.window, (source.height, source.width, source.channels), source.channels,
                           is_depthwise=True)
    return convolution_tasks(context, operation, geometry, source, weights)
