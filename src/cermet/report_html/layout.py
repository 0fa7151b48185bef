"""A graph drawn in layers: who reads a result stands below who makes it.

Layers by the longest path; an edge that skips layers gets a place of its own in each of them, so that it passes beside
the nodes. Order inside a layer: means of the neighbours' places, swept down and up. Places: as near to the neighbours'
as the widths allow, in the least-squares sense.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NODE_WIDTH, LANE_WIDTH, GAP = 190.0, 14.0, 22.0
LANE_PULL = LANE_WEIGHT = 0.1
SWEEPS = 6


@dataclass(frozen=True)
class Placed:
    """places: node -> (x of its middle, layer); routes: (from, to) -> points (x, layer) between the two."""

    places: Mapping[int, tuple[float, int]]
    routes: Mapping[tuple[int, int], tuple[tuple[float, int], ...]]
    num_layers: int


class _Grid:
    """Items of all layers: nodes, and lanes where an edge passes. A lane is numbered below 0."""

    def __init__(self, nodes: Sequence[int], edges: Sequence[tuple[int, int]]) -> None:
        self.layer = _layers(nodes, edges)
        self.rows: list[list[int]] = [[] for _ in range(max(self.layer.values(), default=-1) + 1)]
        self.above: dict[int, list[int]] = {}
        self.below: dict[int, list[int]] = {}
        self.lanes: dict[tuple[int, int], list[int]] = {}
        for node in nodes:
            self.rows[self.layer[node]].append(node)
        count = 0
        for start, end in dict.fromkeys(edges):
            chain = [start]
            for layer in range(self.layer[start] + 1, self.layer[end]):
                count += 1
                self.rows[layer].append(-count)
                self.layer[-count] = layer
                chain.append(-count)
            self.lanes[start, end] = chain[1:]
            for first, second in zip(chain, [*chain[1:], end], strict=True):
                self.below.setdefault(first, []).append(second)
                self.above.setdefault(second, []).append(first)


def lay_out(nodes: Sequence[int], edges: Sequence[tuple[int, int]]) -> Placed:
    """nodes: numbers 0 or more in the order of execution; edges: (maker, reader), the maker being the earlier one."""
    grid = _Grid(nodes, edges)
    _order(grid)
    x = _positions(grid)
    left = min((x[item] - _width(item) / 2 for item in x), default=0.0)
    places = {node: (x[node] - left, grid.layer[node]) for node in nodes}
    routes = {edge: tuple((x[lane] - left, grid.layer[lane]) for lane in lanes) for edge, lanes in grid.lanes.items()}
    return Placed(places, routes, len(grid.rows))


def _layers(nodes: Sequence[int], edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    makers: dict[int, list[int]] = {}
    for start, end in edges:
        makers.setdefault(end, []).append(start)
    layer: dict[int, int] = {}
    for node in nodes:
        layer[node] = 1 + max((layer[maker] for maker in makers.get(node, [])), default=-1)
    return layer


def _width(item: int) -> float:
    return LANE_WIDTH if item < 0 else NODE_WIDTH


def _order(grid: _Grid) -> None:
    """Sort each layer by the mean place of the neighbours in the layer before, then behind, several times."""
    for sweep in range(SWEEPS):
        rows, neighbours = (grid.rows, grid.above) if sweep % 2 == 0 else (grid.rows[::-1], grid.below)
        place: dict[int, float] = {}
        for row in rows:
            own = {item: (index + 0.5) / len(row) for index, item in enumerate(row)}
            wanted = {item: _mean([place[n] for n in neighbours.get(item, [])], own[item]) for item in row}
            row.sort(key=wanted.__getitem__)
            place.update({item: (index + 0.5) / len(row) for index, item in enumerate(row)})


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _positions(grid: _Grid) -> dict[int, float]:
    x: dict[int, float] = {}
    for row in grid.rows:
        x.update(_spread(row, dict.fromkeys(row, 0.0)))
    for sweep in range(2 * SWEEPS):
        rows, neighbours = (grid.rows, grid.above) if sweep % 2 == 0 else (grid.rows[::-1], grid.below)
        for row in rows:
            x.update(_spread(row, {item: _pulled(x, item, neighbours.get(item, [])) for item in row}))
    return x


def _pulled(x: Mapping[int, float], item: int, neighbours: Sequence[int]) -> float:
    """Where the neighbours want it. Nodes pull more than lanes, so that the main path stays straight."""
    weights = [LANE_PULL if neighbour < 0 else 1.0 for neighbour in neighbours]
    pull = sum(weight * x[neighbour] for weight, neighbour in zip(weights, neighbours, strict=True))
    return pull / sum(weights) if weights else x[item]


def _spread(row: Sequence[int], wanted: Mapping[int, float]) -> dict[int, float]:
    """Places in the given order, no two closer than their widths, nearest to the wanted ones (pool adjacent
    violators). Lanes give way to nodes."""
    offsets, offset, previous = [], 0.0, None
    for item in row:
        offset += 0.0 if previous is None else (_width(previous) + _width(item)) / 2 + GAP
        offsets.append(offset)
        previous = item
    pools: list[tuple[float, float, int]] = []      # mean, weight, members
    for item, shift in zip(row, offsets, strict=True):
        pool = (wanted[item] - shift, LANE_WEIGHT if item < 0 else 1.0, 1)
        while pools and pools[-1][0] >= pool[0]:
            mean, weight, members = pools.pop()
            total = weight + pool[1]
            pool = ((mean * weight + pool[0] * pool[1]) / total, total, members + pool[2])
        pools.append(pool)
    means = [mean for mean, _, members in pools for _ in range(members)]
    return {item: mean + shift for item, mean, shift in zip(row, means, offsets, strict=True)}
