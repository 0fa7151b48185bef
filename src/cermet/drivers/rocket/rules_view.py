"""Support rules of RESHAPE and SQUEEZE: they run where they cost nothing, because the bytes stay where they are."""
from __future__ import annotations

from cermet.drivers.rocket.fully_connected import window_over
from cermet.drivers.rocket.rules import ACTIVATION_RULES, Query, Rule
from cermet.drivers.rocket.views import MapShape, joined, map_shape
from cermet.ir.moves import LAYOUTS
from cermet.ir.numerics_unary import UNARY_KINDS
from cermet.ir.operation import Kind
from cermet.ir.subgraph import Subgraph

# FULLY_CONNECTED is asked separately: it takes a flattened map as well as the map itself.
LAYOUT_KINDS = (Kind.CONV, Kind.DEPTHWISE_CONV, Kind.TRANSPOSE_CONV, Kind.ADD, Kind.SUB, Kind.MUL, Kind.MAXIMUM,
                Kind.MINIMUM, Kind.AVERAGE_POOL, Kind.MAX_POOL, Kind.MEAN,
                *UNARY_KINDS, Kind.PRELU, *LAYOUTS, Kind.RESIZE_BILINEAR)


def elements_stay(query: Query) -> str | None:
    """Input and output have the same number of elements."""
    before, after = query.data.num_elements, query.output.num_elements
    return None if before == after else f"input has {before} elements, output {after}"


def quantisation_stays(query: Query) -> str | None:
    """Input and output have the same scale and zero point."""
    before, after = query.data.quantisation, query.output.quantisation
    assert before is not None and after is not None
    same = (before.scale, before.zero_point) == (after.scale, after.zero_point)
    return None if same else "input and output are quantised differently"


def layout_stays(query: Query) -> str | None:
    """The operations on either side see the same pixels and channels; a FULLY_CONNECTED behind may flatten them."""
    members = joined(query.subgraph, query.operation.output)
    shapes = {(s.pixels, s.channels): s for s in _seen_shapes(query.subgraph, members)}
    if not shapes:
        return "no operation beside it runs on the NPU: not worth a task"
    if len(shapes) > 1:
        seen = " and ".join(f"{s.height}x{s.width}x{s.channels}" for s in shapes.values())
        return f"changes the channels ({seen}), which would move every byte"
    (shape,) = shapes.values()
    for depth in _flattened_depths(query.subgraph, members):
        if window_over(shape, depth) is None:
            return f"feeds {depth} inputs from a map of {shape.height}x{shape.width}x{shape.channels}"
    return None


def _seen_shapes(subgraph: Subgraph, members: list[int]) -> list[MapShape]:
    """Shapes of the joined tensors that operations other than views compute with."""
    seen = []
    for tensor in members:
        producer = subgraph.producer(tensor)
        made = producer is not None and producer.kind in (*LAYOUT_KINDS, Kind.FULLY_CONNECTED)
        if made or any(op.kind in LAYOUT_KINDS for op in subgraph.consumers(tensor)):
            seen.append(map_shape(subgraph.tensor(tensor)))
    if not seen:
        seen = [map_shape(subgraph.tensor(t)) for t in members[:1]
                if any(op.kind is Kind.FULLY_CONNECTED for m in members for op in subgraph.consumers(m))]
    return seen


def _flattened_depths(subgraph: Subgraph, members: list[int]) -> list[int]:
    """Inputs per output of the FULLY_CONNECTEDs that read a joined tensor."""
    depths = []
    for tensor in members:
        for op in subgraph.consumers(tensor):
            if op.kind is Kind.FULLY_CONNECTED and op.inputs[0] == tensor and len(op.inputs) > 1:
                weights = subgraph.tensor(op.inputs[1])
                depths.append(weights.shape[-1] if weights.shape else 0)
    return depths


VIEW_RULES: tuple[Rule, ...] = (*ACTIVATION_RULES, elements_stay, quantisation_stays, layout_stays)
