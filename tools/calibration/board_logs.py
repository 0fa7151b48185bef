"""Times that were measured, layer by layer, and the model's structure held against them.

    cycles = fixed + features / load + max(array, weights / load, output / store + second operand / stream)

The features come first because the vendor's programs ask for all their rows before the array starts (FEATURE_GRAINS),
unless they do not fit the convolution buffer.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from calibration.estimates import array_cycles
from calibration.tables import Layer, layers, rows
from cermet.hw.soc import RK3588

ATOM = 16
MACS_PER_CYCLE = 1024
RV1106_MHZ, RV1106_TASK_US, RV1106_WORDS = 420, 8, 130      # each further task of a chain (notes, soc-table)


@dataclass(frozen=True)
class Measured:
    """Layers of the RK3576's log as columns. cycles: from the array's use, whatever the clock was."""

    layers: tuple[Layer, ...]
    features: np.ndarray
    weights: np.ndarray
    output: np.ndarray
    second: np.ndarray
    array: np.ndarray
    cycles: np.ndarray

    def part(self, numbers: Sequence[int]) -> Measured:
        pick = np.array(numbers)
        return Measured(tuple(self.layers[i] for i in numbers), self.features[pick], self.weights[pick],
                        self.output[pick], self.second[pick], self.array[pick], self.cycles[pick])


def rk3576(folder: Path) -> Measured:
    """ResNet50 on a board with one RK3576. Its array is the RK3588's: 32 kernels, 32 channels."""
    found = tuple(layer for layer in layers(folder / "rk3576_resnet50_sparse_capi.csv") if layer.row["mac_usage_pct"])

    def column(value: Callable[[Layer], float]) -> np.ndarray:
        return np.array([value(layer) for layer in found], float)

    return Measured(
        found, column(lambda layer: layer.input_bytes(ATOM)), column(lambda layer: layer.weight_bytes(ATOM)),
        column(lambda layer: layer.output_bytes(ATOM)),
        column(lambda layer: layer.output_bytes(ATOM) if layer.has_add else 0),
        column(lambda layer: array_cycles(RK3588, layer)),
        column(lambda layer: layer.macs / MACS_PER_CYCLE / (float(layer.row["mac_usage_pct"]) / 100)))


Constants = tuple[float, float, float, float]       # fixed cycles, then bytes per cycle: load, store, stream
GRID = (range(16_000, 60_000, 2_000), np.geomspace(5, 26, 24), np.geomspace(2.5, 13, 24), (8, 16, 18, 32))


def predict(data: Measured, constants: Constants) -> np.ndarray:
    fixed, load, store, stream = constants
    steady = np.maximum(data.array, data.weights / load)
    return fixed + data.features / load + np.maximum(steady, data.output / store + data.second / stream)


def errors(data: Measured, constants: Constants) -> np.ndarray:
    """Relative, signed."""
    return predict(data, constants) / data.cycles - 1


def fit(data: Measured) -> Constants:
    """Least squares of the relative errors on a grid."""
    return min(product(*GRID), key=lambda constants: float(np.mean(errors(data, constants) ** 2)))


def held_out(data: Measured) -> tuple[Constants, np.ndarray]:
    """(constants of all layers, error of each layer as the constants of the other two thirds predict it)."""
    numbers = list(range(len(data.layers)))
    found = np.zeros(len(data.layers))
    for start in range(3):
        seen = [number for number in numbers if number % 3 != start]
        found[start::3] = errors(data.part(numbers[start::3]), fit(data.part(seen)))
    return fit(data), found


def chain_latency() -> float:
    """Cycles of one of the three latencies that a small task waits for, from the RV1106's time per task."""
    fetch = RV1106_WORDS * RK3588.timing.fetch_cycles.value
    return (RV1106_TASK_US * RV1106_MHZ - fetch) / 3


# The RK356x: boards at 900 MHz, times beside the vendor's estimates

RK356X_MHZ = 900


@dataclass(frozen=True)
class Timed:
    """Operations of a table with measured times. Cycles at RK356X_MHZ; estimate: the larger of DDR and NPU."""

    names: tuple[str, ...]
    estimate: np.ndarray
    measured: np.ndarray


def rk356x(path: Path) -> Timed:
    """What runs on the NPU; not ConvExSwish, which takes passes that the table does not show."""
    found = [row for row in rows(path) if row["target"].startswith("NPU") and row["op"] != "ConvExSwish"]
    estimate = [max(float(row["ddr_cycles"]), float(row["npu_cycles"] or 0)) for row in found]
    return Timed(tuple(f"{row['op']} {row['output_shape']}" for row in found), np.array(estimate),
                 np.array([float(row["time_us"]) * RK356X_MHZ for row in found]))


def rk356x_errors(data: Timed) -> tuple[float, float, np.ndarray]:
    """(fixed cycles, factor on the estimate, each row's relative error as the other two thirds predict it)."""
    matrix = np.stack([1 / data.measured, data.estimate / data.measured], axis=1)

    def solve(seen: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(matrix[seen], np.ones(int(seen.sum())), rcond=None)[0]

    thirds = np.arange(len(data.measured)) % 3
    error = np.empty(len(data.measured))
    for third in range(3):
        error[thirds == third] = matrix[thirds == third] @ solve(thirds != third) - 1
    fixed, factor = solve(thirds >= 0)
    return float(fixed), float(factor), error
