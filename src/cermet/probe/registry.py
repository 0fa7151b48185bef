"""All probes, and the questions that no probe can settle."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from cermet.errors import CermetError
from cermet.probe import conv, dpu, execution, layout, pool
from cermet.probe.model import Probe

_QUESTIONS = (*dpu.PROBES, *conv.PROBES, *layout.PROBES, *execution.PROBES, *pool.PROBES)
# What may end in the kernel's time limit comes last.
PROBES: tuple[Probe, ...] = (execution.CONTROL, *sorted(_QUESTIONS, key=lambda probe: probe.times_out))

NOT_BY_PROBES: Mapping[str, str] = {
    "Q-N6": "resolved: replayed programs show it",
    "Q-N11": "fp16: neither the compiler nor the simulator has it",
    "Q-P1": "resolved: replayed programs show it",
    "Q-P2": "which undocumented bits to try is a guess; all documented ones have been",
    "Q-L3": "a wrong SIZE_E hangs the core and says nothing more",
    "Q-L4": "the same: int32 of a depthwise convolution needs a SIZE_E that does not fit its field",
    "Q-L9": "other SoCs",
    "Q-E1": "resolved: replayed programs show it",
    "Q-E4": "an odd number of surfaces cannot be written: kernels come in groups of two surfaces",
    "Q-X1": "needs jobs on several cores at once, whose choice is the kernel's",
    "Q-X3": "resolved on hardware",
    "Q-X4": "sweeping registers that nobody knows is not safe on somebody's board",
    "Q-X5": "the same: bits that nobody knows",
    "Q-X6": "joined cores: no program is known that could be varied",
    "Q-X7": "from the DPU to the PPU without memory: no program is known that could be varied",
    "Q-X9": "a property of the kernel driver, not of the NPU",
    "Q-D2": "known to be wrong; what it does instead is of no use",
    "Q-D3": "a question about the compiler: whether it should",
    "Q-C1": "times: `cermet trace` of a model has them for every task",
    "Q-C2": "times: `cermet trace` of a model has them for every task",
    "Q-C3": "fp16 and int16: neither the compiler nor the simulator has them",
    "Q-C4": "times: `cermet trace` of a model has them for every task",
    "Q-C5": "times: `cermet trace` of a model has them for every task",
}


def select(wanted: Sequence[str]) -> list[Probe]:
    """The probes of these names or questions (Q-N7 stands for all of Q-N7.*); all when none is named."""
    for name in wanted:
        if not any(matches(probe, name) for probe in PROBES):
            reason = NOT_BY_PROBES.get(name)
            raise CermetError(f"probe: {name}: " + (f"no program can settle it: {reason}" if reason else
                                                    "unknown; cermet probe --list names all"))
    return [probe for probe in PROBES if not wanted or probe.name == "control" or
            any(matches(probe, name) for name in wanted)]


def matches(probe: Probe, name: str) -> bool:
    return probe.name == name or probe.name.startswith(f"{name}.")
