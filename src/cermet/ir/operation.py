"""Operations: what a node computes, without saying how."""
from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """Operations that this layer understands; the value is the name users know (TFLite's)."""

    CONV = "CONV_2D"
    DEPTHWISE_CONV = "DEPTHWISE_CONV_2D"
    FULLY_CONNECTED = "FULLY_CONNECTED"
    TRANSPOSE_CONV = "TRANSPOSE_CONV"
    BATCH_MATMUL = "BATCH_MATMUL"
    SPACE_TO_BATCH = "SPACE_TO_BATCH_ND"
    BATCH_TO_SPACE = "BATCH_TO_SPACE_ND"
    ADD = "ADD"
    SUB = "SUB"
    MUL = "MUL"
    MAXIMUM = "MAXIMUM"
    MINIMUM = "MINIMUM"
    AVERAGE_POOL = "AVERAGE_POOL_2D"
    MAX_POOL = "MAX_POOL_2D"
    MEAN = "MEAN"
    SUM = "SUM"
    REDUCE_MAX = "REDUCE_MAX"
    REDUCE_MIN = "REDUCE_MIN"
    RESHAPE = "RESHAPE"
    SQUEEZE = "SQUEEZE"
    EXPAND_DIMS = "EXPAND_DIMS"
    PAD = "PAD"
    PADV2 = "PADV2"
    MIRROR_PAD = "MIRROR_PAD"
    CONCATENATION = "CONCATENATION"
    SPLIT = "SPLIT"
    SPLIT_V = "SPLIT_V"
    UNPACK = "UNPACK"
    PACK = "PACK"
    TRANSPOSE = "TRANSPOSE"
    REVERSE = "REVERSE_V2"
    TILE = "TILE"
    BROADCAST_TO = "BROADCAST_TO"
    GATHER = "GATHER"
    SLICE = "SLICE"
    STRIDED_SLICE = "STRIDED_SLICE"
    SPACE_TO_DEPTH = "SPACE_TO_DEPTH"
    DEPTH_TO_SPACE = "DEPTH_TO_SPACE"
    RESIZE_NEAREST = "RESIZE_NEAREST_NEIGHBOR"
    RESIZE_BILINEAR = "RESIZE_BILINEAR"
    RELU = "RELU"
    RELU6 = "RELU6"
    RELU_N1_TO_1 = "RELU_N1_TO_1"
    RELU_0_TO_1 = "RELU_0_TO_1"
    LEAKY_RELU = "LEAKY_RELU"
    PRELU = "PRELU"
    QUANTIZE = "QUANTIZE"
    LOGISTIC = "LOGISTIC"
    TANH = "TANH"
    HARD_SWISH = "HARD_SWISH"
    ELU = "ELU"
    GELU = "GELU"
    EXP = "EXP"
    LOG = "LOG"
    ABS = "ABS"
    CAST = "CAST"
    DEQUANTIZE = "DEQUANTIZE"
    DIV = "DIV"
    SQRT = "SQRT"
    RSQRT = "RSQRT"
    SQUARE = "SQUARE"
    NEG = "NEG"
    SIN = "SIN"
    COS = "COS"
    FLOOR = "FLOOR"
    CEIL = "CEIL"
    ROUND = "ROUND"
    TABLE = "table"     # no operator of TFLite: a pass makes it, any function of 8 bits
    OTHER = "other"

    @property
    def is_operator(self) -> bool:
        """Whether models have it."""
        return self not in (Kind.TABLE, Kind.OTHER)


class Activation(enum.Enum):
    """Activation fused behind an operation."""

    NONE = "none"
    RELU = "relu"
    RELU_N1_TO_1 = "relu_n1_to_1"
    RELU6 = "relu6"
    OTHER = "other"     # tanh and sign bit: no quantised kernel has them

    @property
    def real_range(self) -> tuple[float | None, float | None]:
        """(lowest, highest) real value that it lets through; None is unbounded."""
        return {"relu": (0.0, None), "relu_n1_to_1": (-1.0, 1.0), "relu6": (0.0, 6.0)}.get(self.value, (None, None))


