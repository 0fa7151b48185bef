"""Estimates for 1 to 3 cores, on mainline and with the proposed queues: python tools/bench/cores.py [MODEL ...]

No board: cycles of each task by the cycle model (docs/performance.md), the kernel's part by counting. Cores that run at
the same time share the memory evenly. An interrupt with what follows it takes 34 us: on mainline once per task,
with queues once per stage, in which the lanes' interrupts come at about the same time (ASSUMED).
"""
from __future__ import annotations

import argparse
import heapq
import pathlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from cermet.cli.bench import number
from cermet.compiler import Compiled, compile_subgraph, driver_for
from cermet.cost import conversion_us
from cermet.drivers.base import CompileOptions, Program
from cermet.errors import CermetError
from cermet.frontend.tflite_file import load, read_tflite
from cermet.hw.cycles import Conditions, LaunchTime, chained_cycles, total_cycles
from cermet.hw.soc import RK3588, Soc
from cermet.ir.subgraph import Subgraph
from cermet.profile.tasks import program_words
from cermet.sim.timer import Timer

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "data" / "models"
SIMULATED_US = 5e6
NETWORK_OF_3X3 = "34 layers of 3x3"


@dataclass(frozen=True)
class Estimate:
    """Microseconds of the partitions of a model on the NPU, and how many interrupts they take."""

    us: float
    interrupts: int


def launches(soc: Soc, program: Program, first: int, count: int, conditions: Conditions) -> list[LaunchTime]:
    """Starts of consecutive tasks, on a core that has run nothing else."""
    timer = Timer(soc, conditions)
    words = list(program_words(program))[first:first + count]
    return [launch for text in words for launch in timer.program(text)]


def mainline(soc: Soc, program: Program, conditions: Conditions) -> Estimate:
    """Task by task, each with an interrupt."""
    cycles = total_cycles(launches(soc, program, 0, len(program.tasks), conditions))
    return Estimate(soc.submit_us + cycles / conditions.clock_mhz + len(program.tasks) * soc.interrupt_us,
                    len(program.tasks))


def queued(soc: Soc, program: Program, clock_mhz: float) -> Estimate:
    """Stage by stage: the slowest lane, and an interrupt before anyone can go on."""
    us, interrupts = soc.submit_us, 0
    for _, run in groupby(program.steps, key=lambda step: step.stage):
        stage = list(run)
        conditions = Conditions(clock_mhz, len(stage))
        cycles = [chained_cycles(launches(soc, program, step.first_task, step.num_tasks, conditions)) for step in stage]
        us += soc.interrupt_us + max(cycles) / clock_mhz
        interrupts += len(stage)
    return Estimate(us, interrupts)


def total(estimates: Sequence[Estimate]) -> Estimate:
    return Estimate(sum(e.us for e in estimates), sum(e.interrupts for e in estimates))


def throughput(host_us: float, device_us: Sequence[float], num_files: int, num_cores: int) -> float:
    """Inferences per second of interpreters that each convert, submit and wait, over and over.

    device_us: of an inference with so many cores busy. The scheduler is mainline's: the least loaded core is taken.
    """
    events = [(host_us * (1 + number / 10), number, -1) for number in range(num_files)]     # (time, file, core or host)
    heapq.heapify(events)
    free_at, load, done, now = [0.0] * num_cores, [0] * num_cores, 0, 0.0
    while now < SIMULATED_US:
        now, file, core = heapq.heappop(events)
        if core >= 0:
            load[core] -= 1
            done += 1
            heapq.heappush(events, (now + host_us, file, -1))
            continue
        chosen = min(range(num_cores), key=lambda number: load[number])
        load[chosen] += 1
        busy = sum(1 for other in load if other)
        free_at[chosen] = max(free_at[chosen], now) + device_us[min(busy, len(device_us)) - 1]
        heapq.heappush(events, (free_at[chosen], file, chosen))
    return done / now * 1e6


def compiled(subgraph: Subgraph, cores: int) -> Compiled:
    return compile_subgraph(subgraph, driver_for(RK3588.name), CompileOptions(cores=cores))


