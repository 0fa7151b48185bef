"""Faults on purpose: what goes wrong, at which occurrence, as words that a user gives to the simulated device."""
from __future__ import annotations

import errno
import logging
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from cermet.errors import CermetError
from cermet.kmd.errors import DeviceError

log = logging.getLogger("cermet.kmd")

PATTERN = re.compile(r"(?P<kind>[a-z-]+)(@(?P<first>\d{1,9})(?P<onwards>\+)?)?(=(?P<value>\w{1,16}))?")
MAX_VALUE = 1 << 32


@dataclass(frozen=True)
class Kind:
    """event: what is counted for @N. value: what =VALUE means and which one holds without; None: it takes no value."""

    event: str
    text: str
    value: int | None = None


KINDS: Mapping[str, Kind] = {
    "open-fails": Kind("open", "opening the node fails with errno VALUE", errno.ENODEV),
    "create-fails": Kind("CREATE_BO", "fails with errno VALUE", errno.ENOMEM),
    "mmap-fails": Kind("mmap", "fails with errno VALUE", errno.ENOMEM),
    "submit-fails": Kind("SUBMIT", "fails with errno VALUE", errno.ENOMEM),
    "prep-fails": Kind("PREP_BO", "fails with errno VALUE", errno.EINTR),
    "fini-fails": Kind("FINI_BO", "fails with errno VALUE", errno.EINTR),
    "removed": Kind("any call", "from this call on everything fails with ENODEV, as after an unbind"),
    "killed": Kind("any call", "the driver process dies instead of answering"),
    "job-dropped": Kind("job", "thrown away as if it were wrong; SUBMIT says 0"),
    "start-fails": Kind("job", "its core gets no power or no IOMMU: it ends at once with errno VALUE, which mainline "
                        "tells nobody", errno.EIO),
    "iommu-fault": Kind("task", "reads an unmapped address: no interrupt, the job times out"),
    "lost-interrupt": Kind("task", "does its work, and the kernel does not hear of it: the job times out"),
    "spurious-interrupt": Kind("task", "an interrupt without a status bit comes first; the kernel ignores it"),
    "hung-core": Kind("task", "core VALUE never completes anything any more, counted from this task of any core", 0),
    "slow-core": Kind("task", "takes VALUE times as many cycles", 1000),
    "bit-flip": Kind("task", "one bit of the byte at NPU address VALUE changes before it runs", 0),
    "killed-in-task": Kind("task", "the driver process dies while it runs"),
}


@dataclass(frozen=True)
class Fault:
    """One fault: from the first-th event on, that one only or all (onwards)."""

    kind: str
    first: int = 1
    onwards: bool = False
    value: int = 0


def parse_faults(text: str) -> tuple[Fault, ...]:
    """KIND[@N[+]][=VALUE] with commas between: "create-fails@3=ENOSPC,slow-core@1+=20"."""
    return tuple(_parse_fault(part) for part in text.split(",") if part)


def _parse_fault(text: str) -> Fault:
    match = PATTERN.fullmatch(text)
    if match is None or match["kind"] not in KINDS:
        raise CermetError(f"faults: '{text}' must be KIND[@N[+]][=VALUE], KIND one of {', '.join(KINDS)}")
    default = KINDS[match["kind"]].value
    if match["value"] is not None and default is None:
        raise CermetError(f"faults: '{text}': {match['kind']} takes no value")
    value = default or 0 if match["value"] is None else _number(match["value"])
    first = int(match["first"] or 1)
    if not 0 <= value < MAX_VALUE or first < 1:
        raise CermetError(f"faults: '{text}': N must be 1 or more, VALUE a number from 0 to {MAX_VALUE - 1:#x} or an "
                          "errno's name")
    return Fault(match["kind"], first, bool(match["onwards"]), value)


def _number(text: str) -> int:
    """Of a number as Python writes it or an errno's name; -1 for anything else."""
    if isinstance(named := getattr(errno, text, None), int):
        return named
    try:
        return int(text, 0)
    except ValueError:
        return -1


@dataclass
class Faults:
    """The faults of one device and how often each one's event has come."""

    faults: tuple[Fault, ...] = ()
    is_removed: bool = False
    hung_cores: set[int] = field(default_factory=set)
    _counts: dict[Fault, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def strike(self, kind: str) -> Fault | None:
        """This kind's event comes: the fault that it meets, if any."""
        if not self.faults:
            return None
        with self._lock:
            struck = None
            for fault in self.faults:
                if fault.kind != kind:
                    continue
                count = self._counts[fault] = self._counts.get(fault, 0) + 1
                if count == fault.first or fault.onwards and count > fault.first:
                    struck = fault
        if struck is not None:
            log.warning("fault on purpose: %s (%s)", struck.kind, KINDS[struck.kind].text)
        return struck

    def fail(self, kind: str) -> None:
        """Raises the errno that a fault of this kind asks for now."""
        fault = self.strike(kind)
        if fault is not None:
            raise DeviceError(fault.value, f"fault on purpose: {kind}")

    def any_call(self) -> None:
        """An open, ioctl or mmap is about to be served."""
        if not self.faults:
            return
        if self.strike("killed"):
            os._exit(137)
        if self.is_removed or self.strike("removed"):
            self.is_removed = True
            raise DeviceError(errno.ENODEV, "fault on purpose: the device was removed")
