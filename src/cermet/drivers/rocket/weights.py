"""Weights and operands in the order in which the CNA and the DPU fetch them (data layouts §6 and §7)."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cermet.drivers.rocket.layout import ATOM_BYTES, round_up
from cermet.hw.soc import Soc
from cermet.ir.tensor import DType, Tensor

# (scale, shift) a little above 1: -1, 1, 2, .. 256 are multiples of -1, 1, 2, .. 254, rounded, and none of them a tie.
WIDE_GAINS = (16511, 14)
BLOCK_CHANNELS = 8          # channels of one 64-byte operand block
BLOCK = np.dtype([("bias", "<i4", BLOCK_CHANNELS), ("ow", "<i2", BLOCK_CHANNELS),
                  ("multiplier", "<i2", BLOCK_CHANNELS)])


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights in the NPU's signed domain.

    values        int8[output channels, kernel height, kernel width, input channels]; depthwise: one input channel
    zero_points   int64 per output channel
    scales        float64, one or one per output channel
    """

    values: np.ndarray
    zero_points: np.ndarray
    scales: np.ndarray

    @property
    def has_one_zero_point(self) -> bool:
        return bool(np.all(self.zero_points == self.zero_points[0]))

    def tap_sums(self) -> np.ndarray:
        """Per output channel the sum of (w - zero point): int64."""
        count = int(np.prod(self.values.shape[1:], dtype=np.int64))
        return self.values.sum(axis=(1, 2, 3), dtype=np.int64) - self.zero_points * count

    def magnitudes(self) -> np.ndarray:
        """Per output channel the sum of |w - zero point|: int64."""
        centred = np.abs(self.values.astype(np.int16) - self.zero_points[:, None, None, None].astype(np.int16))
        return centred.sum(axis=(1, 2, 3), dtype=np.int64)

    def raw_magnitudes(self) -> np.ndarray:
        """Per output channel the sum of |w| as stored: int64."""
        return np.abs(self.values.astype(np.int16)).sum(axis=(1, 2, 3), dtype=np.int64)


def signed_weights(tensor: Tensor, values: np.ndarray) -> Weights:
    """From a constant tensor whose contents were arranged as `values` [OC, KH, KW, IC]: uint8 loses 128."""
    assert tensor.quantisation is not None
    count = values.shape[0]
    points = np.array(tensor.quantisation.channel_zero_points(count), np.int64)
    if tensor.dtype is DType.UINT8:
        values = (np.ascontiguousarray(values) ^ 0x80).view(np.int8)
        points = points - 128
    return Weights(values, points, np.asarray(tensor.quantisation.scales, np.float64))


def pack_direct(weights: Weights, soc: Soc) -> bytes:
    """[OC/32][IC/32][KH][KW][oc][ic], the last groups short: kernels even, 16 channels when 1..16 are left.

    Filler input channels hold the zero point, so that whatever lies in the feature map's filler counts as
    w - zero point = 0; the filler kernel is 0.
    """
    kernels, height, width, channels = weights.values.shape
    padded = round_up(channels, ATOM_BYTES)
    if padded != channels:
        full = np.empty((kernels, height, width, padded), np.int8)
        full[..., :channels] = weights.values
        full[..., channels:] = weights.zero_points[:, None, None, None]
    else:
        full = weights.values
    if kernels % 2:
        full = np.concatenate([full, np.zeros((1, height, width, padded), np.int8)])
    size = soc.kernel_group
    return b"".join(_group(full[first:first + size], soc) for first in range(0, len(full), size))


def _group(kernels: np.ndarray, soc: Soc) -> bytes:
    """One kernel group: whole input blocks first, then the rest."""
    count, height, width, channels = kernels.shape
    block = soc.weight_input_block
    whole = channels // block * block
    blocks = kernels[..., :whole].reshape(count, height, width, whole // block, block).transpose(3, 1, 2, 0, 4)
    rest = kernels[..., whole:].transpose(1, 2, 0, 3)
    return blocks.tobytes() + rest.tobytes()


def pack_depthwise(weights: Weights, soc: Soc) -> bytes:
    """[C/64][KH][KW][channel]; the last group is as wide as its channels rounded up to 16. Filler: the zero point."""
    channels = len(weights.values)
    padded = round_up(channels, ATOM_BYTES)
    full = np.full((padded, *weights.values.shape[1:3]), weights.zero_points[-1], np.int8)
    full[:channels] = weights.values[..., 0]
    group = soc.depthwise_group
    return b"".join(full[first:first + group].transpose(1, 2, 0).tobytes() for first in range(0, padded, group))


def pack_bias(bias: np.ndarray, channels: int) -> bytes:
    """Dense int32, zeros behind (BRDMA DATA_USE 1)."""
    return _padded(bias, "<i4", channels)


def pack_blocks(bias: np.ndarray, minus_zero_points: np.ndarray, multipliers: np.ndarray, channels: int) -> bytes:
    """64 bytes for 8 channels: int32 bias, int16 -zw, int16 multiplier (BRDMA DATA_USE 7); zeros behind."""
    blocks = np.zeros(round_up(channels, BLOCK_CHANNELS) // BLOCK_CHANNELS, BLOCK)
    for name, values in (("bias", bias), ("ow", minus_zero_points), ("multiplier", multipliers)):
        flat = np.zeros(blocks[name].size, blocks[name].dtype)
        flat[:len(values)] = values
        blocks[name] = flat.reshape(-1, BLOCK_CHANNELS)
    return blocks.tobytes()


def pack_powers(powers: np.ndarray, channels: int) -> bytes:
    """Dense int16 multipliers 2**k (NRDMA DATA_USE 4); filler channels 1."""
    values = np.ones(channels, np.int64)
    values[:len(powers)] = np.left_shift(1, powers.astype(np.int64))
    return values.astype("<i2").tobytes()


def pack_multipliers(multipliers: np.ndarray, channels: int) -> bytes:
    """Dense int16 multipliers (NRDMA DATA_USE 4); filler channels 0."""
    return _padded(multipliers, "<i2", channels)


def pack_gains(gains: np.ndarray, channels: int) -> tuple[bytes, int, int, int]:
    """Dense bytes e (ERDMA, one per channel), and the operand converter that makes gains of them:
    (e + offset) * scale >> shift = gain. Filler channels as the smallest.

    gains   powers of two up to 2**8, and -1
    """
    offset, lowest = int(gains.min()) + 128, int(gains.min())
    values = np.full(channels, lowest, np.int64)
    values[:len(gains)] = gains
    scale, shift = (1, 0) if int(gains.max()) <= lowest + 255 else WIDE_GAINS
    values = np.rint(values * 2.0 ** shift / scale).astype(np.int64)
    return (values - offset).astype(np.int8).tobytes(), offset, scale, shift


def _padded(values: np.ndarray, dtype: str, count: int) -> bytes:
    padded = np.zeros(count, dtype)
    padded[:len(values)] = values
    return padded.tobytes()
