"""What a plan takes by the cycle model (cermet.hw.cycles), read off shapes: before there are registers."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, sqrt

from cermet.drivers.base import CompileOptions
from cermet.drivers.rocket.geometry import Geometry, Tile
from cermet.drivers.rocket.layout import round_up
from cermet.hw.cycles import Conditions, LaunchTime, Work, conv_cycles, depthwise_cycles, launch_time, spread_cycles
from cermet.hw.soc import Soc

TASK_WORDS = 127                # of a convolution's program
COPY_WORDS = 73                 # of a program of the DPU alone
OPERAND_BYTES = 8               # per output channel: blocks of bias and multiplier


@dataclass(frozen=True)
class Pace:
    """How tasks follow each other: clock_mhz, cores that share the memory, microseconds of the kernel's behind each.

    is_chained   the hardware fetches a program while the task before runs
    """

    clock_mhz: int
    cores: int = 1
    task_us: float = 0.0
    is_chained: bool = False


def mainline_pace(soc: Soc) -> Pace:
    """Its clock, and an interrupt for each task."""
    return Pace(soc.mainline_clock_mhz, task_us=soc.interrupt_us)


def pace_of(soc: Soc, options: CompileOptions) -> Pace:
    """One core: mainline, with programs that chain themselves if wanted. More: chains (kernel-uapi/proposals/queues).

    Nobody knows at which clock a kernel with queues will run the NPU: halfway between mainline's and the full one, as
    factors. Bundled models are at most 3 % slower at 200 MHz than if they were shared for 200 (docs/performance.md).
    """
    if options.cores > 1:
        return Pace(round(sqrt(soc.mainline_clock_mhz * soc.clock_mhz)), options.cores, is_chained=True)
    return Pace(soc.mainline_clock_mhz, is_chained=True) if options.chains_itself else mainline_pace(soc)


def tile_work(soc: Soc, geometry: Geometry, tile: Tile) -> Work:
    """As cermet.sim.work reads it off the task's registers, without what is added behind the convolution."""
    channels = tile.channels if geometry.is_depthwise else geometry.input_channels
    pixels, outputs = tile.output_rows * geometry.output_width, round_up(tile.channels, geometry.group(soc))
    row_bytes = geometry.input_width * round_up(channels, soc.atom_bytes)
    kernels = 1 if geometry.is_depthwise else round_up(tile.channels, 2)
    weights = 0 if tile.reuses_weights else geometry.taps * round_up(channels, soc.atom_bytes) * kernels
    first_share = (soc.depthwise_group / round_up(channels, soc.atom_bytes) if geometry.is_depthwise
                   else soc.kernel_group / kernels)
    return Work(
        "depthwise" if geometry.is_depthwise else "conv",
        array_cycles=_array_cycles(soc, geometry, pixels, channels, outputs),
        output_cycles=ceil(pixels * outputs / soc.timing.dpu_outputs.value),
        feature_bytes=tile.input_rows * row_bytes,
        first_feature_bytes=min(geometry.first_rows, tile.input_rows) * row_bytes,
        weight_bytes=weights, first_weight_bytes=ceil(weights * min(first_share, 1)),
        operand_bytes=tile.channels * OPERAND_BYTES, stored_bytes=pixels * outputs, kept_bytes=pixels * outputs)


def _array_cycles(soc: Soc, geometry: Geometry, pixels: int, channels: int, outputs: int) -> int:
    if geometry.is_depthwise:
        return depthwise_cycles(soc, pixels, geometry.taps, channels)
    cycles = conv_cycles(soc, pixels, geometry.taps, channels, outputs)
    return spread_cycles(soc, cycles) if geometry.is_transposed else cycles


def tile_time(soc: Soc, geometry: Geometry, tile: Tile, pace: Pace, num_words: int = TASK_WORDS) -> LaunchTime:
    """Of one task."""
    return launch_time(soc, tile_work(soc, geometry, tile), num_words, Conditions(pace.clock_mhz, pace.cores))


def plan_us(soc: Soc, geometry: Geometry, tiles: Iterable[Tile], pace: Pace) -> float:
    """Of all tasks, one behind the other. Fetches are hidden in a chain: behind the operation before, the first one."""
    counts = Counter(replace(tile, first_output_row=0, first_input_row=0, first_channel=0) for tile in tiles)
    total = 0.0
    for tile, count in counts.items():
        made = tile_time(soc, geometry, tile, pace)
        total += count * (pace.task_us + (made.run if pace.is_chained else made.total) / pace.clock_mhz)
    return total


def copies_us(soc: Soc, num_tasks: int, num_atoms: int, pace: Pace) -> float:
    """Tasks of the DPU that move so many atoms together."""
    made = launch_time(soc, copy_work(soc, num_atoms), COPY_WORDS, Conditions(pace.clock_mhz, pace.cores))
    fixed = made.fill + made.drain + (0 if pace.is_chained else made.fetch)
    return num_tasks * (pace.task_us + fixed / pace.clock_mhz) + made.steady / pace.clock_mhz


def copy_work(soc: Soc, num_atoms: int, num_operands: int = 1) -> Work:
    """A cube through the DPU."""
    num_bytes = num_atoms * soc.atom_bytes
    return Work("dpu", output_cycles=ceil(num_bytes / soc.timing.dpu_outputs.value), stored_bytes=num_bytes,
                stream_bytes=num_bytes * num_operands, kept_bytes=num_bytes)


def cube_cycles(soc: Soc, num_atoms: int, num_operands: int, num_words: int) -> int:
    """One task of the DPU alone, on mainline."""
    return launch_time(soc, copy_work(soc, num_atoms, num_operands), num_words,
                       Conditions(soc.mainline_clock_mhz)).total
