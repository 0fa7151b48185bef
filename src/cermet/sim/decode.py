"""What the registers of a start say: settings, checks and work, read once for each set of register values.

Everything here follows from the registers alone, so that the same values need not be looked at again: a core keeps
what it found. What memory, CBUF, the tables and the tasks before say is in core.py.
"""
from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from cermet.hw import cycles
from cermet.hw.cycles import LaunchTime, Work
from cermet.hw.soc import Soc
from cermet.sim.cna import ConvShape, decode_shape, window_bytes
from cermet.sim.cna_checks import check_cbuf, check_shape
from cermet.sim.core_mac import CoreSettings, decode_core
from cermet.sim.dpu import Dpu, decode_dpu
from cermet.sim.dpu_checks import check_conv, check_flying, check_operands
from cermet.sim.forms import ConvForm, FlyingForm
from cermet.sim.outcome import Diagnostic, Hang, TaskOutcome
from cermet.sim.ppu import Pool, decode_pool
from cermet.sim.rdma import Rdma, decode_rdma
from cermet.sim.registers import Snapshot
from cermet.sim.work import conv_work, flying_work, pool_work

MAX_KEPT = 1024                         # of one core; a few KB each
MAX_WINDOW_BYTES = 32 << 20             # CBUF (384 KB) spread 8x8 by a transposed convolution is 24 MB
Snapshots = Mapping[str, Snapshot]
T = TypeVar("T")


@dataclass(frozen=True)
class ConvTask:
    """CNA, CORE and DPU, with or without DPU_RDMA."""

    shape: ConvShape
    settings: CoreSettings
    dpu: Dpu
    rdma: Rdma | None
    work: Work

    @cached_property
    def form(self) -> ConvForm:
        """Made when the compiled kernels first run it. Raises Hang."""
        return ConvForm(self.shape, self.settings, self.dpu, self.rdma)


@dataclass(frozen=True)
class FlyingTask:
    """DPU and DPU_RDMA."""

    dpu: Dpu
    rdma: Rdma
    work: Work

    @cached_property
    def form(self) -> FlyingForm:
        """Made when the compiled kernels first run it. Raises Hang."""
        return FlyingForm(self.dpu, self.rdma)


@dataclass(frozen=True)
class PoolTask:
    """PPU and PPU_RDMA."""

    pool: Pool
    work: Work


class Decoder:
    """Of one core. Raises Hang for what never ends; warnings go to the outcome, each time."""

    def __init__(self, soc: Soc) -> None:
        self.soc = soc
        self.plain = False              # nothing is remembered
        self._known: dict[Hashable, tuple[Any, list[Diagnostic]]] = {}
        self._times: dict[tuple[Work, int], LaunchTime] = {}

    def dpu_task(self, snapshots: Snapshots, base: int, outcome: TaskOutcome) -> ConvTask | FlyingTask:
        """base is TASK_DMA_BASE_ADDR."""
        return self._once(("CNA", "CORE", "DPU", "DPU_RDMA"), decode_dpu_task, snapshots, base, outcome)

    def pool_task(self, snapshots: Snapshots, base: int, outcome: TaskOutcome) -> PoolTask:
        return self._once(("PPU", "PPU_RDMA"), decode_pool_task, snapshots, base, outcome)

    def time(self, work: Work, num_words: int) -> LaunchTime:
        """How long the start takes, its program's words included."""
        found = self._times.get((work, num_words))
        if found is None:
            found = cycles.launch_time(self.soc, work, num_words)
            if len(self._times) >= MAX_KEPT:
                self._times.clear()
            self._times[work, num_words] = found
        return found

    def _once(self, blocks: tuple[str, ...], decode: Callable[[Soc, Snapshots, int, TaskOutcome], T],
              snapshots: Snapshots, base: int, outcome: TaskOutcome) -> T:
        """What decode gave for these register values; in the plain form it is asked each time."""
        if self.plain:
            return decode(self.soc, snapshots, base, outcome)
        key = (base, *(registers_of(snapshots[name]) if name in snapshots else None for name in blocks))
        found = self._known.get(key)
        if found is None:
            before = len(outcome.diagnostics)
            task = decode(self.soc, snapshots, base, outcome)
            if len(self._known) >= MAX_KEPT:
                self._known.clear()
            self._known[key] = (task, outcome.diagnostics[before:])
            return task
        outcome.diagnostics += found[1]
        task = found[0]
        return task


