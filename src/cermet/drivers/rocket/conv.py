"""Numbers and operands of a convolution, and its tasks."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cermet.drivers.base import CompileError
from cermet.drivers.rocket import dpu
from cermet.drivers.rocket.activation import clamp_of
from cermet.drivers.rocket.constant_channels import settle_constants
from cermet.drivers.rocket.context import Context, layer_name, signed_zero_point
from cermet.drivers.rocket.convolution_task import Convolution, emit_convolution
from cermet.drivers.rocket.dpu import Elementwise, Stage, Stages
from cermet.drivers.rocket.fused_unary import looked_up
from cermet.drivers.rocket.geometry import Geometry, Tile, starting, with_large_pads_in_memory
from cermet.drivers.rocket.layout import ATOM_BYTES, FeatureMap
from cermet.drivers.rocket.one_shift import with_one_shift
from cermet.drivers.rocket.passes.fuse_unary import FusedUnary
from cermet.drivers.rocket.regcmd import Address, BlockMask, TaskProgram
from cermet.drivers.rocket.requantise import Requantisation, requantise, whole_steps
from cermet.drivers.rocket.requantise_channels import requantise_channels
from cermet.drivers.rocket.tile_time import mainline_pace, tile_time
from cermet.drivers.rocket.weights import (
    Weights,
    pack_bias,
    pack_blocks,
    pack_depthwise,
    pack_direct,
    pack_gains,
    pack_multipliers,
    pack_powers,
    signed_weights,
)
from cermet.ir.numerics_conv import scale_ratios
from cermet.ir.operation import Kind, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import Tensor

INT32_MAX = (1 << 31) - 1


class RangeError(ValueError):
    """Numbers that 32 bits cannot hold; the text is the reason for the user."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution in integers: everything but shapes and places.

    bias      int32 per channel, the input zero point's term folded in
    bounds    largest |accumulator + bias| per channel
    """

    weights: Weights
    bias: np.ndarray
    bounds: np.ndarray
    multipliers: np.ndarray     # float64, one or one per channel: accumulator to output steps

    @property
    def shared_bounds(self) -> np.ndarray:
        """One for each multiplier."""
        return self.bounds if len(self.multipliers) > 1 else self.bounds.max(keepdims=True)


def bias_values(subgraph: Subgraph, operation: Operation) -> np.ndarray | None:
    """int64 per output channel; None when the operation has no bias."""
    number = operation.inputs[2] if len(operation.inputs) > 2 else None
    data = None if number is None else subgraph.tensor(number).data
    return None if data is None else data.reshape(-1).astype(np.int64)


def make_layer(source: Tensor, weights: Weights, bias: np.ndarray | None, output: Tensor, kind: Kind) -> Layer:
    """The integers of a layer (numerics §10.1), its scales multiplied in TFLite's precision.

    bias   int64 per output channel; None: none
    Raises RangeError when they need more than 32 bits.
    """
    assert source.quantisation is not None and output.quantisation is not None
    zero_point = signed_zero_point(source)
    given = np.zeros(len(weights.values), np.int64) if bias is None else bias
    folded = given - zero_point * weights.tap_sums()
    _check_range(weights, folded)
    reach = max(127 - zero_point, zero_point + 128)
    bounds = reach * weights.magnitudes() + np.abs(given)
    multipliers = np.array(scale_ratios(source, weights.scales, output, kind))
    return Layer(weights, folded, bounds, multipliers)


def _check_range(weights: Weights, folded: np.ndarray) -> None:
    """Sums of products, of inputs and with the bias must each stay inside int32: no saturation is relied on."""
    _, height, width, channels = weights.values.shape
    count = height * width * (channels + ATOM_BYTES)
    products = 128 * weights.raw_magnitudes()
    corrections = 256 * np.abs(weights.zero_points) * count
    worst = products + corrections + np.abs(folded)
    channel = int(worst.argmax())
    if worst[channel] > INT32_MAX:
        raise RangeError(f"output channel {channel} may reach {worst[channel]}, accumulators hold {INT32_MAX}")


def layer_requantisation(layer: Layer, operation: Operation, output: Tensor, match: str, *,
                         avoid_powers: bool = False, avoid_seconds: bool = False) -> Requantisation:
    """How accumulators become bytes. Raises ScaleError."""
    clamp = clamp_of(operation.activation, output)
    if match == "tflite" and len(layer.multipliers) > 1 and not avoid_seconds:
        made = requantise_channels(layer.multipliers, layer.bounds, signed_zero_point(output), clamp)
        if made is not None:
            return made
    return requantise(layer.multipliers, layer.shared_bounds, signed_zero_point(output), clamp, match,
                      avoid_powers=avoid_powers)


def conv_weights(tensor: Tensor) -> Weights:
    """Of a CONV_2D: [OC, KH, KW, IC] as stored."""
    assert tensor.data is not None
    return signed_weights(tensor, tensor.data)


def lower_direct(context: Context, operation: Operation, source: FeatureMap, weights: Weights) -> list[TaskProgram]:
    """Tasks of any operation that is a direct convolution of `source`."""
    assert operation.window is not None
    geometry = Geometry.of(operation.window, (source.height, source.width, source.channels), len(weights.values))
    return convolution_tasks(context, operation, geometry, source, weights)


def convolution_tasks(context: Context, operation: Operation, geometry: Geometry, source: FeatureMap,
                      weights: Weights, first_channel: int = 0) -> list[TaskProgram]:
    """Tasks of a convolution, direct or depthwise, that ends in the operation's output, from some channel on."""
    output = context.tensor(operation.output)
    bias = bias_values(context.subgraph, operation)
    part = None if bias is None else bias[first_channel:first_channel + len(weights.values)]
    layer = make_layer(context.tensor(operation.inputs[0]), weights, part, output, operation.kind)
    target = context.feature_map(written_tensor(context, operation))
    target = replace(target, address=target.row(0, first_channel // ATOM_BYTES))
    return layer_tasks(context, operation, geometry, source, target, layer)


def written_tensor(context: Context, operation: Operation) -> int:
    """The output of a convolution's tasks: of the function behind it where that runs in them."""
    fused = context.fused_unaries.get(operation.index)
    return operation.output if fused is None else fused.unary.output


def layer_tasks(context: Context, operation: Operation, geometry: Geometry, source: FeatureMap, target: FeatureMap,
                layer: Layer) -> list[TaskProgram]:
    """Tasks of a convolution, with the function behind it where there is one, into a feature map."""
    fused = context.fused_unaries.get(operation.index)
    if fused is not None:
        return _with_unary(context, operation, geometry, source, target, layer, fused)
    output, match = context.tensor(operation.output), context.options.match
    layer = settle_constants(layer) if match == "tflite" else layer
    layer, numbers = _proven(context, layer, source.zero_point, lambda held, avoid: layer_requantisation(
        held, operation, output, match, avoid_powers=avoid, avoid_seconds=context.options.assume != "on"))
    conv = place_convolution(context, operation, geometry, source, target, layer, numbers)
    return convolution_programs(context, conv, (operation,))


def _proven(context: Context, layer: Layer, zero_point: int,
            requantised: Callable[[Layer, bool], Requantisation]) -> tuple[Layer, Requantisation]:
    """The layer and its register values; unless assume=on without BN's powers of two, where that can be.

    requantised   the register values of a layer; whether to avoid the powers
    """
    numbers = requantised(layer, False)
    if numbers.powers is None or context.options.assume == "on":
        return layer, numbers
    shared = with_one_shift(layer, zero_point)
    return (layer, numbers) if shared is None else (shared, requantised(shared, True))


def _with_unary(context: Context, operation: Operation, geometry: Geometry, source: FeatureMap, target: FeatureMap,
                layer: Layer, fused: FusedUnary) -> list[TaskProgram]:
    """Tasks that write the output of the function behind the convolution; the convolution's own never exists."""
    output, clamp = context.tensor(operation.output), fused.clamp
    if clamp is not None:
        layer, numbers = _proven(context, layer, source.zero_point, lambda held, avoid: requantise(
            held.multipliers, held.shared_bounds, signed_zero_point(output), clamp, context.options.match,
            avoid_powers=avoid))
        conv = place_convolution(context, operation, geometry, source, target, layer, numbers)
    else:
        numbers = whole_steps(layer.multipliers, layer.shared_bounds, context.options.match)
        placed = place_layer(context, operation, geometry, layer, numbers.multipliers, numbers.bs_shift)
        weights, bs, zero_point = placed
        stages = looked_up(context, fused, bs, numbers, geometry.aligned_output_channels(context.soc))
        target = replace(target, height=geometry.output_height, width=geometry.output_width)
        conv = Convolution(context.soc, geometry, source, target, weights, stages, zero_point)
    return convolution_programs(context, conv, (operation, fused.unary))


def place_convolution(context: Context, operation: Operation, geometry: Geometry, source: FeatureMap,
                      target: FeatureMap, layer: Layer, numbers: Requantisation) -> Convolution:
    """Constants of a convolution put into buffers, and what its tasks share."""
    weights, bs, zero_point = place_layer(context, operation, geometry, layer, numbers.multipliers, numbers.bs_shift)
    channels = geometry.aligned_output_channels(context.soc)
    stages = Stages(bs, _bn(context, operation, channels, numbers), _gain(context, operation, channels, numbers),
                    numbers.out)
    target = replace(target, height=geometry.output_height, width=geometry.output_width)
    return Convolution(context.soc, geometry, source, target, weights, stages, zero_point)


def place_layer(context: Context, operation: Operation, geometry: Geometry, layer: Layer,
                multipliers: np.ndarray | None, shift: int) -> tuple[Address, Stage, int | None]:
    """(weights, BS, weight zero point): the zero point is None when the operands hold one per channel.

    multipliers   of BS: one, one per channel, or None for none
    """
    pack = pack_depthwise if geometry.is_depthwise else pack_direct
    packed = context.constant(f"weights {operation.index}", pack(layer.weights, context.soc))
    channels = geometry.aligned_output_channels(context.soc)
    name = f"operands {operation.index}"
    if layer.weights.has_one_zero_point and (multipliers is None or len(multipliers) == 1):
        operands = context.constant(name, pack_bias(layer.bias, channels))
        single = None if multipliers is None else int(multipliers[0])
        bs = Stage(add_from_memory=True, multiplier=single, shift=shift, operands=operands, data_use=dpu.USE_ALU)
        return packed, bs, int(layer.weights.zero_points[0])
    each = np.broadcast_to(multipliers if multipliers is not None else np.ones(1, np.int16), layer.bias.shape)
    operands = context.constant(name, pack_blocks(layer.bias, -layer.weights.zero_points, each, channels))
    bs = Stage(add_from_memory=True, multiplier_from_memory=True, shift=shift, operands=operands,
               data_use=dpu.USE_BLOCK)
    return packed, bs, None


def _bn(context: Context, operation: Operation, channels: int, numbers: Requantisation) -> Stage:
    """Powers of two per channel, then the clamp."""
    clamps = numbers.high is not None
    add = -numbers.low if clamps and numbers.low else None
    if numbers.seconds is not None:
        address = context.constant(f"multipliers {operation.index}", pack_multipliers(numbers.seconds, channels))
        return Stage(multiplier_from_memory=True, shift=numbers.second_shift,
                     shift_negative=numbers.second_shift_negative, relu=clamps, relux=numbers.high,
                     operands=address, data_use=dpu.USE_MULTIPLIER)
    if numbers.powers is None:
        return Stage(add=add, multiplier=numbers.second, shift=numbers.second_shift, relu=clamps, relux=numbers.high)
    address = context.constant(f"powers {operation.index}", pack_powers(numbers.powers, channels))
    return Stage(add=add, multiplier_from_memory=True, relu=clamps, relux=numbers.high, operands=address,
                 data_use=dpu.USE_MULTIPLIER)


def _gain(context: Context, operation: Operation, channels: int, numbers: Requantisation) -> Elementwise | None:
    """EW's factor per channel."""
    if numbers.gains is None:
        return None
    packed, offset, scale, shift = pack_gains(numbers.gains, channels)
    address = context.constant(f"gains {operation.index}", packed)
    return Elementwise(offset, scale, shift, multiplies=True, per_element=False, operands=address)


def convolution_programs(context: Context, conv: Convolution, operations: Sequence[Operation]) -> list[TaskProgram]:
    """One task per tile, behind those that lay out padding in memory where there is too much of it for registers.

    Where cores can share the work, the tasks for that too: see cermet.drivers.rocket.lanes.shared_where_worth().
    """
    before: list[TaskProgram] = []
    conv = replace(conv, geometry=starting(conv.geometry, context.options))
    if with_large_pads_in_memory(conv.geometry) != conv.geometry:
        from cermet.drivers.rocket.padding import lay_out_padding  # copies are made of convolutions as well
        conv, before = lay_out_padding(context, operations[0], conv)
    ways = context.sharing.plan(context.soc, conv.geometry)
    if ways is None:
        raise CompileError(f"tiling of {operations[0]}: the rows of one window do not fit the CBUF")
    whole = [replace(_program(context, conv, tile, operations), unshared=ways.number) for tile in ways.whole]
    shared = [replace(_program(context, conv, tile, operations), lane=lane, shared=ways.number)
              for lane, tiles in enumerate(ways.shared) for tile in tiles]
    return before + whole + shared


def _program(context: Context, conv: Convolution, tile: Tile, operations: Sequence[Operation]) -> TaskProgram:
    regcmd = context.regcmd()
    emit_convolution(regcmd, conv, tile)
    words, addresses = regcmd.finish(BlockMask.CONV)
    g = conv.geometry
    share = tile.output_rows * tile.channels / (g.output_height * g.output_channels)
    reads: list[Address | None] = [conv.source.address, conv.addend.source.address if conv.addend else None]
    cycles = tile_time(context.soc, g, tile, mainline_pace(context.soc), len(words)).total
    return TaskProgram(
        words, addresses, context.touched(*reads), context.touched(conv.target.address),
        layer_name(operations[0], _part_name(g, tile)), tuple(i for op in operations for i in (op.index, *op.fused)),
        macs=round(g.macs * share), cycles=cycles, needs_previous=tile.reuses_weights)


def _part_name(geometry: Geometry, tile: Tile) -> str:
    """Which part of the output a task makes; empty for all of it."""
    parts = []
    if tile.output_rows < geometry.output_height:
        parts.append(f"rows {tile.first_output_row}..{tile.first_output_row + tile.output_rows - 1}")
    if tile.channels < geometry.output_channels:
        parts.append(f"channels {tile.first_channel}..{tile.first_channel + tile.channels - 1}")
    return ", ".join(parts)
