"""`cermet run`: inputs, comparison, output forms, errors."""
from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cermet.cli import inputs
from cermet.cli.comparison import compare
from cermet.cli.run_text import Timings, compile_text, top_classes
from cermet.cli.setting import choose_device
from cermet.errors import CermetError
from cermet.interpreter import reason_of
from tests.cli.conftest import Cermet
from tests.support import model_builder

DETAIL = {"name": "image", "shape": np.array([1, 4, 6, 3]), "dtype": np.uint8}


# Comparison


def test_differences_are_counted_in_steps() -> None:
    difference = compare("out", np.array([0, 255, 7, 9], np.uint8), np.array([255, 0, 7, 8], np.uint8))
    assert (difference.unit, difference.max, difference.mean, difference.equal) == ("LSB", 255.0, 127.75, 0.25)
    assert str(difference) == "out: at most 255 LSB, mean 127.8 LSB, 25.00% equal"


def test_floats_have_no_steps_and_nan_equals_nan() -> None:
    difference = compare("out", *np.array([[np.nan, 1.5, np.inf], [np.nan, 1.0, np.inf]], np.float32))
    assert (difference.unit, difference.max, difference.equal) == ("value", 0.5, pytest.approx(2 / 3))


def test_empty_outputs_are_equal() -> None:
    assert compare("out", np.zeros((0, 4), np.int8), np.zeros((0, 4), np.int8)).equal == 1.0


# Inputs


