"""How long a task takes on one core: cycles of its stages, from what its registers say it moves and computes.

    fetch | fill | steady: the slowest of array, loads, streams, output, memory | drain

fetch    the PC reads the program; in a chain it does so while the task before runs (ping-pong)
fill     CNA loads the first FEATURE_GRAINS rows and the first kernel group before the array starts
drain    the last results leave the pipeline and are acknowledged

Structure: SoC notes §4.3. Constants, with their sources: cermet.hw.timing. The array's cycles are the vendor's own
estimate; everything else is how far public measurements go (docs/performance.md).
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from cermet.hw.soc import Soc


def conv_cycles(soc: Soc, pixels: int, taps: int, in_channels: int, out_channels: int) -> int:
    """The array in direct mode; fitted, exact on all rows of the vendor's tables."""
    per_pixel = max(taps * -(-in_channels // soc.weight_input_block), int(soc.timing.kernel_floor.value))
    return _padded(soc, pixels) * per_pixel * -(-out_channels // soc.kernel_group)


def depthwise_cycles(soc: Soc, pixels: int, taps: int, channels: int) -> int:
    """The array in depthwise mode; fitted, exact on all rows of the vendor's tables."""
    return _padded(soc, pixels) * taps * -(-channels // soc.depthwise_group)


def spread_cycles(soc: Soc, cycles: int) -> int:
    """The array in transposed mode. cycles: of the convolution over the spread input."""
    return round(cycles * soc.timing.spread_share.value)


def _padded(soc: Soc, pixels: int) -> int:
    step = int(soc.timing.pixel_step.value)
    return -(-pixels // step) * step


@dataclass(frozen=True)
class Work:
    """What one start of blocks does.

    unit             conv, depthwise, dpu (no array) or ppu
    macs             multiply-accumulates of the programmed shape
    array_cycles     of the MAC array
    output_cycles    of the DPU or the PPU
    feature_bytes, weight_bytes     that CNA loads; first_..: before the array can start
    operand_bytes    per channel: bias, scales
    stream_bytes     per element: DPU_RDMA's and PPU_RDMA's cubes
    stored_bytes     that WDMA writes; kept_bytes: without the filler atoms that complete a kernel group
    """

    unit: str
    macs: int = 0
    array_cycles: int = 0
    output_cycles: int = 0
    feature_bytes: int = 0
    first_feature_bytes: int = 0
    weight_bytes: int = 0
    first_weight_bytes: int = 0
    operand_bytes: int = 0
    stream_bytes: int = 0
    stored_bytes: int = 0
    kept_bytes: int = 0

    @property
    def read_bytes(self) -> int:
        return self.feature_bytes + self.weight_bytes + self.operand_bytes + self.stream_bytes

    @property
    def ddr_bytes(self) -> int:
        """As the vendor's tables count them."""
        return self.read_bytes + self.kept_bytes


@dataclass(frozen=True)
class Conditions:
    """clock_mhz: the NPU's; cores: as many share the memory evenly."""

    clock_mhz: float
    cores: int = 1


@dataclass(frozen=True)
class LaunchTime:
    """Cycles of one start of blocks.

    parts      what overlaps in the steady phase, by name; the largest decides
    fetch      of the program words before it
    """

    work: Work
    num_words: int
    fetch: int
    fill: int
    parts: tuple[tuple[str, int], ...]
    drain: int

    @property
    def steady(self) -> int:
        return max(cycles for _, cycles in self.parts)

    @property
    def run(self) -> int:
        """From the start of the blocks to their interrupt."""
        return self.fill + self.steady + self.drain

    @property
    def total(self) -> int:
        return self.fetch + self.run

    @property
    def bound_by(self) -> str:
        """What would have to become faster: array, load, stream, output, store, memory, or start: what is fixed."""
        name, steady = max(self.parts, key=lambda part: part[1])
        latency = self.drain
        shares = {"start": self.fetch + latency + self.drain, "load": self.fill - latency}
        shares[name] = shares.get(name, 0) + steady
        return max(shares, key=lambda each: shares[each])


def launch_time(soc: Soc, work: Work, num_words: int, conditions: Conditions | None = None) -> LaunchTime:
    """Cycles of one start. num_words: of its program, fetched before it."""
    timing, at = soc.timing, conditions or Conditions(soc.clock_mhz)
    memory = timing.memory_gb_s.value * 1000 / at.clock_mhz / at.cores
    load, latency = min(timing.load_bytes.value, memory), timing.latency.value
    first = work.first_feature_bytes + work.first_weight_bytes
    rest = work.feature_bytes + work.weight_bytes - first
    fetch = latency + num_words * timing.fetch_cycles.value
    fill = latency + first / load if work.unit in ("conv", "depthwise") else latency
    parts = (("array", work.array_cycles), ("output", work.output_cycles), ("load", rest / load),
             ("stream", (work.stream_bytes + work.operand_bytes) / timing.stream_bytes.value),
             ("store", work.stored_bytes / timing.store_bytes.value),
             ("memory", (work.read_bytes - first + work.stored_bytes) / memory))
    return LaunchTime(work, num_words, ceil(fetch), ceil(fill), tuple((name, ceil(value)) for name, value in parts),
                      ceil(latency))


def ddr_cycles(soc: Soc, work: Work) -> float:
    """The vendor's DDR column: bytes over the memory's rate at the full clock. Reproduces its tables."""
    return work.ddr_bytes * soc.clock_mhz / (soc.timing.memory_gb_s.value * 1000)


def chained_cycles(launches: Sequence[LaunchTime]) -> int:
    """Launches that the hardware chains: each program is fetched while the one before runs."""
    runs = [launch.run for launch in launches]
    waits = [max(launch.fetch - before, 0) for launch, before in zip(launches, [0, *runs], strict=False)]
    return sum(runs) + sum(waits)


def total_cycles(launches: Iterable[LaunchTime]) -> int:
    """Launches one by one, as the mainline kernel starts them; its own time between them is not included."""
    return sum(launch.total for launch in launches)


def timeout_cycles(soc: Soc, timeout_ms: int) -> int:
    """Cycles within the kernel's job timeout: a task estimated longer is never waited for."""
    return timeout_ms * soc.clock_mhz * 1000
