"""The command in this process, and what its tests need to run a model."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cermet import cli, paths
from tests.support import model_builder
from tests.support.model_builder import OperationSpec, TensorSpec, build_model


@dataclass(frozen=True)
class Result:
    """What a command did."""

    status: int
    out: str
    err: str


Cermet = Callable[..., Result]


@pytest.fixture
def cermet(capfd: pytest.CaptureFixture[str]) -> Cermet:
    """Run a verb; 2 for a wrong command line, as a process would exit."""
    def run(*arguments: object) -> Result:
        capfd.readouterr()
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        return Result(status, *capfd.readouterr())
    return run


@pytest.fixture
def needs_delegate() -> None:
    """Skips where the C parts are not built or the command is not installed, or there is no TFLite runtime."""
    try:
        paths.library("libcermet_delegate.so")
    except FileNotFoundError:
        pytest.skip("the delegate is not built")
    pytest.importorskip("ai_edge_litert")


@pytest.fixture(scope="session")
def conv_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution and a softmax: one node on the NPU, one on the CPU."""
    conv = model_builder.conv2d(np.random.default_rng(3), (1, 8, 8, 4), 6)
    (bridge,) = conv.outputs
    output = TensorSpec("probabilities", conv.tensors[bridge].shape, "int8", (1 / 256,), (-128,))
    softmax = OperationSpec("SOFTMAX", (bridge,), (len(conv.tensors),), {"Beta": 1.0})
    data = build_model([*conv.tensors, output], [*conv.operations, softmax], conv.inputs, [len(conv.tensors)])
    path = tmp_path_factory.mktemp("model") / "conv.tflite"
    path.write_bytes(data)
    return path
