"""The cermet command's frame: verbs, exit statuses, one-line errors that name the word that was meant."""
from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from cermet import build, cli
from cermet.errors import CermetError


def cermet(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cermet", *arguments], capture_output=True, text=True, **options)


def test_console_script_is_installed_and_is_this_version():
    script = pathlib.Path(sys.executable).parent / "cermet"
    if not script.exists():
        pytest.skip("runs from the source tree")
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert shown == f"cermet {build.VERSION} ({build.BUILD_ID})\n"


def test_help_lists_every_verb_and_says_what_it_does():
    shown = cermet("--help")
    assert shown.returncode == 0
    for verb, (_, text) in cli.VERBS.items():
        assert f"  {verb:<14} {text}\n" in shown.stdout


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(verb):
    shown = cermet(verb, "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"usage: cermet {verb}")


def test_no_verb_is_a_usage_error():
    assert cermet().returncode == 2


@pytest.mark.parametrize("misspelt, meant", [("reprot", "report"), ("complie", "compile"), ("device", "devices")])
def test_misspelt_verb_names_the_one_that_was_meant(misspelt, meant):
    shown = cermet(misspelt)
    assert shown.returncode == 2
    assert shown.stderr.startswith(f"cermet: unknown verb {misspelt!r}, did you mean {meant}?; known: ")
    assert shown.stderr.count("\n") == 1


@pytest.mark.parametrize("verb, misspelt, meant", [("run", "--lables", "--labels"), ("report", "--jsn", "--json")])
def test_misspelt_option_names_the_one_that_was_meant(verb, misspelt, meant):
    shown = cermet(verb, "model.tflite", misspelt)
    assert shown.returncode == 2
    assert f"did you mean {meant}?" in shown.stderr
    assert shown.stderr.count("\n") == 1


def run_verb(monkeypatch, capsys, failure: BaseException) -> tuple[int, str]:
    """Exit status and stderr of a verb that fails so."""
    def fail(_) -> int:
        raise failure
    monkeypatch.setattr(cli, "dispatch", fail)
    return cli.main([]), capsys.readouterr().err


def test_error_of_the_user_is_one_line_and_status_1(monkeypatch, capsys):
    error = CermetError("model.tflite: not\na model")
    assert run_verb(monkeypatch, capsys, error) == (1, "cermet: model.tflite: not a model\n")


def test_missing_file_is_named(monkeypatch, capsys):
    error = FileNotFoundError(2, "No such file or directory", "nowhere.tflite")
    assert run_verb(monkeypatch, capsys, error) == (1, "cermet: nowhere.tflite: No such file or directory\n")


def test_interrupt_is_status_130_without_a_traceback(monkeypatch, capsys):
    assert run_verb(monkeypatch, capsys, KeyboardInterrupt()) == (130, "")


@pytest.mark.parametrize("arguments", [["--help"], ["probe", "--list"]])     # less and more than Python holds back
def test_output_that_cannot_be_written_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        shown = subprocess.run([sys.executable, "-m", "cermet", *arguments], stdout=full, stderr=subprocess.PIPE,
                               text=True)
    assert (shown.returncode, shown.stderr) == (1, "cermet: No space left on device\n")


def test_reader_that_leaves_the_pipe_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    shown = subprocess.run([sys.executable, "-m", "cermet", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (shown.returncode, shown.stderr) == (0, "")
