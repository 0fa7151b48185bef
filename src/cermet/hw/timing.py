"""What the cycle model (cermet.hw.cycles) takes for constants of a SoC: values with confidence and source.

Sections and questions (Q-..) are those of the hardware notes. tools/calibrate_cycles.py fits what is called fitted and
prints the residuals; docs/performance.md holds its results.
"""
from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Figure:
    """A constant of the model. confidence: hw-verified, fitted, inferred, ASSUMED."""

    value: float
    unit: str
    confidence: str
    source: str


@dataclass(frozen=True)
class Timing:
    """Constants of one core. Cycles are the NPU's.

    pixel_step          the array takes output pixels in steps of this many
    kernel_floor        cycles that a kernel group takes per pixel at least; not in depthwise mode
    spread_share        of the array's cycles that the transposed mode needs, which skips pixels that are not there
    load_bytes          CNA: features and weights into CBUF, per cycle
    stream_bytes        DPU_RDMA and PPU_RDMA, per cycle
    store_bytes         WDMA, per cycle
    dpu_outputs         elements that the DPU finishes per cycle
    ppu_taps            taps of whole atoms that the PPU takes per cycle
    memory_gb_s         what memory gives to all cores together
    latency             from a request to its first byte
    fetch_cycles        per program word
    interrupt           between two tasks on the mainline kernel
    submit              SUBMIT and PREP_BO of one run around its tasks
    """

    pixel_step: Figure
    kernel_floor: Figure
    spread_share: Figure
    load_bytes: Figure
    stream_bytes: Figure
    store_bytes: Figure
    dpu_outputs: Figure
    ppu_taps: Figure
    memory_gb_s: Figure
    latency: Figure
    fetch_cycles: Figure
    interrupt: Figure
    submit: Figure

    def figures(self) -> dict[str, Figure]:
        """All of them by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


RK3588_TIMING = Timing(
    pixel_step=Figure(16, "pixels", "fitted", "the vendor's tables of all five SoCs, exact (notes, section 4.4)"),
    kernel_floor=Figure(4, "cycles", "fitted", "as pixel_step"),
    spread_share=Figure(0.5, "of the cycles", "hw-verified", "0.35 to 0.54 over ten shapes (notes, recipes §12)"),
    load_bytes=Figure(8, "B/cycle", "fitted", "8.1 in the board log of an RK3576, ASSUMED to be the RK3588's too; the "
                      "notes guess 16 (Q-C2)"),
    stream_bytes=Figure(16, "B/cycle", "ASSUMED", "Q-C2; a fused add costs about 1/18 cycle per byte in the board log "
                        "of an RK3576"),
    store_bytes=Figure(8, "B/cycle", "ASSUMED", "Q-C2, and the published rates of an RK3588 agree; the board log of an "
                       "RK3576 says 4.1"),
    dpu_outputs=Figure(8, "elements/cycle", "inferred", "a group of 32 kernels takes 4 cycles at least (kernel_floor)"),
    ppu_taps=Figure(1, "atoms/cycle", "ASSUMED", "no source"),
    memory_gb_s=Figure(23.65, "GB/s", "fitted", "the vendor's tables (notes, section 4.4); 70 % of the peak of "
                       "LPDDR4X-4224"),
    latency=Figure(770, "cycles", "fitted", "an RV1106 takes 8 us at 420 MHz for each further small task of a chain, "
                   "ASSUMED to be three latencies and the fetch; the RK3588's ASSUMED to be the same"),
    fetch_cycles=Figure(8, "cycles/word", "ASSUMED", "Q-C4: 126 words take about 1 us"),
    interrupt=Figure(34, "us", "hw-verified", "27 to 41 were measured (notes, execution model §10)"),
    submit=Figure(40, "us", "ASSUMED", "no source"),
)
