"""The cycle model against published figures, and what it must say about any program."""
from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from cermet.compiler import compile_subgraph, driver_for
from cermet.drivers.base import CompileOptions
from cermet.frontend.tflite_file import read_tflite
from cermet.hw.cycles import (
    Conditions,
    LaunchTime,
    chained_cycles,
    conv_cycles,
    ddr_cycles,
    depthwise_cycles,
    total_cycles,
)
from cermet.hw.soc import RK3588, Soc
from cermet.sim.core import Core
from cermet.sim.outcome import Hang
from cermet.sim.timer import Timer, time_programs
from tests.sim.support import DATA, Memory, kick, vendor_program
from tests.support.model_builder import conv2d, depthwise

ROOT = Path(__file__).resolve().parents[2]
TABLE = DATA / "perf" / "vendor_estimates_models.csv"
# Channels per group, direct and depthwise (SoC notes, sections 1 and 3a).
GROUPS = {"rk3588": (32, 64), "rk3576": (32, 64), "rk3562": (16, 64), "rk3566": (16, 32), "rv1106": (16, 32)}
Shape = tuple[int, ...]


def vendor_rows() -> Iterator[tuple[str, Shape, Shape, Shape, int, int]]:
    """(SoC, input, kernels, output, DDR cycles, NPU cycles), shapes as (batch or number, channels, height, width)."""
    with TABLE.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["op"] in ("Conv", "ConvClip", "ConvAdd"):
                shapes = [tuple(map(int, text.split(","))) for text in
                          re.findall(r"\(([\d,]+)\)", row["input_shape"] + row["output_shape"])]
                yield (row["soc"], shapes[0], shapes[1], shapes[-1], int(row["ddr_cycles"]), int(row["npu_cycles"]))


def is_depthwise(kernels: Shape, data: Shape) -> bool:
    return kernels[0] == 1 and kernels[1] == data[1] and kernels[2] > 1


def test_array_cycles_are_the_vendors_on_every_row_of_five_socs() -> None:
    found = list(vendor_rows())
    for name, data, kernels, output, _, expected in found:
        soc: Soc = replace(RK3588, kernel_group=GROUPS[name][0], depthwise_group=GROUPS[name][1])
        pixels, taps = output[2] * output[3], kernels[2] * kernels[3]
        made = (depthwise_cycles(soc, pixels, taps, data[1]) if is_depthwise(kernels, data)
                else conv_cycles(soc, pixels, taps, data[1], output[1]))
        assert made == expected, (name, data, kernels, output)
    assert len(found) == 560


def launches_of(model: bytes, **options: str) -> list[LaunchTime]:
    compiled = compile_subgraph(read_tflite(model, 0, place="model"), driver_for("rk3588"),
                                CompileOptions(prefer="npu", **options))
    return [launch for program in compiled.programs for launch in time_programs(RK3588, [
        np.frombuffer(program.bos[task.bo].data, "<u8", task.num_words, task.offset_bytes).tolist()
        for task in program.tasks])]


