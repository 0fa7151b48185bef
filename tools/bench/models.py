"""The bundled models next to TFLite's kernels, in one table: ./run bench [MODEL.tflite ...] [OPTIONS of cermet bench]

Lines are appended to .cermet/bench.csv of this tree, and compared with the run before.
"""
from __future__ import annotations

import pathlib
import sys

from cermet import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = [ROOT / "tests/data/models/mobilenet_v1_0.25_128_quant.tflite",
          ROOT / "src/cermet/demo/mobilenet_v1_1.0_224_quant.tflite",
          ROOT / "src/cermet/demo/mobilenet_v2_1.0_224_quant.tflite"]


def main() -> int:
    arguments = sys.argv[1:]
    models = [] if any(word.endswith(".tflite") for word in arguments) else [str(model) for model in MODELS]
    history = ROOT / ".cermet" / "bench.csv"
    return cli.main(["bench", "--peers", "--workers", "1,2,4", "--csv", str(history), *arguments, *models])


if __name__ == "__main__":
    sys.exit(main())
