"""Under which circumstances a profile is made."""
from __future__ import annotations

from dataclasses import dataclass

from cermet.errors import CermetError
from cermet.hw.cycles import Conditions
from cermet.hw.soc import Soc

KERNELS = ("mainline", "chained", "queues")


@dataclass(frozen=True)
class Setting:
    """soc: whose NPU. clock_mhz: the NPU's.

    cores    as many run an inference each, side by side; queues: as many work on one inference
    kernel   mainline: an interrupt between tasks; chained: the hardware goes from task to task by itself; queues: it
             does so within a step, and cores wait for each other behind each stage (kernel-uapi/proposals/queues)
    """

    soc: Soc
    clock_mhz: int
    cores: int = 1
    kernel: str = "mainline"

    @property
    def has_queues(self) -> bool:
        return self.kernel == "queues"

    @property
    def inferences(self) -> int:
        """Side by side."""
        return 1 if self.has_queues else self.cores

    @property
    def arrays(self) -> int:
        """Cores that work on one inference."""
        return self.cores if self.has_queues else 1

    def conditions(self, cores: int) -> Conditions:
        """With as many cores at work."""
        return Conditions(self.clock_mhz, cores)

    @property
    def macs_per_cycle(self) -> int:
        """Of one core."""
        return self.soc.kernel_group * self.soc.weight_input_block

    def us(self, cycles: float) -> float:
        return cycles / self.clock_mhz


def make_setting(soc: Soc, clock_mhz: int | None, cores: int, kernel: str) -> Setting:
    """Checked. clock_mhz: None for the SoC's full clock."""
    clock = soc.clock_mhz if clock_mhz is None else clock_mhz
    if not 1 <= clock <= soc.clock_mhz:
        raise CermetError(f"--clock: {clock} must be 1..{soc.clock_mhz} MHz")
    if not 1 <= cores <= soc.cores:
        raise CermetError(f"--cores: {cores} must be 1..{soc.cores}, {soc.name} has no more")
    return Setting(soc, clock, cores, kernel)
