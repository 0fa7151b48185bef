"""The delegate inside both TFLite runtimes, on the simulated NPU."""
from __future__ import annotations

import gc
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
from typing import Any

import numpy as np
import pytest

from cermet import paths
from cermet.frontend.tflite_file import to_blob
from cermet.interpreter import has_real_device
from tests.support import model_builder
from tests.support.interpreter import MODULES, invoke

SUMMARY = re.compile(r"cermet: (\d+) of (\d+) nodes on the NPU \(rk3588, sim\) in (\d+) partitions?, "
                     r"plan (from cache|compiled) in \d+ ms")


@pytest.fixture(params=MODULES)
def module(request) -> Any:
    """A runtime's interpreter module."""
    return pytest.importorskip(MODULES[request.param])


@pytest.fixture
def library() -> str:
    return str(paths.library("libcermet_delegate.so"))


@pytest.fixture(scope="module")
def model() -> model_builder.Model:
    """Three convolutions."""
    rng = np.random.default_rng(11)
    return model_builder.chain(
        model_builder.conv2d(rng, (1, 9, 8, 5), 20),
        lambda t: model_builder.conv2d(rng, t.shape, 33, (1, 1), input_zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, 7, (3, 3), input_zero_point=t.zero_point, activation="RELU"))


@pytest.fixture(scope="module")
def picture(model) -> list[np.ndarray]:
    return model.random_inputs(np.random.default_rng(3))


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """A cache directory of this test's own, not there yet."""
    return tmp_path / "cache"


def interpreter(module, model: bytes, library: str, /, *more: Any, **options: object) -> Any:
    """With allocated tensors, a delegate with options (device=sim unless said otherwise), no default delegate."""
    delegate = module.load_delegate(library, {"device": "sim", **options})
    made = module.Interpreter(model_content=model, experimental_delegates=[delegate, *more],
                              experimental_op_resolver_type=module.OpResolverType.BUILTIN_REF)
    made.allocate_tensors()
    return made


def outputs(made: Any, inputs: list[np.ndarray]) -> np.ndarray:
    invoke(made, inputs)
    return np.array(made.get_tensor(made.get_output_details()[0]["index"]))


def cpu_outputs(module, model: bytes, inputs: list[np.ndarray]) -> np.ndarray:
    made = module.Interpreter(model_content=model, experimental_op_resolver_type=module.OpResolverType.BUILTIN_REF)
    made.allocate_tensors()
    return outputs(made, inputs)


def num_kernels(made: Any) -> int:
    return sum(op["op_name"] == "DELEGATE" for op in made._get_ops_details())


# Creating

@pytest.mark.parametrize(("key", "value", "text"), [
    ("devise", "sim", "cermet: option 'devise' is unknown, did you mean device? Known: device, soc, cache_dir, cache"),
    ("frobnicate", 1, "option 'frobnicate' is unknown, known: device, soc,"),
    ("device", "foo", "option device: 'foo' must be auto, sim or a path under /dev/"),
    ("device", "/dev/null", "device /dev/null: is no accel node, must be one of the rocket driver's"),
    ("profile", 1.5, "option profile: '1.5' must be one of on, off"),
    ("timeout_ms", -1, "option timeout_ms: '-1' must be a whole number, 1..86400000"),
    ("allow", "käse", "option allow: 'KäSE' must be operation names like CONV_2D"),
])
def test_wrong_options_are_explained(module, library, key, value, text):
    with pytest.raises(ValueError) as error:
        module.load_delegate(library, {"device": "sim", key: value})
    assert text in str(error.value)


@pytest.mark.parametrize("options", [
    {"profile": True}, {"profile": "yes"}, {"timeout_ms": 5000}, {"cores": 1}, {"cache_dir": pathlib.Path("/tmp/x")},
    {"allow": "conv_2d,ADD", "deny": "MEAN"}, {"min_partition_nodes": "2"}, {"log_level": "DEBUG"}, {"deny": ""},
    {"cache": None},
], ids=str)
def test_options_of_every_python_type(module, library, options):
    assert module.load_delegate(library, {"device": "sim", **options})


@pytest.mark.skipif(has_real_device() or pathlib.Path("/dev/accel").exists(), reason="there is an accel device")
def test_without_a_device_the_error_names_the_simulator(module, library):
    with pytest.raises(ValueError, match=r"cermet: no NPU found.*pass device=sim"):
        module.load_delegate(library)


@pytest.mark.skipif(has_real_device(), reason="there is an NPU")
def test_fallback_runs_on_the_cpu_and_says_so(module, library, model, picture, capfd):
    made = interpreter(module, model.data, library, device="/dev/accel/accel99", fallback="cpu")
    np.testing.assert_array_equal(outputs(made, picture), cpu_outputs(module, model.data, picture))
    assert num_kernels(made) == 0
    assert "device /dev/accel/accel99: No such file or directory; all nodes stay on the CPU" in capfd.readouterr().err


