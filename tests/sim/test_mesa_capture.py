"""Programs of another compiler, known to work on boards: each job alone on TFLite's exact intermediate tensors."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.sim.support import DATA, Capture, from_atoms, kick, new_core, to_atoms

CAPTURE = DATA / "mobilenet_v1_0.25_128_quant.grace.npz"
MODEL = "mobilenet_v1_0.25_128_quant.tflite"
LAYERS = [*range(27), 28]           # operation 27 is the average pool, which that driver left on the CPU
MAX_LSB = 1                         # one rounding on the device against two in TFLite's reference (numerics §9.2)


class Reference:
    """TFLite's reference kernels with every intermediate kept, on the capture's own input."""

    def __init__(self, model: Path, image: np.ndarray) -> None:
        tflite = pytest.importorskip("tflite_runtime.interpreter")
        self.interpreter = tflite.Interpreter(
            str(model), experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=tflite.OpResolverType.BUILTIN_REF)
        self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], image)
        self.interpreter.invoke()
        self.operations = self.interpreter._get_ops_details()
        self.zero_points = {t["index"]: t["quantization"][1] for t in self.interpreter.get_tensor_details()}

    def tensor(self, operation: int, key: str) -> tuple[np.ndarray, int]:
        """int8 [h][w][c] (uint8 minus 128) and the zero point in that domain."""
        index = int(self.operations[operation][key][0])
        value = self.interpreter.get_tensor(index)[0].astype(np.int16) - 128
        return value.astype(np.int8), int(self.zero_points[index]) - 128


@pytest.fixture(scope="module")
def capture() -> Capture:
    return Capture(CAPTURE)


@pytest.fixture(scope="module")
def reference(capture: Capture, models_dir: Path) -> Reference:
    if not (models_dir / MODEL).is_file():
        pytest.skip(f"{MODEL} is not in {models_dir}")
    handle = capture.meta["submits"][0]["jobs"][0]["tasks"][0]["refs"]["input"][0]
    image = from_atoms(capture.contents(0, handle), 128, 128, 3).astype(np.int16) + 128
    return Reference(models_dir / MODEL, image.astype(np.uint8)[np.newaxis])


@pytest.mark.parametrize("number", range(28), ids=lambda n: f"operation{LAYERS[n]}")
def test_job_alone_on_exact_input(number: int, capture: Capture, reference: Reference,
                                  record_table: Callable[[str, dict[str, object]], None]) -> None:
    submit, job = capture.jobs()[number]
    refs = job["tasks"][0]["refs"]
    inputs, zero_point = reference.tensor(LAYERS[number], "inputs")
    expected, _ = reference.tensor(LAYERS[number], "outputs")
    space, buffers = capture.memory(submit)
    atoms = to_atoms(inputs, fill=zero_point).reshape(-1)
    buffers[refs["input"][0]][:atoms.size] = atoms
    core = new_core()
    for task in job["tasks"]:
        outcome = kick(core, space, task["regcmd"], task["regcmd_count"])
        assert outcome.hang is None and outcome.fault is None and outcome.interrupts & 0x300
    result = from_atoms(buffers[refs["output"][0]], *expected.shape)
    distance = np.abs(result.astype(int) - expected.astype(int))
    record_table("simulated NPU, captured jobs on TFLite's own inputs", {
        "operation": LAYERS[number], "output": "x".join(map(str, expected.shape)),
        "equal": f"{100 * np.mean(distance == 0):.2f} %", "max LSB": int(distance.max())})
    assert distance.max() <= MAX_LSB
