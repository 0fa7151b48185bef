"""The README's examples do what it says, and its tables have every command and option."""
from __future__ import annotations

import itertools
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from tests.support import model_builder

from cermet import paths
from cermet.cli import VERBS
from cermet.interpreter import make_interpreter

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
HERE = pathlib.Path(__file__).parent / "external_delegate"
MAIN = """
int
main(void)
{
%s
   if (delegate)
      TfLiteExternalDelegateDelete(delegate);
   return !delegate;
}
"""


def example(language: str) -> str:
    """The only block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return found


def table(heading: str) -> list[list[str]]:
    """The cells of the first table of a section."""
    lines = README.split(f"\n## {heading}\n")[1].splitlines()
    behind = itertools.dropwhile(lambda line: not line.startswith("| "), lines)
    rows = list(itertools.takewhile(lambda line: line.startswith("| "), behind))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows[2:]]


def library() -> str:
    return str(paths.library("libcermet_delegate.so"))


def build(source: str, folder: pathlib.Path, language: str) -> pathlib.Path:
    """The program of an example in C or C++."""
    compiler = shutil.which({"c": "gcc", "c++": "g++"}[language])
    if compiler is None:
        pytest.skip(f"no compiler for {language}")
    assert "`tensorflow/lite/delegates/external/external_delegate.h`" in README
    (folder / "main").write_text('#include <stddef.h>\n#include "external_delegate.h"\n' + MAIN % source)
    subprocess.run(["gcc", "-c", "-o", folder / "tflite.o", HERE / "external_delegate.c"], check=True)
    subprocess.run([compiler, "-Wall", "-Werror", f"-I{HERE}", "-x", language, folder / "main", "-x", "none",
                    folder / "tflite.o", "-o", folder / "program", "-ldl"], check=True)
    return folder / "program"


@pytest.mark.parametrize("language", ["c", "c++"])
def test_c_example_makes_a_delegate(language: str, tmp_path: pathlib.Path) -> None:
    source = example("c").replace("/path/to/libcermet_delegate.so", library())
    assert subprocess.run([build(source, tmp_path, language)], capture_output=True).returncode == 0


def test_c_example_says_why_there_is_none(tmp_path: pathlib.Path) -> None:
    source = example("c").replace("/path/to/libcermet_delegate.so", library()).replace('"sim"', '"/dev/nothing"')
    done = subprocess.run([build(source, tmp_path, "c")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "cermet: device /dev/nothing: No such file or directory\n")


def test_python_example_runs_on_the_npu(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert")
    monkeypatch.chdir(tmp_path)
    model = model_builder.conv2d(np.random.default_rng(3), (1, 8, 8, 4), 6)
    pathlib.Path("model.tflite").write_bytes(model.data)
    names: dict = {}
    exec(example("python").replace("/path/to/libcermet_delegate.so", library()), names)
    names["interpreter"].allocate_tensors()
    operations = [entry["op_name"] for entry in names["interpreter"]._get_ops_details()]
    assert "DELEGATE" in operations


def test_one_call_does_the_same(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = re.search(r"`cermet\.interpreter\.(make_interpreter\(.*?\))`", README)
    assert call is not None
    monkeypatch.chdir(tmp_path)
    pathlib.Path("model.tflite").write_bytes(model_builder.conv2d(np.random.default_rng(3), (1, 8, 8, 4), 6).data)
    made = eval(call[1], {"make_interpreter": make_interpreter})
    assert "DELEGATE" in [entry["op_name"] for entry in made._get_ops_details()]


def test_table_of_options_is_the_delegates() -> None:
    """An unknown key's error names all that the delegate knows."""
    module = pytest.importorskip("tflite_runtime.interpreter")
    with pytest.raises(ValueError, match="known: ") as error:
        module.load_delegate(library(), {"nonsense": "1"})
    known = str(error.value).partition("known: ")[2].strip().split(", ")
    listed = [name for row in table("Delegate options") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(listed) == sorted(known)


def test_table_of_commands_is_whole() -> None:
    """All but `plan`, which the delegate calls."""
    listed = {name for row in table("Commands") for name in re.findall(r"`cermet ([\w-]+)", row[0])}
    assert listed == set(VERBS) - {"plan"}


def test_operations_are_those_of_the_support_table() -> None:
    """Relatives of RELU are not listed one by one."""
    generated = (ROOT / "docs" / "operations.md").read_text().split("\n## ")[0]
    supported = {name for name in re.findall(r"^\| ([A-Z][A-Z0-9_]+) \|", generated, re.MULTILINE)
                 if not name.startswith("RELU_") and name != "RELU6"}
    listed = {name for row in table("What runs on the NPU") for name in re.findall(r"\b[A-Z][A-Z0-9_]{2,}\b", row[1])}
    assert len(supported) > 50 and listed - {"RELU6", "RELU_N1_TO_1"} == supported
