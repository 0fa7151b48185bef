"""The vendor's estimates: array cycles and DDR cycles, fitted on some networks and held against the others."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

import numpy as np

from calibration.tables import Layer
from cermet.hw.cycles import conv_cycles, depthwise_cycles
from cermet.hw.soc import RK3588, Soc
from cermet.hw.timing import Figure

ATOMS = {"rk3566": 8}           # bytes; 16 elsewhere (hw-verified)
GROUPS, STEPS, FLOORS = (8, 16, 32, 64, 128), (1, 4, 8, 16, 32), (1, 2, 4, 8)


@dataclass(frozen=True)
class Fit:
    """Constants from some layers: kernel and depthwise group, pixel step and floor of the array; bytes per cycle."""

    kernel_group: int
    depthwise_group: int
    step: int
    floor: int
    rate: float

    def soc(self) -> Soc:
        timing = replace(RK3588.timing, pixel_step=_figure(self.step), kernel_floor=_figure(self.floor))
        return replace(RK3588, kernel_group=self.kernel_group, depthwise_group=self.depthwise_group, timing=timing)


@dataclass(frozen=True)
class Error:
    """Of a fit on layers that it has not seen. exact: array cycles; the rest: DDR cycles, relative."""

    layers: int
    exact: int
    median: float
    ninety_five: float
    worst: float


def _figure(value: float) -> Figure:
    return Figure(value, "", "fitted", "")


def array_cycles(soc: Soc, layer: Layer) -> int:
    if layer.is_depthwise:
        return depthwise_cycles(soc, layer.pixels, layer.taps, layer.input[0])
    return conv_cycles(soc, layer.pixels, layer.taps, layer.input[0], layer.output[0])


def candidates(seen: Sequence[Layer]) -> Iterator[tuple[int, int, int, int]]:
    """Constants of the array that reproduce every layer, the largest steps first: padding that no layer shows is
    taken to be there."""
    for group, depthwise, step, floor in product(GROUPS, GROUPS, sorted(STEPS, reverse=True), FLOORS):
        soc = Fit(group, depthwise, step, floor, 1).soc()
        if all(array_cycles(soc, layer) == layer.npu_cycles for layer in seen):
            yield group, depthwise, step, floor


def fit(seen: Sequence[Layer]) -> tuple[Fit, int]:
    """(constants, how many sets of array constants explain the layers)."""
    found = list(candidates(seen))
    atom = ATOMS.get(seen[0].soc, 16)
    rate = median(layer.ddr_bytes(atom) / layer.ddr_cycles for layer in seen)
    return Fit(*found[0], rate), len(found)


def judge(fitted: Fit, unseen: Sequence[Layer]) -> Error:
    soc, atom = fitted.soc(), ATOMS.get(unseen[0].soc, 16)
    errors = sorted(abs(layer.ddr_bytes(atom) / fitted.rate / layer.ddr_cycles - 1) for layer in unseen)
    exact = sum(array_cycles(soc, layer) == layer.npu_cycles for layer in unseen)
    return Error(len(unseen), exact, median(errors), errors[int(0.95 * (len(errors) - 1))], errors[-1])


def held_out(layers: Sequence[Layer]) -> Iterator[tuple[str, str, Fit, int, Error]]:
    """(SoC, network left out, fit on the others, ambiguity, its error on the one left out)."""
    for soc in sorted({layer.soc for layer in layers}):
        own = [layer for layer in layers if layer.soc == soc]
        for model in sorted({layer.model for layer in own}):
            fitted, count = fit([layer for layer in own if layer.model != model])
            yield soc, model, fitted, count, judge(fitted, [layer for layer in own if layer.model == model])


def two_rates(found: Sequence[Layer], atom: int) -> tuple[float, float, np.ndarray]:
    """Rates of reading and writing from every other layer, and the relative errors of the rest."""
    written = np.array([layer.output_bytes(atom) for layer in found], float)
    read = np.array([layer.ddr_bytes(atom) for layer in found], float) - written
    cycles = np.array([layer.ddr_cycles for layer in found], float)
    matrix = np.stack([read / cycles, written / cycles], axis=1)
    inverse = np.linalg.lstsq(matrix[::2], np.ones(len(matrix[::2])), rcond=None)[0]
    return 1 / inverse[0], 1 / inverse[1], abs(matrix[1::2] @ inverse - 1)
