"""Print the files of the cermet package, one per line, relative to the folder given: what a wheel contains of it.

    python tools/package_files.py src/cermet
"""
from __future__ import annotations

import pathlib
import sys

NOT_INSTALLED = {"meson.build", "build_info.py"}    # build_info.py is made by the build itself


def package_files(package: pathlib.Path) -> list[str]:
    """Relative POSIX paths of everything but caches and build files, sorted."""
    paths = (path.relative_to(package) for path in package.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths
                  if "__pycache__" not in path.parts and path.name not in NOT_INSTALLED and path.suffix != ".pyc")


if __name__ == "__main__":
    print("\n".join(package_files(pathlib.Path(sys.argv[1]))))
