"""Every reference model through the frontend, compared with what the interpreter says about it."""
from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from cermet.frontend.blob import read_blob
from cermet.frontend.operators import BUILTIN_NAMES
from cermet.frontend.tflite_file import read_file, read_tflite, to_blob
from cermet.ir.text import format_subgraph
from cermet.ir.verify import verify
from tests.conftest import BUNDLED_MODELS, SHARED_MODELS
from tests.support import interpreter

MODELS = sorted((SHARED_MODELS if SHARED_MODELS.is_dir() else BUNDLED_MODELS).glob("*.tflite"))


@pytest.fixture(params=MODELS, ids=lambda path: path.stem)
def model(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_parses_and_verifies(model: Path) -> None:
    subgraph = read_tflite(read_file(model))
    verify(subgraph)
    assert len(format_subgraph(subgraph).splitlines()) >= len(subgraph.operations)


def test_blob_is_deterministic_and_carries_the_same_subgraph(model: Path) -> None:
    data = read_file(model)
    blob = to_blob(data)
    assert to_blob(bytes(bytearray(data))) == blob
    assert read_blob(blob) == read_tflite(data)


def test_agrees_with_the_interpreter(model: Path) -> None:
    """Operators in order, and shape, element type, scales and zero points of every tensor that they touch."""
    subgraph = read_tflite(read_file(model))
    details = {d["index"]: d for d in interpreter.make_interpreter(model).get_tensor_details()}
    ops = interpreter.make_interpreter(model)._get_ops_details()
    assert len(ops) == len(subgraph.operations)
    for mine, theirs in zip(subgraph.operations, ops, strict=True):
        assert mine.name.removeprefix("CUSTOM:") == theirs["op_name"]
        pairs = [*zip(mine.inputs, theirs["inputs"], strict=True), *zip(mine.outputs, theirs["outputs"], strict=True)]
        for number, index in pairs:
            assert (number is None) == (index < 0)
            if number is not None and np.dtype(details[index]["dtype"]).kind != "O":
                made_by = subgraph.producer(number)
                is_custom = made_by is not None and made_by.name.startswith("CUSTOM:")
                _same_tensor(subgraph.tensor(number), details[index],
                             has_shape=not is_custom or bool(subgraph.consumers(number)))


def _same_tensor(mine, theirs, has_shape: bool) -> None:  # type: ignore[no-untyped-def]
    assert mine.name == theirs["name"]
    assert mine.shape == (tuple(theirs["shape"].tolist()) if has_shape else ())
    assert mine.dtype.numpy == np.dtype(theirs["dtype"])
    scales = theirs["quantization_parameters"]["scales"].tolist()
    points = theirs["quantization_parameters"]["zero_points"].tolist()
    if mine.quantisation is None:
        assert scales == []
        return
    assert list(mine.quantisation.scales) == scales
    assert mine.quantisation.channel_zero_points(len(points)).tolist() == points


def test_a_large_model_takes_less_than_a_tenth_of_a_second() -> None:
    """Budget of a compiler run; the largest reference model, best of three, leaving the machine's other work out."""
    data = read_file(max(MODELS, key=lambda path: path.stat().st_size))
    times = []
    for _ in range(3):
        start = time.process_time()
        read_tflite(data)
        times.append(time.process_time() - start)
    assert min(times) < 0.1


def test_operator_names_are_the_schema_s() -> None:
    tflite = pytest.importorskip("tflite")
    numbers = {name: number for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    assert dict(zip(BUILTIN_NAMES, range(len(BUILTIN_NAMES)), strict=True)) == numbers
