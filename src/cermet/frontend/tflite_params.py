"""The parameters of an operation in a .tflite file: its options table, in the order of cermet_blob.h."""
from __future__ import annotations

import struct

import tflite

from cermet.ir.operation import Kind
from cermet.ir.reductions import REDUCTIONS

# kind -> options table and its members
POOL = ("Pool2DOptions", ("Padding", "StrideW", "StrideH", "FilterWidth", "FilterHeight", "FusedActivationFunction"))
PARAMS = {
    Kind.CONV: ("Conv2DOptions", ("Padding", "StrideW", "StrideH", "FusedActivationFunction", "DilationWFactor",
                                  "DilationHFactor")),
    Kind.DEPTHWISE_CONV: ("DepthwiseConv2DOptions", ("Padding", "StrideW", "StrideH", "DepthMultiplier",
                                                     "FusedActivationFunction", "DilationWFactor", "DilationHFactor")),
    Kind.AVERAGE_POOL: POOL,
    Kind.MAX_POOL: POOL,
    Kind.FULLY_CONNECTED: ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat", "KeepNumDims")),
    Kind.TRANSPOSE_CONV: ("TransposeConvOptions", ("Padding", "StrideW", "StrideH", "FusedActivationFunction")),
    Kind.BATCH_MATMUL: ("BatchMatMulOptions", ("AdjX", "AdjY")),
    Kind.ADD: ("AddOptions", ("FusedActivationFunction",)),
    Kind.SUB: ("SubOptions", ("FusedActivationFunction",)),
    Kind.MUL: ("MulOptions", ("FusedActivationFunction",)),
    **dict.fromkeys(REDUCTIONS, ("ReducerOptions", ("KeepDims",))),
    Kind.DIV: ("DivOptions", ("FusedActivationFunction",)),
    Kind.LEAKY_RELU: ("LeakyReluOptions", ("Alpha",)),
    Kind.GELU: ("GeluOptions", ("Approximate",)),
    Kind.MIRROR_PAD: ("MirrorPadOptions", ("Mode",)),
    Kind.CONCATENATION: ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    Kind.UNPACK: ("UnpackOptions", ("Axis",)),
    Kind.PACK: ("PackOptions", ("Axis",)),
    Kind.GATHER: ("GatherOptions", ("Axis", "BatchDims")),
    Kind.STRIDED_SLICE: ("StridedSliceOptions", ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask",
                                                 "ShrinkAxisMask")),
    Kind.SPACE_TO_DEPTH: ("SpaceToDepthOptions", ("BlockSize",)),
    Kind.DEPTH_TO_SPACE: ("DepthToSpaceOptions", ("BlockSize",)),
    Kind.RESIZE_NEAREST: ("ResizeNearestNeighborOptions", ("AlignCorners", "HalfPixelCenters")),
    Kind.RESIZE_BILINEAR: ("ResizeBilinearOptions", ("AlignCorners", "HalfPixelCenters")),
}
RUNTIME_NUMBERS = {     # member -> number of the schema -> number of the runtime; unknown ones are 0
    "Padding": {0: 1, 1: 2},                                # SAME, VALID
    "Mode": {0: 1, 1: 2},                                   # REFLECT, SYMMETRIC
    "FusedActivationFunction": {n: n for n in range(6)},    # none .. sign bit: the same
}


def params_of(op: tflite.Operator, kind: Kind) -> list[int]:
    """The parameters of cermet_blob.h. Zeros when the options are absent or another operation's, as in the runtime."""
    table, members = PARAMS.get(kind, ("", ()))
    union = op.BuiltinOptions()
    if not members or union is None or op.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, table):
        return [0] * len(members)
    options = getattr(tflite, table)()
    options.Init(union.Bytes, union.Pos)
    values = [(member, _int32(getattr(options, member)())) for member in members]
    return [RUNTIME_NUMBERS[m].get(v, 0) if m in RUNTIME_NUMBERS else v for m, v in values]


def _int32(value: int | float | bool) -> int:
    """A member as the blob stores it: floats by their bits."""
    return struct.unpack("<i", struct.pack("<f", value))[0] if isinstance(value, float) else int(value)