class Padding(enum.Enum):
    """How a window meets the border."""

    SAME = "same"
    VALID = "valid"


@dataclass(frozen=True)
class Pair:
    """A vertical and a horizontal number."""

    y: int
    x: int


@dataclass(frozen=True)
class Window:
    """Geometry of a sliding window: kernel, stride, dilation, padding rule.

    border   pixels added at the top, bottom, left and right, whatever the kernel; with VALID only
    """

    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair = Pair(1, 1)
    border: tuple[int, ...] = (0, 0, 0, 0)

    @property
    def extent(self) -> Pair:
        """Input pixels that the dilated kernel spans."""
        return Pair((self.kernel.y - 1) * self.dilation.y + 1, (self.kernel.x - 1) * self.dilation.x + 1)

    def output_size(self, height: int, width: int) -> Pair:
        """Output height and width, by TFLite's ComputeOutSize (kernels/padding.h)."""
        if self.padding is Padding.SAME:
            return Pair(-(-height // self.stride.y), -(-width // self.stride.x))
        top, bottom, left, right = self.border
        height, width = top + height + bottom, left + width + right
        return Pair((height + self.stride.y - self.extent.y) // self.stride.y,
                    (width + self.stride.x - self.extent.x) // self.stride.x)

    def pads(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) pixels added, TFLite's rule: the odd one goes to the bottom and the right."""
        if self.padding is Padding.VALID:
            top, bottom, left, right = self.border
            return top, bottom, left, right
        out = self.output_size(height, width)
        total_y = max((out.y - 1) * self.stride.y + self.extent.y - height, 0)
        total_x = max((out.x - 1) * self.stride.x + self.extent.x - width, 0)
        return total_y // 2, total_y - total_y // 2, total_x // 2, total_x - total_x // 2


@dataclass(frozen=True)
class Moving:
    """What operations that move elements need beside their operands; unused members keep their defaults.

    axis        CONCATENATION, UNPACK, PACK, GATHER; may count from the end
    batch_dims  GATHER
    block       SPACE_TO_DEPTH, DEPTH_TO_SPACE
    align_corners, half_pixel   resizing
    reflect     MIRROR_PAD: the border itself is not repeated
    begin_mask .. shrink_mask   STRIDED_SLICE
    """

    axis: int = 0
    batch_dims: int = 0
    block: int = 0
    align_corners: bool = False
    half_pixel: bool = False
    reflect: bool = False
    begin_mask: int = 0
    end_mask: int = 0
    ellipsis_mask: int = 0
    new_axis_mask: int = 0
    shrink_mask: int = 0


@dataclass(frozen=True)
class Operation:
    """One node. Which members mean something depends on kind; unused ones keep their defaults.

    index        its number in the model's order of execution; stays with it through all passes
    name         TFLite's operator name (CONV_2D, CUSTOM:Foo)
    inputs       tensor numbers, None where an optional input is absent. CONV, DEPTHWISE_CONV, FULLY_CONNECTED: data,
                 weights, bias; TRANSPOSE_CONV: data, weights, bias, output shape
    outputs      tensor numbers
    fused        indices of operations that passes have merged into this one
    table        TABLE: the output value of each of the 256 input values, ascending
    """

    index: int
    kind: Kind
    name: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    window: Window | None = None
    activation: Activation = Activation.NONE
    depth_multiplier: int = 1
    keep_dims: bool = False
    adjoint: tuple[bool, bool] = (False, False)     # BATCH_MATMUL: whether each operand is transposed first
    weights_format: int = 0
    alpha: float = 0.0              # LEAKY_RELU: slope below 0, a float32 value
    approximate: bool = False       # GELU: by tanh
    version: int = 1
    moving: Moving | None = None
    fused: tuple[int, ...] = ()
    table: tuple[int, ...] = ()

    @property
    def output(self) -> int:
        """The only output. Raises ValueError when there are several."""
        (output,) = self.outputs
        return output

    def __str__(self) -> str:
        return f"operation {self.index} ({self.name.lower()})"
