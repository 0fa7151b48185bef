"""Where the package's files are: inside it when installed, in the folders they come from in a source tree."""
from __future__ import annotations

import os
import pathlib

PACKAGE = pathlib.Path(__file__).resolve().parent
_SOURCE_TREE = PACKAGE.parent.parent      # when the package is used where it was written, not installed
HEADER_FOLDERS = (
    "kernel-uapi", "delegate", "src/runtime", "src/client", "src/kmd", "src/trace",
    "kernel-uapi/proposals/queues",
)


def library(name: str) -> pathlib.Path:
    """A shared library, for example "libcermet_sim.so": from CERMET_LIB_DIR when set, else the package's own.

    Raises FileNotFoundError saying where it was looked for.
    """
    folder = pathlib.Path(os.environ.get("CERMET_LIB_DIR") or PACKAGE / "lib")
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{name}: not in {folder}; install the package (./run does) or set CERMET_LIB_DIR "
                                "to the folder that has it")
    return path


def header(name: str) -> pathlib.Path:
    """A C header that the Python side reads, for example "rocket_accel.h" or "cermet_plan.h"."""
    folders = [PACKAGE / "uapi", PACKAGE / "include", *(_SOURCE_TREE / folder for folder in HEADER_FOLDERS)]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name}: not in {', '.join(map(str, folders))}")


def uapi_dir() -> pathlib.Path:
    """The folder with rocket_accel.h and drm_core.h, for the compiler's -I."""
    return header("rocket_accel.h").parent


def data_file(name: str) -> pathlib.Path:
    """A data file of the package by its path in it, for example "demo/grace_hopper.bmp"."""
    path = PACKAGE / name
    if not path.is_file():
        raise FileNotFoundError(f"{name}: not in {PACKAGE}; the installation is incomplete")
    return path
