"""`cermet plan`, `compile` and `cache`: entries under the keys that the delegate looks for."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cermet.drivers.base import CompileOptions
from cermet.frontend.tflite_file import read_file, to_blob
from cermet.program.cache import Cache, cache_key
from cermet.program.plan_reader import decode_plan
from tests.cli.conftest import Cermet
from tests.support.interpreter import invoke, load_delegate, make_interpreter


def key_of(model: Path) -> bytes:
    return cache_key(to_blob(read_file(model)), "rk3588", CompileOptions())


def test_compile_writes_an_entry_of_the_models_key(cermet: Cermet, conv_model: Path, tmp_path: Path) -> None:
    result = cermet("compile", conv_model, "-o", tmp_path / "cache")
    assert (result.status, result.err) == (0, "")
    name = f"{key_of(conv_model).hex()}.plan"
    assert result.out.startswith(f"{name}  {conv_model}: 1 of 2 nodes, 100.00% of the MACs, 53.40% of the bytes, "
                                 "1 partition, ")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [name]
    assert Cache(tmp_path / "cache").load(key_of(conv_model)).partitions[0].nodes == (0,)


def test_compile_keeps_good_entries_and_replaces_damaged_ones(cermet: Cermet, conv_model: Path, tmp_path: Path) -> None:
    cermet("compile", conv_model, "-o", tmp_path / "cache")
    (entry,) = (tmp_path / "cache").iterdir()
    good, before = entry.read_bytes(), entry.stat().st_mtime_ns
    assert "is there already" in cermet("compile", conv_model, "-o", tmp_path / "cache").out
    assert entry.stat().st_mtime_ns == before
    entry.write_bytes(good[:-1] + b"\xff")
    assert "1 partition" in cermet("compile", conv_model, "-o", tmp_path / "cache").out
    assert entry.read_bytes() == good


def test_what_is_shown_of_the_compiler_is_shown_whatever_is_cached(cermet: Cermet, conv_model: Path, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    cermet("compile", conv_model, "-o", tmp_path / "cache")
    monkeypatch.setenv("CERMET_DEBUG", "passes")
    assert cermet("compile", conv_model, "-o", tmp_path / "cache").err.startswith("---- tabulate\n")
    monkeypatch.setenv("CERMET_DEBUG", "pases,passes")
    assert cermet("compile", conv_model, "-o", tmp_path / "cache").err.startswith(
        "cermet: CERMET_DEBUG: 'pases' is not known, must be passes (the subgraph after each pass of the compiler)\n")


def test_one_bad_model_does_not_stop_the_others_but_is_told(cermet: Cermet, conv_model: Path, tmp_path: Path) -> None:
    result = cermet("compile", "nosuch.tflite", conv_model, "-o", tmp_path / "cache")
    assert result.status == 1
    assert result.err == "cermet compile: nosuch.tflite: no such file, must be a .tflite model\n"
    assert conv_model.name in result.out


def test_compile_makes_entries_of_all_subgraphs(cermet: Cermet, shared_dir: Path, tmp_path: Path) -> None:
    lines = cermet("compile", shared_dir / "models" / "v2_vad.tflite", "-o", tmp_path / "cache").out.splitlines()
    assert len(lines) == 2
    assert ", subgraph 1: " in lines[1]


@pytest.mark.usefixtures("needs_delegate")
@pytest.mark.parametrize("runtime", ["litert", "tflite"])
def test_delegate_finds_what_compile_made(cermet: Cermet, conv_model: Path, tmp_path: Path, runtime: str) -> None:
    """cache=required: a miss would be an error, and the compiler does not run."""
    from cermet import paths
    pytest.importorskip("tflite_runtime" if runtime == "tflite" else "ai_edge_litert")
    cermet("compile", conv_model, "-o", tmp_path / "cache")
    delegate = load_delegate(paths.library("libcermet_delegate.so"), runtime=runtime, options={
        "device": "sim", "cache": "required", "cache_dir": tmp_path / "cache", "compiler": "/nonexistent"})
    interpreter = make_interpreter(conv_model, runtime=runtime, delegates=[delegate])
    invoke(interpreter, [np.zeros((1, 8, 8, 4), np.int8)])


def test_plan_writes_the_entry_that_compile_writes(cermet: Cermet, conv_model: Path, tmp_path: Path) -> None:
    blob = tmp_path / "model.blob"
    blob.write_bytes(to_blob(read_file(conv_model)))
    key = key_of(conv_model)
    result = cermet("plan", "--blob", blob, "--out", tmp_path / "plan", "--key", key.hex(), "--soc", "rk3588")
    assert (result.status, result.out, result.err) == (0, "", "")
    cermet("compile", conv_model, "-o", tmp_path / "cache")
    assert (tmp_path / "plan").read_bytes() == (tmp_path / "cache" / f"{key.hex()}.plan").read_bytes()


def test_plan_takes_groups(cermet: Cermet, conv_model: Path, tmp_path: Path) -> None:
    blob, out = tmp_path / "model.blob", tmp_path / "plan"
    blob.write_bytes(to_blob(read_file(conv_model)))
    assert cermet("plan", "--blob", blob, "--out", out, "--option", "groups=0", "--option", "allow=").status == 0
    assert decode_plan(out.read_bytes()).partitions[0].nodes == (0,)


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (["--key", "12"], 1, "--key: '12' must be 64 lower-case hexadecimal digits"),
    (["--key", "0" * 64], 1, "--key: 0000000000000000... must be "),
    (["--option", "groups=1"], 1, "option groups: operation 1 (softmax) stays on the CPU: "),
    (["--option", "speed=9"], 1, "option 'speed=9': must be one of"),
    (["--soc", "rk1"], 1, "soc: 'rk1' must be one of rk3588"),
    (["--optoin", "deny=ADD"], 2, "unknown argument '--optoin', did you mean --option?"),
])
def test_plan_errors_are_one_line_and_write_nothing(cermet: Cermet, conv_model: Path, tmp_path: Path,
                                                    arguments: list[str], status: int, words: str) -> None:
    blob, out = tmp_path / "model.blob", tmp_path / "plan"
    blob.write_bytes(to_blob(read_file(conv_model)))
    result = cermet("plan", "--blob", blob, "--out", out, *arguments)
    assert (result.status, result.out) == (status, "")
    assert words in result.err and result.err.count("\n") == 1
    assert not out.exists()


def test_plan_refuses_garbage(cermet: Cermet, tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    for size in (0, 1, 15, 64, 5000):
        blob = tmp_path / "model.blob"
        blob.write_bytes(generator.bytes(size))
        result = cermet("plan", "--blob", blob, "--out", tmp_path / "plan")
        assert result.status == 1 and result.err.count("\n") == 1


def test_cache_list_verify_and_clear(cermet: Cermet, conv_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    cermet("compile", conv_model, "-o", folder)
    (entry,) = folder.iterdir()
    listed = cermet("cache", "list", "--dir", folder).out.splitlines()
    assert listed[0].startswith(entry.name) and "rk3588, 1 of 2 nodes, 1 partition" in listed[0]
    assert listed[1].startswith(f"{folder}: 1 entry, ")
    assert cermet("cache", "verify", "--dir", folder).status == 0
    entry.write_bytes(entry.read_bytes()[:-8])
    verified = cermet("cache", "verify", "--dir", folder)
    assert verified.status == 1
    assert verified.out.splitlines()[0].startswith(f"{entry}: plan: ")
    assert "not usable: plan: " in cermet("cache", "--dir", folder).out
    assert cermet("cache", "clear", "--dir", folder).out == f"{folder}: 1 removed\n"
    assert list(folder.iterdir()) == []


def test_cache_errors_are_one_line(cermet: Cermet, tmp_path: Path) -> None:
    result = cermet("cache", "--dir", tmp_path / "nosuch")
    assert (result.status, result.err) == (1, f"cermet: --dir: {tmp_path / 'nosuch'}: no such folder\n")
    tmp_path.chmod(0o777)
    result = cermet("cache", "clear", "--dir", tmp_path)
    assert result.status == 1
    assert result.err == f"cermet: {tmp_path}: mode 0777 lets others write, must be 0700 or 0755\n"
