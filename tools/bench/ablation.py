"""What each optimisation brings, by the cycle model: python tools/bench/ablation.py [MODEL ...] [--options NAME=VALUE]

Each line is the compiler without one thing, or with one thing more; percent of the first line's time. Milliseconds of
one inference on one core at the full clock, conversions left out; with queues on as many cores as the line says.
"""
from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from cermet.compiler import Compiled, compile_subgraph, driver_for
from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket import driver as rocket
from cermet.drivers.rocket import pipeline, tiling
from cermet.drivers.rocket.geometry import Geometry
from cermet.errors import CermetError
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.soc import RK3588
from cermet.profile.profile import make_profile
from cermet.profile.setting import Setting
from cermet.profile.traffic import compulsory_bytes

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = sorted((ROOT / "src" / "cermet" / "demo").glob("*.tflite"))
MESA_ROWS = 51              # FEATURE_GRAINS of Mesa's programs, and a stride


@dataclass(frozen=True)
class Line:
    """A variant of the compiler, and the kernel that runs its programs."""

    name: str
    changes: Callable[[], Any] | None = None
    options: CompileOptions = field(default_factory=CompileOptions)
    kernel: str = "mainline"


def without_pass(name: str) -> Callable[[], Any]:
    """The pipeline without a pass."""
    return lambda: mock.patch.object(pipeline, name, lambda subgraph, *_, **__: subgraph)


def without_decision(name: str) -> Callable[[], Any]:
    """The driver's lowering without what one of its searches finds."""
    return lambda: mock.patch.object(rocket, name, lambda *_, **__: {})


def many_rows_first() -> Any:
    few = Geometry.first_rows
    return mock.patch.object(Geometry, "first_rows", property(
        lambda g: few.fget(g) if g.is_transposed else max(few.fget(g), MESA_ROWS + g.stride.y)))    # type: ignore


def weights_read_again() -> Any:
    cut = tiling._plan
    return mock.patch.object(tiling, "_plan", lambda *given, **named: [
        tuple(replace(tile, reuses_weights=False) for tile in tiles) for tiles in cut(*given, **named)])


LINES = (
    Line("as it is"),
    Line("first rows: 51 and a stride, not 12", many_rows_first),
    Line("first picture not in blocks", without_decision("fold_strides")),
    Line("weights read again for each band", weights_read_again),
    Line("PAD not folded", without_pass("fold_pad")),
    Line("activations not folded", without_pass("fold_activation")),
    Line("parts not rejoined", without_pass("rejoin_parts")),
    Line("moves not cancelled", without_pass("cancel_moves")),
    Line("transposes not sunk", without_pass("sink_transposes")),
    Line("dilation not folded", without_pass("fold_dilations")),
    Line("no look-up tables for chains", without_pass("tabulate")),
    Line("CONCATENATION by copies", without_decision("place_parts")),
    Line("slices by copies", without_decision("place_slices")),
    Line("operands not read where they lie", without_decision("find_homes")),
    Line("match=exact: fuses ADD and functions", options=CompileOptions(match="exact")),
    Line("registers=changed: no word twice", options=CompileOptions(registers="changed")),
    Line("first_rows=least", options=CompileOptions(first_rows="least")),
    Line("chains=program", options=CompileOptions(chains="program")),
    Line("both", options=CompileOptions(chains="program", first_rows="least")),
    Line("both, match=exact", options=CompileOptions(chains="program", first_rows="least", match="exact")),
    Line("chained", kernel="chained"),
    Line("queues, 2 cores", options=CompileOptions(cores=2), kernel="queues"),
    Line("queues, 3 cores", options=CompileOptions(cores=3), kernel="queues"),
)


@contextmanager
def changed(line: Line) -> Iterator[None]:
    with ExitStack() as stack:
        if line.changes is not None:
            stack.enter_context(line.changes())
        yield


def compiled(path: pathlib.Path, line: Line) -> Compiled:
    with changed(line):
        return compile_subgraph(read_tflite(path.read_bytes(), 0, place=str(path)), driver_for(RK3588.name),
                                line.options)


def measure(path: pathlib.Path, line: Line) -> tuple[int, float, float, float]:
    """(tasks, milliseconds, MB moved, times what has to be moved)."""
    found = make_profile(compiled(path, line), Setting(RK3588, RK3588.clock_mhz, line.options.cores, line.kernel))
    moved = found.totals.read_bytes + found.totals.written_bytes
    return found.totals.tasks, found.totals.npu_us / 1000, moved / 1e6, found.totals.traffic


def print_model(path: pathlib.Path) -> None:
    print(f"\n{path.stem}")
    print(f"  {'':<40} tasks       ms          MB  x compulsory")
    first = None
    for line in LINES:
        try:
            tasks, ms, megabytes, traffic = measure(path, line)
        except Exception as error:      # a pass that others need
            print(f"  {line.name:<40} {type(error).__name__}: {error}"[:118])
            continue
        first = first or ms
        if ms != first or line is LINES[0]:
            print(f"  {line.name:<40} {tasks:>5} {ms:>8.2f} {ms / first - 1:>+5.0%} {megabytes:>5.1f} {traffic:>8.2f}")
    whole = compiled(path, LINES[0])
    kept = RK3588.cbuf.banks * RK3588.cbuf.bank_bytes
    least = sum(compulsory_bytes(whole.subgraph, group) for group in whole.groups) / 1e6
    inside = sum(compulsory_bytes(whole.subgraph, group, kept) for group in whole.groups) / 1e6
    print(f"  compulsory {least:.1f} MB; {inside:.1f} MB if what the convolution buffer holds could stay in it")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path, default=MODELS)
    for path in parser.parse_args().models:
        try:
            print_model(path)
        except (CermetError, OSError) as error:
            parser.error(str(error))
    print("\nLines that change nothing are left out.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