def test_environment_is_read_and_options_win(module, library, monkeypatch):
    monkeypatch.setenv("CERMET_DEVICE", "nonsense")
    with pytest.raises(ValueError, match="option device: 'nonsense' must be"):
        module.load_delegate(library)
    assert module.load_delegate(library, {"device": "sim"})


def test_exactly_two_symbols_and_nothing_but_libc(library):
    if not shutil.which("nm") or not shutil.which("readelf"):
        pytest.skip("needs binutils")
    defined = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    assert sorted(line.split()[-1] for line in defined.splitlines()) == [
        "tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"]
    undefined = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True)
    assert "TfLite" not in undefined.stdout
    dynamic = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", dynamic))
    assert needed <= {"libc.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


# Capturing

def reference_models() -> list[pathlib.Path]:
    root = pathlib.Path(__file__).resolve().parents[2]
    shared = root.parent / "shared" / "models"
    return sorted((shared if shared.is_dir() else root / "tests" / "data" / "models").glob("*.tflite"))


@pytest.mark.parametrize("path", reference_models(), ids=lambda path: path.stem)
def test_blob_equals_the_frontends(module, library, path, tmp_path, monkeypatch):
    """So that a model compiled ahead of time has the key that the delegate asks for."""
    monkeypatch.setenv("CERMET_DUMP_BLOB", str(tmp_path / "blob"))
    delegate = module.load_delegate(library, {"device": "sim", "cache": "required", "cache_dir": tmp_path / "none"})
    with pytest.raises(RuntimeError, match="option cache=required: cache directory"):
        module.Interpreter(str(path), experimental_delegates=[delegate])
    assert (tmp_path / "blob").read_bytes() == to_blob(path.read_bytes())


# Running

def test_result_and_summary(module, library, model, picture, folder, capfd):
    expected = cpu_outputs(module, model.data, picture)
    for source in ("compiled", "from cache"):
        made = interpreter(module, model.data, library, cache_dir=folder)
        np.testing.assert_array_equal(outputs(made, picture), expected)
        assert SUMMARY.search(capfd.readouterr().err).groups() == ("3", "3", "1", source)
        assert num_kernels(made) == 1


def test_log_levels(module, library, model, capfd):
    interpreter(module, model.data, library, log_level="error")
    assert "cermet:" not in capfd.readouterr().err
    interpreter(module, model.data, library, deny="CONV_2D")
    assert "cermet: 0 of 3 nodes on the NPU (rk3588), 3 of them because of option_deny: option deny names CONV_2D; " \
        "log_level=info names all reasons" in capfd.readouterr().err
    interpreter(module, model.data, library, log_level="info", deny="CONV_2D")
    assert len(re.findall(r"cermet: node \d on the CPU: .*deny", capfd.readouterr().err)) == 3


def test_warm_cache_needs_no_compiler(module, library, model, picture, folder):
    first = outputs(interpreter(module, model.data, library, cache_dir=folder), picture)
    made = interpreter(module, model.data, library, cache_dir=folder, compiler="/bin/false", cache="required")
    np.testing.assert_array_equal(outputs(made, picture), first)


def test_missing_entry_is_an_error_when_required(module, library, model, folder):
    folder.mkdir(mode=0o700)
    with pytest.raises(RuntimeError, match=r"cermet: option cache=required: .*\.plan is missing; make it with"):
        interpreter(module, model.data, library, cache_dir=folder, cache="required")


def test_damaged_entry_is_compiled_again(module, library, model, picture, folder, capfd):
    first = outputs(interpreter(module, model.data, library, cache_dir=folder), picture)
    (entry,) = folder.glob("*.plan")
    good = entry.read_bytes()
    entry.write_bytes(good[:-7] + b"damaged")
    capfd.readouterr()
    np.testing.assert_array_equal(outputs(interpreter(module, model.data, library, cache_dir=folder), picture), first)
    assert "checksum differs: the file is damaged; compiling again" in capfd.readouterr().err
    assert entry.read_bytes() == good


def test_compiler_failure_reaches_the_application(module, library, model, tmp_path):
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho noise >&2\necho 'operation 3: is too odd' >&2\nexit 1\n")
    compiler.chmod(0o700)
    with pytest.raises(RuntimeError, match="cermet: compiler: operation 3: is too odd\n"):
        interpreter(module, model.data, library, cache="off", compiler=compiler)
    made = interpreter(module, model.data, library, cache="off", compiler=compiler, fallback="cpu")
    assert num_kernels(made) == 0


def test_a_late_compiler_is_killed_with_all_that_it_started(module, library, model, tmp_path, monkeypatch):
    monkeypatch.setenv("CERMET_COMPILER_TIMEOUT", "1")
    compiler, late = tmp_path / "compiler", tmp_path / "late"
    compiler.write_text(f"#!/bin/sh\n(sleep 2; echo > '{late}') &\nwait\n")
    compiler.chmod(0o700)
    with pytest.raises(RuntimeError, match=r"compiler: not done after 1 s \(CERMET_COMPILER_TIMEOUT\), killed"):
        interpreter(module, model.data, library, cache="off", compiler=compiler)
    time.sleep(1.5)
    assert not late.exists()


def test_unknown_operation_name_reaches_the_application(module, library, model):
    with pytest.raises(RuntimeError, match="CONV_3X3"):
        interpreter(module, model.data, library, deny="CONV_3X3")


def test_every_word_of_a_long_list_counts(module, library, model, capfd):
    """Also the last of more than a fixed number of them."""
    numbers = "+".join(map(str, range(100, 500)))
    interpreter(module, model.data, library, deny=f"{numbers}+CONV_2D")
    assert "option deny names CONV_2D" in capfd.readouterr().err


def test_two_interpreters_on_one_delegate(module, library, model, picture):
    delegate = module.load_delegate(library, {"device": "sim"})
    both = [module.Interpreter(model_content=model.data, experimental_delegates=[delegate]) for _ in range(2)]
    other = model.random_inputs(np.random.default_rng(4))
    expected = [outputs(interpreter(module, model.data, library), inputs) for inputs in (picture, other)]
    for made in both:
        made.allocate_tensors()
    for made, inputs in zip(both, (picture, other), strict=True):
        invoke(made, inputs)
    for made, wanted in zip(both, expected, strict=True):
        np.testing.assert_array_equal(made.get_tensor(made.get_output_details()[0]["index"]), wanted)


def test_second_delegate_leaves_the_firsts_kernels_alone(module, library, model, picture):
    second = module.load_delegate(library, {"device": "sim"})
    made = interpreter(module, model.data, library, second)
    assert num_kernels(made) == 1
    np.testing.assert_array_equal(outputs(made, picture), outputs(interpreter(module, model.data, library), picture))


def test_partitions_that_the_runtime_insists_on(library, model, picture, capfd):
    """LiteRT can be told not to fuse nodes: the compiler then makes one program per node."""
    module = pytest.importorskip(MODULES["litert"])
    delegate = module.load_delegate(library, {"device": "sim"})
    made = module.Interpreter(model_content=model.data, experimental_delegates=[delegate],
                              experimental_disable_delegate_node_fusion=True)
    made.allocate_tensors()
    assert num_kernels(made) == 3
    assert SUMMARY.search(capfd.readouterr().err).groups()[:3] == ("3", "3", "3")
    np.testing.assert_array_equal(outputs(made, picture), outputs(interpreter(module, model.data, library), picture))


def test_nodes_between_partitions_run_on_the_cpu(module, library, picture, capfd):
    rng = np.random.default_rng(12)
    model = model_builder.chain(
        model_builder.conv2d(rng, (1, 9, 8, 5), 20),
        lambda t: model_builder.pool(rng, t.shape, "MAX", (2, 2), zero_point=t.zero_point),
        lambda t: model_builder.conv2d(rng, t.shape, 7, input_zero_point=t.zero_point))
    made = interpreter(module, model.data, library, deny="MAX_POOL_2D", prefer="npu")
    assert SUMMARY.search(capfd.readouterr().err).groups()[:3] == ("2", "3", "2")
    np.testing.assert_array_equal(outputs(made, picture), cpu_outputs(module, model.data, picture))


def test_profile_is_printed_at_the_end(module, library, model, picture, capfd):
    made = interpreter(module, model.data, library, profile=True)
    outputs(made, picture)
    del made
    assert re.search(r"cermet: partition 0: 1 runs, mean [\d.]+ ms: inputs [\d.]+, NPU [\d.]+, outputs [\d.]+",
                     capfd.readouterr().err)


def test_profile_of_every_run_is_a_trace(module, library, model, picture, tmp_path):
    path = tmp_path / "trace.json"
    made = interpreter(module, model.data, library, profile=path)
    for _ in range(3):
        outputs(made, picture)
    before_end = json.loads(path.read_text() + "]")     # nothing waits in a buffer
    del made
    gc.collect()
    spans = json.loads(path.read_text())
    assert spans[:len(before_end)] == before_end and len(spans) == 9
    assert [span["name"] for span in spans] == ["convert in", "NPU", "convert out"] * 3
    assert all(span["pid"] == os.getpid() and span["tid"] == 0 and span["dur"] > 0 for span in spans)
    for one, other in itertools.pairwise(spans):
        assert one["ts"] + one["dur"] <= other["ts"] + 0.002


def test_nothing_is_left_behind(module, library, model, picture):
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    outputs(interpreter(module, model.data, library), picture)
    before = open_files()
    for _ in range(5):
        outputs(interpreter(module, model.data, library), picture)
        with pytest.raises(RuntimeError):
            interpreter(module, model.data, library, cache="off", compiler="/bin/false")
    assert open_files() == before
