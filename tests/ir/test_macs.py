"""Multiply-accumulates of whole models, against the figures recorded with the reference models."""
from __future__ import annotations

from pathlib import Path

import pytest

from cermet.frontend.tflite_file import load
from cermet.ir.macs import count_macs


def test_macs_of_the_reference_models(models_dir: Path) -> None:
    yaml = pytest.importorskip("yaml")
    for model in yaml.safe_load((models_dir / "manifest.yaml").read_text())["models"]:
        subgraph = load(models_dir / model["file"])
        counted = sum(count_macs(subgraph, operation) for operation in subgraph.operations)
        assert (model["name"], counted) == (model["name"], model["macs"])
