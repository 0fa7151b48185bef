"""DEPTHWISE_CONV_2D: natively with one output channel per input channel, else as a grouped convolution."""
from __future__ import annotations

import numpy as np

from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.conv import convolution_tasks
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.grouped import lower_groups
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.weights import Weights, signed_weights
from cermet.ir.operation import Operation
from cermet.ir.tensor import Tensor


def depthwise_weights(tensor: Tensor) -> Weights:
    """[C, KH, KW, 1] from TFLite's [1, KH, KW, C]."""
    assert tensor.data is not None
    return signed_weights(tensor, np.ascontiguousarray(tensor.data.transpose(3, 1, 2, 0)))


def lower_depthwise(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a DEPTHWISE_CONV_2D."""
    source = context.feature_map(operation.inputs[0])       # type: ignore[arg-type]
    weights = depthwise_weights(context.tensor(operation.inputs[1]))
    assert operation.window is not None
    outputs = len(weights.values)
    geometry = Geometry.of(operation.window, (source.height, source.width, source.channels), outputs,
                           is_depthwise=outputs == source.channels)
    if not geometry.is_depthwise:
        return lower_groups(context, operation, geometry, source, weights, source.channels)
    return convolution_tasks(context, operation, geometry, source, weights)