def test_registers_of_our_own_programs_give_the_vendors_columns(record_table: Callable) -> None:
    """Layers of MobileNet V1 0.25 that fit the buffer: array cycles equal, DDR cycles within 5 % (median)."""
    rng = np.random.default_rng(3)
    errors, exact = [], 0
    rows = dict.fromkeys(row for row in vendor_rows() if row[0] == "rk3588" and row[1][1] > 4 and row[1][2] <= 32)
    for _, data, kernels, output, ddr, npu in list(rows)[::3]:
        shape, stride = (1, data[2], data[3], data[1]), -(-data[2] // output[2])
        if output[2] == 1 and kernels[2] > 1:
            continue                    # an average that the vendor made a convolution
        model = (depthwise(rng, shape, kernel=(kernels[2], kernels[3]), stride=(stride, stride)) if
                 is_depthwise(kernels, data) else conv2d(rng, shape, output[1], kernel=(kernels[2], kernels[3]),
                                                         stride=(stride, stride)))
        launches = launches_of(model.data)
        if len(launches) > 1:
            continue                    # in parts, whose pixels are rounded up one by one
        assert launches[0].work.array_cycles == npu, (data, kernels, output)
        exact += 1
        errors.append(abs(ddr_cycles(RK3588, launches[0].work) / ddr - 1))
    record_table("cycle model: our programs against the vendor's columns", {
        "layers": len(errors), "array exact": exact, "DDR median": f"{median(errors):.2%}",
        "DDR worst": f"{max(errors):.2%}"})
    assert exact >= 12 and median(errors) <= 0.05


def test_calibration_prints_every_table_and_reproduces_what_it_left_out() -> None:
    run = subprocess.run([sys.executable, ROOT / "tools" / "calibrate_cycles.py"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "560 of 560 rows exact" in run.stdout
    left_out = re.findall(r"^  rk3588 .* (\d+) of (\d+) +([\d.]+)%", run.stdout, re.M)
    assert len(left_out) == 3
    assert all(exact == total and float(error) < 5 for exact, total, error in left_out)
    assert all(name in run.stdout for name in ("MobileNetV2 224", "ResNet50 224", "YOLOv5s ReLU 640", "Board log"))


# Programs of other compilers


def chain(name: str) -> list[list[int]]:
    """The one-core tasks of a vendor's file as words."""
    tasks = []
    for task in vendor_program(DATA / "vendor_rk3588" / f"{name}.json.gz"):
        tasks.append([target << 48 | value << 16 | offset for target, offset, value in task])
        if not any(target == 0x0101 and offset == 0x14 and value for target, offset, value in task):
            break
    return tasks


def test_programs_of_the_vendors_compiler_are_timed() -> None:
    (conv,) = time_programs(RK3588, chain("conv3x3s1_c16o32h32"))
    assert conv.work.array_cycles == 32 * 32 * 9
    assert (conv.work.feature_bytes, conv.work.weight_bytes) == (32 * 32 * 16, 32 * 9 * 16)
    assert (conv.work.operand_bytes, conv.work.stored_bytes) == (32 * 8, 32 * 32 * 32)
    (depthwise_task,) = time_programs(RK3588, chain("dw3x3s1_c32h32"))
    assert depthwise_task.work.array_cycles == 32 * 32 * 9
    pool = time_programs(RK3588, chain("maxpool3x3s2p1_c64h112"))
    assert sum(launch.work.stored_bytes for launch in pool) == 56 * 56 * 64
    assert {launch.work.unit for launch in pool} == {"ppu"}
    (add,) = time_programs(RK3588, chain("ew_add_c32h16"))
    assert add.work.stream_bytes == 2 * 16 * 16 * 32 and add.work.stored_bytes == 16 * 16 * 32


def test_every_integer_program_of_the_vendors_is_timed(shared_dir: Path) -> None:
    """Two files hold other precisions; five leave their operation to the CPU."""
    refused, timed = [], 0
    for path in sorted((shared_dir / "programs" / "vendor" / "rk3588").glob("*.json.gz")):
        words = [[target << 48 | value << 16 | offset for target, offset, value in task]
                 for task in vendor_program(path)]
        try:
            launches = time_programs(RK3588, words)
        except Hang as hang:
            refused.append((path.name.split(".")[0], hang.rule))
            continue
        timed += bool(launches)
        assert all(launch.total > launch.steady >= launch.work.array_cycles for launch in launches)
    assert refused == [("softmax_last_16x64", "precision"), ("transpose_nhwc", "precision")]
    assert timed == 61


def test_running_and_timing_agree() -> None:
    """A core that runs a program accounts the same cycles as the timer that only looks at it."""
    words = chain("conv3x3s1_c16o32h32")[0]
    memory = Memory()
    places = {offset: memory.add(1 << 16) for offset in (0x1070, 0x1110, 0x4020, 0x5020)}
    placed = [word + (places.get(word & 0xFFFF, 0) << 16) if word >> 48 != 0x0101 else word for word in words]
    outcome = kick(Core(RK3588, 0), memory.space, memory.add(np.array(placed, "<u8")), len(placed))
    assert outcome.hang is None and outcome.fault is None
    assert outcome.launches == time_programs(RK3588, [words])
    assert outcome.cycles == total_cycles(outcome.launches)


# What must hold whatever the constants are


def launch_of(model: bytes) -> LaunchTime:
    (launch,) = launches_of(model)
    return launch


@pytest.fixture(scope="module")
def launches() -> list[LaunchTime]:
    """Of a convolution in several tasks, the later ones with the weights of the first."""
    return launches_of(conv2d(np.random.default_rng(0), (1, 96, 96, 96), 32, kernel=(3, 3)).data)


def test_weights_that_stay_are_not_read_again(launches: list[LaunchTime]) -> None:
    assert len(launches) > 1
    assert launches[0].work.weight_bytes == 32 * 9 * 96
    assert {launch.work.weight_bytes for launch in launches[1:]} == {0, 32 * 9 * 96}     # the compiler reloads some
    assert all(launch.work.first_weight_bytes == launch.work.weight_bytes for launch in launches)


def test_fetching_hides_behind_the_task_before(launches: list[LaunchTime]) -> None:
    alone, chained = total_cycles(launches), chained_cycles(launches)
    assert alone - chained == sum(launch.fetch for launch in launches[1:])


def test_the_slowest_part_decides_and_is_named() -> None:
    rng = np.random.default_rng(0)
    busy = launch_of(conv2d(rng, (1, 24, 24, 128), 256, kernel=(3, 3)).data)
    assert busy.bound_by == "array" and busy.steady == busy.work.array_cycles
    heavy = launch_of(conv2d(rng, (1, 1, 1, 1024), 1024, kernel=(1, 1)).data)
    assert heavy.bound_by == "load" and heavy.steady == dict(heavy.parts)["load"] > heavy.work.array_cycles
    small = launch_of(conv2d(rng, (1, 1, 1, 16), 32, kernel=(1, 1)).data)
    assert small.bound_by == "start"


def test_memory_is_shared_by_cores_and_faster_in_cycles_at_a_lower_clock(launches: list[LaunchTime]) -> None:
    words = chain("ew_add_c32h16")
    alone, shared, slow = (dict(time_programs(RK3588, words, conditions)[0].parts)["memory"] for conditions in (
        Conditions(1000), Conditions(1000, cores=3), Conditions(200)))
    assert shared == pytest.approx(3 * alone, abs=3) and slow == pytest.approx(alone / 5, abs=1)


def test_any_words_are_timed_or_refused() -> None:
    rng = np.random.default_rng(11)
    base = chain("conv3x3s1_c16o32h32")[0]
    for _ in range(300):
        words = [word ^ (int(rng.integers(1 << 32)) << 16 if rng.random() < 0.05 else 0) for word in base]
        try:
            found = Timer(RK3588).program(words)
        except Hang:
            continue
        assert all(launch.total > 0 for launch in found)


def test_every_constant_says_how_well_it_is_known() -> None:
    for figure in RK3588.timing.figures().values():
        assert figure.confidence in ("hw-verified", "fitted", "inferred", "ASSUMED") and figure.source and figure.unit
