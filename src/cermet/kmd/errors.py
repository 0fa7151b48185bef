"""How a handler refuses: an errno, and words for the driver's log."""
from __future__ import annotations

import errno
import os


class DeviceError(Exception):
    """The call fails with this errno; the reason goes to the log only, as on a kernel."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"{errno.errorcode.get(number, number)}: {reason}")
        self.errno = number
        self.reason = reason


def name_of(number: int) -> str:
    """"EINVAL (Invalid argument)"."""
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
