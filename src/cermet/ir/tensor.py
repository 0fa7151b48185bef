"""Tensors as the model sees them: NHWC, with quantisation."""
from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np


class DType(enum.Enum):
    """Element types that a subgraph can carry; the value is NumPy's name."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    FLOAT64 = "float64"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    BOOL = "bool"
    OTHER = "other"     # strings, resources, 4-bit types, anything newer: never computed here

    @property
    def numpy(self) -> np.dtype:
        """The NumPy dtype. OTHER raises ValueError."""
        if self is DType.OTHER:
            raise ValueError("dtype other has no NumPy equivalent")
        return np.dtype(self.value)


@dataclass(frozen=True)
class Quantisation:
    """real = scale * (q - zero_point); one pair, or one per index of `axis`.

    scales       float32 values as Python floats, each > 0 in a valid model
    zero_points  one for all, or as many as scales
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0

    @property
    def is_per_channel(self) -> bool:
        return len(self.scales) > 1

    @property
    def scale(self) -> float:
        """The scale of a per-tensor quantisation. Raises ValueError for a per-channel one."""
        if self.is_per_channel:
            raise ValueError("per-channel quantisation has no single scale")
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The zero point shared by all channels. Raises ValueError when they differ."""
        if len(set(self.zero_points)) != 1:
            raise ValueError("zero points differ between channels")
        return self.zero_points[0]

    def channel_zero_points(self, num_channels: int) -> np.ndarray:
        """int64[num_channels]; a single zero point is repeated."""
        points = np.asarray(self.zero_points, np.int64)
        return np.broadcast_to(points, num_channels) if len(points) == 1 else points


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a subgraph.

    index    its number in the subgraph (canonical number of the blob)
    shape    as the model says; empty for a scalar
    data     contents of a constant, read-only, of `shape` and `dtype` (raw bytes when OTHER); None otherwise
    is_variable   keeps its value between invocations
    is_dynamic    the application may resize it; `shape` is its shape now
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: DType
    quantisation: Quantisation | None = None
    data: np.ndarray | None = field(default=None, repr=False)
    is_variable: bool = False
    is_dynamic: bool = False

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def num_elements(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor):
            return NotImplemented
        mine, theirs = self._identity(), other._identity()
        return mine == theirs

    def __hash__(self) -> int:
        return hash((self.index, self.name, self.shape, self.dtype))

    def _identity(self) -> tuple:
        data = None if self.data is None else self.data.tobytes()
        return (self.index, self.name, self.shape, self.dtype, self.quantisation, data, self.is_variable,
                self.is_dynamic)
