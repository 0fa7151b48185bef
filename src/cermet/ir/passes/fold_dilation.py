"""Dilation that a converter has written as SPACE_TO_BATCH_ND, convolution, BATCH_TO_SPACE_ND, made dilation again.

SPACE_TO_BATCH_ND with blocks of d pixels makes an image of every d-th pixel; a convolution of all these images, put
together again, is a convolution of the whole with pixels d times as far apart. What the first adds around the picture
(zero points) and the last cuts off become the window's border.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from cermet.ir.moves import move_problem
from cermet.ir.moves_batch import block_borders, block_shape
from cermet.ir.operation import Kind, Operation, Padding, Pair, Window
from cermet.ir.passes.fold_pad import WINDOWED, sees_pixels
from cermet.ir.subgraph import Subgraph


def fold_dilations(subgraph: Subgraph, accepts: Callable[[Subgraph, Operation], bool]) -> Subgraph:
    """SPACE_TO_BATCH_ND, CONV, BATCH_TO_SPACE_ND becomes one CONV with a dilation.

    Needs: nobody else reads what lies between; the strides are 1; the border is not negative, and no window lies in it
    alone. accepts: whether the convolution may be made, in the subgraph that has it.
    """
    while True:
        made = next((folded for conv, folded in dilations(subgraph) if accepts(folded, conv)), None)
        if made is None:
            return subgraph
        subgraph = made


def dilations(subgraph: Subgraph) -> Iterator[tuple[Operation, Subgraph]]:
    """(dilated convolution, subgraph with it) for each place where one can be made; `fused` names what vanishes."""
    for apart in subgraph.operations:
        if apart.kind is not Kind.SPACE_TO_BATCH:
            continue
        conv = _only_reader(subgraph, apart)
        together = None if conv is None or conv.kind not in WINDOWED else _only_reader(subgraph, conv)
        if conv is None or together is None or together.kind is not Kind.BATCH_TO_SPACE:
            continue
        window = _dilated_window(subgraph, apart, conv, together)
        if window is not None:
            made = replace(conv, inputs=(apart.inputs[0], *conv.inputs[1:]), outputs=together.outputs, window=window,
                           fused=(*conv.fused, apart.index, together.index))
            yield made, subgraph.replaced([apart, conv, together], [made])


def _only_reader(subgraph: Subgraph, operation: Operation) -> Operation | None:
    """The only operation that reads the output, as its data; None when it is read elsewhere too."""
    if len(operation.outputs) != 1 or operation.output in subgraph.outputs:
        return None
    readers = subgraph.consumers(operation.output)
    is_data = len(readers) == 1 and readers[0].inputs[0] == operation.output
    return readers[0] if is_data and operation.output not in readers[0].inputs[1:] else None


def _dilated_window(subgraph: Subgraph, apart: Operation, conv: Operation, together: Operation) -> Window | None:
    """The window over the whole picture; None when there is none."""
    window, data, out = conv.window, subgraph.tensor(apart.inputs[0]), subgraph.tensor(together.output)
    if window is None or window.stride != Pair(1, 1) or len(data.shape) != 4 or len(out.shape) != 4:
        return None
    if any(move_problem(subgraph, move) for move in (apart, together)):
        return None
    block = block_shape(subgraph, apart)
    if len(block) != 2 or block != block_shape(subgraph, together) or data.shape[0] != out.shape[0]:
        return None
    dilation = Pair(window.dilation.y * block[0], window.dilation.x * block[1])
    border: list[int] = []
    own = window.pads(*subgraph.tensor(apart.output).shape[1:3])
    extent = replace(window, dilation=dilation).extent
    for axis, reach in ((0, extent.y), (1, extent.x)):
        added, cut = block_borders(subgraph, apart)[axis][0], block_borders(subgraph, together)[axis][0]
        before = added - cut + own[2 * axis] * block[axis]
        border += [before, out.shape[1 + axis] - 1 + reach - data.shape[1 + axis] - before]
    made = Window(window.kernel, window.stride, Padding.VALID, dilation, tuple(border))
    return made if min(border) >= 0 and sees_pixels(made, made.border) else None
