"""A model with the shapes of ResNet50 v1.5 (int8, a scale per channel, 25.5 M weights, random): resnet50.py OUT.tflite

For timing the compiler, the delegate and the cycle model. Activations have scales that the random weights keep busy:
every layer's outputs have the root mean square of its inputs, by the variance of its weights.
"""
from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.model_builder import (  # noqa: E402  (the root is no package folder)
    ACTIVATIONS,
    PADDINGS,
    OperationSpec,
    TensorSpec,
    build_model,
)

SCALE = 1 / 32          # of all activations: +-4 root mean squares
STAGES = (3, 4, 6, 3)
CLASSES = 1000


class ResNet50:
    """Tensors and operations so far."""

    def __init__(self, side: int) -> None:
        self.rng = np.random.default_rng(50)
        self.tensors: list[TensorSpec] = []
        self.operations: list[OperationSpec] = []
        self.input = self.activation((1, side, side, 3))

    def activation(self, shape: tuple[int, ...]) -> int:
        self.tensors.append(TensorSpec(f"t{len(self.tensors)}", shape, "int8", (SCALE,), (0,)))
        return len(self.tensors) - 1

    def constants(self, shape: tuple[int, ...], fan_in: int) -> tuple[int, int]:
        """Weights with variance 1 / fan_in, and a bias."""
        data = np.clip(np.round(self.rng.standard_normal(shape, np.float32) * 32), -127, 127).astype(np.int8)
        scales = tuple(float(s) for s in self.rng.uniform(0.8, 1.25, shape[0]) / 32 / np.sqrt(fan_in))
        self.tensors.append(TensorSpec(f"w{len(self.tensors)}", shape, "int8", scales, (0,) * shape[0], 0, data))
        bias = self.rng.integers(-1000, 1000, shape[0]).astype(np.int32)
        self.tensors.append(TensorSpec(f"b{len(self.tensors)}", (shape[0],), "int32",
                                       tuple(s * SCALE for s in scales), (0,) * shape[0], 0, bias))
        return len(self.tensors) - 2, len(self.tensors) - 1

    def conv(self, source: int, outputs: int, kernel: int, stride: int, activation: str) -> int:
        _, height, width, channels = self.tensors[source].shape
        weights, bias = self.constants((outputs, kernel, kernel, channels), kernel * kernel * channels)
        made = self.activation((1, -(-height // stride), -(-width // stride), outputs))
        self.operations.append(OperationSpec("CONV_2D", (source, weights, bias), (made,), {
            "Padding": PADDINGS["SAME"], "StrideH": stride, "StrideW": stride, "DilationHFactor": 1,
            "DilationWFactor": 1, "FusedActivationFunction": ACTIVATIONS[activation]}))
        return made

    def max_pool(self, source: int) -> int:
        _, height, width, channels = self.tensors[source].shape
        made = self.activation((1, -(-height // 2), -(-width // 2), channels))
        self.operations.append(OperationSpec("MAX_POOL_2D", (source,), (made,), {
            "Padding": PADDINGS["SAME"], "StrideH": 2, "StrideW": 2, "FilterHeight": 3, "FilterWidth": 3,
            "FusedActivationFunction": ACTIVATIONS["NONE"]}))
        return made

    def add(self, first: int, second: int) -> int:
        made = self.activation(self.tensors[first].shape)
        self.operations.append(OperationSpec("ADD", (first, second), (made,), {
            "FusedActivationFunction": ACTIVATIONS["RELU"]}))
        return made

    def classifier(self, source: int) -> int:
        channels = self.tensors[source].shape[3]
        self.tensors.append(TensorSpec("axes", (2,), "int32", data=np.array([1, 2], np.int32)))
        axes, mean = len(self.tensors) - 1, self.activation((1, channels))
        self.operations.append(OperationSpec("MEAN", (source, axes), (mean,), {"KeepDims": False}))
        weights, bias = self.constants((CLASSES, channels), channels)
        self.tensors[weights] = _per_tensor(self.tensors[weights], 1 / 32 / np.sqrt(channels))
        self.tensors[bias] = _per_tensor(self.tensors[bias], SCALE / 32 / np.sqrt(channels))
        made = self.activation((1, CLASSES))
        self.operations.append(OperationSpec("FULLY_CONNECTED", (mean, weights, bias), (made,), {
            "FusedActivationFunction": ACTIVATIONS["NONE"]}))
        return made

    def build(self) -> bytes:
        x = self.max_pool(self.conv(self.input, 64, 7, 2, "RELU"))
        for stage, blocks in enumerate(STAGES):
            width = 64 << stage
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                y = self.conv(self.conv(x, width, 1, 1, "RELU"), width, 3, stride, "RELU")
                y = self.conv(y, 4 * width, 1, 1, "NONE")
                x = self.add(y, x if block else self.conv(x, 4 * width, 1, stride, "NONE"))
        return bytes(build_model(self.tensors, self.operations, [self.input], [self.classifier(x)]))


def _per_tensor(tensor: TensorSpec, scale: float) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.shape, tensor.dtype, (float(scale),), (0,), 0, tensor.data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--side", type=int, default=224, help="height and width of the input (default: 224)")
    arguments = parser.parse_args()
    data = ResNet50(arguments.side).build()
    arguments.output.write_bytes(data)
    print(f"{arguments.output}: {len(data) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
