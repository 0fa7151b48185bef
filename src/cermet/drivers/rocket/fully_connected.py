"""FULLY_CONNECTED: a 1x1 convolution over a column of pixels, or one window as large as the map that was flattened."""
from __future__ import annotations

from dataclasses import replace

from cermet.drivers.base import CompileError
from cermet.drivers.rocket.context import Context
from cermet.drivers.rocket.conv import lower_direct
from cermet.drivers.rocket.layout import FeatureMap
from cermet.drivers.rocket.regcmd import TaskProgram
from cermet.drivers.rocket.views import MapShape, window_over
from cermet.drivers.rocket.weights import signed_weights
from cermet.ir.operation import Operation, Padding, Pair, Window


def lower_fully_connected(context: Context, operation: Operation) -> list[TaskProgram]:
    """Tasks of a FULLY_CONNECTED."""
    source = context.feature_map(operation.inputs[0])       # type: ignore[arg-type]
    stored = context.tensor(operation.inputs[1])
    assert stored.data is not None
    outputs, depth = stored.shape
    kernel = window_over(MapShape(source.height, source.width, source.channels), depth)
    if kernel is None:
        raise CompileError(f"{operation}: {depth} weights per output do not fit a map of {source.height}x{source.width}"
                           f"x{source.channels}")
    source = _as_column(source) if kernel == Pair(1, 1) else source
    weights = signed_weights(stored, stored.data.reshape(outputs, kernel.y, kernel.x, source.channels))
    window = Window(kernel, Pair(1, 1), Padding.VALID)
    return lower_direct(context, replace(operation, window=window), source, weights)


def _as_column(source: FeatureMap) -> FeatureMap:
    """Pixels one below the other: the same bytes."""
    return replace(source, height=source.height * source.width, width=1)
