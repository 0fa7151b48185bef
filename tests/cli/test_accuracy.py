"""`cermet accuracy`: finds the layer that is wrong, agrees with itself on every path, explains what it cannot do."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cermet.accuracy.error import Tally
from cermet.accuracy.model_file import file_numbers, input_details
from cermet.accuracy.reference import TfliteKernels
from cermet.cli.inputs import random_inputs
from cermet.drivers.rocket import conv
from cermet.drivers.rocket.passes import fuse_add
from cermet.drivers.soft.driver import SoftDriver
from cermet.frontend.tflite_file import load, read_tflite
from cermet.ir.tensor import DType, Quantisation, Tensor
from tests.cli.conftest import Cermet
from tests.conftest import BUNDLED_MODELS
from tests.support import interpreter

ERROR = {"unit": str, "elements": int, "max": float, "mean": float, "differing": float, "cosine": float,
         "saturated": int, "reference_saturated": int, "beyond": (int, type(None))}
TENSOR = {"tensor": int, "name": str, "operations": list, "target": str, "partition": (int, type(None)),
          "shape": list, "dtype": str, "chained": (dict, type(None)), "alone": (dict, type(None))}
MEASUREMENT = {"match": str, "equal": dict, "tensors": list, "notes": list}
TOP = {"model": str, "soc": str, "build_id": str, "device": str, "against": str, "samples": int, "measurements": list}


def check(value: dict, schema: dict) -> None:
    assert list(value) == list(schema)
    for name, kind in schema.items():
        assert isinstance(value[name], kind), name


def measured(cermet: Cermet, *arguments: object) -> list[dict]:
    result = cermet("accuracy", *arguments, "--json")
    assert (result.status, result.err) == (0, "")
    report = json.loads(result.out)
    check(report, TOP)
    for measurement in report["measurements"]:
        check(measurement, MEASUREMENT)
        for tensor in measurement["tensors"]:
            check(tensor, TENSOR)
            for error in filter(None, (tensor["chained"], tensor["alone"])):
                check(error, ERROR)
    return report["measurements"]


@pytest.fixture
def mobilenet(models_dir: Path) -> Path:
    return models_dir / "mobilenet_v1_0.25_128_quant.tflite"


@pytest.fixture
def residual(models_dir: Path) -> Path:
    return models_dir / "miniresnetv2_1stacks_64x50_tl_int8.tflite"


def break_convolution(monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    """The lowering of one operation multiplies by 3 % too much; the support rules do not notice."""
    right = conv.layer_requantisation

    def wrong(layer, operation, output, match, **keywords):
        if operation.index == index:
            layer = replace(layer, multipliers=layer.multipliers * 1.03)
        return right(layer, operation, output, match, **keywords)
    monkeypatch.setattr(conv, "layer_requantisation", wrong)


@pytest.mark.parametrize("index", [0, 7, 22])
def test_a_broken_layer_comes_first(cermet: Cermet, mobilenet: Path, monkeypatch: pytest.MonkeyPatch,
                                    index: int) -> None:
    break_convolution(monkeypatch, index)
    (measurement,) = measured(cermet, mobilenet)
    first, second = measurement["tensors"][:2]
    assert [operation["index"] for operation in first["operations"]] == [index]
    assert first["alone"]["max"] > 1 >= second["alone"]["max"]
    assert first["alone"]["beyond"] > 0 == second["alone"]["beyond"]
    lines = cermet("accuracy", mobilenet, "--top", 1).out.splitlines()
    assert lines[2].split()[:3] == ["NPU", "0", str(index)]


def test_a_sound_network_has_no_layer_beyond_one_step_of_exact(cermet: Cermet, mobilenet: Path) -> None:
    for measurement in measured(cermet, mobilenet, "--against", "exact", "--both", "--random", 2):
        errors = [tensor["alone"] for tensor in measurement["tensors"] if tensor["alone"]]
        assert len(errors) >= 28
        assert max(error["max"] for error in errors) <= 1


def test_both_ways_of_rounding_are_told_apart(cermet: Cermet, mobilenet: Path) -> None:
    imitated, exact = measured(cermet, mobilenet, "--both")
    assert (imitated["match"], exact["match"]) == ("tflite", "exact")
    assert imitated["equal"] == {"chained": 1.0, "alone": 1.0}
    assert 0.95 < exact["equal"]["alone"] < 1 and exact["equal"]["chained"] < exact["equal"]["alone"]
    lines = cermet("accuracy", mobilenet, "--both", "--top", 3).out.splitlines()
    assert lines[-2].endswith("equal to cermet's arithmetic: 100.0000% of the elements chained, "
                              "layers alone 100.0000%")
    assert "match=exact" in lines[-1]


def test_operations_that_run_as_one_are_one_line(cermet: Cermet, residual: Path) -> None:
    (measurement,) = measured(cermet, residual, "--match", "exact")
    names = [[operation["operation"] for operation in tensor["operations"]] for tensor in measurement["tensors"]]
    assert any(name[-2:] == ["CONV_2D", "ADD"] for name in names)
    assert all(tensor["alone"]["beyond"] == 0 for tensor in measurement["tensors"] if tensor["alone"])


@pytest.mark.parametrize("name", ["kws_ref_model", "miniresnetv2_1stacks_64x50_tl_int8", "vww_96_int8"])
def test_proven_parts_alone_are_as_right(cermet: Cermet, models_dir: Path, name: str) -> None:
    """assume=off takes other ways for scales that differ between channels, tables and clamps."""
    (exact,) = measured(cermet, models_dir / f"{name}.tflite", "--against", "exact", "--option", "assume=off",
                        "--option", "prefer=npu")
    alone = [(tensor["alone"], len(tensor["operations"])) for tensor in exact["tensors"] if tensor["alone"]]
    assert len(alone) >= 9
    assert all(error["beyond"] == 0 and (error["max"] <= 1 or count > 1) for error, count in alone)


@pytest.mark.parametrize("model", sorted(BUNDLED_MODELS.glob("*.tflite")), ids=lambda path: path.stem)
def test_tflites_rounding_is_the_nearer_one(cermet: Cermet, model: Path, record_table) -> None:
    """Layer by layer match=tflite equals TFLite at least as often as match=exact does."""
    shares = {one["match"]: one["equal"] for one in measured(cermet, model, "--both")}
    record_table("Elements on the simulated NPU that equal TFLite's arithmetic", {"model": model.stem} | {
        f"{match}, {how}": "-" if share is None else f"{share:.3%}"
        for match, equal in shares.items() for how, share in equal.items()})
    if shares["tflite"]["alone"] is not None:
        assert shares["tflite"]["alone"] >= shares["exact"]["alone"]


def test_a_step_inside_a_group_may_be_several_behind_it(cermet: Cermet, residual: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """The allowance of a group is neither blind to a broken group nor narrower than its operations' steps."""
    groups = [t for t in measured(cermet, residual, "--against", "exact", "--match", "exact")[0]["tensors"]
              if t["alone"] and t["operations"][-1]["operation"] == "ADD" and len(t["operations"]) > 1]
    assert groups and all(group["alone"]["beyond"] == 0 for group in groups)
    index = groups[0]["operations"][-1]["index"]
    right = fuse_add.fused_numbers

    def wrong(subgraph, host, add, other):
        made = right(subgraph, host, add, other)
        return made if add.index != index else replace(made, add=made.add + (made.add // 4))
    monkeypatch.setattr(fuse_add, "fused_numbers", wrong)
    first = measured(cermet, residual, "--against", "exact", "--match", "exact")[0]["tensors"][0]
    assert first["operations"][-1]["index"] == index and first["alone"]["beyond"] > 0


def test_a_padding_inside_a_convolution_is_one_line_with_it(cermet: Cermet, models_dir: Path) -> None:
    from cermet.ir.passes.fold_pad import PADS, fold_pad
    model = next((path for path in sorted(models_dir.glob("*.tflite"))
                  if len(fold_pad(subgraph := load(path)).operations) < len(subgraph.operations)), None)
    if model is None:
        pytest.skip("no reference model with such a padding")
    names = {kind.value for kind in PADS}
    for tensor in measured(cermet, model)[0]["tensors"]:
        operations = [operation["operation"] for operation in tensor["operations"]]
        if tensor["target"] == "NPU" and names & set(operations):
            assert len(operations) > 1 and tensor["alone"]["max"] <= 2
            return
    pytest.fail("no padding runs on the NPU")


def test_the_interpreter_and_our_arithmetic_say_the_same(cermet: Cermet, residual: Path) -> None:
    pytest.importorskip("tflite_runtime")
    ours, theirs = measured(cermet, residual), measured(cermet, residual, "--against", "tflite", "--runtime", "tflite")
    assert ours == theirs


def test_every_tensor_of_the_interpreter_can_be_read(residual: Path) -> None:
    """TFLite's additions overwrite an operand; made outputs, all tensors stay what they were."""
    pytest.importorskip("tflite_runtime")
    model = residual.read_bytes()
    inputs = random_inputs(input_details(model), 5)
    plain = interpreter.make_interpreter(model, preserve_all_tensors=True)
    interpreter.invoke(plain, inputs)
    stale = interpreter.overwritten_tensors(plain)
    subgraph, numbers = read_tflite(model), file_numbers(model)
    values = TfliteKernels(model, subgraph, "tflite").run_model(inputs)
    soft, checked = SoftDriver(), set()
    for operation in subgraph.operations:
        if soft.refuse(subgraph, operation) is None:
            part = subgraph.extract([operation])
            made = soft.execute_all(part, {t: values.get(t, inputs[0]) for t in part.inputs})
            for tensor in operation.outputs:
                np.testing.assert_array_equal(made[tensor], values[tensor])
                checked.add(numbers[tensor])
    assert stale & checked


def test_a_device_gives_what_the_core_gives(cermet: Cermet, needs_delegate: None, mobilenet: Path) -> None:
    assert measured(cermet, mobilenet, "--device", "sim") == measured(cermet, mobilenet)


def test_pictures_and_arrays_are_samples(cermet: Cermet, mobilenet: Path, models_dir: Path, tmp_path: Path) -> None:
    from PIL import Image
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    np.save(tmp_path / "array.npy", pixels)
    np.savez(tmp_path / "arrays.npz", pixels[None])
    one = measured(cermet, mobilenet, "--inputs", tmp_path / "picture.png")
    assert measured(cermet, mobilenet, "--inputs", tmp_path / "array.npy") == one
    assert measured(cermet, mobilenet, "--inputs", tmp_path / "arrays.npz") == one
    (twice,) = measured(cermet, mobilenet, "--inputs", tmp_path / "picture.png", tmp_path / "array.npy")
    assert twice["tensors"][0]["alone"]["elements"] == 2 * one[0]["tensors"][0]["alone"]["elements"]


def test_the_cpu_between_partitions_sees_what_the_npu_made(cermet: Cermet, mobilenet: Path) -> None:
    (measurement,) = measured(cermet, mobilenet, "--option", "deny=DEPTHWISE_CONV_2D", "--option", "prefer=npu",
                              "--match", "exact")
    cpu = [t for t in measurement["tensors"] if t["operations"][0]["operation"] == "DEPTHWISE_CONV_2D"]
    assert {tensor["target"] for tensor in cpu} == {"CPU"} and all(tensor["alone"] is None for tensor in cpu)
    assert any(tensor["chained"]["differing"] > 0 for tensor in cpu)


def test_plots_are_drawn(cermet: Cermet, conv_model: Path, tmp_path: Path) -> None:
    from PIL import Image
    for name in ("error.svg", "error.png"):
        result = cermet("accuracy", conv_model, "--plot", tmp_path / name)
        assert (result.status, result.err) == (0, "")
    assert ElementTree.parse(tmp_path / "error.svg").getroot().tag.endswith("svg")
    assert Image.open(tmp_path / "error.png").size == (1200, 640)


@pytest.mark.parametrize(("arguments", "words"), [
    (["nosuch.tflite"], "nosuch.tflite: no such file"),
    ([__file__], "bytes 4..7 must be TFL3"),
    (["MODEL", "--plot", "error.gif"], "--plot: error.gif must end in .svg or .png"),
    (["MODEL", "--inputs", "nosuch.npy"], "nosuch.npy: No such file or directory"),
    (["MODEL", "--inputs", __file__], "is not a picture that can be read"),
    (["MODEL", "--crop"], "--crop: cuts the pictures of --inputs, which are not there"),
    (["MODEL", "--soc", "rk1"], "soc: 'rk1' must be one of rk3588"),
    (["MODEL", "--option", "match=best"], "match"),
    (["MODEL", "--option", "match=exact", "--match", "tflite"], "--match: tflite and --option match=exact contradict"),
])
def test_errors_are_one_line(cermet: Cermet, mobilenet: Path, arguments: list[str], words: str) -> None:
    result = cermet("accuracy", *(str(mobilenet) if word == "MODEL" else word for word in arguments))
    assert (result.status, result.out) == (1, "")
    assert words in result.err
    assert result.err.startswith("cermet: ") and result.err.count("\n") == 1


def test_a_model_that_stays_on_the_cpu_is_no_error(cermet: Cermet, mobilenet: Path) -> None:
    result = cermet("accuracy", mobilenet, "--option", "allow=MEAN")
    assert result.status == 0
    assert result.out.splitlines()[-1].endswith("nothing was measured on the NPU")


def test_tally_adds_up_samples() -> None:
    tally = Tally(Tensor(0, "t", (4,), DType.INT8, Quantisation((0.5,), (2,))))
    assert tally.error() is None
    tally.add(np.array([2, 3, 127, 5], np.int8), np.array([2, 4, 124, 5], np.int8), np.ones(4))
    tally.add(np.array([2, 2, -128, 2], np.int8), np.array([2, 2, -128, 2], np.int8))
    error = tally.error()
    assert error is not None
    assert (error.elements, error.max, error.mean, error.differing) == (8, 3.0, 0.5, 0.25)
    assert (error.saturated, error.reference_saturated, error.beyond) == (2, 1, 1)
    a, b = np.array([0, 1, 125, 3, -130.0]), np.array([0, 2, 122, 3, -130.0])
    assert error.cosine == pytest.approx(a @ b / (a @ a * (b @ b)) ** 0.5)


def test_cosine_of_nothing_is_one() -> None:
    for got, cosine in ((0, 1.0), (1, 0.0)):
        tally = Tally(Tensor(0, "t", (2,), DType.INT8, Quantisation((1.0,), (0,))))
        tally.add(np.full(2, got, np.int8), np.zeros(2, np.int8))
        error = tally.error()
        assert error is not None and error.cosine == cosine


def test_programs_that_chain_themselves_need_silicon_that_lets_them(cermet: Cermet, mobilenet: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    failed = cermet("accuracy", mobilenet, "--option", "chains=program")
    assert failed.status == 1 and "cannot be written by a program (Q-X12)" in failed.err
    monkeypatch.setenv("CERMET_SIM_SILICON", "Q-X12=runs")
    assert "layers alone 100.0000%" in cermet("accuracy", mobilenet, "--option", "chains=program").out
    monkeypatch.setenv("CERMET_SIM_SILICON", "Q-X12=early")
    failed = cermet("accuracy", mobilenet, "--option", "chains=program")
    assert failed.status == 1 and failed.err.count("\n") == 1
    assert "its result is missing when its job is over; a chain needs an NPU that runs it" in failed.err
    monkeypatch.setenv("CERMET_SIM_SILICON", "Q-X12")
    failed = cermet("accuracy", mobilenet)
    assert failed.status == 1 and failed.err.count("\n") == 1 and "must be one of ignored, runs" in failed.err
