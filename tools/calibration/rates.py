"""What the model predicts for a whole network, compiled by our compiler, and where the time goes."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np

from cermet.compiler import Compiled, compile_subgraph, driver_for
from cermet.drivers.base import CompileOptions, Program
from cermet.drivers.rocket import driver as rocket
from cermet.hw.cycles import Conditions, chained_cycles, ddr_cycles, total_cycles
from cermet.hw.soc import RK3588
from cermet.ir.subgraph import Subgraph
from cermet.sim.timer import time_programs

CYCLES_PER_MS = RK3588.clock_mhz * 1000
MANY_ROWS = 52              # FEATURE_GRAINS of Mesa's programs (stride 1); the vendor's: 12, or all rows


@dataclass(frozen=True)
class Prediction:
    """Milliseconds of one inference on one core at the full clock. parts: of chained_ms, what decides and what does not
    overlap. today_ms: mainline_ms at the clock at which the mainline kernel leaves the NPU."""

    tasks: int
    array_ms: float
    vendor_ms: float
    chained_ms: float
    many_rows_ms: float
    mainline_ms: float
    today_ms: float
    parts: Mapping[str, float]


def predict(subgraph: Subgraph, *, in_blocks: bool) -> Prediction:
    """in_blocks: the picture in blocks of pixels where our compiler wants it so (fold_strides), as no other does."""
    compiled = _compiled(subgraph) if in_blocks else _compiled_without_blocks(subgraph)
    if compiled.refusals:
        raise SystemExit(f"not on the NPU: {next(iter(compiled.refusals.values())).reason}")
    programs = [words for program in compiled.programs for words in _words(program)]
    found = time_programs(RK3588, programs)
    many_rows = time_programs(RK3588, [[_with_many_rows(word) for word in words] for words in programs])
    slow = time_programs(RK3588, programs, Conditions(RK3588.mainline_clock_mhz))
    kernel_ms = (len(found) * RK3588.interrupt_us + RK3588.submit_us) / 1000
    parts: dict[str, float] = {}
    for launch in found:
        name = max(launch.parts, key=lambda part: part[1])[0]
        parts[name] = parts.get(name, 0) + launch.steady / CYCLES_PER_MS
    parts["first rows and kernels"] = sum(launch.fill for launch in found) / CYCLES_PER_MS
    parts["fetch and drain"] = chained_cycles(found) / CYCLES_PER_MS - sum(parts.values())
    chained = chained_cycles(found) / CYCLES_PER_MS
    return Prediction(
        len(found), sum(launch.work.array_cycles for launch in found) / CYCLES_PER_MS,
        sum(max(launch.work.array_cycles, ddr_cycles(RK3588, launch.work)) for launch in found) / CYCLES_PER_MS,
        chained, chained_cycles(many_rows) / CYCLES_PER_MS,
        total_cycles(found) / CYCLES_PER_MS + kernel_ms,
        total_cycles(slow) / (RK3588.mainline_clock_mhz * 1000) + kernel_ms, parts)


def _compiled(subgraph: Subgraph) -> Compiled:
    return compile_subgraph(subgraph, driver_for(RK3588.name), CompileOptions(prefer="npu", match="exact"))


def _compiled_without_blocks(subgraph: Subgraph) -> Compiled:
    with patch.object(rocket, "fold_strides", lambda *_: {}):
        return _compiled(subgraph)


def _words(program: Program) -> list[list[int]]:
    return [np.frombuffer(program.bos[task.bo].data, "<u8", task.num_words, task.offset_bytes).tolist()
            for task in program.tasks]


def _with_many_rows(word: int) -> int:
    """A program word; the one that sets FEATURE_GRAINS with at least MANY_ROWS."""
    register = RK3588.registers["CNA.CONV_CON2"]
    if word >> 48 != RK3588.registers.blocks["CNA"].target or word & 0xFFFF != register.offset:
        return word
    fields = register.unpack(word >> 16 & 0xFFFF_FFFF)
    fields["FEATURE_GRAINS"] = max(fields["FEATURE_GRAINS"], MANY_ROWS)
    return word & ~(0xFFFF_FFFF << 16) | register.pack(**fields) << 16
