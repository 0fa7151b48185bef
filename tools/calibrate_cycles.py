#!/usr/bin/env python3
"""Fits the cycle model to published figures and prints constants, residuals, and errors on rows left out of the fit.

    tools/calibrate_cycles.py [--perf FOLDER]

The constants that come out are those of src/cermet/hw/timing.py, whose sources the first table tells.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]

import numpy as np  # noqa: E402
from calibration import board_logs, estimates, networks, rates  # noqa: E402
from calibration.tables import layers, rows  # noqa: E402

from cermet.hw.soc import RK3588  # noqa: E402

NOTES = """\
  array: MAC cycles alone. max(array, DDR): the vendor's own estimate, layer by layer. chained: the model, tasks run as
  the vendor's driver runs them; difference from the published time. rows 52: the same with FEATURE_GRAINS at least 52,
  as Mesa has it. mainline: an interrupt for each task. All but the last two columns: the picture pixel by pixel, as
  other compilers read it; in blocks: as ours does where that pays, chained and on mainline. Below each network: what
  the steady phases of the chain are bound by, and what does not overlap with them."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perf", type=Path, default=ROOT / "tests" / "data" / "perf", help="folder of the tables")
    folder = parser.parse_args().perf
    print_constants()
    print_estimates(folder)
    print_other_tables(folder)
    print_board_log(folder)
    print_rk356x(folder)
    print(f"\nLatency: an RV1106's {board_logs.RV1106_TASK_US} us per chained task at {board_logs.RV1106_MHZ} MHz, "
          f"less the fetch of {board_logs.RV1106_WORDS} words, are 3 x {board_logs.chain_latency():.0f} cycles")
    print_networks(folder)
    return 0


def print_constants() -> None:
    print(f"Constants of {RK3588.name} (src/cermet/hw/timing.py)")
    for name, figure in RK3588.timing.figures().items():
        print(f"  {name:<13} {figure.value:>8g} {figure.unit:<15} {figure.confidence:<9} {figure.source}")


def print_estimates(folder: Path) -> None:
    found = list(layers(folder / "vendor_estimates_models.csv"))
    print("\nThe vendor's estimates: fitted on two networks, judged on the third")
    print("  SoC     left out                      kernels  depthwise  step  floor  B/cycle  explain  "
          "array exact   DDR median    p95  worst")
    exact = total = 0
    for soc, model, fitted, count, error in estimates.held_out(found):
        exact, total = exact + error.exact, total + error.layers
        print(f"  {soc:<7} {model:<29} {fitted.kernel_group:>7} {fitted.depthwise_group:>10} {fitted.step:>5} "
              f"{fitted.floor:>6} {fitted.rate:>8.3f} {count:>8}  {error.exact:>4} of {error.layers:<4} "
              f"{error.median:>10.3%} {error.ninety_five:>6.2%} {error.worst:>6.2%}")
    print(f"  {exact} of {total} rows exact; explain: how many sets of array constants fit the two networks exactly")


def print_other_tables(folder: Path) -> None:
    print("\nOlder tables of the vendor: bytes read / R + bytes written / W, fitted on every other row")
    print("  table                          layers  array exact      R      W  error of the other rows: median  worst")
    for name, group, atom in (("rk356x_detector_layers", 16, 8), ("rk3576_resnet50_sparse_python", 32, 16),
                              ("rk3576_resnet50_sparse_capi", 32, 16)):
        found = list(layers(folder / f"{name}.csv"))
        soc = estimates.Fit(group, 64, 16, 4, 1).soc()
        exact = sum(estimates.array_cycles(soc, layer) == layer.npu_cycles for layer in found)
        read, written, error = estimates.two_rates(found, atom)
        print(f"  {name:<30} {len(found):>6} {exact:>6} of {len(found):<3} {read:>6.2f} {written:>6.2f} "
              f"{np.median(error):>33.2%} {error.max():>6.1%}")


