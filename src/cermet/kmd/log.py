"""The driver's log: one line per event, with an end so that a hostile client cannot fill the disk."""
from __future__ import annotations

import logging
import sys

MAX_RECORDS = 100_000
ASKED_FOR = {"asked_for": True}


class Limit(logging.Filter):
    """Lets a fixed number of records through, the last one saying so, and all that were asked for (extra=ASKED_FOR)."""

    def __init__(self, max_records: int = MAX_RECORDS) -> None:
        super().__init__()
        self.left = max_records

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "asked_for", False):
            return True
        self.left -= 1
        if self.left == 0:
            record.msg, record.args = "the log is full: nothing more is written", ()
        return self.left >= 0


def start(verbose: bool) -> None:
    """Log to stderr; verbose shows every call, else what an operator of a kernel would see in dmesg."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
    handler.addFilter(Limit())
    logger = logging.getLogger("cermet.kmd")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
