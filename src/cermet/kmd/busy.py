"""How long the simulated NPU has had tasks: the rest of a program's time is the software's."""
from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

MAX_SPANS = 1 << 14     # counted together when there are more, so that they do not pile up


class Busy:
    """Time in which at least one core has a task, from the first register that is written for it to the last, behind
    its interrupt: registers are the NPU's, and what the simulated one does with them is its own time.

    What several cores do at once counts once. Cores only note when they began and ended, without a lock; who asks
    counts.
    """

    def __init__(self, num_cores: int) -> None:
        self._since_ns = [0] * num_cores                    # 0: no task
        self._spans: deque[tuple[int, int]] = deque()       # not counted yet
        self._lock = threading.Lock()
        self._counted_ns = 0
        self._until_ns = 0                                  # all before it is counted

    def begin(self, core: int) -> None:
        self._since_ns[core] = time.monotonic_ns()

    def end(self, core: int) -> None:
        self._spans.append((self._since_ns[core], time.monotonic_ns()))
        self._since_ns[core] = 0
        if len(self._spans) > MAX_SPANS:
            self.ns()

    def ns(self) -> int:
        """So far. A task that begins or ends right now counts too few or too many: a few microseconds, or as long as
        its core's thread has to wait between looking at the clock and noting what it says."""
        with self._lock:
            now_ns = time.monotonic_ns()
            spans = [(since_ns, now_ns) for since_ns in self._since_ns if since_ns]
            while self._spans:
                spans.append(self._spans.popleft())
            self._counted_ns += length_of_union(spans, self._until_ns, now_ns)
            self._spans.extend(span for span in spans if span[1] > now_ns)      # ended since: the rest next time
            self._until_ns = now_ns
            return self._counted_ns


def length_of_union(spans: Iterable[tuple[int, int]], first: int, last: int) -> int:
    """Of what lies between first and last."""
    total, covered = 0, first
    for begin, end in sorted(spans):
        begin, end = max(begin, covered), min(end, last)
        if end > begin:
            total, covered = total + end - begin, end
    return total
