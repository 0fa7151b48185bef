"""Which compiler this is: the id that is part of every cache key, the same in C (CERMET_BUILD_ID) and in Python.

An installed package carries it in build_info.py, which the build writes; a source tree computes it from its files.
"""
from __future__ import annotations

import hashlib
import pathlib
import re

# Everything that can change what a subgraph compiles to.
COMPILER_SOURCES = ("ir", "frontend", "drivers", "program", "hw", "compiler.py", "cost.py", "partition.py",
                    "worth.py")
DIGEST_CHARACTERS = 16      # with the version at most 31 characters: a field of 32 bytes in cermet_plan.h


def compiler_files(package: pathlib.Path) -> list[pathlib.Path]:
    """Code and data behind COMPILER_SOURCES that exist, sorted by their path in the package."""
    found: list[pathlib.Path] = []
    for name in COMPILER_SOURCES:
        path = package / name
        found += [*path.rglob("*.py"), *path.rglob("*.yaml")] if path.is_dir() else [path] * path.is_file()
    return sorted(found, key=lambda path: path.relative_to(package).as_posix())


def compute_build_id(package: pathlib.Path, version: str) -> str:
    """VERSION+DIGEST, the digest over names and contents of the compiler's Python files."""
    digest = hashlib.blake2b()
    for path in compiler_files(package):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return f"{version}+{digest.hexdigest()[:DIGEST_CHARACTERS]}"


def source_version(package: pathlib.Path) -> str:
    """The version that the source tree's meson.build names."""
    text = (package.parent.parent / "meson.build").read_text()
    match = re.search(r"version: '([^']+)'", text)
    return match[1] if match else "0"


def identify(package: pathlib.Path) -> tuple[str, str]:
    """(version, build id) of this package."""
    try:
        from cermet import build_info  # type: ignore[attr-defined, unused-ignore]
    except ImportError:
        version = source_version(package)
        return version, compute_build_id(package, version)
    return build_info.VERSION, build_info.BUILD_ID


if __name__ == "cermet.build":      # not when tools/build_id.py loads this file by its path
    VERSION, BUILD_ID = identify(pathlib.Path(__file__).resolve().parent)
