"""How the simulated driver behaves where there is a choice: mainline's bugs or none, a coherent memory or caches."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cermet.errors import CermetError
from cermet.kmd.faults import Fault

# What Linux 7.2 does that user space runs into and a driver should not do. Without a quirk the driver does what the
# second half of its line says. Facts: reading of the driver of Linux 7.2.13.
QUIRKS: Mapping[str, str] = {
    "version-unset": "VERSION says 0.0.0, the numbers are never set; else 1.0.0",
    "zero-size-enospc": "CREATE_BO of 0 bytes fails with ENOSPC by accident; else EINVAL",
    "signed-size": "CREATE_BO of more than 0x7ffff000 bytes allocates and then fails with ENOMEM, as the mapped length "
                   "is a signed 32-bit number; else it works when the address space has room",
    "dropped-jobs": "SUBMIT returns 0 and drops a job that it finds wrong; else the first wrong job's errno and "
                    "nothing is queued",
    "silent-failure": "PREP_BO returns 0 after the job that writes the BO failed; else EIO until a job has written it",
    "unfenced-reads": "a job leaves no fence on what it only reads, so that PREP_BO and writers of other files do not "
                      "wait for it; else they do",
    "unchecked-tails": "bytes of a job or task behind the known struct are ignored; else EINVAL unless they are 0",
    "wrapping-strides": "the place of a job or task in its array, index times struct size, wraps at 4 GiB, so that "
                        "an early one is taken again; else it does not",
    "unchecked-programs": "regcmd need not be a multiple of 16, and a regcmd_count above 131072 wraps, for which the "
                          "registers have no room: another program runs than was asked for; else EINVAL",
    "use-after-free": "a BO that outlives its file (exported, shared or in a job on the hardware) makes the kernel "
                      "touch freed memory when it goes, here a line in the log; else its file lives as long",
}
# Interfaces that no kernel has yet, each described in kernel-uapi/proposals.
PROPOSALS: Mapping[str, str] = {
    "queues": "address spaces that several queues share, sync objects, status of jobs, timeouts, chains of programs",
}
MAINLINE = "mainline-7.2"
NO_QUIRKS = "none"


@dataclass(frozen=True)
class Behaviour:
    """quirks: the names of QUIRKS that hold. has_caches: CPU and NPU see each other's writes only after a sync.

    proposals: the names of PROPOSALS that the driver has.
    """

    quirks: frozenset[str] = frozenset(QUIRKS)
    has_caches: bool = False
    faults: tuple[Fault, ...] = ()
    proposals: frozenset[str] = frozenset()

    def has(self, quirk: str) -> bool:
        assert quirk in QUIRKS, quirk
        return quirk in self.quirks


def parse_quirks(text: str) -> frozenset[str]:
    """mainline-7.2, none, or names with commas between; each may have a minus sign in front to take it away."""
    chosen: set[str] = set()
    for name in text.split(","):
        if name == MAINLINE:
            chosen |= set(QUIRKS)
        elif name.removeprefix("-") in QUIRKS:
            (chosen.discard if name.startswith("-") else chosen.add)(name.removeprefix("-"))
        elif name != NO_QUIRKS:
            raise CermetError(f"quirks: '{name}' must be {MAINLINE}, {NO_QUIRKS} or one of {', '.join(QUIRKS)}")
    return frozenset(chosen)


def parse_proposals(text: str) -> frozenset[str]:
    """Names of PROPOSALS with commas between."""
    chosen = frozenset(filter(None, text.split(",")))
    for name in sorted(chosen - set(PROPOSALS)):
        raise CermetError(f"proposals: '{name}' must be one of {', '.join(PROPOSALS)}")
    return chosen
