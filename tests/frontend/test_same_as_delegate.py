"""Both ways into the compiler: the blob that the delegate captures at run time equals the file's, byte for byte.

The delegate is given a compiler that keeps the blob and fails.
"""
from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cermet import paths
from cermet.frontend.blob import read_blob
from cermet.frontend.tflite_file import read_file, read_tflite, to_blob
from tests.conftest import BUNDLED_MODELS, SHARED_MODELS
from tests.support import interpreter, model_builder
from tests.support.builders_binary import Operand, binary
from tests.support.builders_reduce import reduce
from tests.support.builders_unary import Ends, unary
from tests.support.model_builder import Model, OperationSpec, TensorSpec
from tests.support.sketch import Sketch

MODELS = sorted((SHARED_MODELS if SHARED_MODELS.is_dir() else BUNDLED_MODELS).glob("*.tflite"))
COMPILER = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --blob ] && cp "$2" "$CERMET_TEST_BLOB"; shift; done
exit 1
"""


@pytest.fixture
def captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """captured(model, runtime): what the delegate in that runtime hands to its compiler."""
    try:
        library = paths.library("libcermet_delegate.so")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    compiler = tmp_path / "compiler"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    monkeypatch.setenv("CERMET_TEST_BLOB", str(tmp_path / "blob"))

    def capture(model: bytes | Path, runtime: str) -> bytes:
        pytest.importorskip(interpreter.MODULES[runtime])
        options = {"device": "sim", "cache": "off", "compiler": str(compiler)}
        delegate = interpreter.load_delegate(library, options, runtime=runtime)
        with pytest.raises(RuntimeError, match="compiler"):
            interpreter.make_interpreter(model, runtime=runtime, delegates=[delegate])
        return (tmp_path / "blob").read_bytes()

    assert os.access(compiler, os.X_OK)
    return capture


@pytest.mark.parametrize("runtime", ["tflite", "litert"])
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_reference_models(path: Path, runtime: str, captured) -> None:  # type: ignore[no-untyped-def]
    blob = captured(path, runtime)
    assert blob == to_blob(read_file(path))
    assert read_blob(blob) == read_tflite(read_file(path))


ENDS = Ends("int8", 0.05, 3, "int8", 0.04, -7)


def quotient() -> Model:
    made = Sketch()
    real = made.real("DEQUANTIZE", made.input(), version=2)
    return made.model(made.real("DIV", real, real, activation="RELU6"))


def generated() -> dict[str, Model]:
    """Details that the reference models do not have."""
    rng = np.random.default_rng(17)
    conv = model_builder.conv2d(rng, (1, 6, 6, 3), 4, stride=(2, 1), dilation=(1, 2), padding="VALID", per_channel=True)
    squeeze = model_builder.squeeze(rng, (1, 1, 1, 4))
    resizable = replace(squeeze.tensors[0], signature=(-1, 1, 1, 4))
    add = model_builder.add(rng, (1, 2, 2, 4))
    unused = TensorSpec("unused", (7,), "float32")
    zeros = TensorSpec("q", (2, 3), "int8", (0.5, 0.25), (1, 2), 0)
    shared = Model((*add.tensors, replace(add.tensors[2], name="again")),
                   (*add.operations, OperationSpec("ADD", (2, 0), (3,), {})), (0, 1), (2, 3))
    return {
        "options": conv, "unused_tensor": replace(conv, tensors=(*conv.tensors, unused)),
        "optional_input": model_builder.fully_connected(rng, (2, 3, 8), 4, bias=False, keep_num_dims=True),
        "resizable": replace(squeeze, tensors=(resizable, squeeze.tensors[1])),
        "different_zero_points": Model((zeros, replace(zeros, name="r")), (OperationSpec("RESHAPE", (0,), (1,), {
            "NewShape": (2, 3)}),), (0,), (1,)),
        "read_and_handed_out": shared,
        "variable": replace(add, tensors=(add.tensors[0], replace(add.tensors[1], is_variable=True), add.tensors[2]),
                            inputs=(0,)),
        "slope": unary("LEAKY_RELU", ENDS, (1, 4), {"Alpha": 0.1}), "no_slope": unary("LEAKY_RELU", ENDS, (1, 4), {}),
        "approximate": unary("GELU", ENDS, (1, 4), {"Approximate": True}),
        "requantised": unary("QUANTIZE", replace(ENDS, out_dtype="uint8", out_zero_point=9), (1, 4)),
        "quotient": quotient(),
        "keep_dims": model_builder.mean(rng, (1, 3, 3, 4), keep_dims=True),
        **{name: reduce(rng, name, (1, 3, 4), (1,), keep_dims=True) for name in ("SUM", "REDUCE_MAX", "REDUCE_MIN")},
        **{f"{name}_activation": binary(rng, name, Operand((1, 2, 2, 4)), Operand((1, 2, 2, 4)), output=(0.05, 3),
                                        activation="RELU_N1_TO_1") for name in ("ADD", "SUB", "MUL", "MAXIMUM")},
        "pool": model_builder.pool(rng, (1, 9, 9, 3), "MAX", (3, 2), stride=(1, 2), activation="RELU6")}


@pytest.mark.parametrize("runtime", ["tflite", "litert"])
@pytest.mark.parametrize("name", generated())
def test_details(name: str, runtime: str, captured) -> None:  # type: ignore[no-untyped-def]
    data = generated()[name].data
    assert captured(data, runtime) == to_blob(data)
