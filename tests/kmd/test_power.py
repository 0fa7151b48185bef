"""When a core goes off, and what it remembers."""
from __future__ import annotations

from cermet.hw.soc import RK3588
from cermet.kmd.power import AUTOSUSPEND_S, Power
from cermet.sim.core import Core

SCALE = RK3588.registers["DPU.OUT_CVT_SCALE"].offset


class Clock:
    """Time by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_registers_go_with_the_power() -> None:
    clock, core = Clock(), Core(RK3588, 0)
    power = Power(core, clock)
    held = []
    for idle_s in (0, AUTOSUSPEND_S - 0.001, AUTOSUSPEND_S - 0.001, AUTOSUSPEND_S + 0.001, 100, 0):
        power.idle()
        clock.now += idle_s
        power.idle()            # somebody looked for a job again
        power.resume()
        held.append(core.read(SCALE))
        core.write(SCALE, 7)
        clock.now += 1          # the job takes long, or the next one is there already: only idle time counts
    assert held == [0, 7, 7, 0, 0, 7]
    assert power.num_resumes == 3
