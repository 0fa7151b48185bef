"""Per-SoC constants. Each carries the confidence of its source: hw-verified, trm, manual, fitted, inferred, ASSUMED."""
from __future__ import annotations

from dataclasses import dataclass

from cermet.hw.registers import RegisterMap
from cermet.hw.rk3588 import REGISTERS as RK3588_REGISTERS
from cermet.hw.timing import RK3588_TIMING, Timing


@dataclass(frozen=True)
class Cbuf:
    """The convolution buffer of one core: banks of entries, shared by features and weights."""

    banks: int
    entry_bytes: int
    entries_per_bank: int

    @property
    def bank_bytes(self) -> int:
        return self.entry_bytes * self.entries_per_bank


@dataclass(frozen=True, eq=False)
class Soc:
    """One SoC of the family. Two are the same if they are one object, so that what follows from one can be kept."""

    name: str
    cores: int                          # hw-verified
    registers: RegisterMap
    cbuf: Cbuf                          # hw-verified
    atom_bytes: int                     # hw-verified
    kernel_group: int                   # output channels per kernel group, int8 direct; hw-verified
    depthwise_group: int                # channels per group, int8 depthwise; hw-verified
    weight_input_block: int             # input channels per weight block, int8; hw-verified
    clock_mhz: int                      # what time estimates use: 1000 is the specified maximum (hw-verified)
    mainline_clock_mhz: int             # where the mainline device tree pins it: 200 (hw-verified)
    timing: Timing                      # constants of the cycle model
    job_timeout_ms: int = 500           # accel/rocket, Linux 7.2

    @property
    def interrupt_us(self) -> float:
        """Between two tasks on the mainline kernel."""
        return self.timing.interrupt.value

    @property
    def submit_us(self) -> float:
        """SUBMIT and PREP_BO of one run around its tasks."""
        return self.timing.submit.value


RK3588 = Soc(
    name="rk3588", cores=3, registers=RK3588_REGISTERS, cbuf=Cbuf(banks=12, entry_bytes=128, entries_per_bank=256),
    atom_bytes=16, kernel_group=32, depthwise_group=64, weight_input_block=32, clock_mhz=1000,
    mainline_clock_mhz=200, timing=RK3588_TIMING)

SOCS = {RK3588.name: RK3588}


def soc_by_name(name: str) -> Soc:
    """The SoC, or ValueError naming the ones there are."""
    if name not in SOCS:
        raise ValueError(f"soc: {name!r} must be one of {', '.join(SOCS)}")
    return SOCS[name]
