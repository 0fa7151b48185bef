"""TRANSPOSE, PACK, REVERSE_V2, TILE, BROADCAST_TO and GATHER on the simulated core: equal to TFLite's kernels."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.driver import RocketDriver
from cermet.hw.soc import RK3588
from tests.drivers.rocket.grid import subgraph_of
from tests.drivers.rocket.test_moving import check, refusal
from tests.support import builders_move as b

DTYPES = ("int8", "uint8")


@pytest.mark.parametrize("order", list(itertools.permutations(range(1, 4))), ids=str)
@pytest.mark.parametrize("shape", [(1, 5, 7, 3), (1, 4, 6, 32), (1, 3, 9, 20), (1, 1, 12, 40), (1, 8, 1, 16),
                                   (1, 3, 3, 160)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_of_an_image(shape: tuple, order: tuple, dtype: str) -> None:
    check(b.transpose(shape, (0, *order), dtype=dtype))


@pytest.mark.parametrize("shape,order", [
    ((12, 30), (1, 0)), ((16, 48), (1, 0)), ((2, 3, 4, 16), (1, 0, 2, 3)), ((2, 3, 5, 16), (2, 1, 0, 3)),
    ((6, 5, 4), (2, 1, 0)), ((6, 5, 4), (1, 2, 0)), ((2, 2, 3, 4, 5), (0, 3, 1, 4, 2)),
    ((1, 4, 5, 2, 8), (0, 1, 2, 4, 3)), ((1, 6, 6, 2, 12), (0, 1, 2, 4, 3))], ids=str)
def test_transpose_of_other_ranks(shape: tuple, order: tuple) -> None:
    check(b.transpose(shape, order))


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(4, 5, 16), (3, 7, 9), (1, 6, 33)], ids=str)
@pytest.mark.parametrize("count", [2, 5])
def test_pack(shape: tuple, count: int, axis: int) -> None:
    check(b.pack(shape, count, axis))


def test_pack_of_vectors() -> None:
    for axis, count in itertools.product((0, 1), (2, 17)):
        check(b.pack((17,), count, axis))


@pytest.mark.parametrize("axis", [1, 2, 3])     # one, as TFLite 2.14 has it
@pytest.mark.parametrize("shape", [(1, 5, 4, 16), (1, 6, 7, 21), (1, 1, 20, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_reverse(dtype: str, shape: tuple, axis: int) -> None:
    check(b.reverse(shape, (axis,), dtype=dtype))


@pytest.mark.parametrize("times", [(1, 2, 1, 1), (1, 1, 3, 1), (1, 1, 1, 4), (1, 2, 2, 1), (1, 2, 1, 3)], ids=str)
@pytest.mark.parametrize("shape", [(1, 5, 4, 16), (1, 3, 6, 7)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tile(dtype: str, shape: tuple, times: tuple) -> None:
    check(b.tile(shape, times, dtype=dtype))


@pytest.mark.parametrize("shape,new", [
    ((1, 1, 1, 24), (1, 4, 5, 24)), ((1, 1, 6, 16), (1, 5, 6, 16)), ((1, 5, 1, 9), (1, 5, 7, 9)),
    ((1, 4, 3, 1), (1, 4, 3, 20)), ((20,), (1, 3, 4, 20)), ((1, 1, 1, 1), (1, 3, 1, 1)), ((6, 1), (6, 33)),
    ((1, 16), (5, 16))], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_broadcast_to(dtype: str, shape: tuple, new: tuple) -> None:
    check(b.broadcast_to(shape, new, dtype=dtype))


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("indices", [[3], [0, 1, 2], [4, 2, 0], [0, 0, 3, 1], [[0, 1], [3, 4]]], ids=str)
@pytest.mark.parametrize("channels", [5, 32])
def test_gather(channels: int, indices: list, axis: int) -> None:
    check(b.gather((1, 6, 5, channels), indices, axis))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [(16, 32), (5, 7, 20), (40, 3)], ids=str)
@pytest.mark.parametrize("axis", [1, 3])
def test_constants_are_joined(channels: tuple, axis: int, dtype: str) -> None:
    shapes = [(1, 3 if axis == 3 else c % 9 + 1, 4, c if axis == 3 else 21) for c in channels]
    for constant in ([0], [len(channels) - 1]):
        check(b.with_constants(b.concatenation(shapes, axis, dtype=dtype), constant, np.random.default_rng(1)))
    check(b.with_constants(b.pack(shapes[0], 3, axis, dtype=dtype), [1], np.random.default_rng(1)))


def test_constants_are_requantised() -> None:
    pairs = [(0.0313, 7), (0.0447, 120), (0.0519, 99)]     # no quotient with ties among 256 values
    model = b.concatenation([(1, 5, 4, 21), (1, 3, 4, 21)], 1, dtype="uint8", quantisations=pairs)
    check(b.with_constants(model, [0], np.random.default_rng(1)))


def test_what_is_refused() -> None:
    assert "each of 4 axes once" in refusal(b.transpose((1, 4, 4, 8), (0, 1, 1, 3)))
    assert "outside 0..4" in refusal(b.gather((1, 5, 4, 8), [0, 5], 1))
    assert "tasks" in refusal(b.reverse((1, 100, 4, 8), (1,)))
    assert "tasks" in refusal(b.reverse((1, 1 << 24, 4, 8), (1,)))
    assert "channels" in refusal(b.transpose((1, 1 << 24, 4, 8), (0, 3, 2, 1)))
    assert "needs" in refusal(b.transpose((1, 200, 200, 64), (0, 3, 1, 2)))


def test_one_task_turns_a_plane() -> None:
    for shape, order, most in (((1, 40, 30, 16), (0, 2, 1, 3), 1), ((1, 7, 7, 48), (0, 2, 1, 3), 3),
                               ((1, 7, 7, 20), (0, 3, 1, 2), 1)):
        subgraph = subgraph_of(b.transpose(shape, order))
        assert len(RocketDriver(RK3588).compile(subgraph, CompileOptions()).tasks) == most
