"""The published tables as rows of layers, and the bytes that a layer moves."""
from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WEIGHTED = ("Conv", "ConvAdd", "ConvClip", "ConvRelu", "ConvAddRelu", "ConvExSwish")


@dataclass(frozen=True)
class Layer:
    """A convolution. Shapes are (channels, height, width); kernels (number, channels, height, width).

    operand_bytes   of bias and scale for each output channel
    """

    model: str
    soc: str
    name: str
    input: tuple[int, int, int]
    kernels: tuple[int, int, int, int]
    output: tuple[int, int, int]
    has_add: bool
    operand_bytes: int
    ddr_cycles: int
    npu_cycles: int
    row: dict[str, str]

    @property
    def is_depthwise(self) -> bool:
        return self.kernels[0] == 1 and self.kernels[1] == self.input[0] and self.taps > 1

    @property
    def taps(self) -> int:
        return self.kernels[2] * self.kernels[3]

    @property
    def pixels(self) -> int:
        return self.output[1] * self.output[2]

    def input_bytes(self, atom: int) -> int:
        """Up to four channels are read as packed pixels."""
        channels, height, width = self.input
        return (channels if channels <= 4 else up(channels, atom)) * height * width

    def weight_bytes(self, atom: int) -> int:
        return self.kernels[0] * up(self.kernels[1], atom) * self.taps

    def output_bytes(self, atom: int) -> int:
        return up(self.output[0], atom) * self.pixels

    def ddr_bytes(self, atom: int) -> int:
        """As the vendor counts: each tensor once, in whole atoms."""
        added = self.output_bytes(atom) if self.has_add else 0
        return (self.input_bytes(atom) + self.weight_bytes(atom) + self.output[0] * self.operand_bytes + added
                + self.output_bytes(atom))

    @property
    def macs(self) -> int:
        """Dense, whatever the sparsity."""
        return self.pixels * self.output[0] * self.input[0] * self.taps


def up(value: int, step: int) -> int:
    return -(-value // step) * step


def layers(path: Path) -> Iterator[Layer]:
    """The convolutions of a table that has whole shapes."""
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            shapes = re.findall(r"\(([\d,]+)\)", row.get("input_shapes") or row.get("input_shape") or "")
            output = re.findall(r"\(([\d,]+)\)", row["output_shape"])
            if row["op"] in WEIGHTED and len(shapes) >= 2 and output:
                yield _layer(path, row, [_numbers(shape) for shape in (*shapes[:2], output[0])])


def _layer(path: Path, row: dict[str, str], shapes: list[tuple[int, ...]]) -> Layer:
    (_, *given), kernels, (_, *made) = shapes
    model = row.get("model", path.stem)
    soc = row.get("soc", path.stem.split("_")[0])
    is_depthwise = kernels[0] == 1 and kernels[1] == given[0] and kernels[2] > 1
    is_average = is_depthwise and kernels[2] == given[1]
    per_tensor = model.startswith("mobilenet_v1") and not is_average
    return Layer(model, soc, row["op"], _three(given), (kernels[0], kernels[1], kernels[2], kernels[3]), _three(made),
                 "Add" in row["op"], 4 if per_tensor else _block_bytes(soc, is_depthwise),
                 int(row["ddr_cycles"]), int(row["npu_cycles"]), row)


def _block_bytes(soc: str, is_depthwise: bool) -> int:
    """Bias, weight zero point and scale of a channel; where depthwise weights come with their zero points it is not
    repeated here (notes, section 3a)."""
    return 6 if is_depthwise and soc in ("rk3562", "rk3576", "rv1106") else 8


def _three(numbers: list[int]) -> tuple[int, int, int]:
    return numbers[0], numbers[1], numbers[2]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
