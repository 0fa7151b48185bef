"""What the rules of operations with weights ask about one of them."""
from __future__ import annotations

from cermet.drivers.rocket.conv import conv_weights
from cermet.drivers.rocket.depthwise import depthwise_weights
from cermet.drivers.rocket.fully_connected import matrix_shape, matrix_weights
from cermet.drivers.rocket.geometry import Geometry
from cermet.drivers.rocket.grouped import Blocks, plan_blocks, spread_groups
from cermet.drivers.rocket.large_strides import block_weights, in_blocks
from cermet.drivers.rocket.rules import Query
from cermet.drivers.rocket.weights import Weights
from cermet.ir.operation import Kind, Window
from cermet.ir.tensor import Tensor


def weights_tensor(query: Query) -> Tensor:
    return query.subgraph.tensor(query.operation.inputs[1])


def output_channels(query: Query) -> int:
    shape = weights_tensor(query).shape
    if query.operation.kind is Kind.BATCH_MATMUL:
        return matrix_shape(query.operation, weights_tensor(query))[0]
    return shape[3] if query.operation.kind is Kind.DEPTHWISE_CONV else shape[0]


def window(query: Query) -> Window:
    """Of the convolution that runs: over blocks of pixels where the stride is too large."""
    assert query.operation.window is not None
    made = in_blocks(query.subgraph, query.operation)
    return query.operation.window if made is None else made.window


def geometry(query: Query) -> Geometry:
    """Of a convolution, or of one of its blocks."""
    made = blocks(query)
    return whole_geometry(query) if made is None else made.geometry


def whole_geometry(query: Query) -> Geometry:
    """Of a convolution, with the channels of all groups."""
    _, height, width, channels = query.data.shape
    outputs = output_channels(query)
    made = in_blocks(query.subgraph, query.operation)
    if made is not None:
        return Geometry.of(made.window, (made.blocks.height, made.blocks.width, made.blocks.channels), outputs)
    native = query.operation.kind is Kind.DEPTHWISE_CONV and outputs == channels
    return Geometry.of(window(query), (height, width, channels), outputs, is_depthwise=native)


def num_groups(query: Query) -> int:
    """Groups that are computed as blocks; 1 for all but grouped convolutions and depthwise ones with a multiplier."""
    channels = query.data.shape[-1]
    if query.operation.kind is Kind.DEPTHWISE_CONV:
        return channels if output_channels(query) != channels else 1
    return channels // weights_tensor(query).shape[3] if query.operation.kind is Kind.CONV else 1


def blocks(query: Query) -> Blocks | None:
    """How groups are computed; None when there are none. All in one where nothing fits, so that a rule can say why."""
    groups = num_groups(query)
    if groups == 1:
        return None
    whole = whole_geometry(query)
    return plan_blocks(query.soc, whole, groups) or Blocks(1, groups, whole)


def weights(query: Query) -> Weights:
    """As the lowering has them; of a matrix in the model's order."""
    tensor = weights_tensor(query)
    if query.operation.kind in (Kind.FULLY_CONNECTED, Kind.BATCH_MATMUL):
        return matrix_weights(query.operation, tensor)
    in_pixels = in_blocks(query.subgraph, query.operation)
    if in_pixels is not None:
        return block_weights(query.subgraph, query.operation, in_pixels)
    stored = (depthwise_weights if query.operation.kind is Kind.DEPTHWISE_CONV else conv_weights)(tensor)
    made = blocks(query)
    return stored if made is None else spread_groups(stored, num_groups(query), made.groups)
