"""Passes that any driver may run: the same numbers, and a runner that names a pass that breaks a subgraph."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import read_tflite
from cermet.ir.operation import Activation
from cermet.ir.passes import PassError, run_passes
from cermet.ir.passes.drop_dead import drop_dead
from cermet.ir.passes.fold_activation import fold_activation
from cermet.ir.subgraph import Subgraph
from tests.support import interpreter, model_builder
from tests.support.model_builder import Model, OperationSpec


def conv_then(name: str, *, keep_output: bool = False) -> Model:
    """CONV_2D, then an activation of its own with the same quantisation."""
    conv = model_builder.conv2d(np.random.default_rng(4), (1, 5, 5, 3), 4, output_zero_point=-20)
    tensors = (*conv.tensors, replace(conv.tensors[3], name="activated"))
    operations = (*conv.operations, OperationSpec(name, (3,), (4,), {}, 2))
    return Model(tensors, operations, (0,), (3, 4) if keep_output else (4,))


def test_fold_activation() -> None:
    after = run_passes(read_tflite(conv_then("RELU6").data), (fold_activation, drop_dead))
    assert [op.activation for op in after.operations] == [Activation.RELU6]


@pytest.mark.parametrize("name", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_a_folded_activation_computes_the_same(name: str) -> None:
    """RELU_N1_TO_1 has no quantised kernel in TFLite; its clamp is compared with a clamp here."""
    model = conv_then(name)
    inputs = model.random_inputs(np.random.default_rng(2))
    folded = run_passes(read_tflite(model.data))
    (result,) = SoftDriver().execute(folded, dict(zip(folded.inputs, inputs, strict=True))).values()
    if name == "RELU_N1_TO_1":
        plain = replace(model, operations=model.operations[:1], outputs=(3,))
        scale, zero = model.tensors[3].scale, model.tensors[3].zero_point
        expected = np.clip(interpreter.run(plain.data, inputs)[0], zero - round(1 / scale), zero + round(1 / scale))
    else:
        expected = interpreter.run(model.data, inputs)[0]
    np.testing.assert_array_equal(result, expected)


def test_an_activation_whose_input_others_need_is_kept() -> None:
    before = read_tflite(conv_then("RELU", keep_output=True).data)
    assert fold_activation(before) is before


def test_an_activation_that_requantises_is_kept() -> None:
    model = conv_then("RELU")
    rescaled = replace(model.tensors[4], scales=(model.tensors[4].scale * 2,))
    before = read_tflite(replace(model, tensors=(*model.tensors[:4], rescaled)).data)
    assert fold_activation(before) is before


def test_an_operation_with_an_activation_takes_no_second_one() -> None:
    before = read_tflite(conv_then("RELU6").data)
    conv = replace(before.operations[0], activation=Activation.RELU)
    before = replace(before, operations=(conv, before.operations[1]))
    assert fold_activation(before) is before


def test_drop_dead() -> None:
    after = run_passes(read_tflite(replace(conv_then("RELU"), outputs=(3,)).data), (drop_dead,))
    assert [op.name for op in after.operations] == ["CONV_2D"]


def test_operations_without_outputs_are_kept() -> None:
    """ASSIGN_VARIABLE and the like act by side effect."""
    model = conv_then("RELU")
    sink = OperationSpec("CUSTOM:Sink", (4,), ())
    before = read_tflite(replace(model, operations=(*model.operations, sink), outputs=(3,)).data)
    assert drop_dead(before) is before


def test_nothing_dead_changes_nothing() -> None:
    before = read_tflite(conv_then("RELU").data)
    assert drop_dead(before) is before


def test_a_pass_that_breaks_the_subgraph_is_named() -> None:
    def lose_outputs(subgraph: Subgraph) -> Subgraph:
        return replace(subgraph, operations=subgraph.operations[:1])

    with pytest.raises(PassError, match="pass lose_outputs: graph outputs: tensor 4 is not written by any operation"):
        run_passes(read_tflite(conv_then("RELU").data), (lose_outputs,))


def test_debug_prints_after_each_pass(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    subgraph = read_tflite(conv_then("RELU").data)
    run_passes(subgraph)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("CERMET_DEBUG", "jobs,passes")
    run_passes(subgraph)
    shown = capsys.readouterr().err
    assert "---- fold_activation\ninput    %0" in shown and "relu fused 1" in shown and "---- drop_dead" in shown
