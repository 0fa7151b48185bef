"""Numerics of operations that move elements, and of resizing. Signature and match: see numerics.py."""
from __future__ import annotations

from fractions import Fraction

import numpy as np

from cermet.ir.fixed_point import divide_half_away, scale_exactly
from cermet.ir.flat import move_elements
from cermet.ir.moves import layout, nearest_indices, resized_sides
from cermet.ir.operands import Values, centred, operand, quantisation
from cermet.ir.operation import Kind, Moving, Operation
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType, Tensor

FRACTION_BITS = 10          # of a position between two pixels in TFLite's integer RESIZE_BILINEAR


def moved(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> list[np.ndarray]:
    """Every output of an operation that is made of boxes; uint8 CONCATENATION requantises."""
    if operation.kind is Kind.RESIZE_NEAREST:
        return [_nearest(subgraph, operation, values)]
    made = layout(subgraph, operation)
    fill = 0 if made.fill is None else made.fill
    results = {t: np.full(subgraph.tensor(t).shape, fill, subgraph.tensor(t).dtype.numpy) for t in operation.outputs}
    for box in made.boxes:
        source, data = operand(subgraph, values, box.source)
        data = requantised(source, subgraph.tensor(box.target), data, match).reshape(box.source_shape)
        taken = tuple(slice(r.source, r.source + (r.count - 1) * r.source_step + 1, r.source_step) for r in box.runs)
        put = tuple(slice(r.target, r.target + (r.count - 1) * r.target_step + 1, r.target_step) for r in box.runs)
        results[box.target].reshape(box.target_shape)[put] = data[taken]
    for loops in made.loops:
        move_elements(loops, np.ascontiguousarray(operand(subgraph, values, loops.source)[1]), results[loops.target])
    return [results[t] for t in operation.outputs]


def _nearest(subgraph: Subgraph, operation: Operation, values: Values) -> np.ndarray:
    """RESIZE_NEAREST_NEIGHBOR to any size."""
    _, data = operand(subgraph, values, operation.inputs[0])
    assert operation.moving is not None
    rows, columns = (nearest_indices(*side, operation.moving) for side in resized_sides(subgraph, operation))
    return data[:, rows][:, :, columns]


def requantised(source: Tensor, out: Tensor, value: np.ndarray, match: str) -> np.ndarray:
    """As TFLite's ConcatenationWithScaling (uint8): one float32 product, rounded half away from zero."""
    if source.quantisation == out.quantisation:
        return value
    low, high = (0, 255) if out.dtype is DType.UINT8 else (-128, 127)
    q, wanted = quantisation(source), quantisation(out)
    if match == "exact":
        scaled = scale_exactly([(centred(source, value).astype(np.int64).reshape(-1),
                                 [Fraction(q.scale) / Fraction(wanted.scale)])]).reshape(value.shape)
    else:
        scale = np.float32(q.scale) * (np.float32(1) / np.float32(wanted.scale))
        real = value.astype(np.float32) * scale + np.float32(-q.zero_point) * scale
        scaled = np.copysign(np.floor(np.abs(real.astype(np.float64)) + 0.5), real).astype(np.int64)
    return np.clip(scaled + wanted.zero_point, low, high).astype(out.dtype.numpy)


# ---- bilinear resizing ---------------------------------------------------------------------------------------------

def resize_bilinear(subgraph: Subgraph, operation: Operation, values: Values, match: str) -> np.ndarray:
    """RESIZE_BILINEAR. Input and output share their quantisation; weights of the two pixels next to each position.

    "tflite": int8 with positions in 1/1024 pixels, rounded half away from q = 0 (ResizeBilinearInteger); uint8 in
    float32, plus 0.5 and cut (ResizeBilinear). "exact": rational positions, half away from the zero point.
    Source: TFLite's reference/resize_bilinear.h.
    """
    _, data = operand(subgraph, values, operation.inputs[0])
    out, options = subgraph.tensor(operation.output), operation.moving
    assert options is not None
    sides = list(resized_sides(subgraph, operation))
    if match == "exact":
        return _exact(data, out, [exact_positions(*side, options) for side in sides])
    if out.dtype is DType.UINT8:
        return _in_float(data, out, sides, options)
    return _in_integers(data, out, sides, options)


Axis = list[tuple[int, int, int, int]]      # per output position: lower and upper input position, their weights


def exact_positions(size: int, output_size: int, options: Moving) -> tuple[Axis, int]:
    """(positions with integer weights, the denominator they share) of one axis."""
    aligned = options.align_corners and output_size > 1
    scale = Fraction(size - 1, output_size - 1) if aligned else Fraction(size, output_size)
    half = Fraction(1, 2) if options.half_pixel else Fraction(0)
    places = [(x + half) * scale - half for x in range(output_size)]
    unit = int(np.lcm.reduce([p.denominator for p in places]))
    axis = []
    for place in places:
        lower = max(place.numerator // place.denominator, 0)
        upper = min(-(-place.numerator // place.denominator), size - 1)
        weight = int((place - lower) * unit) if lower != upper else 0
        axis.append((min(lower, size - 1), max(upper, 0), unit - weight, weight))
    return axis, unit


def _exact(data: np.ndarray, out: Tensor, axes: list[tuple[Axis, int]]) -> np.ndarray:
    (rows, row_unit), (columns, column_unit) = axes
    zero_point = quantisation(out).zero_point
    total = _interpolated(data.astype(np.int64) - zero_point, rows, columns)
    made = divide_half_away(total, np.full(total.shape, row_unit * column_unit, np.int64)) + zero_point
    return made.astype(out.dtype.numpy)


def _interpolated(data: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Sums of four pixels times their weights, int64 [N, OH, OW, C]."""
    y0, y1, a0, a1 = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    x0, x1, b0, b1 = (np.array(column, np.int64) for column in zip(*columns, strict=True))
    mixed = data[:, y0] * a0[:, None, None] + data[:, y1] * a1[:, None, None]
    return mixed[:, :, x0] * b0[:, None] + mixed[:, :, x1] * b1[:, None]


def _in_integers(data: np.ndarray, out: Tensor, sides: list[tuple[int, int]], options: Moving) -> np.ndarray:
    rows, columns = (_integer_positions(*side, options) for side in sides)
    total = _interpolated(data.astype(np.int64), rows, columns)
    one = 1 << 2 * FRACTION_BITS
    rounded = total + np.where(total > 0, one // 2, -(one // 2))
    return (np.sign(rounded) * (np.abs(rounded) // one)).astype(out.dtype.numpy)


def position_drift(size: int, output_size: int, options: Moving) -> float:
    """How far TFLite's positions in 1/1024 pixels lie from the exact ones on one axis, at most, in input pixels."""
    exact, unit = exact_positions(size, output_size, options)
    held = _integer_positions(size, output_size, options)
    return max(abs(_place(mine, unit) - _place(theirs, 1 << FRACTION_BITS))
               for mine, theirs in zip(exact, held, strict=True))


def _place(position: tuple[int, int, int, int], unit: int) -> float:
    lower, upper, _, weight = position
    return lower + (upper - lower) * weight / unit


def _integer_positions(size: int, output_size: int, options: Moving) -> Axis:
    one = 1 << FRACTION_BITS
    step = (one * size + output_size // 2) // output_size
    if options.align_corners and output_size > 1:
        step = (one * (size - 1) + (output_size - 1) // 2) // (output_size - 1)
    axis = []
    for x in range(output_size):
        place = x * step + (step // 2 - one // 2 if options.half_pixel else 0)
        lower = max(int(place / one), 0)
        upper = min(int((place + one - 1) / one), size - 1)
        axis.append((lower, upper, one - (place - one * lower), place - one * lower))
    return axis


def _in_float(data: np.ndarray, out: Tensor, sides: list[tuple[int, int]], options: Moving) -> np.ndarray:
    (y, y0, y1), (x, x0, x1) = (_float_positions(*side, options) for side in sides)
    one, q = np.float32(1), data.astype(np.float32)
    dy: np.ndarray = (y - y0.astype(np.float32))[:, None, None]
    dx: np.ndarray = (x - x0.astype(np.float32))[:, None]
    top, bottom = q[:, y0], q[:, y1]
    total = top[:, :, x0] * (one - dy) * (one - dx)
    total = total + bottom[:, :, x0] * dy * (one - dx)
    total = total + top[:, :, x1] * (one - dy) * dx
    total = total + bottom[:, :, x1] * dy * dx
    return (total + np.float32(0.5)).astype(np.int64).astype(out.dtype.numpy)


def _float_positions(size: int, output_size: int, options: Moving) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    aligned = options.align_corners and output_size > 1
    inputs, steps = (size - 1, output_size - 1) if aligned else (size, output_size)
    scale = np.float32(inputs) / np.float32(steps)
    positions = np.arange(output_size, dtype=np.float32)
    half = np.float32(0.5)
    places = (positions + half) * scale - half if options.half_pixel else positions * scale
    lower = np.maximum(np.floor(places).astype(np.int64), 0)
    upper = np.minimum(np.ceil(places).astype(np.int64), size - 1)
    return places, lower, upper
