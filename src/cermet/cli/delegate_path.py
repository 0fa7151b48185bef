"""`cermet delegate-path`: what to give to --external_delegate_path and load_delegate()."""
from __future__ import annotations

import argparse

from cermet import paths

EPILOG = """
examples:
  benchmark_model --graph=model.tflite --external_delegate_path=$(cermet delegate-path)
  load_delegate(subprocess.check_output(["cermet", "delegate-path"], text=True).strip())
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(arguments: argparse.Namespace) -> int:
    print(paths.library("libcermet_delegate.so"))
    return 0