def registers_of(snapshot: Snapshot) -> Hashable:
    """Equal only for the same values in the same registers. Written in another order they may differ: no matter."""
    return tuple(snapshot.values), array("I", snapshot.values.values()).tobytes()


def decode_dpu_task(soc: Soc, snapshots: Snapshots, base: int, outcome: TaskOutcome) -> ConvTask | FlyingTask:
    dpu = decode_dpu(snapshots["DPU"], base, outcome)
    rdma = decode_rdma(snapshots["DPU_RDMA"], base) if "DPU_RDMA" in snapshots else None
    if dpu.flying and "CNA" in snapshots:
        raise Hang("dpu.flying", "DPU.FEATURE_MODE_CFG.FLYING_MODE: 1, but CORE was started (ASSUMED to hang)")
    if "CNA" in snapshots:
        return decode_conv(soc, snapshots, dpu, rdma, outcome)
    if not dpu.flying:
        raise Hang("dpu.no_input", "DPU.FEATURE_MODE_CFG.FLYING_MODE: 0, but CORE was not started")
    dpu = check_flying(dpu, rdma, outcome)
    assert rdma is not None
    check_operands(dpu, rdma, False)
    return FlyingTask(dpu, rdma, flying_work(soc, dpu, rdma))


def decode_conv(soc: Soc, snapshots: Snapshots, dpu: Dpu, rdma: Rdma | None, outcome: TaskOutcome) -> ConvTask:
    cna = snapshots["CNA"]
    shape = decode_shape(cna)
    check_shape(cna, shape, outcome)
    check_cbuf(cna, shape, soc, outcome)
    settings = decode_core(snapshots["CORE"], shape, outcome)
    check_conv(dpu, shape.depthwise, (settings.width, settings.height, settings.channels), rdma, outcome,
               (soc.kernel_group, soc.depthwise_group))
    check_kernels(soc, shape, settings.channels)
    check_operands(dpu, rdma, True)
    if not dpu.no_offset_term and not settings.sum_inputs and (dpu.offset_operand or dpu.offset_from_memory):
        outcome.warn("core.qd_en", "CORE.MISC_CFG.QD_EN: 0, so the weight zero point term is 0 (ASSUMED)")
    if window_bytes(shape) > MAX_WINDOW_BYTES:
        raise Hang("cna.window", f"CNA: taps reach over {window_bytes(shape)} bytes, far beyond input and pads "
                   "(ASSUMED to hang)")
    kept = snapshots["DPU"]("DATA_CUBE_CHANNEL.ORIG_CHANNEL")
    return ConvTask(shape, settings, dpu, rdma, conv_work(soc, shape, dpu, rdma, kept))


def check_kernels(soc: Soc, shape: ConvShape, channels: int) -> None:
    """CORE's channels against CNA's kernels. Raises Hang."""
    if shape.depthwise:
        if not 0 <= channels - shape.channels < soc.depthwise_group:
            raise Hang("core.kernels", f"CORE.DATAOUT_SIZE_1: {channels} channels must be {shape.channels} "
                       "rounded up to 64 (ASSUMED to hang)")
    elif not 0 <= channels - shape.kernels < soc.kernel_group:
        raise Hang("core.kernels", f"CORE.DATAOUT_SIZE_1: {channels} channels must be {shape.kernels} kernels "
                   "rounded up to 32 (ASSUMED to hang)")


def decode_pool_task(soc: Soc, snapshots: Snapshots, base: int, outcome: TaskOutcome) -> PoolTask:
    pool = decode_pool(snapshots["PPU"], snapshots["PPU_RDMA"], base, outcome)
    return PoolTask(pool, pool_work(soc, pool))
