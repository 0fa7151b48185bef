"""A strided convolution of the application's picture reads blocks of pixels as channels, and steps by 1.

An atom holds 16 channels, of which a picture uses 3. Where only the convolution reads it, the runtime lays out each
block of stride x stride pixels as one, as SPACE_TO_DEPTH does, while it converts the picture to atoms. The window over
the blocks has fewer taps; those that the model's window does not have weigh nothing.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.geometry import Geometry, starting, with_large_pads_in_memory
from cermet.drivers.rocket.layout import ATOM_BYTES, ceil_div
from cermet.drivers.rocket.limits import MAX_STRIDE
from cermet.drivers.rocket.pixel_blocks import NO_STEP, blocks_shape, weights_of_blocks, window_of_blocks
from cermet.drivers.rocket.tile_time import pace_of, plan_us
from cermet.drivers.rocket.tiling import plan
from cermet.drivers.rocket.views import VIEW_KINDS, is_view
from cermet.hw.soc import Soc
from cermet.ir.numerics_unary import UNARY_KINDS
from cermet.ir.operation import Kind, Operation, Pair, Window
from cermet.ir.subgraph import Subgraph

MAX_BLOCK = MAX_STRIDE * MAX_STRIDE     # no larger stride runs (large_strides.py); CERMET_MAX_FOLD
Accepts = Callable[[Subgraph, Operation], bool]


@dataclass(frozen=True)
class Folding:
    """An input of the program that is given in blocks.

    convolution   index of its reader
    shape         NHWC, as the application gives it
    block         rows and columns of pixels that become one
    """

    convolution: int
    shape: tuple[int, ...]
    block: Pair


def fold_strides(subgraph: Subgraph, soc: Soc, options: CompileOptions, accepts: Accepts) -> Mapping[int, Folding]:
    """Inputs of the subgraph that are better given in blocks.

    Needs: nobody but one convolution without groups or dilation reads the input, or what views and functions of single
    elements make of it (functions: of a picture of whole blocks); its window leaves no whole block out; blocks take
    fewer atoms, and their convolution less time by the cycle model. accepts: whether an operation on
    blocks can run, in the subgraph that has it.
    """
    found: dict[int, Folding] = {}
    for conv in subgraph.operations:
        way = _way(subgraph, conv)
        if way is None or not _can_fold(subgraph, conv, way) or not _pays(soc, options, subgraph, conv):
            continue
        assert conv.window is not None
        source = way[-1].inputs[0] if way else conv.inputs[0]
        assert source is not None
        made = Folding(conv.index, subgraph.tensor(conv.inputs[0]).shape, conv.window.stride)
        folded = in_blocks(subgraph, {source: made})
        changed = {conv.index, *(op.index for op in way if op.kind not in VIEW_KINDS)}
        if all(accepts(folded, op) for op in folded.operations if op.index in changed):
            found[source] = made
    return found


def in_blocks(subgraph: Subgraph, foldings: Mapping[int, Folding]) -> Subgraph:
    """The subgraph whose inputs are given in blocks."""
    for made in foldings.values():
        subgraph = _in_blocks(subgraph, made)
    return subgraph


def _way(subgraph: Subgraph, conv: Operation) -> list[Operation] | None:
    """What lies between a convolution and the input that only it reads, backwards; None when there is no such input."""
    way: list[Operation] = []
    tensor = conv.inputs[0] if conv.kind is Kind.CONV else None
    while tensor is not None and tensor not in subgraph.outputs and len(subgraph.consumers(tensor)) == 1:
        producer = subgraph.producer(tensor)
        if producer is None:
            return way if tensor in subgraph.inputs else None
        if not is_view(subgraph, producer) and producer.kind not in UNARY_KINDS:
            return None
        way.append(producer)
        tensor = producer.inputs[0]
    return None


def _can_fold(subgraph: Subgraph, conv: Operation, way: Sequence[Operation]) -> bool:
    window = conv.window
    if window is None or window.stride == NO_STEP or window.dilation != NO_STEP:
        return False
    if max(window.stride.y, window.stride.x) > MAX_BLOCK:
        return False
    source, weights = (subgraph.tensor(t) for t in conv.inputs[:2])
    _, height, width, channels = source.shape
    if weights.data is None or weights.shape[3] != channels:
        return False
    # What blocks have beyond the picture is the input's zero point, which a function may turn into anything.
    has_whole_blocks = height % window.stride.y == width % window.stride.x == 0
    if not has_whole_blocks and not all(is_view(subgraph, op) for op in way):
        return False
    return min(window_of_blocks(window, height, width, window.stride).border) >= 0


def _pays(soc: Soc, options: CompileOptions, subgraph: Subgraph, conv: Operation) -> bool:
    """Whether blocks take fewer atoms and their convolution less time."""
    assert conv.window is not None
    shape, outputs = subgraph.tensor(conv.inputs[0]).shape, subgraph.tensor(conv.output).shape[3]
    folded = blocks_shape(shape, conv.window.stride)
    window = window_of_blocks(conv.window, shape[1], shape[2], conv.window.stride)
    return _num_atoms(folded) < _num_atoms(shape) and (
        _us(soc, window, folded, outputs, options) < _us(soc, conv.window, shape, outputs, options))


def _num_atoms(shape: tuple[int, ...]) -> int:
    return shape[1] * shape[2] * ceil_div(shape[3], ATOM_BYTES)


def _us(soc: Soc, window: Window, shape: tuple[int, ...], outputs: int, options: CompileOptions) -> float:
    """Of one image, by the cycle model."""
    geometry = with_large_pads_in_memory(Geometry.of(window, (shape[1], shape[2], shape[3]), outputs))
    geometry, pace = starting(geometry, options), pace_of(soc, options)
    tiles = plan(soc, geometry, pace=pace)
    return float("inf") if tiles is None else plan_us(soc, geometry, tiles, pace)


def _in_blocks(subgraph: Subgraph, made: Folding) -> Subgraph:
    conv = next(op for op in subgraph.operations if op.index == made.convolution)
    way = _way(subgraph, conv)
    assert conv.window is not None and way is not None
    window = window_of_blocks(conv.window, made.shape[1], made.shape[2], made.block)
    weights = weights_of_blocks(subgraph.tensor(conv.inputs[1]), conv.window, made.shape, made.block,
                                max(subgraph.tensors) + 1)
    shape = blocks_shape(made.shape, made.block)
    seen = [replace(subgraph.tensor(t), shape=shape) for t in (conv.inputs[0], *(op.inputs[0] for op in way))]
    folded = replace(conv, inputs=(conv.inputs[0], weights.index, *conv.inputs[2:]), window=window)
    return subgraph.replaced([conv], [folded], [weights, *seen])