def rows(name: str, subgraph: Subgraph, clock_mhz: float) -> dict[str, list[str]]:
    """Table -> cells of this model."""
    soc = RK3588
    made = {cores: compiled(subgraph, cores) for cores in (1, 2, 3)}
    alone = made[1].programs
    at = {cores: total([mainline(soc, program, Conditions(clock_mhz, cores)) for program in alone])
          for cores in (1, 2, 3)}
    with_queues = {cores: total([queued(soc, program, clock_mhz) for program in several.programs])
                   for cores, several in made.items()}
    host_us = sum(conversion_us(subgraph.extract(op for op in subgraph.operations if op.index in group))
                  for group in made[1].groups)
    rates = [throughput(host_us, [at[cores].us for cores in (1, 2, 3)], files, soc.cores) for files in (1, 2, 3, 4)]
    clock = f"{clock_mhz:g}"
    chained = with_queues[1]
    return {
        "latency of one inference on the NPU, milliseconds (interrupts)": [
            name, clock, *(f"{e.us / 1000:.2f} ({e.interrupts})" for e in (at[1], *with_queues.values())),
            f"{with_queues[1].us / with_queues[3].us:.2f}", f"{at[1].us / with_queues[3].us:.2f}"],
        "throughput on mainline, inferences per second": [name, clock, *(f"{rate:.1f}" for rate in rates),
                                                          f"{rates[2] / rates[0]:.2f}"],
        "what chaining alone gives": [name, clock, str(at[1].interrupts), f"{at[1].us / 1000:.2f}",
                                      f"{chained.us / 1000:.2f}", f"{1 - chained.us / at[1].us:.0%}"]}


HEADS = {
    "latency of one inference on the NPU, milliseconds (interrupts)": [
        "model", "MHz", "mainline", "queues, 1 core", "2 cores", "3 cores", "3 cores to 1", "to mainline"],
    "throughput on mainline, inferences per second": ["model", "MHz", "1 interpreter", "2", "3", "4", "3 to 1"],
    "what chaining alone gives": ["model", "MHz", "interrupts", "mainline, ms", "one chain, ms", "less"]}


def print_table(title: str, lines: list[list[str]]) -> None:
    print(f"\n{title}\n")
    for cells in (HEADS[title], ["---"] * len(HEADS[title]), *lines):
        print("| " + " | ".join(cells) + " |")


def network_of_3x3() -> bytes:
    """ResNet34's shapes: two 3x3 convolutions a block, no 1x1 but where channels double."""
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    from resnet50 import STAGES, ResNet50
    from tests.support.model_builder import build_model
    made = ResNet50(224)
    x = made.max_pool(made.conv(made.input, 64, 7, 2, "RELU"))
    for stage, blocks in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = made.conv(made.conv(x, 64 << stage, 3, stride, "RELU"), 64 << stage, 3, 1, "NONE")
            x = made.add(y, x if stride == 1 else made.conv(x, 64 << stage, 1, 2, "NONE"))
    return bytes(build_model(made.tensors, made.operations, [made.input], [made.classifier(x)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path, help="default: MobileNet V1 and V2, and a network of "
                        "3x3 convolutions")
    parser.add_argument("--clocks", type=clocks, default=(200, 1000), help="MHz (default: 200,1000)")
    try:
        print_all(parser.parse_args())
    except CermetError as error:
        parser.error(str(error))


def clocks(text: str) -> tuple[int, ...]:
    return tuple(number(1, 10_000)(word) for word in text.split(","))


def print_all(arguments: argparse.Namespace) -> None:
    given = {path.stem: load(path) for path in arguments.models} or {
        "MobileNet V1 1.0 224": load(MODELS / "mobilenet_v1_1.0_224_quant_rejoined.tflite"),
        "MobileNet V2 1.0 224": load(MODELS / "mobilenet_v2_1.0_224_quant.tflite"),
        NETWORK_OF_3X3: read_tflite(network_of_3x3())}
    tables: dict[str, list[list[str]]] = {title: [] for title in HEADS}
    for name, subgraph in given.items():
        for clock in arguments.clocks:
            for title, cells in rows(name, subgraph, clock).items():
                tables[title].append(cells)
    for title, lines in tables.items():
        print_table(title, lines)


if __name__ == "__main__":
    main()
