"""The graph of a report as SVG: one box per operation, coloured by where it runs."""
from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import pairwise

from cermet.ir.subgraph import Subgraph
from cermet.report import NodeReport, Report
from cermet.report_html.layout import NODE_WIDTH, Placed, lay_out

LAYER_HEIGHT, NODE_HEIGHT, MARGIN = 66.0, 42.0, 24.0
NUM_PARTITION_COLOURS = 8       # --p0.. in the page's style
LABEL_CHARACTERS = 19
SMALLEST = 0.65                 # a wide graph shrinks to this before it has to be scrolled sideways


def draw_graph(subgraph: Subgraph, report: Report) -> tuple[str, float]:
    """(an <svg> element, its width in pixels); its colours are classes of the page's style."""
    edges = sorted({(maker.index, operation.index) for operation in subgraph.operations
                    for tensor in operation.inputs if (maker := subgraph.producer(tensor)) is not None})
    placed = lay_out([operation.index for operation in subgraph.operations], edges)
    width = max((x for x, _ in [*placed.places.values(), *(p for r in placed.routes.values() for p in r)]),
                default=0.0) + NODE_WIDTH / 2 + 2 * MARGIN
    height = placed.num_layers * LAYER_HEIGHT + 2 * MARGIN
    lines = [f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
             f'viewBox="0 0 {width:.0f} {height:.0f}" style="min-width:{SMALLEST * width:.0f}px" role="img" '
             'aria-label="the model\'s graph">']
    lines += [_edge(edge, placed) for edge in edges]
    lines += [line for node in report.nodes for line in _node(node, *_corner(placed, node.index))]
    return "\n".join([*lines, "</svg>"]), width


def _corner(placed: Placed, index: int) -> tuple[float, float]:
    x, layer = placed.places[index]
    return MARGIN + x - NODE_WIDTH / 2, MARGIN + layer * LAYER_HEIGHT


def _edge(edge: tuple[int, int], placed: Placed) -> str:
    """From the bottom of one box to the top of the other, straight through its lanes."""
    start, end = (placed.places[node] for node in edge)
    points = [(start[0] + MARGIN, MARGIN + start[1] * LAYER_HEIGHT + NODE_HEIGHT)]
    for x, layer in placed.routes[edge]:
        top = MARGIN + layer * LAYER_HEIGHT
        points += [(x + MARGIN, top), (x + MARGIN, top + NODE_HEIGHT)]
    points.append((end[0] + MARGIN, MARGIN + end[1] * LAYER_HEIGHT))
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for index, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        middle = (y0 + y1) / 2
        path += (f" C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}" if index % 2 == 0
                 else f" L{x1:.1f} {y1:.1f}")
    return f'<path class="edge" d="{path}"/>'


def _node(node: NodeReport, left: float, top: float) -> Iterator[str]:
    kind = "cpu" if node.partition is None else f"npu p{node.partition % NUM_PARTITION_COLOURS}"
    shape = "x".join(map(str, node.output_shape)) or "scalar"
    where = "CPU" if node.partition is None else f"NPU {node.partition}"
    told = f"{node.index} {node.operation}, {shape} {node.output_dtype}, {where}"
    told += f": {node.reason}" if node.reason else ""
    yield f'<a href="#n{node.index}"><g class="node {kind}"><title>{escape(told)}</title>'
    yield f'<rect x="{left:.1f}" y="{top:.1f}" width="{NODE_WIDTH:.0f}" height="{NODE_HEIGHT:.0f}" rx="7"/>'
    yield f'<rect class="stripe" x="{left:.1f}" y="{top + 6:.1f}" width="4" height="{NODE_HEIGHT - 12:.0f}" rx="2"/>'
    yield (f'<text x="{left + 12:.1f}" y="{top + 18:.1f}"><tspan class="number">{node.index}</tspan> '
           f'{escape(_short(node.operation))}</text>')
    yield f'<text class="small" x="{left + 12:.1f}" y="{top + 34:.1f}">{escape(shape)}</text>'
    yield (f'<text class="small" x="{left + NODE_WIDTH - 9:.1f}" y="{top + 34:.1f}" text-anchor="end">'
           f'{where}</text></g></a>')


def _short(name: str) -> str:
    name = name.removeprefix("CUSTOM:")
    return name if len(name) <= LABEL_CHARACTERS else name[:LABEL_CHARACTERS - 1] + "…"