def print_board_log(folder: Path) -> None:
    data = board_logs.rk3576(folder)
    constants, unseen = board_logs.held_out(data)
    fixed, load, store, stream = constants
    print(f"\nBoard log of an RK3576, {len(data.layers)} layers of ResNet50: fixed {fixed:.0f} cycles, "
          f"load {load:.2f}, store {store:.2f}, stream {stream:.0f} B/cycle")
    alone = np.array([max(layer.ddr_cycles, layer.npu_cycles) for layer in data.layers]) / data.cycles - 1
    print(f"  error of layers that the other two thirds predict: median {np.median(abs(unseen)):.1%}, worst "
          f"{abs(unseen).max():.1%}; max(array, DDR) alone: median {np.median(abs(alone)):.0%}")
    for layer, cycles, seen, other in zip(data.layers, data.cycles, board_logs.errors(data, constants), unseen,
                                          strict=True):
        print(f"  {layer.name:<12} {'x'.join(map(str, layer.input)):<12} -> {'x'.join(map(str, layer.output)):<11} "
              f"{layer.kernels[2]}x{layer.kernels[3]}  {cycles:>9.0f} measured  {seen:>+6.1%}  held out {other:>+6.1%}")


def print_rk356x(folder: Path) -> None:
    print(f"\nBoards with an RK356x at {board_logs.RK356X_MHZ} MHz: measured = fixed + factor * max(array, DDR), the "
          "vendor's estimate; error of rows that the other two thirds predict")
    for name in ("rk356x_detector_layers", "rk356x_inception_ssd_layers"):
        data = board_logs.rk356x(folder / f"{name}.csv")
        fixed, factor, error = board_logs.rk356x_errors(data)
        print(f"  {name}: fixed {fixed:,.0f} cycles ({fixed / board_logs.RK356X_MHZ:.0f} us), factor {factor:.2f}; "
              f"median {np.median(abs(error)):.1%}, worst {abs(error).max():.1%}")
        for row, measured, each in zip(data.names, data.measured, error, strict=True):
            print(f"    {row:<26} {measured:>9.0f} measured  {each:>+7.1%}")


def print_networks(folder: Path) -> None:
    published = {row["model"]: float(row["rk3588_1core_fps"]) for row in rows(folder / "vendor_model_zoo_fps.csv")
                 if row["dtype"] == "INT8"}
    print(f"\nWhole networks on one core of an {RK3588.name} at {RK3588.clock_mhz} MHz, milliseconds; our programs")
    print("  network            tasks  array  max(array, DDR)  chained        rows 52        published  mainline"
          "  in blocks")
    for name, (build, row) in networks.NETWORKS.items():
        found, ours = (rates.predict(build(), in_blocks=blocks) for blocks in (False, True))
        time = 1000 / published[row]
        print(f"  {name:<18} {found.tasks:>5} {found.array_ms:>6.2f} {found.vendor_ms:>16.2f} "
              f"{found.chained_ms:>8.2f} {found.chained_ms / time - 1:>+5.0%} {found.many_rows_ms:>8.2f} "
              f"{found.many_rows_ms / time - 1:>+5.0%} {time:>10.2f} {found.mainline_ms:>9.2f} "
              f"{ours.chained_ms:>6.2f} {ours.mainline_ms:>6.2f}")
        print("    " + ", ".join(f"{part} {value:.2f}" for part, value in found.parts.items()))
    print(NOTES)
    print_open_driver(folder)


def print_open_driver(folder: Path) -> None:
    measured = rows(folder / "open_driver_latency.csv")
    print(f"\nMainline kernel and open driver, one core, {RK3588.mainline_clock_mhz} MHz (mainline's default; the "
          "clock of the measurements was not recorded)")
    for name, (build, model) in networks.OPEN_DRIVER.items():
        told = ", ".join(f"{row['latency_ms']} ms ({row['notes']})" for row in measured if row["model"] == model)
        found, ours = (rates.predict(build(), in_blocks=blocks) for blocks in (False, True))
        print(f"  {name}: {found.today_ms:.1f} ms predicted for our programs ({ours.today_ms:.1f} with the picture in "
              f"blocks); measured with another compiler's: {told}")


if __name__ == "__main__":
    sys.exit(main())
