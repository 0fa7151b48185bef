"""Every reference model through the delegate on the simulated NPU, against goldens of TFLite's reference kernels."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cermet import paths

from .reference_models import ReferenceModel, load_manifest

MODELS = load_manifest()
RUNTIMES = ("tflite_runtime.interpreter", "ai_edge_litert.interpreter")
# Layers with channels of very different scales, whose multipliers no two factors of 15 bits hold: docs/accuracy.md.
NOT_EQUAL = ("tf2_mobilenet_v2_1.0_224_ptq", "movenet_single_pose_lightning_ptq")
# A keypoint that nobody sees lies anywhere: test_tasks.py has bounds for those that count.
TESTED_AS_A_TASK = ("movenet_single_pose_lightning_ptq",)


def interpreter(model: ReferenceModel, runtime: str) -> Any:
    """An interpreter with the delegate on the simulated NPU; CPU leftovers run on TFLite's reference kernels."""
    tflite = pytest.importorskip(runtime)
    delegate = tflite.load_delegate(str(paths.library("libcermet_delegate.so")), {"device": "sim"})
    made = tflite.Interpreter(str(model.path), experimental_delegates=[delegate],
                              experimental_op_resolver_type=tflite.OpResolverType.BUILTIN_REF)
    made.allocate_tensors()
    return made


def run(made: Any, inputs: list[np.ndarray], steps: int) -> list[np.ndarray]:
    """Outputs of `steps` invocations, stacked when there are several (stateful models)."""
    collected: list[list[np.ndarray]] = []
    for _ in range(steps):
        for detail, array in zip(made.get_input_details(), inputs, strict=True):
            made.set_tensor(detail["index"], array)
        made.invoke()
        collected.append([made.get_tensor(detail["index"]) for detail in made.get_output_details()])
    if steps == 1:
        return collected[0]
    return [np.stack(outputs) for outputs in zip(*collected, strict=True)]


def reference_outputs(model: ReferenceModel, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What TFLite's reference kernels say, asked now."""
    tflite = pytest.importorskip(RUNTIMES[0])
    made = tflite.Interpreter(str(model.path), experimental_op_resolver_type=tflite.OpResolverType.BUILTIN_REF)
    made.allocate_tensors()
    return run(made, inputs, model.entry["golden"]["steps"])


def allowed_difference(model: ReferenceModel, step: float) -> float:
    """0: equal to the last bit. Else what the project promises: as near to the reference kernels as XNNPACK, or 2 steps
    where that is more."""
    if model.name not in NOT_EQUAL:
        return 0.0
    return max(float(model.entry["ref_vs_xnnpack_litert23"]["max"]), 2 * step)


def differences(model: ReferenceModel, runtime: str) -> list[dict]:
    """One row per golden case and output."""
    rows = []
    steps = model.entry["golden"]["steps"]
    made = interpreter(model, runtime)
    for case, inputs, stored in model.cases():
        if steps > 1:       # variables remember the case before; the goldens have the first step's input only
            made, stored = interpreter(model, runtime), []
        outputs = run(made, inputs, steps)
        references = stored or reference_outputs(model, inputs)
        for index, (output, reference) in enumerate(zip(outputs, references, strict=True)):
            assert output.shape == reference.shape
            distance = np.abs(output.astype(np.float64) - reference.astype(np.float64))
            rows.append({
                "case": case, "output": index, "max": float(distance.max(initial=0)),
                "equal": float(np.mean(distance == 0)) if distance.size else 1.0,
                "allowed": allowed_difference(model, model.output_steps[index]),
                "top1": bool(output.ravel().argmax() == reference.ravel().argmax()) if output.size else True})
    return rows


@pytest.mark.parametrize("runtime", RUNTIMES, ids=("tflite", "litert"))
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_outputs_are_the_reference_kernels(model, runtime, record_table):
    rows = differences(model, runtime)
    is_bounded = model.name not in TESTED_AS_A_TASK
    for row in rows:
        record_table("Reference models on the simulated NPU against TFLite's reference kernels", {
            "model": model.name, "runtime": runtime.split(".")[0], "case": row["case"], "output": row["output"],
            "max difference": f"{row['max']:g}", "allowed": f"{row['allowed']:g}" if is_bounded else "-",
            "equal": f"{row['equal']:.2%}", "top-1": "same" if row["top1"] else "other"})
    assert rows
    for row in rows:
        assert not is_bounded or row["max"] <= row["allowed"], row
        assert not (model.is_classifier and row["case"] == "pic") or row["top1"], row
