"""What the .tflite frontend makes of details: options, quantisation, optional inputs, odd models."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cermet.frontend.errors import FrontendError
from cermet.frontend.tflite_file import load, read_tflite, to_blob
from cermet.ir.operation import Activation, Kind, Padding, Pair
from cermet.ir.subgraph import Subgraph
from cermet.ir.tensor import DType
from tests.support import model_builder
from tests.support.model_builder import Model, OperationSpec, TensorSpec, build_model


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def read(model: Model) -> Subgraph:
    return read_tflite(model.data)


def test_convolution_options(rng: np.random.Generator) -> None:
    model = model_builder.conv2d(rng, (1, 20, 21, 3), 8, (5, 3), stride=(2, 1), dilation=(1, 2), padding="VALID",
                                 activation="RELU6")
    (op,) = read(model).operations
    assert op.kind is Kind.CONV and op.window is not None
    assert (op.window.kernel, op.window.stride, op.window.dilation) == (Pair(5, 3), Pair(2, 1), Pair(1, 2))
    assert (op.window.padding, op.activation, op.version) == (Padding.VALID, Activation.RELU6, 3)


def test_depthwise_options(rng: np.random.Generator) -> None:
    (op,) = read(model_builder.depthwise(rng, (1, 9, 9, 3), (3, 5), multiplier=4, stride=(2, 2))).operations
    assert op.window is not None
    assert (op.kind, op.depth_multiplier, op.window.kernel) == (Kind.DEPTHWISE_CONV, 4, Pair(3, 5))


def test_pool_mean_and_fully_connected_options(rng: np.random.Generator) -> None:
    (op,) = read(model_builder.pool(rng, (1, 9, 9, 3), "MAX", (3, 2), stride=(1, 2), activation="RELU")).operations
    assert op.window is not None
    assert (op.window.kernel, op.window.stride, op.activation) == (Pair(3, 2), Pair(1, 2), Activation.RELU)
    assert read(model_builder.mean(rng, (1, 3, 3, 4), keep_dims=True)).operations[0].keep_dims
    assert read(model_builder.fully_connected(rng, (2, 3, 4), 5, keep_num_dims=True)).operations[0].keep_dims


def test_tensors_are_numbered_by_first_use(rng: np.random.Generator) -> None:
    model = model_builder.conv2d(rng, (1, 4, 4, 3), 8)
    unused = TensorSpec("unused", (3,), "int8")
    renumbered = replace(model.operations[0], inputs=(1, 2, 3), outputs=(4,))
    shuffled = Model((unused, *model.tensors), (renumbered,), (1,), (4,))
    assert read(shuffled) == read(model)
    assert [t.name for t in read(shuffled).tensors.values()] == ["input", "weights", "bias", "output"]


def test_per_channel_quantisation_keeps_one_zero_point_when_all_are_equal(rng: np.random.Generator) -> None:
    weights = read(model_builder.depthwise(rng, (1, 4, 4, 3), multiplier=2, per_channel=True)).tensors[1]
    assert weights.quantisation is not None
    q = weights.quantisation
    assert (len(q.scales), q.zero_points, q.axis) == (6, (0,), 3)


def test_different_zero_points_are_kept() -> None:
    tensor = TensorSpec("x", (2, 3), "int8", (0.5, 0.25), (1, 2), 0)
    tensors = [tensor, replace(tensor, name="y")]
    subgraph = read_tflite(build_model(tensors, [OperationSpec("ABS", (0,), (1,))], [0], [1]))
    quantisation = subgraph.tensors[0].quantisation
    assert quantisation is not None and quantisation.zero_points == (1, 2)


def test_optional_inputs_are_none(rng: np.random.Generator) -> None:
    assert read(model_builder.fully_connected(rng, (1, 8), 4, bias=False)).operations[0].inputs == (0, 1, None)


def test_custom_operators_are_named() -> None:
    x = TensorSpec("x", (2,), "float32")
    subgraph = read_tflite(build_model([x, replace(x, name="y")], [OperationSpec("CUSTOM:Blur", (0,), (1,))], [0], [1]))
    assert (subgraph.operations[0].name, subgraph.operations[0].kind) == ("CUSTOM:Blur", Kind.OTHER)


def test_shapes_that_only_the_runtime_knows_are_left_out() -> None:
    """The runtime gives a custom operation's outputs their shape; a shape in the file could be another one."""
    x = TensorSpec("x", (2,), "float32", signature=(-1,))
    tensors = [x, replace(x, name="read"), replace(x, name="last"), replace(x, name="y")]
    operations = [OperationSpec("CUSTOM:Two", (0,), (1, 2)), OperationSpec("ABS", (1,), (3,))]
    read_back = read_tflite(build_model(tensors, operations, [0], [2, 3])).tensors.values()
    assert [(t.name, t.shape, t.is_dynamic) for t in read_back] == [
        ("x", (2,), True), ("read", (2,), True), ("last", (), False), ("y", (2,), True)]


