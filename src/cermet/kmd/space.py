"""The address space of an open file, used by a core while other threads map and unmap."""
from __future__ import annotations

import threading

import numpy as np

from cermet.sim.memory import AddressSpace, Block


class SharedAddressSpace(AddressSpace):
    """One lock around every look at the table of mappings: a core must not see it half changed and fault for nothing.

    Views stay valid after an unmap, as writes that are on their way already do on hardware.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()

    @property
    def starts(self) -> list[int]:
        """Of all mappings."""
        with self._lock:
            return list(self._starts)

    def map(self, iova: int, array: np.ndarray) -> None:
        with self._lock:
            super().map(iova, array)

    def unmap(self, iova: int) -> None:
        with self._lock:
            super().unmap(iova)

    def read(self, iova: int, num_bytes: int) -> np.ndarray:
        with self._lock:
            return super().read(iova, num_bytes)

    def write(self, iova: int, array: np.ndarray) -> None:
        with self._lock:
            super().write(iova, array)

    def view(self, block: Block) -> np.ndarray | None:
        with self._lock:
            return super().view(block)
