"""The soft driver: whole models against TFLite's intermediate tensors, bit for bit; refusals and input errors."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.drivers.soft.driver import SoftDriver, SoftError
from cermet.frontend.tflite_file import load, read_tflite
from cermet.ir.subgraph import Subgraph
from tests.support import exact, interpreter, model_builder

WHOLE_MODELS = {    # model -> how many operations the soft driver runs at least
    "mobilenet_v1_0.25_128_quant": 30, "tf2_mobilenet_v2_1.0_224_ptq": 67, "mobilenet_v2_1.0_224_quant": 65,
    "vww_96_int8": 30, "ad01_int8": 10, "kws_ref_model": 12, "yolo-fastest-1.1-coco80-int8": 159,
    "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29_no_metadata": 61}


def supported_part(subgraph: Subgraph) -> Subgraph:
    driver = SoftDriver()
    return subgraph.extract(op for op in subgraph.operations if driver.refuse(subgraph, op, CompileOptions()) is None)


def random_inputs(path: Path) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    details = interpreter.make_interpreter(path).get_input_details()
    return [model_builder.random_quantised(rng, d["shape"].tolist(), np.dtype(d["dtype"]).name) for d in details]


@pytest.mark.parametrize("name", WHOLE_MODELS)
def test_chain_equals_tflite_s_intermediate_tensors(name: str, models_dir: Path,
                                                    record_table: Callable[[str, dict[str, object]], None]) -> None:
    """All supported operations in one chain, fed with what TFLite's other operations gave; no element may differ."""
    path = models_dir / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"{name} is not among the bundled models")
    part = supported_part(load(path))
    assert len(part.operations) >= WHOLE_MODELS[name]
    theirs = interpreter.run_all(path, random_inputs(path))
    mine = SoftDriver().execute_all(part, {t: theirs[part.tensors[t].name] for t in part.inputs})
    compared = 0
    for operation in part.operations:
        tensor = part.tensors[operation.output]
        if tensor.name in theirs:       # others: TFLite wrote over them in place
            different = int((mine[tensor.index] != theirs[tensor.name]).sum())
            assert different == 0, f"{operation}: {different} of {tensor.num_elements} differ"
            compared += tensor.num_elements
    record_table("soft driver against TFLite's intermediate tensors", {
        "model": name, "operations": len(part.operations), "elements compared": compared, "different": 0})
    assert compared > 0.5 * sum(part.tensors[op.output].num_elements for op in part.operations)


def chain() -> model_builder.Model:
    rng = np.random.default_rng(9)
    return model_builder.chain(
        model_builder.conv2d(rng, (1, 8, 8, 3), 8, activation="RELU"),
        lambda t: model_builder.depthwise(rng, t.shape, input_zero_point=t.zero_point),
        lambda t: model_builder.pool(rng, t.shape, zero_point=t.zero_point))


def test_exact_rounding_equals_the_oracle() -> None:
    model = chain()
    inputs = model.random_inputs(np.random.default_rng(1))
    subgraph = read_tflite(model.data)
    (result,) = SoftDriver("exact").execute(subgraph, {0: inputs[0]}).values()
    np.testing.assert_array_equal(result, exact.run(model, inputs)[-1].quantised)


def test_execute_gives_the_outputs_only() -> None:
    model = chain()
    inputs = model.random_inputs(np.random.default_rng(1))
    subgraph = read_tflite(model.data)
    outputs = SoftDriver().execute(subgraph, {0: inputs[0]})
    assert tuple(outputs) == subgraph.outputs
    np.testing.assert_array_equal(outputs[subgraph.outputs[0]], interpreter.run(model.data, inputs)[0])


def test_other_operations_and_floats_are_refused() -> None:
    rng = np.random.default_rng(0)
    driver = SoftDriver()
    for model, rule, reason in [
            (model_builder.unary(rng, "FLOOR", (1, 4)), "soft.operand", "FLOOR has no numerics here"),
            (model_builder.reshape(rng, (1, 4), (4,), dtype="int16"), "soft.operand",
             "input is int16, must be int8 or uint8")]:
        subgraph = read_tflite(model.data)
        refusal = driver.refuse(subgraph, subgraph.operations[0], CompileOptions())
        assert refusal is not None and (refusal.rule, refusal.reason) == (rule, reason)
    with pytest.raises(SoftError, match=r"operation 0 \(reshape\): input is int16, must be int8 or uint8"):
        driver.execute(subgraph, {0: np.zeros((1, 4), np.int16)})


def test_wrong_inputs_are_named() -> None:
    subgraph = read_tflite(chain().data)
    driver = SoftDriver()
    with pytest.raises(SoftError, match=r"input 0 \(input\): missing, must be int8 \(1, 8, 8, 3\)"):
        driver.execute(subgraph, {})
    with pytest.raises(SoftError, match=r"input 0 \(input\): uint8 \(1, 8, 8, 3\), must be int8"):
        driver.execute(subgraph, {0: np.zeros((1, 8, 8, 3), np.uint8)})


def test_there_is_no_program() -> None:
    with pytest.raises(SoftError, match=r"soft driver: has no programs, use execute\(\)"):
        SoftDriver().compile(read_tflite(chain().data), CompileOptions())