def test_operators_above_127_use_the_newer_code_field() -> None:
    x = TensorSpec("x", (2,), "float32")
    subgraph = read_tflite(build_model([x, replace(x, name="y")], [OperationSpec("GELU", (0,), (1,))], [0], [1]))
    assert subgraph.operations[0].name == "GELU"


def test_unknown_dimensions_make_a_tensor_dynamic(rng: np.random.Generator) -> None:
    model = model_builder.squeeze(rng, (1, 1, 1, 4))
    first = replace(model.tensors[0], signature=(-1, 1, 1, 4))
    subgraph = read(replace(model, tensors=(first, *model.tensors[1:])))
    assert [t.is_dynamic for t in subgraph.tensors.values()] == [True, False]
    assert subgraph.tensors[0].shape == (1, 1, 1, 4)


def test_variable_tensors_are_inputs_of_the_graph(rng: np.random.Generator) -> None:
    model = model_builder.add(rng, (1, 2, 2, 4))
    state = replace(model.tensors[1], is_variable=True)
    subgraph = read(Model((model.tensors[0], state, model.tensors[2]), model.operations, (0,), (2,)))
    assert (subgraph.inputs, subgraph.tensors[1].is_variable) == ((0, 1), True)


def test_constants_are_read_only_views(rng: np.random.Generator) -> None:
    model = model_builder.conv2d(rng, (1, 4, 4, 3), 8)
    subgraph = read(model)
    weights = subgraph.tensors[1].data
    assert weights is not None and not weights.flags.writeable
    np.testing.assert_array_equal(weights, model.tensors[1].data)
    assert subgraph.tensors[2].dtype is DType.INT32


def test_a_tensor_with_an_empty_buffer_is_not_constant() -> None:
    empty = TensorSpec("x", (0,), "float32", data=np.zeros(0, np.float32))
    subgraph = read_tflite(build_model([empty, replace(empty, name="y", data=None)], [OperationSpec("ABS", (0,), (1,))],
                                       [], [1]))
    assert subgraph.tensors[0].data is None and subgraph.inputs == (0,)


def test_names_end_at_a_nul_and_need_not_be_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    x = TensorSpec("caf\0e", (2,), "float32")
    data = build_model([x, replace(x, name="q$$q")], [OperationSpec("ABS", (0,), (1,))], [0], [1])
    subgraph = read_tflite(data.replace(b"q$$q", b"q\xff\xfeq"))
    assert [t.name for t in subgraph.tensors.values()] == ["caf", "q\\xff\\xfeq"]


def test_graph_ends() -> None:
    """Outputs that an operation writes; tensors that nothing writes are inputs, used or not by the application."""
    spec = TensorSpec("t", (2,), "float32")
    tensors = [replace(spec, name=str(i)) for i in range(4)]
    subgraph = read_tflite(build_model(tensors, [OperationSpec("ABS", (2,), (0,)), OperationSpec("ABS", (0,), (1,))],
                                       [2], [0, 1, 2]))
    assert [t.name for t in subgraph.tensors.values()] == ["2", "0", "1"]
    assert (subgraph.inputs, subgraph.outputs) == ((0,), (1, 2))


