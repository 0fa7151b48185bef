"""Speed of the conversions between NHWC and the NPU's atoms, next to memcpy: python tools/bench/convert.py

For each shape (a: atoms, v: a single pixel's, p: packed pixels, b: atoms of blocks of 2x2 pixels, inputs only) GB/s
of the tensor's bytes and ratios to memcpy of as many bytes, of the conversions and of "lines": whole cache lines
copied in the conversion's order, which shows what that order costs on this machine. First with one tensor in the
caches, then with tensors in memory. Medians of processor time, so that other work on the machine disturbs little.
Builds what it times with cc, with the flags of the package.
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
    loops = ("convert_rows", "convert_folded")
    sources = [(RUNTIME / f"{name}.c", []) for name in ("convert", *loops, "plan_io", "base")]
    if platform.machine() == "x86_64":
        sources += [(RUNTIME / f"{name}.c", ["-mavx2", "-DWIDE_MOVES"]) for name in loops]
    sources.append((pathlib.Path(__file__).with_suffix(".c"), ["-march=native"]))
    for number, (source, flags) in enumerate(sources):
        subprocess.run(["cc", *FLAGS, *flags, "-c", source, "-o", folder / f"{number}.o"], check=True)
    program = folder / "convert"
    subprocess.run(["cc", *folder.glob("*.o"), "-o", program], check=True)
    return program


def cells(copy: float, there: float, lines_in: float, back: float, lines_out: float) -> str:
    """One state's columns; a speed of 0 was not taken."""
    ratios = (f"{copy:6.1f}", f"{there:6.1f}", f"{there / copy:6.2f}", f"{lines_in / copy:6.2f}", f"{back:6.1f}",
              f"{back / copy:6.2f}", f"{lines_out / copy:6.2f}")
    return "| " + " ".join(f"{'-' if float(text) == 0 else text:>6}" for text in ratios) + " "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f} before the start; GB/s, ratios to memcpy")
    columns = ("memcpy", "in", "ratio", "lines", "out", "ratio", "lines")
    print(f"{'':>14} | {'one tensor, in the caches':48} | tensors in memory")
    print(f"{'shape':>14} " + 2 * ("| " + " ".join(f"{name:>6}" for name in columns) + " "))
    with tempfile.TemporaryDirectory() as folder:
        program = build(pathlib.Path(folder))
        with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as timing:
            for line in timing.stdout or ():
                shape, *speeds = line.split()
                values = [float(speed) for speed in speeds]
                print(f"{shape:>14} " + cells(*values[:5]) + cells(*values[5:]), flush=True)


if __name__ == "__main__":
    main()