def test_random_inputs_come_from_the_seed_and_span_the_type() -> None:
    detail = {"name": "x", "shape": np.array([1, 50, 50, 3]), "dtype": np.int8}
    first, again, other = (inputs.random_inputs([detail], seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert (first.min(), first.max(), first.dtype, first.shape) == (-128, 127, np.int8, (1, 50, 50, 3))


def test_picture_is_stretched_or_cut_to_the_input(tmp_path: Path) -> None:
    """A picture whose left and right quarters are white: cut away by crop, kept without."""
    image = pytest.importorskip("PIL.Image")
    pixels = np.full((40, 120, 3), 255, np.uint8)
    pixels[:, 30:90] = 0
    image.fromarray(pixels).save(tmp_path / "picture.png")
    detail = DETAIL | {"shape": np.array([1, 40, 60, 3])}
    (cut,) = inputs.picture_inputs([detail], tmp_path / "picture.png", crop=True)
    (stretched,) = inputs.picture_inputs([detail], tmp_path / "picture.png", crop=False)
    assert cut.shape == stretched.shape == (1, 40, 60, 3)
    assert cut.max() == 0 and stretched.max() == 255


@pytest.mark.parametrize("crop", [True, False])
def test_files_that_are_no_pictures_are_an_error(crop: bool) -> None:
    with pytest.raises(CermetError, match="is not a picture that can be read"):
        inputs.picture_inputs([DETAIL], Path(__file__), crop=crop)


def test_pictures_are_for_models_with_one_input() -> None:
    with pytest.raises(CermetError, match="--image: the model has 2 inputs, must have 1; use --input for each"):
        inputs.picture_inputs([DETAIL, DETAIL], Path("x.png"), crop=False)


@pytest.mark.parametrize(("array", "words"), [
    (np.zeros((1, 4, 6, 3), np.int8), "image: the array is of type int8, must be uint8"),
    (np.zeros((1, 4, 6, 4), np.uint8), r"image: the array has shape \[1, 4, 6, 4\], must be \[1, 4, 6, 3\]")])
def test_arrays_must_fit_the_input(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(CermetError, match=words):
        inputs.file_inputs([DETAIL], [tmp_path / "x.npy"])


def test_leading_ones_do_not_matter(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((4, 6, 3), np.uint8))
    assert inputs.file_inputs([DETAIL], [tmp_path / "x.npy"])[0].shape == (1, 4, 6, 3)


def test_npz_is_read_by_the_inputs_names(tmp_path: Path) -> None:
    details = [DETAIL | {"name": name, "shape": np.array([1])} for name in ("a", "b")]
    np.savez(tmp_path / "x.npz", b=np.array([2], np.uint8), a=np.array([1], np.uint8))
    assert [int(array[0]) for array in inputs.file_inputs(details, [tmp_path / "x.npz"])] == [1, 2]


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04garbage", b"\x93NUMPY\x01\x00\xff\xff"])
def test_files_that_are_no_arrays_are_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(CermetError, match=r"is not a \.npy or \.npz file"):
        inputs.file_inputs([DETAIL], [tmp_path / "x.npy"])


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([Namespace()], object), allow_pickle=True)
    with pytest.raises(CermetError, match=r"is not a \.npy or \.npz file"):
        inputs.file_inputs([DETAIL], [tmp_path / "x.npy"])


# Small parts


def test_labels_may_have_a_background_that_the_model_has_not() -> None:
    detail = {"quantization": (0.5, 1)}
    scores = np.array([[1, 9, 3]], np.uint8)
    assert top_classes(detail, scores, ["a", "b", "c"])[0] == {"index": 1, "label": "b", "score": 4.0}
    assert top_classes(detail, scores, ["background", "a", "b", "c"])[0]["label"] == "b"
    with pytest.raises(CermetError, match="--labels: 2 lines, the first output has 3 elements"):
        top_classes(detail, scores, ["a", "b"])


def test_delegates_words_are_found_in_the_runtimes_exception() -> None:
    text = "Failed to load delegate from /x.so\ncermet: device sim: no\n"
    assert reason_of(ValueError(text)) == "device sim: no"
    text = "cermet: compiler: cermet: soc: no\nRestored original execution plan after delegate application failure."
    assert reason_of(RuntimeError(text)) == "soc: no"
    assert reason_of(RuntimeError("cermet: no job\nNode number 3 (Cermet) failed to invoke.\n")) == "no job"
    assert reason_of(RuntimeError("Node number 3 (ADD) failed")) == "Node number 3 (ADD) failed"
    assert reason_of(RuntimeError("")) == "RuntimeError"


def test_environment_chooses_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERMET_DEVICE", "/dev/accel/accel3")
    assert choose_device("auto") == "/dev/accel/accel3"
    assert choose_device("sim") == "sim"


def test_compile_time_says_where_the_plan_came_from() -> None:
    assert compile_text(Timings(0.0, 1, 1, 1, 1)) == "not needed, the plan is in the cache"
    assert compile_text(Timings(None, 1, 1, 1, 1)) == "in load: the plan is not cached"
    assert compile_text(Timings(412.3, 1, 1, 1, 1)) == "412 ms"


# Whole runs


@pytest.mark.usefixtures("needs_delegate")
@pytest.mark.parametrize("runtime", ["litert", "tflite"])
def test_json_of_a_comparison(cermet: Cermet, conv_model: Path, tmp_path: Path, runtime: str) -> None:
    pytest.importorskip("tflite_runtime" if runtime == "tflite" else "ai_edge_litert")
    arguments = ["run", conv_model, "--random", 4, "--device", "sim", "--runtime", runtime, "--repeat", 3,
                 "--option", f"cache_dir={tmp_path / 'cache'}"]
    first = cermet(*arguments, "--json", "--compare", "cpu", "--output", tmp_path / "out.npz")
    assert (first.status, first.err) == (0, "")
    made = json.loads(first.out)
    assert list(made) == ["model", "soc", "device", "runtime", "summary", "timings", "estimate", "outputs", "top",
                          "compare"]
    assert (made["soc"], made["device"], made["runtime"], made["top"]) == ("rk3588", "sim", runtime, [])
    assert made["summary"]["nodes_npu"] == 1 and made["timings"]["invokes"] == 3 and made["timings"]["compile_ms"] > 0
    (output,), (difference,) = made["outputs"], made["compare"]
    assert (output["shape"], output["dtype"], difference["unit"]) == ([1, 8, 8, 6], "int8", "LSB")
    assert (difference["max"], difference["equal"]) == (0, 1)
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["probabilities"].shape == (1, 8, 8, 6)
    second = json.loads(cermet(*arguments, "--json").out)
    assert second["timings"]["compile_ms"] == 0 and "compare" not in second


@pytest.mark.usefixtures("needs_delegate")
def test_lines_for_people(cermet: Cermet, conv_model: Path) -> None:
    result = cermet("run", conv_model, "--device", "sim")
    assert (result.status, result.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in result.out.splitlines() if not line.startswith("on "))
    assert lines["device"] == "simulated rk3588, through litert"
    assert lines["output"] == "probabilities: 1x8x8x6 int8"
    assert "on the NPU   1 of 2 nodes, 100.00% of the MACs, 53.40% of the bytes, 1 partition" in result.out


@pytest.mark.usefixtures("needs_delegate")
def test_outputs_of_any_name_are_saved(cermet: Cermet, tmp_path: Path) -> None:
    """Also of the name that np.savez() has for something else, and of one that occurs twice."""
    model = model_builder.conv2d(np.random.default_rng(3), (1, 8, 8, 4), 6)
    (output,) = model.outputs
    relu = replace(model.tensors[output], name="file")
    tensors = (*model.tensors[:output], replace(relu), *model.tensors[output + 1:], relu)
    operation = model_builder.OperationSpec("RELU", (output,), (len(model.tensors),))
    (tmp_path / "m.tflite").write_bytes(replace(model, tensors=tensors, operations=(*model.operations, operation),
                                                outputs=(output, len(model.tensors))).data)
    result = cermet("run", tmp_path / "m.tflite", "--device", "sim", "--output", tmp_path / "out.npz")
    assert (result.status, result.err) == (0, "")
    with np.load(tmp_path / "out.npz") as saved:
        assert {name: saved[name].shape for name in saved.files} == {"file": (1, 8, 8, 6), "file_1": (1, 8, 8, 6)}


@pytest.mark.usefixtures("needs_delegate")
@pytest.mark.parametrize(("arguments", "status", "words"), [
    (["--option", "alow=ADD"], 1, "option 'alow' is unknown, did you mean allow?"),
    (["--option", "allow"], 1, "--option: 'allow' must be NAME=VALUE"),
    (["--device", "smi"], 1, "option device: 'smi' must be auto, sim or a path under /dev/"),
    (["--device", "/dev/accel/accel77"], 1, "device /dev/accel/accel77: "),
    (["--soc", "rk1"], 1, "soc: 'rk1' must be one of rk3588"),
    (["--image", __file__], 1, "input has shape [1, 8, 8, 4], must be [1, height, width, 1 or 3]"),
    (["--input", "nosuch.npy"], 1, "nosuch.npy: No such file or directory"),
    (["--labels", "nosuch.txt"], 1, "nosuch.txt: No such file or directory"),
    (["--labels", __file__], 1, "--labels: "),
    (["--labels", "/dev/null"], 1, "--labels: 0 lines, the first output has 384 elements"),
    (["--crop"], 1, "--crop: cuts the picture of --image, which is not there"),
    (["--output", "/nosuch/x.npz"], 1, "/nosuch/x.npz: No such file or directory"),
    (["--option", "cache=required", "--option", "cache_dir=/nosuch"], 1, "option cache=required: "),
    (["--repeat", "0"], 2, "argument --repeat: '0' must be 1..1000000000"),
    (["--random", "-1"], 2, "argument --random: '-1' must be a whole number, 0 or more"),
    (["--random", "1", "--image", "x"], 2, "not allowed with argument"),
    (["--comprae", "cpu"], 2, "unknown argument '--comprae', did you mean --compare?"),
])
def test_errors_are_one_line(cermet: Cermet, conv_model: Path, arguments: list[str], status: int, words: str) -> None:
    result = cermet("run", conv_model, *(arguments if "--device" in arguments else [*arguments, "--device", "sim"]))
    assert (result.status, result.out) == (status, "")
    assert words in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize(("name", "words"), [
    ("nosuch.tflite", "no such file, must be a .tflite model"), (__file__, "bytes 4..7 must be TFL3")])
def test_files_that_are_no_models_are_one_line(cermet: Cermet, name: str, words: str) -> None:
    result = cermet("run", name)
    assert (result.status, result.out) == (1, "")
    assert words in result.err and result.err.count("\n") == 1
