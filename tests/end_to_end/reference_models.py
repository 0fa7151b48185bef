"""The reference models with their goldens: ../shared/models of a developer's tree; the bundled ones elsewhere."""
from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import yaml

from cermet.frontend.tflite_file import load

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "models"
FOLDER = SHARED if SHARED.is_dir() else ROOT / "tests" / "data" / "models"


@dataclass(frozen=True)
class ReferenceModel:
    """One entry of manifest.yaml."""

    name: str
    entry: dict

    @property
    def path(self) -> pathlib.Path:
        return FOLDER / self.entry["file"]

    @property
    def is_classifier(self) -> bool:
        return self.entry["task"] in ("classification", "keyword-spotting")

    @functools.cached_property
    def golden(self) -> dict[str, np.ndarray]:
        with np.load(FOLDER / self.entry["golden"]["file"]) as archive:
            return {name: archive[name] for name in archive.files}

    @functools.cached_property
    def output_steps(self) -> tuple[float, ...]:
        """The real value of one quantisation step of each output: 1 for integers, else the scale behind DEQUANTIZE."""
        details = self.entry["outputs"]
        if all(detail["dtype"] != "float32" for detail in details):
            return (1.0,) * len(details)
        subgraph = load(self.path)
        producers = [subgraph.producer(tensor) for tensor in subgraph.outputs]
        if len(details) != 1 or producers[0] is None or producers[0].name != "DEQUANTIZE":
            return (float("nan"),) * len(details)       # computed in floating point: no step
        quantisation = subgraph.tensor(producers[0].inputs[0]).quantisation
        assert quantisation is not None
        return (quantisation.scale,)

    def cases(self) -> Iterator[tuple[str, list[np.ndarray], list[np.ndarray]]]:
        """(name, inputs, reference outputs) of every golden whose inputs are stored with it.

        Outputs that are too large to store are there as samples only; the caller gets an empty list.
        """
        for case in ("pic", "rand", "rand2"):
            inputs = numbered(self.golden, f"in_{case}_")
            if inputs:
                yield case, inputs, numbered(self.golden, f"ref_{case}_out")


def numbered(golden: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    """prefix0, prefix1, ... as far as they go."""
    found = []
    while f"{prefix}{len(found)}" in golden:
        found.append(golden[f"{prefix}{len(found)}"])
    return found


def load_manifest() -> list[ReferenceModel]:
    """All models of the manifest."""
    manifest = yaml.safe_load((FOLDER / "manifest.yaml").read_text())
    return [ReferenceModel(entry["name"], entry) for entry in manifest["models"]]
