"""Models of MEAN, SUM, REDUCE_MAX and REDUCE_MIN, one operation each, and what they compute in real numbers."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tests.support import exact, model_builder
from tests.support.model_builder import Model, OperationSpec, TensorSpec

REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
model_builder.OPTIONS.update(dict.fromkeys(REDUCTIONS, ("ReducerOptions", 2)))


def reduce(rng: np.random.Generator, name: str, shape: Sequence[int], axes: Sequence[int], *, keep_dims: bool = False,
           dtype: str = "int8", zero_point: int | None = None, ratio: float | None = None) -> Model:
    """One reduction. ratio: output scale / input scale; None: as a converter would choose, extremes as the input."""
    info = np.iinfo(dtype)
    point = int(rng.integers(info.min, info.max, endpoint=True)) if zero_point is None else zero_point
    source = TensorSpec("input", tuple(shape), dtype, (float(np.float32(rng.uniform(0.01, 0.2))),), (point,))
    table = TensorSpec("axes", (len(axes),), "int32", data=np.asarray(axes, np.int32))
    gone = {axis % len(shape) for axis in axes}
    kept = tuple(1 if i in gone else n for i, n in enumerate(shape) if keep_dims or i not in gone)
    output = replace(source, name="output", shape=kept)
    if name in ("MEAN", "SUM"):
        output = _calibrated(name, source, output, int(np.prod([shape[axis] for axis in gone])), ratio)
    op = OperationSpec(name, (0, 1), (2,), {"KeepDims": keep_dims})
    return Model((source, table, output), (op,), (0,), (2,))


def _calibrated(name: str, source: TensorSpec, output: TensorSpec, count: int, ratio: float | None) -> TensorSpec:
    """An output range that covers three standard deviations of uniformly spread inputs."""
    info = np.iinfo(source.dtype)
    factor = 1 if name == "MEAN" else count
    centre = ((info.min + info.max) / 2 - source.zero_point) * source.scale * factor
    spread = 3 * 74 * source.scale * factor / np.sqrt(count)
    low, high = min(centre - spread, 0.0), max(centre + spread, 0.0)
    scale = float(np.float32((high - low) / 255 if ratio is None else source.scale * ratio))
    point = int(np.clip(round(info.min - low / scale), info.min, info.max))
    return replace(output, scales=(scale,), zero_points=(point,))


def _reduced(model: Model, op: OperationSpec, values: dict[int, np.ndarray]) -> np.ndarray:
    source = model.tensors[op.inputs[0]]
    axes = tuple({int(axis) % len(source.shape) for axis in values[op.inputs[1]].reshape(-1)})
    x = values[op.inputs[0]].astype(np.float64) - source.zero_point
    return {"MEAN": np.mean, "SUM": np.sum, "REDUCE_MAX": np.max, "REDUCE_MIN": np.min}[op.name](
        x, axis=axes) * source.scale


exact.REAL.update(dict.fromkeys(REDUCTIONS, _reduced))
