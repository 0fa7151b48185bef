"""Random graphs of moves, resizing, pools and convolutions as one program: equal to the numerics, bit for bit.

All tensors share one quantisation, so that any two may meet; graphs branch, join, and hand out inner tensors.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from tests.support import builders_move, model_builder
from tests.support.builders_move import SCALE
from tests.support.model_builder import Model, OperationSpec, TensorSpec

POINT = -7
MAX_PIXELS, MAX_CHANNELS = 900, 400


@dataclass
class Graph:
    """A graph that grows: every step reads a tensor that is there and adds new ones."""

    rng: np.random.Generator
    tensors: list[TensorSpec] = field(default_factory=list)
    operations: list[OperationSpec] = field(default_factory=list)
    live: list[int] = field(default_factory=list)

    def activation(self, shape: Sequence[int]) -> int:
        self.tensors.append(builders_move.activation(f"t{len(self.tensors)}", [int(n) for n in shape], "int8", POINT))
        self.live.append(len(self.tensors) - 1)
        return self.live[-1]

    def constant(self, values: Sequence[object] | int) -> int:
        self.tensors.append(builders_move.numbers(f"c{len(self.tensors)}", values))     # type: ignore[arg-type]
        return len(self.tensors) - 1

    def add(self, name: str, inputs: Sequence[int], shapes: Sequence[Sequence[int]], **options: object) -> None:
        outputs = tuple(self.activation(shape) for shape in shapes)
        self.operations.append(OperationSpec(name, tuple(inputs), outputs, options))

    def add_if_taken(self, name: str, inputs: Sequence[int], shapes: Sequence[Sequence[int]],
                     **options: object) -> None:
        """Adds an operation unless it is too large for a test, or takes too many tasks."""
        if any(np.prod(shape) > MAX_PIXELS * 64 or shape[-1] > MAX_CHANNELS for shape in shapes):
            return
        before = len(self.tensors), len(self.live)
        self.add(name, inputs, shapes, **options)
        operation = self.operations[-1]
        alone = Model(tuple(self.tensors), (operation,), (inputs[0],), operation.outputs)
        subgraph = read_tflite(alone.data)
        refused = name != "RESHAPE" and RocketDriver(RK3588).refuse(subgraph, subgraph.operations[0], CompileOptions())
        if refused:
            assert "tasks" in refused.reason or "channels" in refused.reason or "weights" in refused.reason
            self.operations.pop()
            del self.tensors[before[0]:], self.live[before[1]:]

    def model(self) -> Model:
        read = {t for op in self.operations for t in op.inputs}
        outputs = [t for op in self.operations for t in op.outputs if t not in read or self.rng.random() < 0.1]
        return Model(tuple(self.tensors), tuple(self.operations), (0,), tuple(outputs))


def weighted(graph: Graph, source: int) -> None:
    """CONV_2D or DEPTHWISE_CONV_2D whose scales are moved so that the output has the common one."""
    shape, rng = graph.tensors[source].shape, graph.rng
    zero_points = {"input_zero_point": POINT, "output_zero_point": POINT}
    if rng.integers(2):
        made = model_builder.conv2d(rng, shape, int(rng.choice([7, 16, 32, 48, 64, 96])),
                                    stride=(int(rng.integers(1, 3)), 1), **zero_points)
    else:
        made = model_builder.depthwise(rng, shape, **zero_points)
    data, weights, bias, output = made.tensors
    scale = float(np.float32(weights.scale * data.scale / output.scale))
    start = len(graph.tensors)
    graph.tensors += [replace(weights, name=f"w{start}", scales=(scale,)),
                      replace(bias, name=f"b{start}", scales=(float(np.float32(SCALE) * np.float32(scale)),))]
    graph.add(made.operations[0].name, (source, start, start + 1), [output.shape], **made.operations[0].options)


def pool(graph: Graph, source: int) -> None:
    shape = graph.tensors[source].shape
    made = model_builder.pool(graph.rng, shape, "MAX", (3, 3), stride=(1, 1), padding="SAME", zero_point=POINT)
    graph.add("MAX_POOL_2D", (source,), [shape], **made.operations[0].options)


def pad(graph: Graph, source: int) -> None:
    amounts = [(0, 0), *(tuple(int(n) for n in graph.rng.integers(0, 3, 2)) for _ in range(2)), (0, 0)]
    shape = [n + a + b for n, (a, b) in zip(graph.tensors[source].shape, amounts, strict=True)]
    graph.add("PAD", (source, graph.constant(amounts)), [shape])


def join(graph: Graph, source: int) -> None:
    shape, axis = graph.tensors[source].shape, int(graph.rng.integers(1, 4))
    peers = [t for t in graph.live if t != source and all(
        a == b for i, (a, b) in enumerate(zip(graph.tensors[t].shape, shape, strict=True)) if i != axis)]
    parts = [source, *(int(t) for t in graph.rng.permutation(peers)[:2])]
    joined = [*shape[:axis], sum(graph.tensors[t].shape[axis] for t in parts), *shape[axis + 1:]]
    if joined[3] <= MAX_CHANNELS and joined[1] * joined[2] <= MAX_PIXELS:
        graph.add("CONCATENATION", parts, [joined], Axis=axis)


def split(graph: Graph, source: int) -> None:
    shape, axis = graph.tensors[source].shape, int(graph.rng.integers(1, 4))
    if shape[axis] > 1:
        first = int(graph.rng.integers(1, shape[axis]))
        first = first // 16 * 16 if first >= 16 and graph.rng.integers(2) else first
        sizes = [first, shape[axis] - first]
        graph.add("SPLIT_V", (source, graph.constant(sizes), graph.constant(axis)),
                  [[*shape[:axis], size, *shape[axis + 1:]] for size in sizes], NumSplits=2)


def cut(graph: Graph, source: int) -> None:
    shape = graph.tensors[source].shape
    begin = [int(graph.rng.integers(n)) for n in shape]
    size = [int(graph.rng.integers(1, n - b + 1)) for n, b in zip(shape, begin, strict=True)]
    graph.add("SLICE", (source, graph.constant(begin), graph.constant(size)), [size])


def enlarge(graph: Graph, source: int) -> None:
    n, height, width, channels = graph.tensors[source].shape
    if height * width <= MAX_PIXELS // 4:
        name = str(graph.rng.choice(["RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"]))
        size = graph.constant([height * 2, width * 2])
        graph.add(name, (source, size), [(n, height * 2, width * 2, channels)], HalfPixelCenters=True)


def blocks(graph: Graph, source: int) -> None:
    n, height, width, channels = graph.tensors[source].shape
    if channels % 4 == 0 and height * width <= MAX_PIXELS // 4:
        graph.add("DEPTH_TO_SPACE", (source,), [(n, height * 2, width * 2, channels // 4)], BlockSize=2)
    elif height % 2 == width % 2 == 0 and channels <= MAX_CHANNELS // 4:
        graph.add("SPACE_TO_DEPTH", (source,), [(n, height // 2, width // 2, channels * 4)], BlockSize=2)


def reorder(graph: Graph, source: int) -> None:
    """TRANSPOSE, TILE or REVERSE_V2 of the three inner axes."""
    shape, axis = graph.tensors[source].shape, int(graph.rng.integers(1, 4))
    name = str(graph.rng.choice(["TRANSPOSE", "TILE", "REVERSE_V2"]))
    order = [0, *(int(a) for a in graph.rng.permutation([1, 2, 3]))]
    times = [1 + int(i == axis and shape[i] <= 20) for i in range(4)]
    operand, new = {"TRANSPOSE": (order, [shape[a] for a in order]), "REVERSE_V2": ([axis], shape),
                    "TILE": (times, [n * m for n, m in zip(shape, times, strict=True)])}[name]
    graph.add_if_taken(name, (source, graph.constant(operand)), [new])


def choose(graph: Graph, source: int) -> None:
    """GATHER of some positions, in any order."""
    shape, axis = graph.tensors[source].shape, int(graph.rng.integers(1, 4))
    indices = [int(i) for i in graph.rng.integers(0, shape[axis], graph.rng.integers(1, 7))]
    graph.add_if_taken("GATHER", (source, graph.constant(indices)), [[*shape[:axis], len(indices), *shape[axis + 1:]]],
                       Axis=axis)


def reshape(graph: Graph, source: int) -> None:
    """RESHAPE that splits or merges channels."""
    n, height, width, channels = graph.tensors[source].shape
    parts = int(graph.rng.choice([2, 3, 4, 6]))
    if channels % parts == 0:
        graph.add_if_taken("RESHAPE", (source, graph.constant([n, height, width * parts, channels // parts])),
                           [(n, height, width * parts, channels // parts)])
    elif width % parts == 0:
        graph.add_if_taken("RESHAPE", (source, graph.constant([n, height, width // parts, channels * parts])),
                           [(n, height, width // parts, channels * parts)])


STEPS: tuple[Callable[[Graph, int], None], ...] = (weighted, weighted, pool, pad, join, join, join, split, cut, enlarge,
                                                   blocks, reorder, reorder, choose, reshape, reshape)


def draw(seed: int) -> Model:
    rng = np.random.default_rng(seed)
    graph = Graph(rng)
    graph.activation((1, *rng.integers(2, 9, 2), rng.choice([5, 16, 32, 33, 64])))
    while len(graph.operations) < 3 + seed % 8:
        STEPS[rng.integers(len(STEPS))](graph, int(rng.choice(graph.live)))
    return graph.model()


@pytest.mark.parametrize("seed", range(120))
def test_graph(seed: int) -> None:
    model = draw(seed)
    subgraph, driver = read_tflite(model.data), RocketDriver(RK3588)
    for operation in subgraph.operations:
        assert driver.refuse(subgraph, operation, CompileOptions()) is None
    inputs = dict(zip(subgraph.inputs, model.random_inputs(np.random.default_rng(seed)), strict=True))
    made, expected = driver.execute(subgraph, inputs), SoftDriver().execute(subgraph, inputs)
    for tensor in subgraph.outputs:
        np.testing.assert_array_equal(made[tensor], expected[tensor])
