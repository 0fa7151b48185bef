"""Models of operations that move elements or resize: one operation each, inputs and outputs quantised alike."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tests.support import model_builder
from tests.support.model_builder import Model, OperationSpec, TensorSpec

model_builder.OPTIONS.update({
    "PAD": ("PadOptions", 2), "PADV2": ("PadV2Options", 2), "MIRROR_PAD": ("MirrorPadOptions", 2),
    "CONCATENATION": ("ConcatenationOptions", 2), "SPLIT": ("SplitOptions", 2), "SPLIT_V": ("SplitVOptions", 2),
    "UNPACK": ("UnpackOptions", 2), "PACK": ("PackOptions", 2), "GATHER": ("GatherOptions", 2),
    "TRANSPOSE": ("TransposeOptions", 2), "REVERSE_V2": ("ReverseV2Options", 2), "TILE": ("TileOptions", 2),
    "BROADCAST_TO": ("BroadcastToOptions", 2), "EXPAND_DIMS": ("ExpandDimsOptions", 1),
    "SLICE": ("SliceOptions", 2), "STRIDED_SLICE": ("StridedSliceOptions", 2),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", 2), "DEPTH_TO_SPACE": ("DepthToSpaceOptions", 1),
    "SPACE_TO_BATCH_ND": ("SpaceToBatchNDOptions", 2), "BATCH_TO_SPACE_ND": ("BatchToSpaceNDOptions", 2),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", 2), "RESIZE_BILINEAR": ("ResizeBilinearOptions", 2),
})
SCALE = 0.03125


def activation(name: str, shape: Sequence[int], dtype: str = "int8", zero_point: int | None = None,
               scale: float = SCALE) -> TensorSpec:
    """A quantised tensor; by default with a zero point that is nothing special."""
    point = {"int8": -7, "uint8": 119}[dtype] if zero_point is None else zero_point
    return TensorSpec(name, tuple(shape), dtype, (float(np.float32(scale)),), (point,))


def numbers(name: str, values: Sequence[object], dtype: str = "int32") -> TensorSpec:
    """A constant of integers."""
    data = np.asarray(values, dtype)
    return TensorSpec(name, data.shape, dtype, data=data)


def one(name: str, source: TensorSpec, constants: Sequence[TensorSpec], output_shapes: Sequence[Sequence[int]],
        options: dict[str, object] | None = None, *, order: Sequence[int] | None = None) -> Model:
    """Operation with the source first, then its constants (or in `order`)."""
    outputs = [replace(source, name=f"output{i}", shape=tuple(shape)) for i, shape in enumerate(output_shapes)]
    tensors = (source, *constants, *outputs)
    count = 1 + len(constants)
    made = tuple(range(count, len(tensors)))
    return Model(tensors, (OperationSpec(name, tuple(order or range(count)), made, options or {}),), (0,), made)


def pad(shape: Sequence[int], amounts: Sequence[tuple[int, int]], *, dtype: str = "int8", value: int | None = None,
        mode: str | None = None) -> Model:
    """PAD; PADV2 when there is a value; MIRROR_PAD with mode REFLECT or SYMMETRIC."""
    source, table = activation("input", shape, dtype), numbers("paddings", amounts)
    out = [n + before + after for n, (before, after) in zip(shape, amounts, strict=True)]
    if mode is not None:
        return one("MIRROR_PAD", source, [table], [out], {"Mode": {"REFLECT": 0, "SYMMETRIC": 1}[mode]})
    if value is None:
        return one("PAD", source, [table], [out])
    constant = replace(source, name="value", shape=(), data=np.asarray(value, dtype))
    return one("PADV2", source, [table, constant], [out])


def concatenation(shapes: Sequence[Sequence[int]], axis: int, *, dtype: str = "int8",
                  quantisations: Sequence[tuple[float, int]] = ()) -> Model:
    """quantisations: (scale, zero point) of every input, then of the output; none: all alike."""
    given = list(quantisations) or [(SCALE, None)] * (len(shapes) + 1)  # type: ignore[list-item]
    inputs = [activation(f"input{i}", shape, dtype, point, scale)
              for i, (shape, (scale, point)) in enumerate(zip(shapes, given, strict=False))]
    out = list(shapes[0])
    out[axis] = sum(shape[axis] for shape in shapes)
    output = activation("output", out, dtype, given[-1][1], given[-1][0])
    count = len(inputs)
    op = OperationSpec("CONCATENATION", tuple(range(count)), (count,), {"Axis": axis})
    return Model((*inputs, output), (op,), tuple(range(count)), (count,))


def with_constants(model: Model, constant: Sequence[int], rng: np.random.Generator) -> Model:
    """Some inputs of the only operation as constants."""
    tensors = [replace(t, data=rng.integers(*{"int8": (-128, 128), "uint8": (0, 256)}[t.dtype], t.shape, t.dtype))
               if i in constant else t for i, t in enumerate(model.tensors)]
    return replace(model, tensors=tuple(tensors), inputs=tuple(i for i in model.inputs if i not in constant))


def split(shape: Sequence[int], axis: int, sizes: Sequence[int], *, dtype: str = "int8",
          version: str = "SPLIT") -> Model:
    """SPLIT (equal sizes) or SPLIT_V."""
    source = activation("input", shape, dtype)
    outputs = [[*shape[:axis], size, *shape[axis + 1:]] for size in sizes]
    options = {"NumSplits": len(sizes)}
    if version == "SPLIT":
        return one("SPLIT", source, [numbers("axis", axis)], outputs, options, order=(1, 0))
    return one("SPLIT_V", source, [numbers("sizes", sizes), numbers("axis", axis)], outputs, options)


def unpack(shape: Sequence[int], axis: int, *, dtype: str = "int8") -> Model:
    kept = [n for i, n in enumerate(shape) if i != axis]
    options = {"Num": shape[axis], "Axis": axis}
    return one("UNPACK", activation("input", shape, dtype), [], [kept] * shape[axis], options)


def slice_(shape: Sequence[int], begin: Sequence[int], size: Sequence[int], *, dtype: str = "int8") -> Model:
    out = [n - b if s == -1 else s for n, b, s in zip(shape, begin, size, strict=True)]
    return one("SLICE", activation("input", shape, dtype), [numbers("begin", begin), numbers("size", size)], [out])


def strided_slice(shape: Sequence[int], begin: Sequence[int], end: Sequence[int], steps: Sequence[int], *,
                  dtype: str = "int8", begin_mask: int = 0, end_mask: int = 0, shrink_mask: int = 0) -> Model:
    out = []
    for axis, size in enumerate(shape):
        if not shrink_mask >> axis & 1:
            out.append(len(range(size)[None if begin_mask >> axis & 1 else begin[axis]:
                                       None if end_mask >> axis & 1 else end[axis]:steps[axis]]))
    return one("STRIDED_SLICE", activation("input", shape, dtype),
               [numbers("begin", begin), numbers("end", end), numbers("steps", steps)], [out],
               {"BeginMask": begin_mask, "EndMask": end_mask, "ShrinkAxisMask": shrink_mask})


def blocks(name: str, shape: Sequence[int], block: int, *, dtype: str = "int8") -> Model:
    """SPACE_TO_DEPTH or DEPTH_TO_SPACE."""
    n, height, width, channels = shape
    out = (n, height // block, width // block, channels * block * block) if name == "SPACE_TO_DEPTH" else \
        (n, height * block, width * block, channels // (block * block))
    return one(name, activation("input", shape, dtype), [], [out], {"BlockSize": block})


def resize(name: str, shape: Sequence[int], size: Sequence[int], mode: str = "", *, dtype: str = "int8") -> Model:
    """name NEAREST_NEIGHBOR or BILINEAR; mode "", "align" (corners) or "half" (pixel centres)."""
    out = (shape[0], *size, shape[3])
    return one(f"RESIZE_{name}", activation("input", shape, dtype), [numbers("size", size)], [out],
               {"AlignCorners": mode == "align", "HalfPixelCenters": mode == "half"})


def transpose(shape: Sequence[int], order: Sequence[int], *, dtype: str = "int8") -> Model:
    return one("TRANSPOSE", activation("input", shape, dtype), [numbers("order", order)], [[shape[a] for a in order]])


def reverse(shape: Sequence[int], axes: Sequence[int], *, dtype: str = "int8") -> Model:
    return one("REVERSE_V2", activation("input", shape, dtype), [numbers("axes", axes)], [shape])


def tile(shape: Sequence[int], times: Sequence[int], *, dtype: str = "int8") -> Model:
    out = [n * m for n, m in zip(shape, times, strict=True)]
    return one("TILE", activation("input", shape, dtype), [numbers("times", times)], [out])


def broadcast_to(shape: Sequence[int], new: Sequence[int], *, dtype: str = "int8") -> Model:
    return one("BROADCAST_TO", activation("input", shape, dtype), [numbers("shape", new)], [new])


def gather(shape: Sequence[int], indices: Sequence[object] | int, axis: int, *, dtype: str = "int8") -> Model:
    table = numbers("indices", indices)     # type: ignore[arg-type]
    out = (*shape[:axis], *table.shape, *shape[axis + 1:])
    return one("GATHER", activation("input", shape, dtype), [table], [out], {"Axis": axis})


def pack(shape: Sequence[int], count: int, axis: int, *, dtype: str = "int8") -> Model:
    inputs = [activation(f"input{i}", shape, dtype) for i in range(count)]
    output = activation("output", [*shape[:axis], count, *shape[axis:]], dtype)
    op = OperationSpec("PACK", tuple(range(count)), (count,), {"Axis": axis, "ValuesCount": count})
    return Model((*inputs, output), (op,), tuple(range(count)), (count,))


def between(name: str, source: TensorSpec, constants: Sequence[TensorSpec], output_shapes: Sequence[Sequence[int]],
            options: dict[str, object] | None = None) -> Model:
    """The operation between LEAKY_RELUs, which insist on the shapes of its first input and of its outputs."""
    inner = replace(source, name="inner")
    results = [replace(source, name=f"result{i}", shape=tuple(shape)) for i, shape in enumerate(output_shapes)]
    outputs = [replace(result, name=f"output{i}") for i, result in enumerate(results)]
    tensors = (source, inner, *constants, *results, *outputs)
    first, count = 2 + len(constants), len(results)
    alpha = {"Alpha": 0.875}
    operations = [OperationSpec("LEAKY_RELU", (0,), (1,), alpha),
                  OperationSpec(name, (1, *range(2, first)), tuple(range(first, first + count)), options or {}),
                  *(OperationSpec("LEAKY_RELU", (first + i,), (first + count + i,), alpha) for i in range(count))]
    return Model(tensors, tuple(operations), (0,), tuple(range(first + count, len(tensors))))


def reshape(shape: Sequence[int], new: Sequence[int], *, dtype: str = "int8") -> Model:
    """RESHAPE that must change the layout."""
    return between("RESHAPE", activation("input", shape, dtype), [numbers("shape", new)], [new])


def heads(shapes: Sequence[Sequence[int]], kept: int, *, dtype: str = "int8",
          quantisations: Sequence[tuple[float, int]] = ()) -> Model:
    """A detector's end: of each input LEAKY_RELU, then RESHAPE to pixels of `kept` channels, then all of them joined.

    quantisations: (scale, zero point) of every input, then of the output; none: all alike.
    """
    given = list(quantisations) or [(SCALE, None)] * (len(shapes) + 1)  # type: ignore[list-item]
    tensors: list[TensorSpec] = []
    operations: list[OperationSpec] = []
    parts, pixels = [], 0
    for i, (shape, (scale, point)) in enumerate(zip(shapes, given, strict=False)):
        count = int(np.prod(shape)) // kept
        first = len(tensors)
        source = activation(f"input{i}", shape, dtype, point, scale)
        tensors += [source, replace(source, name=f"inner{i}"), numbers(f"shape{i}", (1, count, kept)),
                    replace(source, name=f"part{i}", shape=(1, count, kept))]
        operations += [OperationSpec("LEAKY_RELU", (first,), (first + 1,), {"Alpha": 0.875}),
                       OperationSpec("RESHAPE", (first + 1, first + 2), (first + 3,), {})]
        parts.append(first + 3)
        pixels += count
    tensors.append(activation("output", (1, pixels, kept), dtype, given[-1][1], given[-1][0]))
    operations.append(OperationSpec("CONCATENATION", tuple(parts), (len(tensors) - 1,), {"Axis": 1}))
    return Model(tuple(tensors), tuple(operations), tuple(range(0, len(tensors) - 1, 4)), (len(tensors) - 1,))
