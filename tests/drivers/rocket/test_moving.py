"""PAD, CONCATENATION, SPLIT, SLICE and relatives on the simulated core: equal to TFLite's reference kernels."""
from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import run, subgraph_of
from tests.drivers.rocket.measure import num_tasks
from tests.support import builders_move as b
from tests.support import interpreter
from tests.support.model_builder import Model

DTYPES = ("int8", "uint8")


def rng(case: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(str(case).encode()))


def check(model: Model, seed: object = 0) -> None:
    inputs, outputs = run(model, rng(seed))
    for mine, theirs in zip(outputs, interpreter.run(model.data, inputs), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def refusal(model: Model) -> str:
    subgraph = subgraph_of(model)
    found = RocketDriver(RK3588).refuse(subgraph, subgraph.operations[0], CompileOptions())
    assert found is not None
    return found.reason


PADS = [((0, 0), (1, 1)), ((1, 2), (3, 0)), ((0, 5), (0, 0)), ((7, 0), (2, 9))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("amounts", PADS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 7, 5, 16), (1, 13, 4, 33), (1, 40, 40, 64)], ids=str)
def test_pad(shape: tuple, amounts: tuple, dtype: str) -> None:
    check(b.pad(shape, [(0, 0), *amounts, (0, 0)], dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_pad_of_channels_with_a_value_and_mirrored(dtype: str) -> None:
    check(b.pad((1, 4, 5, 32), [(0, 0), (1, 0), (0, 1), (16, 9)], dtype=dtype))
    for shape, value in itertools.product([(1, 4, 5, 7), (1, 9, 1, 16), (1, 17, 20, 40)], (0, 33, 127)):
        check(b.pad(shape, [(0, 0), (1, 0), (3, 1), (0, 0)], dtype=dtype, value=value))
    for mode, amount, shape in itertools.product(("REFLECT", "SYMMETRIC"), (1, 2), [(1, 6, 5, 20), (1, 3, 14, 3)]):
        check(b.pad(shape, [(0, 0), (amount, 1), (1, amount), (0, 0)], dtype=dtype, mode=mode))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape,amount", [
    ((1, 4, 5, 7), (0, 1)), ((1, 4, 5, 16), (8, 8)), ((1, 13, 9, 24), (4, 4)), ((1, 1, 1, 1), (0, 40)),
    ((2, 5, 6, 40), (24, 0)), ((1, 8, 8, 3), (3, 0)), ((1, 20, 20, 100), (1, 27)), ((6, 20), (0, 12)),
    ((1, 5, 20), (7, 5))], ids=str)
@pytest.mark.parametrize("pixels", [((0, 0), (0, 0)), ((1, 2), (0, 3))], ids=str)
@pytest.mark.parametrize("value", [None, 77])
def test_pad_of_any_channels(value: int | None, pixels: tuple, shape: tuple, amount: tuple, dtype: str) -> None:
    inner = pixels if len(shape) == 4 else pixels[:1] if len(shape) == 3 else ()
    amounts = [(0, 0), *inner, amount]
    check(b.pad(shape, amounts, dtype=dtype, **({} if value is None else {"value": value})))


PARTS = [(16, 16), (32, 64, 16), (64, 24), (3, 1, 2), (24, 17), (1, 40, 16, 5), (96, 24), (100, 100)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("plane", [(1, 1), (5, 7), (20, 20)], ids=str)
def test_concatenation_of_channels(plane: tuple, parts: tuple, dtype: str) -> None:
    check(b.concatenation([(1, *plane, c) for c in parts], 3, dtype=dtype), parts)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("sizes", [(1, 1), (5, 2, 9), (1, 30)], ids=str)
def test_concatenation_of_pixels(sizes: tuple, axis: int, dtype: str) -> None:
    shapes = [tuple(n if i == axis else s for i, s in enumerate((1, 6, 4, 19))) for n in sizes]
    check(b.concatenation(shapes, axis, dtype=dtype))


@pytest.mark.parametrize("shapes,axis", [
    ([(1, 5, 20), (1, 9, 20)], 1), ([(7, 16), (7, 5)], 1), ([(3, 48), (1, 48)], 0),
    ([(2, 3, 5, 16), (2, 3, 5, 2)], 3), ([(2, 3, 2, 5, 16), (2, 3, 2, 5, 2)], 4),
    ([(2, 3, 4, 5, 16), (2, 3, 2, 5, 16)], 2)], ids=str)
def test_concatenation_of_other_ranks(shapes: list, axis: int) -> None:
    check(b.concatenation(shapes, axis))


@pytest.mark.parametrize("seed", range(12))
def test_concatenation_requantises_within_a_step(seed: int) -> None:
    draw = rng(seed)
    channels = [int(draw.integers(1, 50)) for _ in range(3)]
    pairs = [(float(np.exp(draw.uniform(-5, -2))), int(draw.integers(256))) for _ in range(4)]
    model = b.concatenation([(1, 6, 5, c) for c in channels], 3, dtype="uint8", quantisations=pairs)
    inputs, (output,) = run(model, draw)
    tflite = interpreter.run(model.data, inputs)[0]
    assert np.abs(output.astype(int) - tflite.astype(int)).max() <= 1
    assert np.mean(output == tflite) > 0.999
    out = model.tensors[-1]
    start = 0
    for tensor, data in zip(model.tensors, inputs, strict=False):
        real = (data.astype(float) - tensor.zero_point) * tensor.scale / out.scale + out.zero_point
        part = output[..., start:start + data.shape[3]]
        assert np.abs(part - np.clip(real, 0, 255)).max() <= 0.5 + 1e-4
        start += data.shape[3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(16, 16), (1,) * 6, (5, 40, 3), (32, 64), (48, 16, 16)], ids=str)
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_split(axis: int, sizes: tuple, dtype: str) -> None:
    shape = [1, 4, 3, 10]
    shape[axis] = sum(sizes)
    check(b.split(shape, axis, sizes, dtype=dtype, version="SPLIT" if len(set(sizes)) == 1 else "SPLIT_V"))


