"""Packing against the index formulas of the layout document, element by element."""
from __future__ import annotations

import numpy as np
import pytest

from cermet.drivers.rocket.grouped import spread_groups
from cermet.drivers.rocket.layout import round_up
from cermet.drivers.rocket.weights import (
    Weights,
    pack_bias,
    pack_blocks,
    pack_depthwise,
    pack_direct,
    pack_gains,
    pack_powers,
)
from cermet.hw.soc import RK3588


def _weights(rng: np.random.Generator, *shape: int, zero_point: int = -9) -> Weights:
    values = rng.integers(-128, 128, shape).astype(np.int8)
    return Weights(values, np.full(shape[0], zero_point, np.int64), np.ones(1))


def _direct_offset(kernels: int, channels: int, height: int, width: int, oc: int, kh: int, kw: int, ic: int) -> int:
    """Layout §7.1 with its tails: groups of 32 kernels (the last al2), blocks of 32 channels (the last 16 or 32)."""
    stored_kernels, stored_channels = round_up(kernels, 2), round_up(channels, 16)
    rows = min(32, stored_kernels - oc // 32 * 32)
    block = min(32, stored_channels - ic // 32 * 32)
    group_start = oc // 32 * 32 * height * width * stored_channels
    block_start = rows * height * width * (ic // 32 * 32)
    return group_start + block_start + ((kh * width + kw) * rows + oc % 32) * block + ic % 32


@pytest.mark.parametrize("kernels", [1, 2, 3, 31, 32, 33, 70])
@pytest.mark.parametrize("channels", [1, 4, 15, 16, 17, 20, 32, 33, 40, 48, 64, 65])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)], ids=str)
def test_direct_weights_lie_where_the_document_says(kernels: int, channels: int, kernel: tuple[int, int]) -> None:
    weights = _weights(np.random.default_rng(kernels * channels), kernels, *kernel, channels)
    packed = np.frombuffer(pack_direct(weights, RK3588), np.int8)
    assert packed.size == kernel[0] * kernel[1] * round_up(channels, 16) * round_up(kernels, 2)
    for (oc, kh, kw), row in zip(np.ndindex(kernels, *kernel), weights.values.reshape(-1, channels), strict=True):
        for ic in {0, channels // 2, channels - 1}:
            assert packed[_direct_offset(kernels, channels, *kernel, oc, kh, kw, ic)] == row[ic]


def test_the_documents_example_of_an_element() -> None:
    """OC = IC = 64, 3x3: element (33, 1, 2, 40) is at 32808."""
    weights = _weights(np.random.default_rng(0), 64, 3, 3, 64)
    assert np.frombuffer(pack_direct(weights, RK3588), np.int8)[32808] == weights.values[33, 1, 2, 40]


def test_filler_channels_hold_the_zero_point_and_the_filler_kernel_zero() -> None:
    packed = np.frombuffer(pack_direct(_weights(np.random.default_rng(0), 3, 1, 1, 20), RK3588), np.int8).reshape(4, 32)
    assert (packed[:3, 20:] == -9).all() and (packed[3] == 0).all()


@pytest.mark.parametrize("channels", [1, 8, 15, 16, 24, 33, 48, 64, 65, 96, 120, 160])
def test_depthwise_weights_lie_where_the_document_says(channels: int) -> None:
    """[C/64][KH][KW][64], the last group as wide as its channels rounded up to 16."""
    weights = _weights(np.random.default_rng(channels), channels, 3, 2, 1)
    packed = np.frombuffer(pack_depthwise(weights, RK3588), np.int8)
    assert packed.size == 6 * round_up(channels, 16)
    for c, kh, kw in np.ndindex(channels, 3, 2):
        group = c // 64
        width = min(64, round_up(channels, 16) - 64 * group)
        assert packed[group * 6 * 64 + (kh * 2 + kw) * width + c % 64] == weights.values[c, kh, kw, 0]


def test_spread_weights_are_the_same_sums() -> None:
    weights = _weights(np.random.default_rng(1), 6, 2, 2, 1)
    spread = spread_groups(weights, 3, 3)
    assert spread.values.shape == (6, 2, 2, 3)
    np.testing.assert_array_equal(spread.tap_sums(), weights.tap_sums())
    for oc in range(6):
        np.testing.assert_array_equal(spread.values[oc, ..., oc // 2], weights.values[oc, ..., 0])
        assert (np.delete(spread.values[oc], oc // 2, axis=2) == -9).all()


def test_operand_blocks_are_the_documents_example() -> None:
    """OC = 10: b0..b7 | -zw | m0..m7, then b8, b9, 0..: 64 bytes each, four of them for 32 channels."""
    data = pack_blocks(np.arange(10) - 5, np.full(10, 3), np.arange(10) + 100, 32)
    assert len(data) == 256
    np.testing.assert_array_equal(np.frombuffer(data, "<i4", 8), np.arange(8) - 5)
    np.testing.assert_array_equal(np.frombuffer(data, "<i2", 8, 32), 3)
    np.testing.assert_array_equal(np.frombuffer(data, "<i2", 8, 48), np.arange(8) + 100)
    np.testing.assert_array_equal(np.frombuffer(data, "<i4", 8, 64), [3, 4, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(np.frombuffer(data, "<i2", 8, 64 + 48), [108, 109, 0, 0, 0, 0, 0, 0])


def test_dense_operands() -> None:
    assert pack_bias(np.array([-1, 2]), 4) == np.array([-1, 2, 0, 0], "<i4").tobytes()
    assert pack_powers(np.array([0, 14], np.uint8), 4) == np.array([1, 16384, 1, 1], "<i2").tobytes()


@pytest.mark.parametrize("gains", [[1, 2, 64, 128], [1, 4, 256], [-1, 1, 128], [-1, 1, 2, 4, 8, 16, 32, 64, 128, 256],
                                   [2, 32]], ids=str)
def test_the_operand_converter_makes_gains_of_bytes(gains: list[int]) -> None:
    """(e + offset) * scale >> shift (numerics §8.2) to nearest, never near a tie, whose rule is not known."""
    packed, offset, scale, shift = pack_gains(np.array(gains, np.int16), 16)
    real = (np.frombuffer(packed, np.int8).astype(int) + offset) * scale / 2 ** shift
    expected = np.array(gains + [min(gains)] * (16 - len(gains)))
    assert len(packed) == 16 and np.abs(real - expected).max() < 0.497 and scale < 1 << 15
    assert shift == 0 or max(gains) - min(gains) > 255
