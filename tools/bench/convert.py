"""Speed of the conversions between NHWC and the NPU's atoms, next to memcpy: python tools/bench/convert.py

For each shape GB/s of the tensor's bytes, and the ratio to memcpy of as many bytes in the same run: with everything in
the caches, and with tensors in memory. Builds what it times with cc as the package is built.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import platform
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNTIME = ROOT / "src" / "runtime"
FLAGS = ["-O3", "-std=gnu11", f"-I{RUNTIME}"]


def build(folder: pathlib.Path) -> pathlib.Path:
    """The timing program."""
    variants = [("rows.o", [])] + [("wide.o", ["-mavx2", "-DWIDE_MOVES"])] * (platform.machine() == "x86_64")
    for name, flags in variants:
        subprocess.run(["cc", *FLAGS, *flags, "-c", RUNTIME / "convert_rows.c", "-o", folder / name], check=True)
    sources = [pathlib.Path(__file__).with_suffix(".c"), *(RUNTIME / f"{name}.c" for name in
                                                          ("convert", "convert_folded", "plan", "base",
                                                           "blake2b"))]
    program = folder / "convert"
    subprocess.run(["cc", *FLAGS, *sources, *(folder / name for name, _ in variants), "-o", program], check=True)
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f} before the start; GB/s, ratios to memcpy")
    columns = ("memcpy", "in", "ratio", "out", "ratio")
    print(f"{'shape':>14} | cached " + " ".join(f"{name:>6}" for name in columns) + " | memory " +
          " ".join(f"{name:>6}" for name in columns))
    with tempfile.TemporaryDirectory() as folder:
        program = build(pathlib.Path(folder))
        with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as timing:
            for line in timing.stdout or ():
                height, width, channels, *speeds = line.split()
                shape = f"{height}x{width}x{channels}"
                groups = [[float(speed) for speed in speeds[at:at + 3]] for at in (0, 3)]
                print(f"{shape:>14} |        " + " |        ".join(
                    f"{copy:6.1f} {there:6.1f} {there / copy:6.2f} {back:6.1f} {back / copy:6.2f}"
                    for copy, there, back in groups), flush=True)


if __name__ == "__main__":
    main()