@pytest.mark.parametrize("shape,axis", [
    ((1, 3, 4, 20), 0), ((3, 5, 16), 0), ((4, 3, 20), 1), ((1, 5, 4, 17), 1), ((6, 9), 0),
    ((17, 2), 1), ((1, 17, 2), 2), ((9, 40), 1), ((1, 5, 6, 3), 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_unpack(dtype: str, shape: tuple, axis: int) -> None:
    check(b.unpack(shape, axis, dtype=dtype))


def test_pixels_that_become_channels() -> None:
    check(b.strided_slice((1, 4, 5, 3), (0, 0, 0, 1), (1, 4, 5, 2), (1, 1, 1, 1), shrink_mask=8))
    check(b.unpack((1200, 2), 1))
    assert "change their places" in refusal(b.unpack((20_000, 2), 1))


@pytest.mark.parametrize("begin,size", [
    ((0, 0, 0, 0), (1, 3, 2, 16)), ((0, 2, 3, 32), (1, 4, 4, 16)), ((0, 1, 0, 5), (1, -1, 6, 30)),
    ((0, 7, 6, 63), (1, 1, 1, 1)), ((0, 0, 0, 16), (1, 8, 7, 48))], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_slice(dtype: str, begin: tuple, size: tuple) -> None:
    check(b.slice_((1, 8, 7, 64), begin, size, dtype=dtype))


@pytest.mark.parametrize("steps", [(1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 1), (3, 2, 1), (1, 1, 2), (2, 1, 3),
                                   (1, 2, 16)], ids=str)
@pytest.mark.parametrize("begin", [(0, 0, 0), (1, 1, 0), (0, 1, 16), (1, 0, 3)], ids=str)
@pytest.mark.parametrize("channels", [8, 40])
def test_strided_slice(channels: int, begin: tuple, steps: tuple) -> None:
    if begin[2] < channels:
        check(b.strided_slice((1, 12, 10, channels), (0, *begin), (1, 12, 10, channels), (1, *steps)))


@pytest.mark.parametrize("steps", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1), (-2, 1, 1), (-2, -3, 1),
                                   (1, 2, -3), (2, -1, 16), (-3, 1, -16)], ids=str)
@pytest.mark.parametrize("channels", [1, 8, 40])
@pytest.mark.parametrize("cut", [0, 2])
def test_strided_slice_backwards(cut: int, channels: int, steps: tuple) -> None:
    """From the last element to the first, or with two left out at either end; a task for each pixel or column."""
    cut = min(cut, (channels - 1) // 2)
    shape = (1, 7, 6, channels)
    begin = [n - 1 - cut if step < 0 else cut for n, step in zip(shape[1:], steps, strict=True)]
    end = [(cut - 1 if cut else -n - 1) if step < 0 else n - cut for n, step in zip(shape[1:], steps, strict=True)]
    check(b.strided_slice(shape, (0, *begin), (1, *end), (1, *steps)))


def test_strided_slice_backwards_with_masks_and_images() -> None:
    check(b.strided_slice((1, 5, 6, 40), (0, 0, 3, 0), (1, 0, 0, 40), (1, -1, -2, 1), begin_mask=2, end_mask=6))
    check(b.strided_slice((1, 5, 6, 40), (0, -2, 0, 0), (1, 0, 2, 40), (1, 1, -1, 1), begin_mask=4, shrink_mask=2))
    check(b.strided_slice((1, 5, 6, 40), (0, 4, 0, 0), (1, -9, 6, 40), (1, -1, 1, 1)))
    check(b.strided_slice((9, 20), (0, 0), (0, 0), (-1, -1), begin_mask=3, end_mask=3))
    for steps in [(-1, 1, 1, 1), (-1, -1, 1, 1), (-2, 1, 1, 1), (-1, 2, 1, -1), (1, -1, -1, 1)]:
        check(b.strided_slice((4, 5, 6, 20), (0,) * 4, (0,) * 4, steps, begin_mask=15, end_mask=15))
    assert "where the axis stays" in refusal(b.strided_slice(
        (1, 5, 6, 8), (0, 2, 0, 0), (1, 1, 6, 8), (1, -1, 1, 1), shrink_mask=2))


def test_strided_slice_with_masks() -> None:
    check(b.strided_slice((1, 5, 1, 40), (0, -2, 0, 0), (0, 0, 0, 40), (1, 1, 1, 1), begin_mask=13, end_mask=15))
    check(b.strided_slice((1, 5, 6, 40), (0, -2, 0, 0), (0, 0, 0, 40), (1, 1, 1, 1), begin_mask=13,
                          end_mask=13, shrink_mask=2))
    check(b.strided_slice((1, 5, 6, 40), (0, 3, 0, 0), (1, 5, 6, 40), (1, 1, 1, 1), begin_mask=2, shrink_mask=2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels,block", [(3, 2), (16, 2), (64, 2), (5, 3), (1, 4), (100, 2)])
@pytest.mark.parametrize("plane", [(1, 1), (4, 5), (13, 8)], ids=str)
def test_space_to_depth_and_back(plane: tuple, channels: int, block: int, dtype: str) -> None:
    check(b.blocks("SPACE_TO_DEPTH", (1, plane[0] * block, plane[1] * block, channels), block, dtype=dtype))
    check(b.blocks("DEPTH_TO_SPACE", (1, *plane, channels * block * block), block, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["", "half", "align"])
@pytest.mark.parametrize("plane,size", [
    ((10, 10), (20, 20)), ((1, 1), (4, 4)), ((5, 3), (20, 3)), ((3, 4), (9, 16)), ((8, 8), (4, 4)), ((9, 8), (3, 2)),
    ((1, 7), (1, 56)), ((40, 40), (80, 80))], ids=str)
@pytest.mark.parametrize("channels", [5, 96])
def test_resize_nearest(channels: int, plane: tuple, size: tuple, mode: str, dtype: str) -> None:
    model = b.resize("NEAREST_NEIGHBOR", (1, *plane, channels), size, mode, dtype=dtype)
    if mode == "align" and min(plane) > 1 and plane != size:
        subgraph = subgraph_of(model)
        if RocketDriver(RK3588).refuse(subgraph, subgraph.operations[0], CompileOptions()) is not None:
            return
    check(model)


@pytest.mark.parametrize("mode", ["", "half", "align"])
@pytest.mark.parametrize("plane,size", [((10, 10), (19, 19)), ((13, 7), (20, 31)), ((19, 19), (10, 10)),
                                        ((3, 5), (5, 8)), ((20, 17), (32, 17)), ((7, 40), (30, 9))], ids=str)
@pytest.mark.parametrize("shape", [(1, 24), (3, 16)], ids=str)
def test_resize_nearest_between_unrelated_sizes(shape: tuple, plane: tuple, size: tuple, mode: str) -> None:
    model = b.resize("NEAREST_NEIGHBOR", (shape[0], *plane, shape[1]), size, mode)
    check(model)
    assert num_tasks(model) <= min(sum(size), 64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block,border", [((2, 2), ((0, 0), (0, 0))), ((3, 2), ((1, 1), (2, 1))),
                                          ((1, 4), ((0, 0), (0, 1)))], ids=str)
@pytest.mark.parametrize("shape", [(1, 4, 7, 16), (2, 10, 3, 20), (3, 1, 6, 5)], ids=str)
def test_batches_of_blocks(shape: tuple, block: tuple, border: tuple, dtype: str) -> None:
    n, height, width, channels = shape
    border = [(a, b + -(size + a + b) % step) for (a, b), size, step in zip(border, shape[1:3], block, strict=True)]
    inner = (n * block[0] * block[1], (height + sum(border[0])) // block[0], (width + sum(border[1])) // block[1],
             channels)
    apart = b.one("SPACE_TO_BATCH_ND", b.activation("input", shape, dtype),
                  [b.numbers("block", block), b.numbers("paddings", border)], [inner])
    together = b.one("BATCH_TO_SPACE_ND", b.activation("input", inner, dtype),
                     [b.numbers("block", block), b.numbers("crops", border)], [shape])
    check(apart)
    check(together)