X = TensorSpec("x", (2, 3), "int8", (0.5,), (0,))


def broken(tensors: Sequence[TensorSpec], op: OperationSpec) -> bytes:
    return build_model(tensors, [op], [0], [1])


@pytest.mark.parametrize(("data", "message"), [
    (b"", "m: not a TFLite model, bytes 4..7 must be TFL3"),
    (b"TFL3" * 10, "m: damaged flatbuffer"),
    (broken([X, X], OperationSpec("ABS", (7,), (1,))), "m: operation 0 input: tensor 7, must be -1..1"),
    (broken([X, X], OperationSpec("ABS", (0,), (-1,))), "m: operation 0 output: tensor -1, must be 0..1"),
    (build_model([X, X], [OperationSpec("ABS", (0,), (1,))], [0], [1, -7]),
     "m: graph output: tensor -7, must be -1..1"),
    (build_model([X, X], [OperationSpec("ABS", (0,), (1,))], [2], [1]), "m: graph input: tensor 2, must be -1..1"),
    (broken([X, X], OperationSpec("CUSTOM:", (0,), (1,))), "m: operation 0: operator number 32, must be 0 or more"),
    (broken([X, replace(X, shape=(-4, 3))], OperationSpec("ABS", (0,), (1,))), "must be 0 or more each"),
    (broken([X, replace(X, shape=(1,) * 33)], OperationSpec("ABS", (0,), (1,))), "tensor 1: rank 33, must be 0..32"),
    (broken([X, replace(X, shape=(2**31 - 1,) * 4)], OperationSpec("ABS", (0,), (1,))), "at most 2**40 elements"),
    (broken([replace(X, data=np.zeros(5, np.int8)), X], OperationSpec("ABS", (0,), (1,))),
     "m: tensor 0: 5 bytes of contents, shape (2, 3) needs 6"),
    (broken([replace(X, scales=(1.0, 2.0), zero_points=(0,) * 3), X], OperationSpec("ABS", (0,), (1,))),
     "m: tensor 0: 3 zero points, must be 1 or 2"),
    (broken([replace(X, scales=(1.0, 2.0), zero_points=(0,), axis=1), X], OperationSpec("ABS", (0,), (1,))),
     "m: tensor 0: 2 scales on axis 1, must be one for each index of the axis, shape (2, 3)"),
    (build_model([X, X], [OperationSpec("ABS", (1,), (0,)), OperationSpec("ABS", (0,), (1,))], [0], [1]),
     "m: operation 0 (abs): reads tensor 0 before it is written"),
    (build_model([X, X], [OperationSpec("ABS", (0,), (1,)), OperationSpec("ABS", (0,), (1,))], [0], [1]),
     "m: operation 1 (abs): writes tensor 1 again, must be written once"),
])
def test_messages(data: bytes, message: str) -> None:
    with pytest.raises(FrontendError) as caught:
        read_tflite(data, place="m")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_subgraphs_are_chosen_by_index() -> None:
    data = broken([X, X], OperationSpec("ABS", (0,), (1,)))
    with pytest.raises(FrontendError, match=r"subgraph 1 does not exist, must be 0..0"):
        to_blob(data, 1)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, what in ((tmp_path, "a folder"), (tmp_path / "absent.tflite", "no such file"),
                       (Path("/dev/zero"), "no regular file")):
        with pytest.raises(FrontendError, match=f"{what}, must be a .tflite model"):
            load(path)
    (tmp_path / "text.tflite").write_text("hello, this is text")
    with pytest.raises(FrontendError, match=r"text.tflite: not a TFLite model, bytes 4..7 must be TFL3"):
        load(tmp_path / "text.tflite")
